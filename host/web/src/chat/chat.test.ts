import "fake-indexeddb/auto";
import { describe, expect, it } from "vitest";
import { EventCutter } from "../api/sse";
import { add, branch, change, children, choose, remove, titleOf, upTo } from "../lib/tree";
import { readExport } from "./exported";
import { Growing, requestOf, speed } from "./request";
import * as store from "./store";
import { type Conversation, type Message, newConversation } from "./types";

const message = (id: string, parent: string | null, role: Message["role"], at: number, more: Partial<Message> = {}): Message => ({ id, parent, role, content: id, createdAt: at, ...more });

function talk(): Conversation {
  let conversation = newConversation("m", 0);
  conversation = add(conversation, message("q1", null, "user", 1));
  conversation = add(conversation, message("a1", "q1", "assistant", 2));
  conversation = add(conversation, message("q2", "a1", "user", 3));
  return add(conversation, message("a2", "q1", "assistant", 4));
}

const ids = (messages: Message[]) => messages.map(({ id }) => id);

describe("a conversation", () => {
  it("branches where it is answered again, and nothing is lost", () => {
    const conversation = talk();
    expect(ids(branch(conversation))).toEqual(["q1", "a2"]);
    expect(ids(children(conversation, "q1"))).toEqual(["a1", "a2"]);
    expect(ids(branch(choose(conversation, "a1")))).toEqual(["q1", "a1", "q2"]);
    expect(ids(upTo(conversation, "q2"))).toEqual(["q1", "a1", "q2"]);
    expect(change(conversation, "a2", { content: "x" }).messages.a2?.content).toBe("x");
    expect(conversation.messages.a2?.content).toBe("a2");
  });

  it("shows what is left when a branch is removed", () => {
    const less = remove(talk(), "a2");
    expect(ids(branch(less))).toEqual(["q1", "a1", "q2"]);
    expect(Object.keys(remove(less, "q1").messages)).toEqual([]);
  });

  it("is titled by its first line", () => {
    expect(titleOf("  Hello\nthere")).toBe("Hello");
    expect(titleOf("x".repeat(80))).toHaveLength(60);
    expect(titleOf(" \n ")).toBe("New chat");
  });
});

describe("a request", () => {
  it("has the branch, the system prompt and only what was set", () => {
    const conversation = { ...talk(), system: "Be brief.", settings: { ...talk().settings, sampling: { temperature: 0 } } };
    const request = requestOf(conversation, upTo(conversation, "q2")) as Record<string, unknown>;
    expect(request.messages).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "q1" },
      { role: "assistant", content: "a1" },
      { role: "user", content: "q2" },
    ]);
    expect(Object.keys(request).sort()).toEqual(["messages", "model", "stream", "stream_options", "temperature"]);
  });

  it("has schema and tools, and says what of them is no JSON", () => {
    const base = talk();
    const settings = { ...base.settings, format: "json_schema" as const, schema: '{"type": "object"}', tools: '[{"name": "f"}]', probabilities: true };
    const request = requestOf({ ...base, settings }, []) as Record<string, unknown>;
    expect(request.response_format).toEqual({ type: "json_schema", json_schema: { name: "answer", strict: true, schema: { type: "object" } } });
    expect(request.tools).toEqual([{ type: "function", function: { name: "f" } }]);
    expect([request.logprobs, request.top_logprobs]).toEqual([true, 5]);
    expect(() => requestOf({ ...base, settings: { ...settings, schema: "{" } }, [])).toThrow("The JSON schema is not valid");
  });

  it("tells calls and their results", () => {
    const calls = [{ id: "c", name: "f", arguments: "{}" }];
    const request = requestOf(talk(), [message("a", null, "assistant", 1, { content: "", calls }), message("r", "a", "tool", 2, { callId: "c" })]) as { messages: unknown[] };
    expect(request.messages).toEqual([
      { role: "assistant", content: null, tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", content: "r", tool_call_id: "c" },
    ]);
  });
});

