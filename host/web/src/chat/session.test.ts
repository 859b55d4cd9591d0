import "fake-indexeddb/auto";
import { beforeEach, expect, it, vi } from "vitest";
import { branch } from "../lib/tree";
import { begin, current, edit, forget, open, say } from "./session";
import * as store from "./store";
import { newConversation } from "./types";

/** The stream of one answer, written by the test. */
class Answer {
  private pipe = new TransformStream<Uint8Array, Uint8Array>();
  private writer = this.pipe.writable.getWriter();

  constructor() {
    vi.stubGlobal("fetch", async (_: string, { signal }: RequestInit) => {
      signal?.addEventListener("abort", () => void this.writer.abort(signal.reason));
      return new Response(this.pipe.readable);
    });
  }

  async says(content: string, finish: string | null = null): Promise<void> {
    await this.writer.write(new TextEncoder().encode(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`));
  }

  async ends(): Promise<void> {
    await this.says("", "stop");
    await this.writer.close();
  }
}

const shown = () => branch(current()).map(({ content }) => content);
const kept = async (id: string) => {
  const conversation = await store.read(id);
  return conversation && branch(conversation).map(({ content, error }) => error ?? content);
};

beforeEach(() => {
  const nothing = { getItem: () => null };
  vi.stubGlobal("sessionStorage", nothing);
  vi.stubGlobal("localStorage", nothing);
  vi.stubGlobal("requestAnimationFrame", (then: () => void) => setTimeout(then, 0));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
  begin();
});

it("an answer is whole though another chat was looked at while it was written", async () => {
  const other = { ...newConversation("m"), id: "other" };
  await store.keep(other);
  const { id } = current();
  const answer = new Answer();
  const said = say("Hi.", null);
  await answer.says("one ");
  await vi.waitFor(() => expect(shown()).toEqual(["Hi.", "one "]));
  expect(await open("other")).toBe(true);
  expect(current().id).toBe("other");
  await answer.says("two ");
  expect(await kept(id)).toEqual(["Hi.", "The answer broke off: the page was closed while it was written."]);
  expect(await open(id)).toBe(true);
  await vi.waitFor(() => expect(shown()).toEqual(["Hi.", "one two "]));
  edit((conversation) => ({ ...conversation, title: "Renamed" }));
  await open("other");
  await answer.says("three");
  await answer.ends();
  await said;
  expect(shown()).toEqual([]);
  expect(await kept(id)).toEqual(["Hi.", "one two three"]);
  expect((await store.read(id))?.title).toBe("Renamed");
  await open(id);
  expect(shown()).toEqual(["Hi.", "one two three"]);
});

it("a chat that is deleted while it is written stays deleted", async () => {
  const { id } = current();
  const answer = new Answer();
  const said = say("Hi.", null);
  await answer.says("one");
  await vi.waitFor(async () => expect(await kept(id)).toHaveLength(2));
  await forget(id);
  await said;
  expect(await store.read(id)).toBeUndefined();
  expect(current().id).not.toBe(id);
  expect(shown()).toEqual([]);
});

it("the chat that was wished for last is shown, whichever was read first", async () => {
  await store.keep({ ...newConversation("m"), id: "slow" });
  const slow = open("slow");
  const { id } = begin();
  expect(await slow).toBe(true);
  expect(current().id).toBe(id);
});
