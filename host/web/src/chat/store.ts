/** Conversations in this browser's IndexedDB: nothing of them is kept on the server. */
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { readExport } from "./exported";
import type { Conversation } from "./types";

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation; indexes: { updatedAt: number } };
}

/** What a list of conversations shows. */
export interface Heading {
  id: string;
  title: string;
  updatedAt: number;
}

let opened: Promise<IDBPDatabase<Schema>> | null = null;

function database(): Promise<IDBPDatabase<Schema>> {
  opened ??= openDB<Schema>("impetus", 1, {
    upgrade(db) {
      db.createObjectStore("conversations", { keyPath: "id" }).createIndex("updatedAt", "updatedAt");
    },
  });
  return opened;
}

export async function read(id: string): Promise<Conversation | undefined> {
  return (await database()).get("conversations", id);
}

export async function keep(conversation: Conversation): Promise<void> {
  await (await database()).put("conversations", conversation);
}

export async function forget(id: string): Promise<void> {
  await (await database()).delete("conversations", id);
}

/** Whether each of the words stands in the title or in a message. */
export function matches(conversation: Conversation, words: string[]): boolean {
  if (words.length === 0) return true;
  const texts = [conversation.title, ...Object.values(conversation.messages).map((message) => message.content)];
  const all = texts.join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
}

/** The newest first; with a search only those in which all its words are. */
export async function list(search: string): Promise<Heading[]> {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Heading[] = [];
  const index = (await database()).transaction("conversations").store.index("updatedAt");
  for (let at = await index.openCursor(null, "prev"); at; at = await at.continue()) {
    const { id, title, updatedAt } = at.value;
    if (matches(at.value, words)) found.push({ id, title, updatedAt });
  }
  return found;
}

export async function exportAll(): Promise<string> {
  const conversations = await (await database()).getAll("conversations");
  return JSON.stringify({ impetus: "conversations", version: 1, conversations }, null, 1);
}

export async function importAll(text: string): Promise<number> {
  const conversations = readExport(text);
  const transaction = (await database()).transaction("conversations", "readwrite");
  await Promise.all([...conversations.map((one) => transaction.store.put(one)), transaction.done]);
  return conversations.length;
}
