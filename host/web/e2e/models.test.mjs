// The models: found, searched, loaded, added by drag and drop, refused, deleted; plugins and a server that dies.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

test("a real model is added by drag and drop, checked and hashed", async () => {
  const { page, browser } = seen;
  await seen.goTo("/models");
  await drop(page, browser, [SMOLLM2_FILE]);
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
  await drop(page, browser, [file]);
  const row = page.getByTestId("upload").filter({ hasText: "broken.gguf" });
  await row.getByText("Refused").waitFor();
  assert.match(await row.innerText(), /is not taken: .*bytes are missing/);
  assert.ok(!existsSync(house.path("models/broken.gguf")));
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
  await page.keyboard.press("Escape");
  await list.getByRole("button", { name: `Unload ${SMOLLM2}` }).click();
  await list.getByText("On disk").waitFor();
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
  await page.getByText("No model was found").waitFor();
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
  await page.getByTestId("upload").filter({ hasText: "half" }).getByText("Refused").waitFor();
  assert.ok(!existsSync(house.path("models/half")));
  rmSync(folder, { recursive: true });
  seen.check();
});
