/**
 * The one connection over which the server tells what changes, and how it goes, once a second.
 *
 * When it breaks the page says so, tries again with longer and longer pauses, and looks at every list again once the
 * server is back.
 */
import type { QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { Refusal, send } from "./client";
import { events } from "./sse";
import type { Event, ServerStatus } from "./types";

export type Link = "connecting" | "open" | "lost";

/** How the server was at one moment of the last minutes. */
export interface Sample {
  at: number;
  status: ServerStatus;
}

export interface LiveState {
  link: Link;
  /** When the connection was lost. */
  lostAt: number | null;
  /** Why the server refuses to tell what changes, in its words; null where it does not answer at all. */
  refusal: string | null;
  samples: readonly Sample[];
  /** How far models that are being loaded are, by id, from 0 to 1. */
  loading: Readonly<Record<string, number>>;
}

const KEPT_SAMPLES = 300;
const SILENCE_MS = 8_000;

let state: LiveState = { link: "connecting", lostAt: null, refusal: null, samples: [], loading: {} };
const listeners = new Set<() => void>();

function set(change: Partial<LiveState>): void {
  state = { ...state, ...change };
  for (const listener of listeners) listener();
}

export function useLive<T>(select: (state: LiveState) => T): T {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => select(state),
  );
}

export function latest(state: LiveState): ServerStatus | null {
  return state.samples.at(-1)?.status ?? null;
}

/** Which lists are others after a change. */
function stale(change: Event): string[] {
  switch (change.type) {
    case "status":
      return [];
    case "benchmark":
      return ["benchmarks", "benchmark"];
    case "model":
      return change.state.name === "loading" ? [] : ["models", "served", "processes", "plan"];
    case "plugin":
    case "plugin_removed":
    case "formats":
    case "configuration":
    case "configuration_refused":
    case "missed":
      return ["plugins", "models", "served", "processes"];
  }
}

function hear(change: Event, client: QueryClient): void {
  if (change.type === "status") {
    const samples = [...state.samples, { at: Date.now(), status: change.status }];
    set({ samples: samples.slice(-KEPT_SAMPLES) });
  }
  if (change.type === "model") {
    const { [change.id]: _, ...others } = state.loading;
    const progress = change.state.name === "loading" ? { [change.id]: change.state.progress } : {};
    set({ loading: { ...others, ...progress } });
    if (change.state.name === "loading" && _ === undefined) void client.invalidateQueries({ queryKey: ["models"] });
  }
  for (const key of stale(change)) void client.invalidateQueries({ queryKey: [key] });
}

/** Listens for as long as the page is open. */
export async function listen(client: QueryClient): Promise<never> {
  let pause = 500;
  for (;;) {
    const stop = new AbortController();
    let refusal: string | null = null;
    let silence = window.setTimeout(() => stop.abort(), SILENCE_MS);
    try {
      const response = await send("/api/events?status=true", { signal: stop.signal });
      const wasLost = state.link === "lost";
      set({ link: "open", lostAt: null, refusal: null, loading: {} });
      if (wasLost) void client.invalidateQueries();
      pause = 500;
      for await (const data of events(response)) {
        window.clearTimeout(silence);
        silence = window.setTimeout(() => stop.abort(), SILENCE_MS);
        hear(JSON.parse(data) as Event, client);
      }
    } catch (error) {
      // Without a key the page asks for one, and the server is there.
      if (error instanceof Refusal && error.status === 401) {
        set({ link: "connecting", lostAt: null, refusal: null });
        await waitForKey();
        continue;
      }
      if (error instanceof Refusal && error.status !== 0) refusal = error.message;
    } finally {
      window.clearTimeout(silence);
    }
    set({ link: "lost", lostAt: state.lostAt ?? Date.now(), refusal, loading: {} });
    await new Promise((then) => window.setTimeout(then, pause));
    pause = Math.min(pause * 1.6, 5_000);
  }
}

let keyCame: () => void = () => undefined;

function waitForKey(): Promise<void> {
  return new Promise((then) => {
    keyCame = then;
  });
}

/** The user gave a key. */
export function tryAgain(): void {
  keyCame();
}
