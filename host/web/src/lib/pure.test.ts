import { describe, expect, it } from "vitest";
import schema from "../api/schema.ts?raw";
import type { ModelEntry } from "../api/types";
import { bytes, count, percent, rate, seconds, span, whole } from "./format";
import { group } from "./grouping";
import { GROUPS, parse, type Setting, show } from "./sampling";
import { find, NO_FILTER } from "./search";
import { blocks } from "./blocks";
import { roof, ticks } from "./ticks";

describe("figures", () => {
  it("have few digits and a unit", () => {
    expect([bytes(0), bytes(1023), bytes(98_362_432), bytes(5 * 2 ** 30)]).toEqual(["0 B", "1023 B", "93.8 MiB", "5.0 GiB"]);
    expect([count(134_515_008), count(7_240_000_000), count(512)]).toEqual(["135 M", "7.2 B", "512"]);
    expect([seconds(0.00042), seconds(0.189), seconds(2.345), seconds(75)]).toEqual(["420 µs", "189 ms", "2.35 s", "1 min 15 s"]);
    expect([span(59), span(3_700), span(90_000)]).toEqual(["59 s", "1 h 1 min", "1 d 1 h"]);
    expect([rate(12.345), rate(345.6), percent(0.425), whole(8192)]).toEqual(["12.3", "346", "43 %", "8\u202f192"]);
  });

  it("are a dash where nothing is known", () => {
    for (const show of [bytes, count, seconds, span, rate, percent, whole]) expect(show(null)).toBe("–");
    expect(percent(Number.NaN)).toBe("–");
  });
});

describe("ticks", () => {
  it("are round and within", () => {
    expect(ticks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(ticks(0, 0.37, 3)).toEqual([0, 0.2]);
    expect(ticks(3, 3, 4)).toEqual([3]);
    expect([roof(7), roof(23), roof(0.031), roof(0)]).toEqual([10, 25, 0.05, 1]);
  });
});

describe("search", () => {
  const model = (id: string, gib: number, more: Partial<ModelEntry> = {}): ModelEntry => ({
    id,
    created: 0,
    format: "gguf",
    plugin: "gguf",
    state: "available",
    capabilities: [],
    summary: { size_bytes: gib * 2 ** 30, architecture: "llama", quantization: "Q4_K_M" },
    ...more,
  });
  const models = [model("org/Big", 20), model("small-10", 1), model("small-9", 2, { state: "unavailable", format: null })];
  const ids = (filter: Partial<typeof NO_FILTER>) => find(models, { ...NO_FILTER, ...filter }).map(({ id }) => id);

  it("finds by words, sizes, state and format", () => {
    expect(ids({ words: "q4 LLAMA" })).toHaveLength(3);
    expect(ids({ words: "<1.5gb" })).toEqual(["small-10"]);
    expect(ids({ words: ">1500mb small" })).toEqual(["small-9"]);
    expect(ids({ state: "unavailable" })).toEqual(["small-9"]);
    expect(ids({ format: "unknown" })).toEqual(["small-9"]);
  });

  it("counts in names as people do", () => {
    expect(ids({})).toEqual(["org/Big", "small-9", "small-10"]);
    expect(ids({ sort: "size" })).toEqual(["org/Big", "small-9", "small-10"]);
  });
});

describe("what was dropped", () => {
  it("is one model for a folder, for all parts of a file, and for each other file", () => {
    const dropped = ["m/config.json", "m/model.safetensors", "m/.git/HEAD", ".DS_Store", "a-00002-of-00002.gguf", "a-00001-of-00002.gguf", "b.gguf"].map((path) => ({ path, file: null }));
    const groups = group(dropped).map(({ name, files }) => [name, files.map(({ path }) => path)]);
    expect(groups).toEqual([
      ["m", ["m/config.json", "m/model.safetensors"]],
      ["a.gguf", ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]],
      ["b.gguf", ["b.gguf"]],
    ]);
  });
});

