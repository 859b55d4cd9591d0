// A page in a browser, and what every test looks at in it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { openBrowser } from "./browser.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Everything is slower on a machine that is busy. */
export const PATIENCE = 60_000;

export async function visit(url, options = {}) {
  const browser = await openBrowser(options);
  const page = browser.pages()[0] ?? (await browser.newPage());
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  const outside = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    // The browser itself reports each refused request: those are looked at where they are expected.
    if (message.type() === "error" && !/Failed to load resource|net::ERR/.test(message.text())) faults.push(message.text());
  });
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (!["data:", "blob:"].includes(asked.protocol) && asked.origin !== new URL(url).origin) outside.push(request.url());
  });
  return {
    browser,
    page,
    faults,
    outside,
    goTo: (path) => page.goto(`${url}/#${path}`),
    /** Neither a fault of the page, nor of its policy, nor a request to anywhere else. */
    check() {
      assert.deepEqual(faults, [], "the page reported faults");
      assert.deepEqual(outside, [], "the page asked another host");
    },
    close: () => browser.close(),
  };
}

/** axe finds no violation. */
export async function checkAccess(page, what) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} (${node.failureSummary})`).join(" | ")}`);
  });
  assert.deepEqual(violations, [], `${what}: axe found violations`);
}

/** Sends a message in the open chat. */
export async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

/** Sets settings of the conversation, in the dialog that narrow windows have; a list is chosen from what there is. */
export async function set(page, settings) {
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  for (const [name, value] of Object.entries(settings)) {
    if (value === true) await page.getByLabel(name).check();
    else if (Array.isArray(value)) await page.getByLabel(name, { exact: true }).selectOption(value);
    else await page.getByLabel(name, { exact: true }).fill(value);
  }
  await page.getByRole("button", { name: "Close", exact: true }).click();
}
