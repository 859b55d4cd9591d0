// The models: found, searched, loaded, added by drag and drop, refused, deleted; plugins and a server that dies.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { House, SMOLLM2, SMOLLM2_FILE } from "./house.mjs";
import { checkAccess, PATIENCE, visit } from "./visit.mjs";

const FIXTURES = resolve(import.meta.dirname, "../../../tests/fixtures");

let house;
let seen;

before(async () => {
  house = await new House(["gguf"]).model("lonely.fake", "").serve();
  seen = await visit(house.url);
});

after(async () => {
  await seen?.close();
  await house?.close();
});

/** Drops files of the disk onto the page, as a file manager does. */
async function drop(page, browser, files) {
  const input = await browser.newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) await input.send("Input.dispatchDragEvent", { type, x: 600, y: 400, data });
  await input.detach();
}

test("an empty house says what to do next", async () => {
  const { page } = seen;
  await seen.goTo("/models");
  await page.getByText("No model was found").waitFor();
  await checkAccess(page, "models, empty");
  await seen.goTo("/chat");
  await page.getByText("No model can be served yet").waitFor();
});

/** Lets each piece take a while, until it is told to stop that. */
async function slowly(page) {
  const offsets = [];
  const pieces = "**/api/uploads/*?*";
  await page.route(pieces, async (route) => {
    offsets.push(Number(new URL(route.request().url()).searchParams.get("offset")));
    await new Promise((then) => setTimeout(then, 250));
    await route.continue().catch(() => undefined);
  });
  return { offsets, stop: () => page.unroute(pieces) };
}

/** How much the server has once nothing more comes; what is on its way may still arrive. */
async function settled() {
  const received = async () => (await (await fetch(`${house.url}/api/uploads`)).json()).uploads[0]?.received;
  let last = await received();
  for (let tries = 0; tries < 10; tries += 1) {
    await new Promise((then) => setTimeout(then, 1500));
    const now = await received();
    if (now !== undefined && now === last) return now;
    last = now;
  }
  return assert.fail("the upload goes on, or is over");
}

/** The offset of a piece that is to be sent. */
async function offset(slow, index) {
  for (let tries = 0; slow.offsets.length <= index; tries += 1) {
    assert.ok(tries < 600, "it does not go on");
    await new Promise((then) => setTimeout(then, 100));
  }
  return slow.offsets[index];
}

test("an upload is paused and gone on with, and once more after the page was loaded again", async () => {
  const { page, browser } = seen;
  await seen.goTo("/models");
  const slow = await slowly(page);
  await drop(page, browser, [SMOLLM2_FILE]);
  const row = page.getByTestId("upload").filter({ hasText: SMOLLM2 });
  await row.getByText(/^Sending \d+ %/).waitFor();
  await row.getByRole("button", { name: /^Pause/ }).click();
  await row.getByText("Paused").waitFor();
  const paused = await settled();
  const sent = slow.offsets.length;
  await row.getByRole("button", { name: /^Go on with/ }).click();
  assert.equal(await offset(slow, sent), paused, "it goes on where it was");
  await offset(slow, sent + 1);
  await page.reload();
  await page.getByText("Left half-way").waitFor();
  const left = await settled();
  assert.ok(left > paused && left < statSync(SMOLLM2_FILE).size);
  const before = slow.offsets.length;
  await drop(page, browser, [SMOLLM2_FILE]);
  assert.equal(await offset(slow, before), left, "the same file goes on where it was");
  await slow.stop();
});

test("a real model is added by drag and drop, checked and hashed", async () => {
  const { page } = seen;
  await page.getByText("is among the models now").waitFor();
  const hash = createHash("sha256").update(readFileSync(SMOLLM2_FILE)).digest("hex");
  await page.getByText(`sha256 ${hash}`).waitFor();
  assert.ok(existsSync(house.path("models", `${SMOLLM2}.gguf`)));
  await page.getByRole("list", { name: "Models" }).getByRole("button", { name: new RegExp(`^${SMOLLM2}`) }).waitFor();
});

test("a corrupt file is refused with the reason, and nothing of it stays", async () => {
  const { page, browser } = seen;
  const sound = readFileSync(SMOLLM2_FILE);
  const broken = Buffer.from(sound.subarray(0, 48 << 20));
  const file = house.path("broken.gguf");
  writeFileSync(file, broken);
  let pieces = 0;
  page.on("request", (request) => {
    if (request.method() === "PUT") pieces += 1;
  });
  await drop(page, browser, [file]);
  const row = page.getByTestId("upload").filter({ hasText: "broken.gguf" });
  await row.getByText("Refused").waitFor();
  assert.match(await row.innerText(), /is not taken: .*bytes are missing/);
  assert.ok(!existsSync(house.path("models/broken.gguf")));
  // Of twelve pieces only those in which a header may be.
  assert.ok(pieces > 0 && pieces <= 8, `${pieces} pieces were sent`);
  const { uploads } = await (await fetch(`${house.url}/api/uploads`)).json();
  assert.deepEqual(uploads, []);
  const text = house.path("notes.txt");
  writeFileSync(text, "no model");
  await drop(page, browser, [text]);
  await page.getByText("no plugin reads such files").waitFor();
  await checkAccess(page, "models, with uploads");
});

