// From the first visit to the first answer, and what a chat can do, with the real model.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { House, SMOLLM2 } from "./house.mjs";
import { checkAccess, say, set, visit } from "./visit.mjs";

/** Bytes over the network until the page can be used. */
const FIRST_LOAD = 250 * 1024;

/** Milliseconds until the largest thing is painted: twice what Lighthouse calls good, for machines that do other work too. */
const LARGEST_PAINT_MS = 5_000;

/** How much of what was seen may move by itself: what Lighthouse calls good. */
const SHIFT = 0.1;

let house;
let seen;

before(async () => {
  house = await new House(["gguf"]).smollm2().serve();
  seen = await visit(house.url, { viewport: { width: 1180, height: 800 } });
});

after(async () => {
  await seen?.close();
  await house?.close();
});

test("the first load is small, and kept by the browser", async () => {
  const { page, browser } = seen;
  const network = await browser.newCDPSession(page);
  await network.send("Network.enable");
  const loaded = new Map();
  network.on("Network.responseReceived", ({ requestId, response }) => loaded.set(requestId, { url: response.url, bytes: 0, cached: response.fromDiskCache }));
  network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const one = loaded.get(requestId);
    if (one) one.bytes = encodedDataLength;
  });
  await page.goto(house.url);
  await page.getByLabel("Message", { exact: true }).waitFor();
  await page.getByRole("button", { name: `Model: ${SMOLLM2}` }).waitFor();
  const files = () => [...loaded.values()].filter(({ url }) => url === `${house.url}/` || url.includes("/assets/"));
  const bytes = files().reduce((sum, file) => sum + file.bytes, 0);
  console.log(`first load: ${(bytes / 1024).toFixed(1)} KiB in ${files().length} files`);
  assert.ok(files().length >= 4 && bytes > 50_000, "the files of the page were not seen");
  assert.ok(bytes <= FIRST_LOAD, `the first load is ${bytes} bytes: ${JSON.stringify(files())}`);
  const [paint, shift] = await page.evaluate(async () => {
    const of = (type) => new Promise((then) => {
      new PerformanceObserver((list) => then(list.getEntries())).observe({ type, buffered: true });
      setTimeout(() => then([]), 2_000);
    });
    const [paints, shifts] = [await of("largest-contentful-paint"), await of("layout-shift")];
    return [paints.at(-1)?.startTime, shifts.filter((one) => !one.hadRecentInput).reduce((sum, { value }) => sum + value, 0)];
  });
  console.log(`largest paint after ${Math.round(paint)} ms, layout shift ${shift.toFixed(3)}`);
  assert.ok(paint > 0 && paint <= LARGEST_PAINT_MS, `the largest paint was after ${paint} ms`);
  assert.ok(shift <= SHIFT, `what was seen moved by ${shift}`);
  loaded.clear();
  await page.reload();
  await page.getByLabel("Message", { exact: true }).waitFor();
  const again = files().reduce((sum, file) => sum + file.bytes, 0);
  assert.ok(again < 5_000, `the second load is ${again} bytes`);
  await network.detach();
});

test("an answer streams, and says what it took", async () => {
  const { page } = seen;
  await set(page, { "Most tokens": "24", Temperature: "0", "Keep token probabilities": true });
  await say(page, "Name three primary colors.");
  await page.getByRole("button", { name: "Stop the answer" }).waitFor();
  const answer = page.getByRole("article", { name: `Answer of ${SMOLLM2}` });
  await answer.getByRole("button", { name: "Answer again" }).waitFor();
  assert.match(await answer.innerText(), /color/i);
  assert.match(await answer.innerText(), /tokens\/s · first token after [\d.]+ m?s · \d+ tokens · prompt \d+/);
  assert.match(await page.getByText("tokens of context").innerText(), /of 8\u202f192 tokens of context/);
  await answer.getByRole("button", { name: "Token probabilities" }).click();
  await answer.getByText("Token 1: what it was chosen from").waitFor();
  assert.equal(await answer.getByRole("table").getByRole("row").count(), 5);
  await answer.getByRole("button", { name: "As text" }).click();
  await checkAccess(page, "the chat");
});

test("answering again and editing begin branches, and none is lost", async () => {
  const { page } = seen;
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.getByText("2/2").waitFor();
  await page.getByRole("button", { name: "Answer again" }).waitFor();
  await page.getByRole("button", { name: "Branch before" }).click();
  await page.getByText("1/2").waitFor();
  await page.getByRole("article", { name: "You" }).hover();
  await page.getByRole("button", { name: "Edit the message" }).click();
  await page.getByLabel("The message, edited").fill("Say hello.");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  await page.getByRole("article", { name: "You" }).getByText("2/2").waitFor();
  await page.getByRole("button", { name: "Answer again" }).waitFor();
  await page.reload();
  await page.getByRole("list", { name: "Conversations" }).getByRole("button", { name: /Name three primary/ }).first().click();
  await page.getByText("Say hello.").waitFor();
});

test("an answer can be stopped, and its work ends on the server", async () => {
  const { page } = seen;
  await page.getByRole("button", { name: "New chat" }).click();
  await set(page, { "Most tokens": "2000", "Pass over end tokens": true });
  await say(page, "Tell a very long story.");
  // Some words of it, and not those which say that the prompt is being read.
  await page.getByRole("article", { name: /Answer of/ }).locator("p:not(.animate-pulse)").filter({ hasText: /\w+\s+\w+/ }).first().waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByText("stopped").waitFor();
  // It took what it took, though it has no end that could tell.
  assert.match(await page.getByText("stopped").innerText(), /^stopped · [\d.]+ tokens\/s · first token after [\d.]+ m?s · \d+ tokens · prompt \d+/);
  const running = async () => (await (await fetch(`${house.url}/api/ps`)).json()).processes[0].running;
  for (let tries = 0; (await running()) > 0; tries += 1) {
    assert.ok(tries < 100, "the answer goes on");
    await page.waitForTimeout(100);
  }
});

/** Presses Tab until what is named has the focus. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 120; presses += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      return element?.getAttribute("aria-label") ?? element?.closest("label")?.innerText ?? element?.innerText ?? "";
    });
    if (name.test(at)) return;
  }
  assert.fail(`${name} is not reached by the keyboard`);
}

test("the keyboard alone chooses a model, sets, sends and stops", async () => {
  const { page } = seen;
  await page.reload();
  await page.getByRole("button", { name: `Model: ${SMOLLM2}` }).waitFor();
  await tabTo(page, /^Model: /);
  await page.keyboard.press("Enter");
  await page.getByRole("combobox", { name: "Search models" }).waitFor();
  await page.keyboard.type("smollm2");
  await page.keyboard.press("Enter");
  await page.getByRole("combobox", { name: "Search models" }).waitFor({ state: "detached" });
  await tabTo(page, /^Settings of this conversation/);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await tabTo(page, /^Pass over end tokens/);
  await page.keyboard.press("Space");
  assert.ok(await page.getByLabel("Pass over end tokens").isChecked());
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await tabTo(page, /^Message$/);
  await page.keyboard.type("Tell a very long story.");
  await page.keyboard.press("Enter");
  await page.getByRole("article", { name: /Answer of/ }).locator("p").first().waitFor();
  await tabTo(page, /^Stop the answer/);
  await page.keyboard.press("Enter");
  await page.getByText("stopped").waitFor();
});

test("what is wrong is said in the server's words", async () => {
  const { page } = seen;
  await page.getByRole("button", { name: "New chat" }).click();
  await set(page, { Biases: "9999999 1" });
  await say(page, "Hello.");
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /logit_bias.*9999999/);
  seen.check();
});
