/** What a conversation is, as it is kept in this browser and written into exported files. */

export interface ToolCall {
  id: string;
  name: string;
  /** JSON text, as the model wrote it. */
  arguments: string;
}

/** A token that was chosen, and what it was chosen from. */
export interface TokenProbability {
  token: string;
  logprob: number;
  top: { token: string; logprob: number }[];
}

/** What an answer took. Tokens are the server's count; times were measured in this browser. */
export interface Figures {
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  reasoningTokens: number;
  firstTokenMs: number | null;
  totalMs: number;
}

export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  content: string;
  createdAt: number;
  /** Of an answer: the model that gave it. */
  model?: string;
  reasoning?: string;
  calls?: ToolCall[];
  /** Of a tool's result: the call that it answers. */
  callId?: string;
  finish?: string | null;
  error?: string;
  figures?: Figures;
  tokens?: TokenProbability[];
}

export type Format = "text" | "json_object" | "json_schema";

export interface Settings {
  /** Sampling settings by their names in the API. What is not here is left to the server. */
  sampling: Record<string, number | boolean | string[] | Record<string, number>>;
  format: Format;
  schema: string;
  /** A JSON list of functions. */
  tools: string;
  toolChoice: "auto" | "none" | "required";
  probabilities: boolean;
}

export interface Conversation {
  id: string;
  title: string;
  createdAt: number;
  updatedAt: number;
  model: string | null;
  system: string;
  settings: Settings;
  messages: Record<string, Message>;
  /** Which child is shown below each message; `""` is the place above the first. */
  chosen: Record<string, string>;
}

export const DEFAULT_SETTINGS: Settings = {
  sampling: {},
  format: "text",
  schema: "",
  tools: "",
  toolChoice: "auto",
  probabilities: false,
};

export function newConversation(model: string | null, now: number = Date.now()): Conversation {
  return {
    id: crypto.randomUUID?.() ?? `${now}-${Math.random().toString(36).slice(2)}`,
    title: "New chat",
    createdAt: now,
    updatedAt: now,
    model,
    system: "",
    settings: DEFAULT_SETTINGS,
    messages: {},
    chosen: {},
  };
}
