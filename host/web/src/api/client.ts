/**
 * Requests to the server, with the key that the user gave, and failures in the server's own words.
 *
 * The key stays in this browser: in the tab's session, or, where the user wishes it, in local storage.
 */
import type { ErrorBody } from "./types";

const KEY = "impetus.key";

/** A refusal of the server, or no answer at all (`status` 0). */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
    readonly requestId: string | null = null,
  ) {
    super(message);
    this.name = "Refusal";
  }
}

export function readKey(): string | null {
  return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
}

export function keepKey(key: string, forLong: boolean): void {
  (forLong ? localStorage : sessionStorage).setItem(KEY, key);
}

export function forgetKey(): void {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

/** Called with each refusal for want of a key, so that the page can ask for one. */
let onNoKey: (refusal: Refusal) => void = () => undefined;
export function whenNoKey(then: (refusal: Refusal) => void): void {
  onNoKey = then;
}

/** Asks for another key, such as an administrator's. */
export function askForKey(): void {
  onNoKey(new Refusal(401, "From now on the page uses the key that you give here."));
}

export interface Ask {
  method?: string;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The raw response of a request that was not refused. */
export async function send(path: string, ask: Ask = {}): Promise<Response> {
  const headers: Record<string, string> = { ...ask.headers };
  const key = readKey();
  if (key) headers.authorization = `Bearer ${key}`;
  let body = ask.body;
  if (ask.json !== undefined) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(ask.json);
  }
  let response: Response;
  try {
    response = await fetch(path, { method: ask.method ?? (body === undefined ? "GET" : "POST"), headers, body, signal: ask.signal });
  } catch (error) {
    if (ask.signal?.aborted) throw error;
    throw new Refusal(0, "The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const refusal = await refusalOf(response);
  if (refusal.status === 401) onNoKey(refusal);
  throw refusal;
}

/** JSON of a request that was not refused. */
export async function ask<T>(path: string, options: Ask = {}): Promise<T> {
  return (await (await send(path, options)).json()) as T;
}

async function refusalOf(response: Response): Promise<Refusal> {
  const id = response.headers.get("x-request-id");
  try {
    const { error } = (await response.json()) as ErrorBody;
    return new Refusal(response.status, error.message, error.code ?? null, error.param ?? null, id);
  } catch {
    return new Refusal(response.status, `The server answered ${response.status} ${response.statusText}.`, null, null, id);
  }
}

/** What went wrong, for people. */
export function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A model's id within a path of the API: its slashes stay. */
export function idPath(id: string): string {
  return id.split("/").map(encodeURIComponent).join("/");
}
