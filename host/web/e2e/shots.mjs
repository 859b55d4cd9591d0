// Pictures of each page, light and dark, wide and at a phone's width: `node e2e/shots.mjs URL FOLDER`. To be looked at.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openBrowser } from "./browser.mjs";

const [url = "http://127.0.0.1:8484", folder = "shots", only] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const QUESTION = "Name three primary colors.";

const browser = await openBrowser();
const page = browser.pages()[0] ?? (await browser.newPage());
page.on("console", (message) => ["error", "warning"].includes(message.type()) && console.error("console:", message.text()));
page.on("pageerror", (error) => console.error("page:", error.message));

async function shoot(name) {
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

async function prepareChat() {
  await page.goto(`${url}/#/chat`);
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  await page.getByLabel("Most tokens").fill("150");
  await page.getByLabel("Temperature", { exact: true }).fill("0");
  await page.getByLabel("Keep token probabilities").check();
  await page.getByRole("button", { name: "Settings of this conversation" }).click();
  await page.getByLabel("Message", { exact: true }).fill(QUESTION);
  await page.getByLabel("Send").click();
  await page.getByLabel("Answer again").waitFor({ timeout: 240_000 });
  await page.waitForTimeout(300);
}

/** A benchmark of the first model, so that there is a chart to look at. */
async function prepareBenchmark() {
  await page.goto(`${url}/#/benchmarks`);
  await page.getByRole("radio", { name: /^A model/ }).check({ force: true });
  await page.getByLabel("Runs").fill("5");
  await page.getByLabel("Prompt tokens").fill("64");
  await page.getByLabel("Generated tokens").fill("16");
  await page.getByLabel("Keep the result").uncheck();
  await page.getByRole("button", { name: "Start" }).click();
  await page.locator("[data-axis='decode tokens_per_second']").getByRole("img").waitFor({ timeout: 300_000 });
}

const PAGES = {
  chat: async () => {
    await page.goto(`${url}/#/chat`);
    await page.getByLabel("Answer again").first().waitFor({ timeout: 10_000 }).catch(() => undefined);
  },
  models: async () => {
    await page.goto(`${url}/#/models`);
    await page.getByRole("list", { name: "Models" }).waitFor();
  },
  model: async () => {
    await page.goto(`${url}/#/models`);
    await page.getByRole("list", { name: "Models" }).getByRole("button").first().click();
    await page.getByRole("dialog").waitFor();
  },
  plugins: async () => {
    await page.goto(`${url}/#/plugins`);
    await page.getByRole("list", { name: "Plugins" }).waitFor();
  },
  benchmarks: async () => {
    await page.goto(`${url}/#/benchmarks`);
    await page.getByRole("heading", { name: "Benchmarks" }).waitFor();
    await page.locator("[data-axis]").first().scrollIntoViewIfNeeded();
  },
  server: async () => {
    await page.goto(`${url}/#/server`);
    await page.waitForTimeout(3000);
  },
};

if (!only || only.includes("chat")) await prepareChat();
if (!only || only.includes("benchmarks")) await prepareBenchmark();
for (const [name, open] of Object.entries(PAGES)) {
  if (only && !only.split(",").includes(name)) continue;
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme });
    for (const [width, height, size] of [[1280, 820, "wide"], [390, 780, "phone"]]) {
      await page.setViewportSize({ width, height });
      await open();
      await page.waitForTimeout(400);
      await shoot(`${name}-${theme}-${size}`);
    }
  }
}
await browser.close();
