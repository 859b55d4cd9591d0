/** Benchmarks as the API tells them. */
export type Kind = "machine" | "model" | "serve";

export interface Figure {
  name: string;
  group: string;
  label: string;
  unit: string;
  better: "higher" | "lower";
  samples: number[];
  median: number | null;
  iqr: number | null;
  noisy: boolean | null;
  not_available: string | null;
  how: string;
  derived_from: string[];
}

export interface Report {
  kind: Kind;
  subject: string;
  started_at: string;
  seconds: number;
  interrupted: boolean;
  versions: Record<string, string>;
  machine: {
    cpu: string | null;
    architecture: string;
    logical_cpus: number;
    system: string | null;
    memory_bytes: number | null;
    instructions: string[];
    pinned: boolean;
  };
  options: Record<string, unknown>;
  figures: Figure[];
  notes: string[];
}

export interface Job {
  id: string;
  kind: Kind;
  subject: string;
  state: "running" | "finished" | "cancelled" | "failed";
  started_at: string;
  seconds: number;
  progress: { done: number; of: number; what: string } | null;
  error: string | null;
  saved: boolean;
  report: Report | null;
}

export interface Change {
  name: string;
  label: string;
  unit: string;
  a: number | null;
  b: number | null;
  ratio: number | null;
  verdict: "better" | "worse" | "same" | "unknown";
  why: string;
}

export interface Comparison {
  a: string;
  b: string;
  changes: Change[];
  remarks: string[];
}
