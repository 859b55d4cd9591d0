// scripts/web.sh where npm is missing: what it says is what the binary takes in. In a copy, with programs of its own.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, test } from "node:test";

const SCRIPT = resolve(import.meta.dirname, "../../../scripts/web.sh");
const TOOLS = ["bash", "cat", "cksum", "dirname", "find", "head", "mkdir", "sort", "touch"];

const folder = mkdtempSync(join(tmpdir(), "impetus-build-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function write(path, content, executable = false) {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), content);
  if (executable) chmodSync(join(folder, path), 0o755);
}

for (const path of ["index.html", "package.json", "package-lock.json", "vite.config.ts", "scripts/finish.mjs", "src/main.tsx"]) write(`host/web/${path}`, path);
write("scripts/web.sh", "");
copyFileSync(SCRIPT, join(folder, "scripts/web.sh"));
mkdirSync(join(folder, "tools"));
for (const tool of TOOLS) {
  const found = process.env.PATH.split(":").map((path) => join(path, tool)).find(existsSync);
  assert.ok(found, `${tool} is not here`);
  symlinkSync(found, join(folder, "tools", tool));
}
// A stand-in for npm, which builds a page of one line.
write("npm/node", '#!/bin/bash\necho "${NODE_IS:-v22.0.0}"\n', true);
write("npm/npm", '#!/bin/bash\nif [ "$1" = ci ]; then mkdir -p node_modules; exit ${CI_ENDS:-0}; fi\nmkdir -p dist && echo built >dist/index.html\n', true);

/** What `web.sh build` says. */
function build(withNpm, env = {}) {
  const path = [...(withNpm ? [join(folder, "npm")] : []), join(folder, "tools")].join(":");
  const { status, stderr, stdout } = spawnSync(join(folder, "tools/bash"), [join(folder, "scripts/web.sh"), "build"], { env: { PATH: path, ...env }, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout + stderr;
}

const page = join(folder, "host/web/dist/index.html");

test("without npm there is no page, and why is said", () => {
  assert.equal(build(false), "the web page is not built: Node.js with npm is not installed; the server does without it\n");
  assert.equal(build(true, { NODE_IS: "v18.20.1" }), "the web page is not built: Node.js 20.19 or newer is needed, this is v18.20.1; the server does without it\n");
  assert.equal(build(true, { CI_ENDS: "1" }).split("\n").at(-2), "the web page is not built: npm could not fetch its packages; the server does without it");
  assert.ok(!existsSync(page));
});

test("a page that is of this source is taken in without a word, with or without npm", () => {
  build(true);
  assert.ok(existsSync(page));
  assert.equal(build(true), "");
  assert.equal(build(false), "");
});

test("a page of an older source is not taken in silently", () => {
  write("host/web/src/main.tsx", "changed");
  assert.equal(build(false), "the web page is not built anew: Node.js with npm is not installed; the one in host/web/dist, of an older source, is taken in as it is\n");
  build(true);
  assert.equal(build(false), "");
});
