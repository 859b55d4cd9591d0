/** What charts show, from the samples of the last minutes. Pure. */
import type { Sample } from "../api/live";
import type { Answered, ServerStatus } from "../api/types";

export interface Point {
  at: number;
  value: number;
}

export function over(samples: readonly Sample[], value: (status: ServerStatus) => number | null): Point[] {
  return samples.flatMap(({ at, status }) => {
    const found = value(status);
    return found === null ? [] : [{ at, value: found }];
  });
}

/** Something that only grows, by the name of what has it; null where it is not known. */
export type Totals = Readonly<Record<string, number | null>>;

/**
 * How much totals grew in a second together, between each two samples. Only what both samples have is counted: a model
 * that was loaded again brings what it did before, and nobody measured when that was.
 */
export function growth(samples: readonly Sample[], totals: (status: ServerStatus) => Totals): Point[] {
  const found: Point[] = [];
  for (const [index, sample] of samples.entries()) {
    const before = samples[index - 1];
    if (!before) continue;
    const seconds = sample.status.uptime_secs - before.status.uptime_secs;
    const grown = seconds > 0 ? between(totals(before.status), totals(sample.status)) : null;
    if (grown !== null) found.push({ at: sample.at, value: grown / seconds });
  }
  return found;
}

/** Null where there is something, and of none of it both totals are known. */
function between(before: Totals, after: Totals): number | null {
  const names = Object.keys(after);
  const steps = names.flatMap((name) => {
    const [then, now] = [before[name] ?? null, after[name] ?? null];
    return then === null || now === null || now < then ? [] : [now - then];
  });
  return names.length > 0 && steps.length === 0 ? null : steps.reduce((sum, step) => sum + step, 0);
}

/** A figure of each loaded model. */
export function byModel(value: (model: ServerStatus["models"][number]) => number): (status: ServerStatus) => Totals {
  return (status) => Object.fromEntries(status.models.map((model) => [model.model, value(model)]));
}

export function sum(status: ServerStatus, value: (model: ServerStatus["models"][number]) => number): number {
  return status.models.reduce((total, model) => total + value(model), 0);
}

/** CPU seconds of each process, or of one. */
export function cpuOf(pid?: number): (status: ServerStatus) => Totals {
  return ({ processes }) => Object.fromEntries(processes.filter((process) => pid === undefined || process.pid === pid).map((process) => [process.pid, process.cpu_secs ?? null]));
}

export function quantile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)] ?? 0, sorted[Math.ceil(at)] ?? 0];
  return low + (high - low) * (at - Math.floor(at));
}

/** Tokens a second of an answer after its first token. */
export function pace(answer: Answered): number | null {
  if (answer.first_token_secs === null || answer.first_token_secs === undefined || answer.completion_tokens < 2) return null;
  const rest = answer.total_secs - answer.first_token_secs;
  return rest > 0 ? (answer.completion_tokens - 1) / rest : null;
}
