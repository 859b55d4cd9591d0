// Conversations in the browser: searched, exported, deleted, imported; left and come back to while an answer is written.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { House } from "./house.mjs";
import { say, set, visit } from "./visit.mjs";

let house;
let seen;

before(async () => {
  house = await new House(["fake"]).model("quick.fake", "say = hello").model("slow.fake", "say = hello\nstall_ms = 60").serve();
  seen = await visit(house.url, { viewport: { width: 1180, height: 800 } });
});

after(async () => {
  await seen?.close();
  await house?.close();
});

const list = () => seen.page.getByRole("list", { name: "Conversations" });
const one = (name) => list().getByRole("button", { name, exact: false }).first();

/** Asks a model in a chat of its own. */
async function ask(model, text, tokens) {
  const { page } = seen;
  await seen.goTo(`/chat?model=${model}`);
  await page.getByRole("button", { name: `Model: ${model}` }).waitFor();
  await set(page, { "Most tokens": String(tokens) });
  await say(page, text);
}

test("conversations are searched, exported, deleted and imported", async () => {
  const { page } = seen;
  for (const text of ["Whales are large.", "Cats are small."]) {
    await ask("quick", text, 10);
    await page.getByRole("button", { name: "Answer again" }).waitFor();
  }
  const search = page.getByRole("searchbox", { name: "Search conversations" });
  await search.fill("hello WHALES");
  await one("Cats are small.").waitFor({ state: "detached" });
  await one("Whales are large.").waitFor();
  await search.fill("nothing of the kind");
  await page.getByText("Nothing found.").waitFor();
  await search.fill("");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
  assert.match(download.suggestedFilename(), /^impetus-conversations-\d{4}-\d\d-\d\d\.json$/);
  const file = house.path("exported.json");
  await download.saveAs(file);
  const { conversations } = JSON.parse(readFileSync(file, "utf8"));
  assert.deepEqual(conversations.map(({ title }) => title).sort(), ["Cats are small.", "Whales are large."]);

  await one("Whales are large.").hover();
  await page.getByRole("button", { name: "Delete the conversation “Whales are large.”" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await one("Whales are large.").waitFor({ state: "detached" });
  await page.reload();
  await one("Cats are small.").waitFor();
  assert.equal(await one("Whales are large.").count(), 0);

  const input = page.getByLabel("A file of exported conversations");
  const broken = house.path("broken.json");
  conversations[0].messages = { "": { id: "", parent: null, role: "user", content: "x", createdAt: 1 } };
  writeFileSync(broken, JSON.stringify({ impetus: "conversations", version: 1, conversations }));
  await input.setInputFiles(broken);
  await page.getByRole("alert").getByText(/broken.json was not imported: conversation 1.messages/).waitFor();
  await input.setInputFiles(file);
  await one("Whales are large.").click();
  await page.getByRole("article", { name: "Answer of quick" }).getByText("hello").waitFor();
});

test("an answer is whole though another chat was looked at, and a page was closed in the midst of one", async () => {
  const { page } = seen;
  await ask("slow", "Slowly, please.", 100);
  const answer = page.getByRole("article", { name: "Answer of slow" });
  await answer.getByText("hello").waitFor();
  await one("Cats are small.").click();
  await page.getByRole("article", { name: "Answer of quick" }).waitFor();
  await one("Slowly, please.").click();
  await page.getByRole("button", { name: "Stop the answer" }).waitFor();
  await answer.getByText("hello").waitFor();
  await one("Cats are small.").click();
  await page.getByRole("article", { name: "Answer of quick" }).waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached" });
  await one("Slowly, please.").click();
  await answer.getByText("· 100 tokens ·").waitFor();
  await page.reload();
  await answer.getByText("· 100 tokens ·").waitFor();

  await ask("slow", "Closed in the midst.", 400);
  await answer.getByText("hello").waitFor();
  await page.waitForTimeout(3_000);
  await page.reload();
  await one("Closed in the midst.").click();
  await answer.getByText("hello").waitFor();
  await answer.getByText("the page was closed while it was written").waitFor();
});

test("a chat that is deleted while it is written does not come back", async () => {
  const { page } = seen;
  await ask("slow", "Never mind.", 400);
  await page.getByRole("article", { name: "Answer of slow" }).getByText("hello").waitFor();
  await one("Never mind.").hover();
  await page.getByRole("button", { name: "Delete the conversation “Never mind.”" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await one("Never mind.").waitFor({ state: "detached" });
  const running = async () => (await (await fetch(`${house.url}/api/ps`)).json()).processes.reduce((sum, { running }) => sum + running, 0);
  for (let tries = 0; (await running()) > 0; tries += 1) {
    assert.ok(tries < 100, "the answer goes on");
    await page.waitForTimeout(100);
  }
  await page.reload();
  await one("Cats are small.").waitFor();
  assert.equal(await one("Never mind.").count(), 0);
});

test("what is copied is copied, also where a page has no clipboard, and what is not is not called so", async () => {
  const { page } = seen;
  await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await one("Cats are small.").click();
  const answer = page.getByRole("article", { name: "Answer of quick" });
  await answer.getByRole("button", { name: "Copy the answer" }).click();
  await answer.getByRole("button", { name: "Copied" }).waitFor();
  const box = page.getByLabel("Message", { exact: true });
  await box.focus();
  await page.keyboard.press("Control+V");
  const pasted = await box.inputValue();
  assert.match(pasted, /hello/);
  await answer.getByText(pasted, { exact: true }).waitFor();
  await page.evaluate(() => {
    document.execCommand = () => false;
  });
  await answer.getByRole("button", { name: "Copy the answer" }).click();
  await answer.getByRole("button", { name: /^The browser does not let this page copy/ }).waitFor();
  seen.check();
});
