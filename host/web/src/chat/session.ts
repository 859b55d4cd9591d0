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
  if (Object.keys(conversation.messages).length === 0) return;
  await store.keep(conversation);
  set({ kept: session.kept + 1 });
}

/** Changes the open conversation, and keeps it. */
export function edit(to: (conversation: Conversation) => Conversation): void {
  const conversation = to(session.conversation);
  set({ conversation });
  void save(conversation);
}

export async function open(id: string): Promise<boolean> {
  if (session.conversation.id === id) return true;
  const conversation = await store.read(id);
  if (conversation) set({ conversation });
  return conversation !== undefined;
}

/** A new conversation that begins with the open one's model and settings. */
export function begin(): Conversation {
  const { model, system, settings } = session.conversation;
  const conversation = { ...newConversation(model), system, settings };
  set({ conversation });
  return conversation;
}

export async function forget(id: string): Promise<void> {
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
  set({ conversation: growing, writing: { conversation: conversation.id, message: message.id } });
  const control = new AbortController();
  stopper = control;
  const grown = new Growing(performance.now());
  const show = (to: Partial<Message>) => {
    // The open one may have been edited meanwhile; another one may be open.
    const base = session.conversation.id === conversation.id ? session.conversation : growing;
    growing = change(base, message.id, to);
    if (session.conversation.id === conversation.id) set({ conversation: growing });
  };
  let frame = 0;
  const showSoon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      show(grown.message());
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
  set({ writing: null });
  stopper = null;
  await save(growing);
}
