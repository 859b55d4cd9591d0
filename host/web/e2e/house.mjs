// A server of its own for each test file: the built binary, real plugins, a folder and a port of its own.
import { spawn } from "node:child_process";
import { appendFileSync, chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const ROOT = resolve(import.meta.dirname, "../../..");
const RELEASE = process.env.IMPETUS ?? join(ROOT, "target/release");

/** The starter model, as `make model` fetches it. */
export const SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1";
export const SMOLLM2_FILE = join(ROOT, "models", `${SMOLLM2}.gguf`);

const library = (plugin) => `libimpetus_plugin_${plugin}.${process.platform === "darwin" ? "dylib" : "so"}`;

export class House {
  constructor(plugins, config = "") {
    this.folder = mkdtempSync(join(tmpdir(), "impetus-web-"));
    for (const name of ["plugins", "models"]) mkdirSync(join(this.folder, name));
    for (const plugin of plugins) this.install(plugin);
    this.config = config;
    this.port = 0;
  }

  path(...parts) {
    return join(this.folder, ...parts);
  }

  /** Drops a plugin's library into the folder. */
  install(plugin) {
    const to = this.path("plugins", library(plugin));
    copyFileSync(join(RELEASE, library(plugin)), to);
    chmodSync(to, 0o755);
  }

  /** Puts a newer library in the place of a plugin's: the same code with a byte more behind it is another file. */
  upgrade(plugin) {
    const newer = this.path("newer");
    copyFileSync(join(RELEASE, library(plugin)), newer);
    appendFileSync(newer, "\0");
    chmodSync(newer, 0o755);
    renameSync(newer, this.path("plugins", library(plugin)));
  }

  remove(plugin) {
    rmSync(this.path("plugins", library(plugin)));
  }

  model(name, content) {
    writeFileSync(this.path("models", name), content);
    return this;
  }

  smollm2() {
    if (!existsSync(SMOLLM2_FILE)) throw new Error("the starter model is missing: run `make model`");
    symlinkSync(SMOLLM2_FILE, this.path("models", `${SMOLLM2}.gguf`));
    return this;
  }

  /** Writes plugins.toml, in one step: a running server reads it at once. */
  configure(more = "") {
    writeFileSync(this.path("plugins.new"), `[plugins]\nfolder = "plugins"\n[server]\nport = ${this.port}\n${this.config}\n${more}\n`);
    renameSync(this.path("plugins.new"), this.path("plugins.toml"));
  }

  /** Starts the server, on the port that it had before, and waits until it listens. */
  async serve() {
    this.configure();
    this.server = spawn(join(RELEASE, "impetus"), ["serve"], {
      cwd: this.folder,
      env: { ...process.env, XDG_CACHE_HOME: this.path("cache"), XDG_DATA_HOME: this.path("data") },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let said = "";
    this.server.stdout.on("data", (text) => {
      said += text;
    });
    for (let tries = 0; tries < 300; tries += 1) {
      this.url = /listens on (http:\S+)/.exec(said)?.[1];
      if (this.url) {
        this.port = Number(new URL(this.url).port);
        return this;
      }
      await sleep(100);
    }
    throw new Error(`the server did not start: ${said}`);
  }

  /** Ends the server as a crash would. */
  async kill() {
    const ended = new Promise((then) => this.server.once("exit", then));
    this.server.kill("SIGKILL");
    await ended;
  }

  async close() {
    if (this.server && this.server.exitCode === null && this.server.signalCode === null) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
