// What happens on the server while one looks on: plugins that are missing, replaced or crash, and a refusal to tell.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { House, SMOLLM2 } from "./house.mjs";
import { checkAccess, visit } from "./visit.mjs";

let house;
let seen;

before(async () => {
  house = await new House(["fake"]).model("m.fake", "say = hello\nstall_ms = 20").smollm2().serve();
  seen = await visit(house.url);
});

after(async () => {
  await seen?.close();
  await house?.close();
});

test("a model whose plugin is missing is shown with the reason, apart, until the plugin is there", async () => {
  const { page } = seen;
  await seen.goTo("/models");
  const row = page.getByRole("listitem").filter({ hasText: SMOLLM2 });
  await row.getByText("no plugin for gguf files is loaded").waitFor();
  await row.getByText("Cannot run").waitFor();
  await page.getByText("1 can be served, 1 cannot").waitFor();
  const [able, heading, unable] = await page.getByRole("listitem").allInnerTexts();
  assert.ok(able.startsWith("m") && heading.startsWith("Cannot run") && unable.startsWith(SMOLLM2));
  assert.equal(await page.getByRole("button", { name: `Load ${SMOLLM2}` }).count(), 0);
  await checkAccess(page, "a model without its plugin");
  house.install("gguf");
  await page.getByRole("button", { name: `Load ${SMOLLM2}` }).waitFor();
  await page.getByText("2 can be served, 0 cannot").waitFor();
  house.remove("gguf");
  await row.getByText("no plugin for gguf files is loaded").waitFor();
});

test("a plugin that is replaced is shown beside its successor until its last answer has ended", async () => {
  const { page } = seen;
  await seen.goTo("/plugins");
  await page.evaluate(() => {
    window.stays = true;
  });
  const fakes = page.locator("[data-plugin='fake']");
  await fakes.first().waitFor();
  const body = JSON.stringify({ model: "m", prompt: "a", max_tokens: 300, stream: true });
  const answer = await fetch(`${house.url}/v1/completions`, { method: "POST", headers: { "content-type": "application/json" }, body });
  const reader = answer.body.getReader();
  await reader.read();
  house.upgrade("fake");
  await page.getByText("Replaced, still running").waitFor();
  assert.equal(await fakes.count(), 2);
  await fakes.filter({ hasText: "Loaded" }).first().waitFor();
  for (let done = false; !done; ) ({ done } = await reader.read());
  await page.getByText("Replaced, still running").waitFor({ state: "detached" });
  assert.equal(await fakes.count(), 1);
});

test("a plugin that crashes is shown as such, with what it said, and so are its models", async () => {
  const { page } = seen;
  house.configure('[plugin.fake.options]\nx = "abort_at_start"');
  const fake = page.locator("[data-plugin='fake']");
  await fake.getByText("Crashed", { exact: true }).waitFor();
  await fake.getByText(/SIGABRT/).first().waitFor();
  await fake.locator("summary").click();
  await fake.getByText("told to abort").waitFor();
  await checkAccess(page, "a crashed plugin");
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByText(/a plugin .fake. for it is present but crashed/).waitFor();
  await page.getByRole("link", { name: "Plugins" }).click();
  house.configure();
  await fake.getByText("Loaded", { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => window.stays), true, "the page was loaded again");
});

test("a server that refuses to tell what changes is not called a dead one", async () => {
  const { page } = seen;
  const body = JSON.stringify({ error: { message: "the host name is not one of this server's", type: "permission_error", param: null, code: "unknown_host" } });
  const refuse = (route) => route.fulfill({ status: 403, contentType: "application/json", body });
  await page.route("**/api/events*", refuse);
  await page.reload();
  const banner = page.getByRole("status").filter({ hasText: "has refused to tell what changes" });
  await banner.getByText("the host name is not one of this server's").waitFor();
  assert.ok(!(await banner.innerText()).includes("does not answer"));
  await page.unroute("**/api/events*", refuse);
  await banner.waitFor({ state: "detached" });
  seen.check();
});
