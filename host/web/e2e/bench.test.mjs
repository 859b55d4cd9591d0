// A benchmark from its start to its chart, with the real model.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { House, SMOLLM2 } from "./house.mjs";
import { checkAccess, PATIENCE, visit } from "./visit.mjs";

let house;
let seen;

before(async () => {
  house = await new House(["gguf"]).smollm2().serve();
  seen = await visit(house.url);
});

after(async () => {
  await seen?.close();
  await house?.close();
});

test("a benchmark runs, and its chart has every sample", async () => {
  const { page } = seen;
  await seen.goTo("/benchmarks");
  await page.getByText("Nothing was measured yet").waitFor();
  await checkAccess(page, "benchmarks, empty");
  await page.getByRole("radio", { name: /^A model/ }).check({ force: true });
  await page.getByLabel("Runs").fill("2");
  await page.getByLabel("Prompt tokens").fill("16");
  await page.getByLabel("Generated tokens").fill("4");
  await page.getByLabel("Keep the result").uncheck();
  await page.getByRole("button", { name: "Start" }).click();
  await page.getByRole("heading", { name: `Measuring ${SMOLLM2}` }).waitFor();
  const chart = page.locator("[data-axis='decode tokens_per_second']").getByRole("img");
  await chart.waitFor({ timeout: PATIENCE * 2 });
  const { benchmarks } = await (await fetch(`${house.url}/api/benchmarks`)).json();
  const { report } = await (await fetch(`${house.url}/api/benchmarks/${benchmarks[0].id}`)).json();
  const decode = report.figures.filter((figure) => figure.group === "decode" && figure.unit === "tokens_per_second");
  const samples = decode.reduce((sum, figure) => sum + figure.samples.length, 0);
  assert.ok(samples > 0);
  assert.equal(await chart.locator("circle").count(), samples);
  await checkAccess(page, "benchmarks");
  await page.getByRole("button", { name: /^Forget the benchmark/ }).click();
  await page.getByText("Nothing was measured yet").waitFor();
  seen.check();
});
