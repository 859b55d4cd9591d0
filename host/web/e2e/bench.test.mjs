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
  // Beside the machine's limits, where these could be measured.
  const shares = report.figures.filter((figure) => figure.group === "limits" && figure.unit === "share" && figure.samples.length > 0);
  assert.ok(shares.length > 0, "no share of the machine's limits was measured");
  const limits = page.locator("[data-axis='limits share']");
  assert.equal(await limits.getByRole("img").locator("line[stroke-dasharray]").count(), 1);
  await limits.getByText("The dashed line is what this machine was measured to give at most.").waitFor();
  await checkAccess(page, "benchmarks");
  await page.getByRole("button", { name: /^Forget the benchmark/ }).click();
  await page.getByText("Nothing was measured yet").waitFor();
  seen.check();
});

const lines = (page) => page.locator("section").filter({ has: page.getByRole("heading", { name: "History" }) }).getByRole("listitem");

/** Begins a benchmark of the fake model. */
async function begin(page, runs, keep = false) {
  await page.getByRole("radio", { name: /^A model/ }).check({ force: true });
  await page.getByLabel("Runs").fill(String(runs));
  await page.getByLabel("Prompt tokens").fill("8");
  await page.getByLabel("Generated tokens").fill("4");
  await page.getByLabel("Keep the result").setChecked(keep);
  await page.getByRole("button", { name: "Start" }).click();
}

test("benchmarks are stopped, compared, kept over a restart and forgotten", async (context) => {
  const house = await new House(["fake"]).model("m.fake", "say = abcdef").serve();
  const seen = await visit(house.url);
  context.after(async () => {
    await seen.close();
    await house.close();
  });
  const { page } = seen;
  await seen.goTo("/benchmarks");
  await page.getByText("Nothing was measured yet").waitFor();

  await begin(page, 1000);
  await page.getByRole("heading", { name: "Measuring m" }).waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await lines(page).filter({ hasText: "Cancelled" }).waitFor();

  for (const [count, keep] of [[2, true], [3, false]]) {
    await begin(page, 2, keep);
    await lines(page).filter({ hasText: "Finished" }).nth(count - 2).waitFor({ timeout: PATIENCE * 2 });
    assert.equal(await lines(page).count(), count);
  }
  // The newest stands above, and is shown; the one below is compared with it.
  const [newest, kept] = [lines(page).nth(0), lines(page).nth(1)];
  const comparison = page.getByRole("region", { name: "Comparison" });
  await kept.getByRole("button", { name: "Compare" }).click();
  await comparison.getByRole("rowheader").first().waitFor();
  await checkAccess(page, "benchmarks, compared");
  // None is compared with itself.
  await kept.getByRole("button", { name: /^m/ }).click();
  await comparison.waitFor({ state: "detached" });
  await newest.getByRole("button", { name: /^m/ }).click();
  await comparison.getByRole("rowheader").first().waitFor();
  // What is forgotten is neither shown nor compared with any more.
  await newest.getByRole("button", { name: /^Forget/ }).click();
  await comparison.waitFor({ state: "detached" });
  assert.equal(await lines(page).count(), 2);
  await page.locator("[data-axis='decode tokens_per_second']").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);

  await house.kill();
  await house.serve();
  await page.reload();
  await lines(page).filter({ hasText: "kept" }).waitFor();
  assert.equal(await lines(page).count(), 1, "what was not kept is there after a restart");
  await page.locator("[data-axis='decode tokens_per_second']").getByRole("img").waitFor();
  await lines(page).getByRole("button", { name: /^Forget/ }).click();
  await page.getByText("Nothing was measured yet").waitFor();
  await page.locator("[data-axis='decode tokens_per_second']").waitFor({ state: "detached" });
  assert.equal(await page.getByRole("alert").count(), 0);
  seen.check();
});
