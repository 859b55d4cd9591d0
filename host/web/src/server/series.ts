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

/** How much something that only grows grew in a second, between each two samples. A process that was begun anew counts from zero. */
export function growth(samples: readonly Sample[], total: (status: ServerStatus) => number | null): Point[] {
  const found: Point[] = [];
  for (const [index, sample] of samples.entries()) {
    const before = samples[index - 1];
    if (!before) continue;
    const [now, then] = [total(sample.status), total(before.status)];
    const seconds = sample.status.uptime_secs - before.status.uptime_secs;
    if (now === null || then === null || seconds <= 0 || now < then) continue;
    found.push({ at: sample.at, value: (now - then) / seconds });
  }
  return found;
}

export function sum(status: ServerStatus, value: (model: ServerStatus["models"][number]) => number): number {
  return status.models.reduce((total, model) => total + value(model), 0);
}

/** CPU seconds of one process; null where the system does not say. */
export function cpuOf(pid: number): (status: ServerStatus) => number | null {
  return (status) => status.processes.find((process) => process.pid === pid)?.cpu_secs ?? null;
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
