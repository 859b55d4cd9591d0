/**
 * The conversation that is open, and the answer that is coming. It lives outside the components, so that an answer goes
 * on while another page is looked at.
 */
import { useSyncExternalStore } from "react";
import { send, told } from "../api/client";
import { events } from "../api/sse";
import { add, change, titleOf, upTo } from "../lib/tree";
import { Growing, requestOf } from "./request";
import * as store from "./store";
import { type Conversation, type Message, newConversation } from "./types";

interface Session {
  conversation: Conversation;
  /** The message that is being written, in whichever conversation. */
  writing: { conversation: string; message: string } | null;
  /** Counts what was kept, so that lists are read anew. */
  kept: number;
}

let session: Session = { conversation: newConversation(null), writing: null, kept: 0 };
let stopper: AbortController | null = null;
/** The conversation that is being written in, as far as it is: what is kept of it may be behind. */
let underway: Conversation | null = null;
/** Conversations that were deleted: what is still being done with one must not bring it back. */
const forgotten = new Set<string>();
/** Counts what was opened, so that the last one wished for is shown, however long others take to be read. */
let opened = 0;

/** How much of an answer is lost at most when the page is closed while it is written. */
const KEEP_EVERY_MS = 2_000;
const listeners = new Set<() => void>();

function set(to: Partial<Session>): void {
  session = { ...session, ...to };
  for (const listener of listeners) listener();
}

export function useSession(): Session {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => session,
  );
}

export function current(): Conversation {
  return session.conversation;
}

async function save(conversation: Conversation): Promise<void> {
  // One that says nothing yet is not worth keeping.
  if (Object.keys(conversation.messages).length === 0 || forgotten.has(conversation.id)) return;
  await store.keep(conversation);
  set({ kept: session.kept + 1 });
}

/** What is kept of an answer while it grows: should the page be closed now, the next visit says so. */
async function saveUnfinished(conversation: Conversation, message: string): Promise<void> {
  if (forgotten.has(conversation.id)) return;
  await store.keep(change(conversation, message, { error: "The answer broke off: the page was closed while it was written." }));
}

/** Changes the open conversation, and keeps it. */
export function edit(to: (conversation: Conversation) => Conversation): void {
  const conversation = to(session.conversation);
  if (underway?.id === conversation.id) underway = conversation;
  set({ conversation });
  void save(conversation);
}

export async function open(id: string): Promise<boolean> {
  opened += 1;
  const mine = opened;
  if (session.conversation.id === id) return true;
  if (underway?.id === id) {
    set({ conversation: underway });
    return true;
  }
  const conversation = await store.read(id);
  if (!conversation) return false;
  forgotten.delete(id);
  // Another one may be wished for by now, and this one may be written in.
  if (mine === opened) set({ conversation: underway?.id === id ? underway : conversation });
  return true;
}

/** A new conversation that begins with the open one's model and settings. */
export function begin(): Conversation {
  opened += 1;
  const { model, system, settings } = session.conversation;
  const conversation = { ...newConversation(model), system, settings };
  set({ conversation });
  return conversation;
}

export async function forget(id: string): Promise<void> {
  forgotten.add(id);
  if (session.writing?.conversation === id) stop();
  await store.forget(id);
  if (session.conversation.id === id) begin();
  set({ kept: session.kept + 1 });
}

export function stop(): void {
  stopper?.abort();
}

const newId = (): string => crypto.randomUUID?.() ?? Math.random().toString(36).slice(2);

/** Says something below `parent`, and lets the model answer. */
export async function say(content: string, parent: string | null): Promise<void> {
  const message: Message = { id: newId(), parent, role: "user", content, createdAt: Date.now() };
  edit((conversation) => {
    const isFirst = Object.keys(conversation.messages).length === 0;
    return { ...add(conversation, message), ...(isFirst ? { title: titleOf(content) } : {}) };
  });
  await answer(message.id);
}

/** Tells the results of calls, and lets the model go on. */
export async function tellResults(caller: Message, results: Record<string, string>): Promise<void> {
  let parent = caller.id;
  for (const call of caller.calls ?? []) {
    const message: Message = { id: newId(), parent, role: "tool", content: results[call.id] ?? "", callId: call.id, createdAt: Date.now() };
    edit((conversation) => add(conversation, message));
    parent = message.id;
  }
  await answer(parent);
}

/** Lets the model answer what stands up to `parent`; beside earlier answers where there are any. */
export async function answer(parent: string | null): Promise<void> {
  if (session.writing) return;
  const conversation = session.conversation;
  const message: Message = {
    id: newId(),
    parent,
    role: "assistant",
    content: "",
    createdAt: Date.now(),
    model: conversation.model ?? undefined,
  };
  let growing = add(conversation, message);
  underway = growing;
  set({ conversation: growing, writing: { conversation: conversation.id, message: message.id } });
  void saveUnfinished(growing, message.id);
  let keptAt = performance.now();
  const control = new AbortController();
  stopper = control;
  const grown = new Growing(performance.now());
  const show = (to: Partial<Message>) => {
    // It may have been edited meanwhile; another one may be open.
    growing = change(underway ?? growing, message.id, to);
    underway = growing;
    if (session.conversation.id === conversation.id) set({ conversation: growing });
  };
  let frame = 0;
  const showSoon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      show(grown.message());
      if (performance.now() - keptAt < KEEP_EVERY_MS) return;
      keptAt = performance.now();
      void saveUnfinished(growing, message.id);
    });
  };
  let failure: Partial<Message> = {};
  try {
    const request = requestOf(conversation, upTo(conversation, parent));
    const response = await send("/v1/chat/completions", { json: request, signal: control.signal });
    for await (const data of events(response)) {
      grown.hear(data, performance.now());
      showSoon();
    }
    if (grown.finish === null) failure = { error: "The answer broke off: the server ended it without a word." };
  } catch (error) {
    failure = control.signal.aborted ? { finish: "stopped" } : { error: told(error) };
  }
  cancelAnimationFrame(frame);
  show({ ...grown.message(), ...failure });
  underway = null;
  stopper = null;
  set({ writing: null });
  await save(growing);
}
