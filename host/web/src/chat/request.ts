/** A conversation as a request, and an answer as it comes in pieces. Pure: nothing here sends anything. */
import type { ChatChunk, ChatRequest, ErrorBody, ToolPiece } from "../api/types";
import type { Conversation, Figures, Message, TokenProbability, ToolCall } from "./types";

/** The request that continues this branch. Throws what in the settings is no JSON. */
export function requestOf(conversation: Conversation, messages: Message[]): ChatRequest {
  const { settings } = conversation;
  const request: Record<string, unknown> = {
    model: conversation.model ?? "",
    messages: [...(conversation.system.trim() ? [{ role: "system", content: conversation.system }] : []), ...messages.map(wire)],
    stream: true,
    // An answer that is stopped has no last event: each tells what it took so far.
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...settings.sampling,
  };
  if (settings.format === "json_object") request.response_format = { type: "json_object" };
  if (settings.format === "json_schema") {
    const schema = json(settings.schema, "The JSON schema");
    request.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  if (settings.tools.trim()) {
    const tools = json(settings.tools, "The list of tools");
    if (!Array.isArray(tools)) throw new Error("The list of tools must be a JSON list of functions.");
    request.tools = tools.map((tool) => (tool?.type ? tool : { type: "function", function: tool }));
    request.tool_choice = settings.toolChoice;
  }
  if (settings.probabilities) Object.assign(request, { logprobs: true, top_logprobs: 5 });
  return request as ChatRequest;
}

function json(text: string, what: string) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is not valid: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function wire(message: Message): Record<string, unknown> {
  if (message.role === "tool") return { role: "tool", content: message.content, tool_call_id: message.callId ?? "" };
  if (message.role === "user") return { role: "user", content: message.content };
  const calls = message.calls?.map(({ id, name, arguments: written }) => ({ id, type: "function", function: { name, arguments: written } }));
  return { role: "assistant", content: message.content || (calls?.length ? null : ""), ...(calls?.length ? { tool_calls: calls } : {}) };
}

/** An answer that grows. */
export class Growing {
  content = "";
  reasoning = "";
  calls: ToolCall[] = [];
  tokens: TokenProbability[] = [];
  finish: string | null = null;
  figures: Figures | null = null;
  private firstAt: number | null = null;

  constructor(private readonly startedAt: number) {}

  /** Takes one event's data. Throws the server's error. */
  hear(data: string, now: number): void {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data) as ChatChunk | ErrorBody;
    if ("error" in chunk) throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    const delta = choice?.delta;
    const says = Boolean(delta?.content || delta?.reasoning_content || delta?.tool_calls?.length);
    if (says) this.firstAt ??= now;
    this.content += delta?.content ?? "";
    this.reasoning += delta?.reasoning_content ?? "";
    for (const piece of delta?.tool_calls ?? []) this.call(piece);
    for (const { token, logprob, top_logprobs } of choice?.logprobs?.content ?? []) this.tokens.push({ token, logprob, top: top_logprobs });
    this.finish = choice?.finish_reason ?? this.finish;
    if (chunk.usage) {
      this.figures = {
        promptTokens: chunk.usage.prompt_tokens,
        cachedTokens: chunk.usage.prompt_tokens_details.cached_tokens,
        completionTokens: chunk.usage.completion_tokens,
        reasoningTokens: chunk.usage.completion_tokens_details.reasoning_tokens,
        firstTokenMs: this.firstAt === null ? null : this.firstAt - this.startedAt,
        totalMs: now - this.startedAt,
      };
    }
  }

  private call(piece: ToolPiece): void {
    const at = piece.index ?? Math.max(0, this.calls.length - 1);
    const known = this.calls[at] ?? { id: "", name: "", arguments: "" };
    this.calls[at] = {
      id: piece.id ?? known.id,
      name: known.name + (piece.function.name ?? ""),
      arguments: known.arguments + (piece.function.arguments ?? ""),
    };
  }

  /** What the message is so far. */
  message(): Partial<Message> {
    return {
      content: this.content,
      finish: this.finish,
      ...(this.reasoning ? { reasoning: this.reasoning } : {}),
      ...(this.calls.length ? { calls: this.calls.slice() } : {}),
      ...(this.tokens.length ? { tokens: this.tokens.slice() } : {}),
      ...(this.figures ? { figures: this.figures } : {}),
    };
  }
}

/** Tokens that came closer together than this came at once: how fast they were made cannot be told. */
const SHORTEST_SECS = 0.01;

/** Tokens a second after the first one, where there were enough to tell. */
export function speed(figures: Figures): number | null {
  if (figures.firstTokenMs === null || figures.completionTokens < 2) return null;
  const rest = (figures.totalMs - figures.firstTokenMs) / 1000;
  return rest >= SHORTEST_SECS ? (figures.completionTokens - 1) / rest : null;
}