describe("an answer", () => {
  const delta = (delta: object, more: object = {}) => JSON.stringify({ choices: [{ delta, ...more }] });

  it("grows of its pieces, and its first token is timed", () => {
    const growing = new Growing(1000);
    growing.hear(delta({ role: "assistant" }), 1005);
    growing.hear(delta({ reasoning_content: "hm" }), 1100);
    growing.hear(delta({ content: "a" }, { logprobs: { content: [{ token: "a", logprob: -0.1, top_logprobs: [] }] } }), 1200);
    growing.hear(delta({ content: "b" }, { finish_reason: "stop" }), 1300);
    growing.hear(JSON.stringify({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 11, total_tokens: 14, prompt_tokens_details: { cached_tokens: 2 }, completion_tokens_details: { reasoning_tokens: 0 } } }), 2100);
    growing.hear("[DONE]", 2100);
    const { content, reasoning, finish, figures, tokens } = growing.message();
    expect([content, reasoning, finish, tokens?.length]).toEqual(["ab", "hm", "stop", 1]);
    expect(figures).toEqual({ promptTokens: 3, cachedTokens: 2, completionTokens: 11, reasoningTokens: 0, firstTokenMs: 100, totalMs: 1100 });
    expect(figures && speed(figures)).toBeCloseTo(10);
    expect(figures && speed({ ...figures, totalMs: 100.2 })).toBeNull();
  });

  it("knows what it took when it is stopped: each piece says it", () => {
    const growing = new Growing(1000);
    const usage = (tokens: number) => ({ prompt_tokens: 3, completion_tokens: tokens, total_tokens: 3 + tokens, prompt_tokens_details: { cached_tokens: 0 }, completion_tokens_details: { reasoning_tokens: 0 } });
    growing.hear(JSON.stringify({ choices: [{ delta: { content: "a" } }], usage: usage(1) }), 1100);
    growing.hear(JSON.stringify({ choices: [{ delta: { content: "b" } }], usage: usage(2) }), 1200);
    expect(growing.message()).toMatchObject({ content: "ab", finish: null, figures: { completionTokens: 2, firstTokenMs: 100, totalMs: 200 } });
    expect(requestOf(talk(), [])).toMatchObject({ stream_options: { include_usage: true, continuous_usage_stats: true } });
  });

  it("puts calls together, and fails with the server's words", () => {
    const growing = new Growing(0);
    growing.hear(delta({ tool_calls: [{ index: 0, id: "c1", function: { name: "f", arguments: "" } }] }), 1);
    growing.hear(delta({ tool_calls: [{ index: 0, function: { arguments: '{"a"' } }] }), 2);
    growing.hear(delta({ tool_calls: [{ index: 0, function: { arguments: ": 1}" } }] }), 3);
    growing.hear(delta({ tool_calls: [{ index: 1, id: "c2", function: { name: "g", arguments: "{}" } }] }), 4);
    expect(growing.message().calls).toEqual([
      { id: "c1", name: "f", arguments: '{"a": 1}' },
      { id: "c2", name: "g", arguments: "{}" },
    ]);
    expect(() => growing.hear('{"error": {"message": "the engine crashed"}}', 5)).toThrow("the engine crashed");
  });
});

describe("events", () => {
  it("are the same however they are cut", () => {
    const text = ': hello\n\ndata: {"a":1}\n\nevent: x\ndata: one\ndata: two\r\n\r\ndata: [DONE]\n\n';
    for (let at = 0; at <= text.length; at += 1) {
      const cutter = new EventCutter();
      const found = [...cutter.push(text.slice(0, at)), ...cutter.push(text.slice(at))];
      expect(found).toEqual(['{"a":1}', "one\ntwo", "[DONE]"]);
    }
  });
});

describe("kept conversations", () => {
  it("are found by their words, exported, and imported again", async () => {
    const conversation = { ...talk(), id: "one", title: "On whales" };
    await store.keep(conversation);
    await store.keep({ ...newConversation("m", 9), id: "two", title: "Other", updatedAt: 9 });
    expect((await store.list("")).map(({ id }) => id)).toEqual(["two", "one"]);
    expect((await store.list("whales Q2")).map(({ id }) => id)).toEqual(["one"]);
    expect(await store.list("whales nothing")).toEqual([]);
    const exported = await store.exportAll();
    await store.forget("one");
    expect(await store.read("one")).toBeUndefined();
    expect(await store.importAll(exported)).toBe(2);
    expect(await store.read("one")).toEqual(conversation);
  });

  const file = (...conversations: unknown[]) => JSON.stringify({ impetus: "conversations", version: 1, conversations });

  it("are not imported from what is none", () => {
    for (const [text, words] of [["{", "not JSON"], ["{}", "no export"], ["null", "no export"], ['{"impetus":"conversations","version":2}', "version 2"], [file({}), "conversation 1.id must be a text; found nothing"], [file(null), "conversation 1 must be an object; found null"]] as const) {
      expect(() => readExport(text)).toThrow(words);
    }
  });

  it("are not imported where any part of them would break the page, and the part is named", () => {
    const one = talk();
    const q1 = message("q1", null, "user", 1);
    const broken: [Partial<Record<keyof Conversation, unknown>>, string][] = [
      [{ messages: { "": message("", null, "user", 1) } }, "conversation 1.messages..id must be its key, and not empty"],
      [{ messages: { q1: null } }, "conversation 1.messages.q1 must be an object; found null"],
      [{ messages: { q1: { ...q1, content: null } } }, "messages.q1.content must be a text; found null"],
      [{ messages: { q1: { ...q1, role: "system" } } }, "messages.q1.role must be one of user, assistant, tool"],
      [{ messages: { q1: { ...q1, id: "q2" } } }, "messages.q1.id must be its key"],
      [{ messages: { q1: { ...q1, parent: "q0" } } }, "parent is “q0”, which is no message"],
      [{ messages: { q1: { ...q1, parent: "q1" } } }, "messages.q1 stands below itself"],
      [{ messages: { q1: { ...q1, parent: "q2" }, q2: message("q2", "q1", "user", 2) } }, "stands below itself"],
      [{ messages: { q1: { ...q1, tokens: [{ token: "a", logprob: 0 }] } } }, "messages.q1.tokens[0].top must be a list; found nothing"],
      [{ messages: { q1: { ...q1, calls: [{ id: "c" }] } } }, "calls[0].name must be a text"],
      [{ settings: { ...one.settings, sampling: { temperature: "warm" } } }, "settings.sampling.temperature is of no kind"],
      [{ updatedAt: "now" }, "conversation 1.updatedAt must be a number; found a string"],
      [{ id: "" }, "conversation 1.id must not be empty"],
      [{ chosen: { "": 1 } }, "chosen. must be a text; found a number"],
    ];
    for (const [part, words] of broken) expect(() => readExport(file({ ...one, ...part }))).toThrow(words);
    expect(readExport(file(one))).toEqual([one]);
  });
});
