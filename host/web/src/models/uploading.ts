/**
 * Sends models to the server, piece by piece: the server says which piece it wants next, so that an upload that was
 * broken off goes on where it was. Lives outside the components: it goes on while another page is looked at.
 */
import { useSyncExternalStore } from "react";
import { ask, Refusal, told } from "../api/client";
import type { UploadState } from "../api/types";
import type { Grouped } from "../lib/grouping";

export interface Upload {
  key: string;
  name: string;
  bytes: number;
  stage: "asking" | "sending" | "waiting" | "done" | "refused" | "paused";
  state: UploadState | null;
  /** Bytes a second, lately. */
  speed: number | null;
  problem: string | null;
}

interface Entry extends Upload {
  files: Grouped["files"];
  control: AbortController | null;
}

let uploads: Entry[] = [];
let shown: Upload[] = [];
const listeners = new Set<() => void>();
let whenDone: () => void = () => undefined;

function set(key: string, to: Partial<Entry>): void {
  uploads = uploads.map((one) => (one.key === key ? { ...one, ...to } : one));
  publish();
}

function publish(): void {
  shown = uploads;
  for (const listener of listeners) listener();
}

export function useUploads(): Upload[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => shown,
  );
}

/** Called after each upload that came to an end, one way or the other. */
export function afterUploads(then: () => void): void {
  whenDone = then;
}

export function begin(groups: Grouped[]): void {
  for (const { name, files } of groups) {
    const key = `${name} ${Date.now()} ${Math.random()}`;
    const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    uploads = [...uploads, { key, name, bytes, files, stage: "asking", state: null, speed: null, problem: null, control: null }];
    publish();
    void run(key);
  }
}

export function pause(key: string): void {
  uploads.find((one) => one.key === key)?.control?.abort();
  set(key, { stage: "paused", speed: null });
}

export function goOn(key: string): void {
  void run(key);
}

/** Forgets an upload here, and on the server what came of it, unless it is done. */
export async function dismiss(key: string): Promise<void> {
  const one = uploads.find((one) => one.key === key);
  one?.control?.abort();
  uploads = uploads.filter((other) => other.key !== key);
  publish();
  if (one?.state && one.stage !== "done" && one.stage !== "refused") await discard(one.state.id);
  whenDone();
}

export async function discard(id: string): Promise<void> {
  await ask(`/api/uploads/${id}`, { method: "DELETE" }).catch(() => undefined);
}

async function run(key: string): Promise<void> {
  const control = new AbortController();
  set(key, { control, problem: null });
  const isOver = () => control.signal.aborted;
  let pauseMs = 1000;
  while (!isOver()) {
    try {
      await send(key, control.signal);
      return;
    } catch (error) {
      if (isOver()) return;
      const isGone = error instanceof Refusal && (error.status === 0 || error.status === 503 || error.code === "wrong_offset");
      if (!isGone) {
        set(key, { stage: "refused", problem: told(error), speed: null });
        whenDone();
        return;
      }
      set(key, { stage: "waiting", problem: told(error), speed: null });
      await new Promise((then) => window.setTimeout(then, pauseMs));
      pauseMs = Math.min(pauseMs * 1.6, 10_000);
    }
  }
}

async function send(key: string, signal: AbortSignal): Promise<void> {
  const one = uploads.find((one) => one.key === key);
  if (!one) return;
  set(key, { stage: "asking" });
  const files = one.files.map(({ path, file }) => ({ path, bytes: file.size, modified: file.lastModified }));
  let state = await ask<UploadState>("/api/uploads", { json: { files }, signal });
  set(key, { stage: "sending", state, problem: null });
  const pace: { at: number; bytes: number }[] = [];
  while (state.next) {
    const piece = state.next;
    const source = one.files.find(({ path }) => path === piece.path)?.file;
    if (!source) throw new Error(`the server asks for ${piece.path}, which was not dropped`);
    const query = new URLSearchParams({ path: piece.path, offset: String(piece.offset) });
    state = await ask<UploadState>(`/api/uploads/${state.id}?${query}`, {
      method: "PUT",
      headers: { "content-type": "application/octet-stream" },
      body: source.slice(piece.offset, piece.offset + piece.bytes),
      signal,
    });
    pace.push({ at: performance.now(), bytes: state.received });
    if (pace.length > 12) pace.shift();
    const [first, last] = [pace[0], pace.at(-1)];
    const seconds = first && last ? (last.at - first.at) / 1000 : 0;
    set(key, { state, speed: first && last && seconds > 0.2 ? (last.bytes - first.bytes) / seconds : null });
  }
  set(key, { stage: "done", state, speed: null });
  whenDone();
}