describe("settings", () => {
  const of = (name: string) => GROUPS.flatMap(({ settings }) => settings).find((setting) => setting.name === name) as Setting;

  it("are read as they were typed, or say what is wrong", () => {
    expect(parse(of("temperature"), " 0.7 ")).toEqual({ value: 0.7 });
    expect(parse(of("temperature"), "")).toEqual({});
    expect(parse(of("temperature"), "6").problem).toBe("at most 5");
    expect(parse(of("top_k"), "1.5").problem).toContain("whole");
    expect(parse(of("temperature"), "warm").problem).toContain("number");
    expect(parse(of("stop"), "\\n\nEND")).toEqual({ value: ["\n", "END"] });
    expect(parse(of("logit_bias"), "12 -1\n13: 2.5")).toEqual({ value: { 12: -1, 13: 2.5 } });
    expect(parse(of("logit_bias"), "twelve 1").problem).toContain("twelve");
  });

  it("are shown as they can be read again", () => {
    for (const [name, text] of [["stop", "\\n\nEND"], ["logit_bias", "12 -1\n13 2.5"], ["seed", "7"]] as const) {
      expect(show(parse(of(name), text).value)).toBe(text);
    }
  });

  it("are there for every field of a chat's request, but for those that the page sends by other means", () => {
    const operation = schema.slice(schema.indexOf("post_v1_chat_completions: {"));
    const body = operation.slice(0, operation.indexOf("responses: {"));
    const fields = [...body.matchAll(/^ {20}(\w+)\??:/gm)].map(([, name]) => name ?? "");
    const names: string[] = GROUPS.flatMap(({ settings }) => settings.map(({ name }) => name));
    // Each with what has its place on the page.
    const elsewhere = {
      "the conversation": ["model", "messages"],
      "other names of the same": ["max_completion_tokens", "repetition_penalty"],
      "how the page reads answers": ["n", "stream", "stream_options"],
      "the switch for probabilities": ["logprobs", "top_logprobs"],
      "the form of the answer": ["response_format", "json_schema", "grammar", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"],
      tools: ["tools", "tool_choice", "parallel_tool_calls"],
      "the template": ["chat_template_kwargs", "reasoning_effort"],
      "the order of requests": ["priority", "deadline_ms"],
      "the dialog of a model": ["keep_alive"],
      "bookkeeping, without effect": ["modalities", "service_tier", "store", "user", "safety_identifier", "prompt_cache_key", "metadata"],
    };
    const without = new Set(Object.values(elsewhere).flat());
    expect(fields.length).toBeGreaterThan(40);
    expect(fields.filter((field) => !names.includes(field) && !without.has(field))).toEqual([]);
    expect([...without].filter((field) => !fields.includes(field))).toEqual([]);
  });

  it("have each its own name", () => {
    const names = GROUPS.flatMap(({ settings }) => settings.map(({ name }) => name));
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("blocks of Markdown", () => {
  it("end at empty lines, but not within fences, lists and what is indented", () => {
    expect(blocks("a\n\nb")).toHaveLength(2);
    expect(blocks("```\na\n\nb\n```\n\nc")).toHaveLength(2);
    expect(blocks("- a\n\n- b\n\n  more\n\nend")).toHaveLength(2);
    expect(blocks("1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b")).toHaveLength(1);
    expect(blocks("````\n```\n\nx\n````\n\nend")).toHaveLength(2);
    expect(blocks("\n\n")).toHaveLength(0);
  });

  it("are the same text together, and only the last changes while a text grows", () => {
    const text = "# T\n\npara\n\n- a\n- b\n\n```js\nx\n\ny\n```\n\nend";
    expect(blocks(text).join("\n").replaceAll(/\n+/g, "\n")).toBe(text.replaceAll(/\n+/g, "\n"));
    let before: string[] = [];
    for (let end = 1; end <= text.length; end += 1) {
      const now = blocks(text.slice(0, end));
      expect(now.slice(0, Math.max(0, before.length - 1))).toEqual(before.slice(0, -1));
      before = now;
    }
  });
});
