/**
 * A conversation is a tree: editing a message or answering it again begins a branch beside what was there, and nothing
 * is lost. At each fork one branch is shown. All functions here give a new conversation and leave the old one as it is.
 */
import type { Conversation, Message } from "../chat/types";

/** The name of the place above the first message. */
const ROOT = "";

const above = (message: Pick<Message, "parent">): string => message.parent ?? ROOT;

/** Messages with this parent, oldest first. */
export function children(conversation: Conversation, parent: string | null): Message[] {
  return Object.values(conversation.messages)
    .filter((message) => message.parent === parent)
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}

/** The branch that is shown, from the first message to its end. */
export function branch(conversation: Conversation): Message[] {
  const byParent = new Map<string, Message[]>();
  for (const message of Object.values(conversation.messages)) {
    const list = byParent.get(above(message));
    if (list) list.push(message);
    else byParent.set(above(message), [message]);
  }
  const shown: Message[] = [];
  let parent = ROOT;
  for (;;) {
    const here = byParent.get(parent);
    if (!here) return shown;
    const chosen = here.find((message) => message.id === conversation.chosen[parent]) ?? newest(here);
    shown.push(chosen);
    parent = chosen.id;
  }
}

function newest(messages: Message[]): Message {
  return messages.reduce((a, b) => (b.createdAt >= a.createdAt ? b : a));
}

/** With one message more, whose branch is shown from now on. */
export function add(conversation: Conversation, message: Message): Conversation {
  return {
    ...conversation,
    updatedAt: Math.max(conversation.updatedAt, message.createdAt),
    messages: { ...conversation.messages, [message.id]: message },
    chosen: { ...conversation.chosen, [above(message)]: message.id },
  };
}

/** With one message otherwise. */
export function change(conversation: Conversation, id: string, to: Partial<Message>): Conversation {
  const message = conversation.messages[id];
  if (!message) return conversation;
  return { ...conversation, messages: { ...conversation.messages, [id]: { ...message, ...to } } };
}

/** Shows the branch of this message. */
export function choose(conversation: Conversation, id: string): Conversation {
  const message = conversation.messages[id];
  if (!message) return conversation;
  return { ...conversation, chosen: { ...conversation.chosen, [above(message)]: id } };
}

/** Without this message and all that follows it. */
export function remove(conversation: Conversation, id: string): Conversation {
  const gone = new Set([id]);
  let grew = true;
  while (grew) {
    grew = false;
    for (const message of Object.values(conversation.messages)) {
      if (message.parent !== null && gone.has(message.parent) && !gone.has(message.id)) {
        gone.add(message.id);
        grew = true;
      }
    }
  }
  const keep = <T>(record: Record<string, T>, is: (key: string, value: T) => boolean) =>
    Object.fromEntries(Object.entries(record).filter(([key, value]) => is(key, value)));
  return {
    ...conversation,
    messages: keep(conversation.messages, (key) => !gone.has(key)),
    chosen: keep(conversation.chosen, (key, value) => !gone.has(key) && !gone.has(value)),
  };
}

/** The branch from the first message down to this one. */
export function upTo(conversation: Conversation, id: string | null): Message[] {
  const found: Message[] = [];
  for (let at = id; at !== null; ) {
    const message: Message | undefined = conversation.messages[at];
    if (!message) break;
    found.unshift(message);
    at = message.parent;
  }
  return found;
}

/** The first words of a conversation, for its title. */
export function titleOf(text: string): string {
  const line = text.trim().split("\n")[0]?.trim() ?? "";
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line || "New chat";
}
