// Answers that are more than text: kept to a schema, thought about, calling tools; and a server that wants a key.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { House, SMOLLM2 } from "./house.mjs";
import { checkAccess, say, set, visit } from "./visit.mjs";

const open = [];

after(async () => {
  for (const one of open) await one.close();
});

async function serve(house) {
  open.unshift(await house.serve());
  const seen = await visit(house.url, { viewport: { width: 1180, height: 800 } });
  open.unshift(seen);
  return seen;
}

test("an answer is kept to a schema", async () => {
  const seen = await serve(new House(["gguf"]).smollm2());
  const { page } = seen;
  await seen.goTo("/chat");
  const schema = { type: "object", properties: { color: { enum: ["red", "blue"] }, count: { type: "integer", minimum: 3, maximum: 7 } }, required: ["color", "count"], additionalProperties: false };
  await set(page, { Form: ["json_schema"], "JSON schema": JSON.stringify(schema) });
  await say(page, "Tell me a long story.");
  const answer = page.getByRole("article", { name: `Answer of ${SMOLLM2}` });
  await answer.getByRole("button", { name: "Answer again" }).waitFor();
  const said = JSON.parse((await answer.locator("p, pre").allInnerTexts()).join(""));
  assert.deepEqual(Object.keys(said), ["color", "count"]);
  assert.ok(["red", "blue"].includes(said.color) && said.count >= 3 && said.count <= 7, JSON.stringify(said));
  seen.check();
});

// A model that says always the same: the form that Qwen and Hermes were taught.
const TEMPLATE = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %} {% endfor %}{% if enable_thinking is false %}<think></think>{% endif %}<answer>";
const ANSWER = String.raw`<think>\nThey want weather.\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>`;
const TOOLS = [{ name: "get_weather", description: "The weather of a city", parameters: { type: "object", properties: { city: { type: "string" } } } }];

test("reasoning is folded, a call is shown, and its result goes back", async () => {
  const seen = await serve(new House(["fake"]).model("m.fake", `sequence_tokens = 4096\ntemplate = ${TEMPLATE}\nanswer = ${ANSWER}\n`));
  const { page } = seen;
  await seen.goTo("/chat");
  await set(page, { "Functions that the model may call": JSON.stringify(TOOLS) });
  await say(page, "How is the weather?");
  const answer = page.getByRole("article", { name: "Answer of m" });
  await answer.getByText("calls get_weather").waitFor();
  await answer.getByText('"city": "Zürich"').waitFor();
  await answer.getByText("I look.").waitFor();
  const thought = answer.getByText("They want weather.");
  assert.ok(!(await thought.isVisible()), "what it thought is folded");
  await answer.locator("summary").click();
  await thought.waitFor();
  await checkAccess(page, "a call");
  const tell = page.getByRole("button", { name: "Tell the results" });
  assert.ok(await tell.isDisabled());
  await page.getByLabel("What get_weather answers").fill('{"sky": "blue"}');
  const [sent] = await Promise.all([page.waitForRequest("**/v1/chat/completions"), tell.click()]);
  const { messages } = sent.postDataJSON();
  const [asked, called, told] = messages.slice(-3);
  assert.equal(asked.role, "user");
  assert.equal(called.tool_calls[0].function.name, "get_weather");
  assert.deepEqual([told.role, told.content, told.tool_call_id], ["tool", '{"sky": "blue"}', called.tool_calls[0].id]);
  await page.getByRole("button", { name: "Tell the results" }).waitFor();
  assert.equal(await page.getByText("calls get_weather").count(), 2);
  seen.check();
});

test("a server that wants a key asks for it, and not again", async () => {
  const house = new House(["fake"], 'api_keys = ["the-key-of-the-house"]\nadmin_keys = ["the-key-of-its-master"]').model("m.fake", "say = hello");
  const seen = await serve(house);
  const { page } = seen;
  await seen.goTo("/models");
  const gate = page.getByRole("dialog", { name: "This server wants a key" });
  await gate.waitFor();
  await checkAccess(page, "the key's dialog");
  await gate.getByLabel("Key", { exact: true }).fill("no-key-at-all");
  await gate.getByRole("button", { name: "Use this key" }).click();
  await gate.getByLabel("Key", { exact: true }).fill("the-key-of-the-house");
  await gate.getByRole("button", { name: "Use this key" }).click();
  await gate.waitFor({ state: "detached" });
  // It may chat, and not load.
  await page.getByRole("button", { name: "Load m" }).click();
  await page.getByRole("alert").getByText(/admin/).waitFor();
  await seen.goTo("/chat");
  await say(page, "Hi.");
  await page.getByRole("article", { name: "Answer of m" }).getByText("hello").first().waitFor();
  await page.reload();
  await page.getByLabel("Message", { exact: true }).waitFor();
  await page.waitForTimeout(500);
  assert.equal(await gate.count(), 0, "the key was forgotten");
  // With its master's key it may.
  await seen.goTo("/server");
  await page.getByRole("button", { name: "Use another key" }).click();
  await gate.getByLabel("Key", { exact: true }).fill("the-key-of-its-master");
  await gate.getByRole("button", { name: "Use this key" }).click();
  await gate.waitFor({ state: "detached" });
  await seen.goTo("/models");
  await page.getByRole("button", { name: "Unload m" }).click();
  await page.getByRole("button", { name: "Load m" }).click();
  await page.getByRole("button", { name: "Unload m" }).waitFor();
  seen.check();
});