test("models are searched, loaded, looked into and unloaded", async () => {
  const { page } = seen;
  const list = page.getByRole("list", { name: "Models" });
  await page.getByLabel(/^Search \d+ models/).fill("q4_1 <1gb");
  await list.getByRole("button", { name: `Load ${SMOLLM2}` }).click();
  await list.getByText("Loaded").waitFor();
  await list.getByRole("button", { name: new RegExp(`^${SMOLLM2}`) }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("partial_seq_rm").waitFor();
  await checkAccess(page, "a model");
  await dialog.getByRole("tab", { name: "Tensors" }).click();
  await dialog.getByText("token_embd.weight").waitFor();
  await dialog.getByText("576 × 49152").waitFor();
  await dialog.getByRole("tab", { name: "Metadata" }).click();
  await dialog.getByText("llama.block_count").waitFor();
  await dialog.getByRole("tab", { name: "Template" }).click();
  await dialog.getByText("<|im_start|>").first().waitFor();
  await dialog.getByRole("tab", { name: "Overview" }).click();
  await dialog.getByLabel("Keep it loaded for").fill("soon");
  await dialog.getByRole("button", { name: "Set" }).click();
  await dialog.getByRole("alert").getByText(/keep_alive.*found .soon/).waitFor();
  await dialog.getByLabel("Keep it loaded for").fill("1h");
  await dialog.getByRole("button", { name: "Set" }).click();
  await dialog.getByText("1 h 0 min without use").waitFor();
  await page.keyboard.press("Escape");
  await list.getByRole("button", { name: `Unload ${SMOLLM2}` }).click();
  await list.getByText("On disk", { exact: true }).waitFor();
  await page.getByLabel(/^Search \d+ models/).fill("");
});

test("a plugin dropped into the folder appears without a reload, with its models", async () => {
  const { page } = seen;
  await seen.goTo("/plugins");
  await page.getByRole("heading", { name: "gguf" }).waitFor();
  await page.evaluate(() => {
    window.stays = true;
  });
  house.install("fake");
  await page.getByRole("heading", { name: "fake" }).waitFor();
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("button", { name: /^lonely/ }).waitFor();
  house.remove("fake");
  await page.getByRole("link", { name: "Plugins" }).click();
  await page.getByRole("heading", { name: "fake" }).waitFor({ state: "detached" });
  // Its model is still there, apart from those that work.
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("heading", { name: "Cannot run" }).waitFor();
  await page.getByText("no plugin for fake files is loaded").waitFor();
  await page.getByRole("link", { name: "Plugins" }).click();
  assert.equal(await page.evaluate(() => window.stays), true, "the page was loaded again");
  await checkAccess(page, "plugins");
});

test("a model is deleted after its name was written", async () => {
  const { page } = seen;
  await seen.goTo(`/models?model=${SMOLLM2}`);
  await page.getByRole("button", { name: "Delete from disk" }).click();
  const confirm = page.getByRole("button", { name: "Delete for good" });
  assert.ok(await confirm.isDisabled());
  await page.getByLabel("Write the model's name to confirm").fill(SMOLLM2);
  await confirm.click();
  await page.getByRole("list", { name: "Models" }).getByRole("button", { name: new RegExp(`^${SMOLLM2}`) }).waitFor({ state: "detached" });
  assert.ok(!existsSync(house.path("models", `${SMOLLM2}.gguf`)) && existsSync(SMOLLM2_FILE));
});

test("a dead server is shown as such, and the page goes on when it is back", async () => {
  const { page } = seen;
  await seen.goTo("/server");
  await page.getByText(/^Impetus .* up for/).waitFor();
  await checkAccess(page, "the server");
  await house.kill();
  await page.getByText("The server does not answer").waitFor();
  house.model("later.gguf", "GGUF");
  await house.serve();
  await page.getByText("The server does not answer").waitFor({ state: "detached", timeout: PATIENCE });
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("button", { name: /^later/ }).waitFor();
});

test("a checkpoint's folder is one model, looked into as any other", async () => {
  const { page, browser } = seen;
  house.install("safetensors");
  await seen.goTo("/plugins");
  await page.getByRole("heading", { name: "safetensors" }).waitFor();
  await seen.goTo("/models");
  await drop(page, browser, [join(FIXTURES, "checkpoints", "llama")]);
  await page.getByTestId("upload").filter({ hasText: "llama" }).getByText("is among the models now").waitFor();
  assert.ok(existsSync(house.path("models/llama/model.safetensors")));
  await page.getByRole("list", { name: "Models" }).getByRole("button", { name: /^llama/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("tab", { name: "Tensors" }).click();
  await dialog.getByText("model.embed_tokens.weight").waitFor();
  await dialog.getByRole("tab", { name: "Metadata" }).click();
  await dialog.getByText("LlamaForCausalLM").waitFor();
  await checkAccess(page, "a checkpoint");
  await page.keyboard.press("Escape");
});

test("a checkpoint without its config is refused", async () => {
  const { page, browser } = seen;
  const folder = house.path("half");
  mkdirSync(folder);
  writeFileSync(`${folder}/model.safetensors`, Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]));
  await seen.goTo("/models");
  await drop(page, browser, [folder]);
  const row = page.getByTestId("upload").filter({ hasText: "half" });
  await row.getByText("Refused").waitFor();
  assert.match(await row.innerText(), /is not taken: no loaded plugin recognises it/);
  assert.ok(!existsSync(house.path("models/half")));
  rmSync(folder, { recursive: true });
  seen.check();
});
