/**
 * The file of exported conversations. It comes from outside: every part of it is looked at before any is taken, and what
 * is wrong is named by its place.
 */
import { at, type Check, flag, list, literal, maybe, number, object, oneOf, orNull, record, text } from "../lib/shape";
import type { Conversation } from "./types";

const probability = { token: text, logprob: number };
const figures = object({ promptTokens: number, cachedTokens: number, completionTokens: number, reasoningTokens: number, firstTokenMs: orNull(number), totalMs: number });

const message = object({
  id: text,
  parent: orNull(text),
  role: literal("user", "assistant", "tool"),
  content: text,
  createdAt: number,
  model: maybe(text),
  reasoning: maybe(text),
  calls: maybe(list(object({ id: text, name: text, arguments: text }))),
  callId: maybe(text),
  finish: maybe(orNull(text)),
  error: maybe(text),
  figures: maybe(figures),
  tokens: maybe(list(object({ ...probability, top: list(object(probability)) }))),
});

const settings = object({
  sampling: record(oneOf(number, flag, list(text), record(number))),
  format: literal("text", "json_object", "json_schema"),
  schema: text,
  tools: text,
  toolChoice: literal("auto", "none", "required"),
  probabilities: flag,
});

const conversation = object({
  id: text,
  title: text,
  createdAt: number,
  updatedAt: number,
  model: orNull(text),
  system: text,
  settings,
  messages: record(message),
  chosen: record(text),
});

/** Messages stand below each other without a circle, each under its own id. */
const grown: Check = (value, place) => {
  const { id, messages } = value as Conversation;
  if (id === "") return `${place}.id must not be empty`;
  // An empty one is the place above the first message.
  const ended = new Set<string>([""]);
  for (const [key, { id, parent }] of Object.entries(messages)) {
    const here = at(at(place, "messages"), key);
    if (id === "" || id !== key) return `${here}.id must be its key, and not empty; found “${id}”`;
    const way = new Set<string>();
    for (let up: string = id; !ended.has(up); up = messages[up]?.parent ?? "") {
      if (way.has(up)) return `${here} stands below itself`;
      way.add(up);
    }
    for (const passed of way) ended.add(passed);
    if (parent !== null && !Object.hasOwn(messages, parent)) return `${here}.parent is “${parent}”, which is no message`;
  }
  return null;
};

/** The conversations in an exported file. Throws what is wrong with it. */
export function readExport(content: string): Conversation[] {
  let file: unknown;
  try {
    file = JSON.parse(content);
  } catch {
    throw new Error("the file is not JSON");
  }
  const { impetus, version, conversations } = (file ?? {}) as Record<string, unknown>;
  if (impetus !== "conversations") throw new Error("the file is no export of conversations");
  if (version !== 1) throw new Error(`the file has version ${String(version)}, and this page reads version 1`);
  if (!Array.isArray(conversations)) throw new Error("the file has no list of conversations");
  for (const [index, one] of conversations.entries()) {
    const place = `conversation ${index + 1}`;
    const fault = conversation(one, place) ?? grown(one, place);
    if (fault) throw new Error(fault);
  }
  return conversations as Conversation[];
}
