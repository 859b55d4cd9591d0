// Much of everything: what is in sight is in the document, and little more; any of it is found.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { House } from "./house.mjs";
import { checkAccess, visit } from "./visit.mjs";

const MODELS = 5_000;
const MESSAGES = 500;

/** Rows that may be in the document at once. */
const MOST_ROWS = 60;

/** A frame while something is scrolled: with every row in the document it takes seconds. */
const FRAME_MS = 200;

let house;
let seen;

/** Scrolls an element from its beginning to its end, and says how long a frame took in the middle. */
async function scrolled(element) {
  return element.evaluate(async (element) => {
    const frame = () => new Promise((then) => requestAnimationFrame(then));
    const took = [];
    for (let step = 0; step <= 30; step += 1) {
      const before = performance.now();
      element.scrollTo(0, ((element.scrollHeight - element.clientHeight) * step) / 30);
      await frame();
      await frame();
      took.push((performance.now() - before) / 2);
    }
    return took.sort((a, b) => a - b)[15];
  });
}

before(async () => {
  house = new House(["fake"]);
  for (let at = 0; at < MODELS; at += 1) house.model(`model-${String(at).padStart(4, "0")}.fake`, "");
  await house.serve();
  seen = await visit(house.url);
});

after(async () => {
  await seen?.close();
  await house?.close();
});

test("5,000 models are scrolled and searched", async () => {
  const { page } = seen;
  await seen.goTo("/models");
  const list = page.getByRole("list", { name: "Models" });
  await list.getByRole("button", { name: /^model-0000/ }).waitFor();
  assert.ok((await list.getByRole("listitem").count()) < MOST_ROWS);
  const frame = await scrolled(page.locator("main"));
  assert.ok(frame < FRAME_MS, `a frame of ${MODELS} models took ${frame} ms`);
  await list.getByRole("button", { name: /^model-4999/ }).waitFor();
  assert.ok((await list.getByRole("listitem").count()) < MOST_ROWS);
  await page.getByLabel(`Search ${MODELS} models`).fill("2345");
  await list.getByRole("button", { name: /^model-2345/ }).waitFor();
  assert.equal(await list.getByRole("listitem").count(), 1);
});

test("a conversation of 500 messages is imported and read from its end to its beginning", async () => {
  const { page } = seen;
  const messages = {};
  for (let at = 0; at < MESSAGES; at += 1) {
    const text = at % 2 === 0 ? `question ${at}` : `answer ${at}\n\n- one\n- two\n\n\`\`\`js\nlet x = ${at};\n\`\`\``;
    messages[`m${at}`] = { id: `m${at}`, parent: at === 0 ? null : `m${at - 1}`, role: at % 2 === 0 ? "user" : "assistant", content: text, createdAt: at + 1 };
  }
  const settings = { sampling: {}, format: "text", schema: "", tools: "", toolChoice: "auto", probabilities: false };
  const conversation = { id: "long", title: "A long one", createdAt: 1, updatedAt: 2, model: "model-0000", system: "", settings, messages, chosen: {} };
  const file = house.path("long.json");
  writeFileSync(file, JSON.stringify({ impetus: "conversations", version: 1, conversations: [conversation] }));
  await seen.goTo("/chat");
  await page.getByLabel("A file of exported conversations").setInputFiles(file);
  await page.getByRole("button", { name: /^A long one/ }).click();
  await page.getByText(`answer ${MESSAGES - 1}`).waitFor();
  const log = page.getByRole("log", { name: "Conversation" });
  assert.ok((await log.getByRole("article").count()) < MOST_ROWS);
  const frame = await scrolled(log);
  assert.ok(frame < FRAME_MS, `a frame of ${MESSAGES} messages took ${frame} ms`);
  await log.evaluate((log) => log.scrollTo(0, 0));
  await page.getByText("question 0", { exact: true }).waitFor();
  assert.ok((await log.getByRole("article").count()) < MOST_ROWS);
  await checkAccess(page, "a long conversation");
  seen.check();
});

test("every page is sound for screen readers in the dark and at a phone's width, and is no wider than it", async () => {
  const { page } = seen;
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 390, height: 780 });
  for (const path of ["/chat", "/models", "/plugins", "/benchmarks", "/server"]) {
    await seen.goTo(path);
    await page.getByRole("navigation", { name: "Pages" }).waitFor();
    await page.locator("h1").first().waitFor({ state: "attached" });
    await page.waitForTimeout(1200);
    await checkAccess(page, `${path}, dark, narrow`);
    const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= window, `${path} is ${content} pixels wide`);
  }
  seen.check();
});
