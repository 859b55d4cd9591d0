/** Finds models by words and figures: `qwen q4 <8gb`. Each word must fit; an order of size may be among them. */
import type { ModelEntry } from "../api/types";

export interface Filter {
  words: string;
  state: "any" | ModelEntry["state"];
  format: string;
  sort: Sort;
}

export type Sort = "name" | "size" | "weights" | "newest";

export const NO_FILTER: Filter = { words: "", state: "any", format: "any", sort: "name" };

const UNITS: Record<string, number> = { b: 1, k: 1 << 10, kb: 1 << 10, m: 1 << 20, mb: 1 << 20, g: 1 << 30, gb: 1 << 30, t: 2 ** 40, tb: 2 ** 40 };

/** What a word asks of a model. */
function test(word: string): (model: ModelEntry, text: string) => boolean {
  const size = /^([<>])(\d+(?:\.\d+)?)(tb|gb|mb|kb|[tgmkb])?$/.exec(word);
  if (size) {
    const limit = Number(size[2]) * (UNITS[size[3] ?? "g"] ?? 1);
    return (model) => {
      const bytes = model.summary.size_bytes;
      return typeof bytes === "number" && (size[1] === "<" ? bytes < limit : bytes > limit);
    };
  }
  return (_, text) => text.includes(word);
}

function textOf(model: ModelEntry): string {
  const { architecture, quantization, name, license } = model.summary;
  return [model.id, model.format, model.plugin, architecture, quantization, name, license, model.state, ...model.capabilities].filter(Boolean).join(" ").toLowerCase();
}

const ORDERS: Record<Sort, (a: ModelEntry, b: ModelEntry) => number> = {
  name: (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }),
  size: (a, b) => (b.summary.size_bytes ?? 0) - (a.summary.size_bytes ?? 0),
  weights: (a, b) => (b.summary.parameters ?? 0) - (a.summary.parameters ?? 0),
  newest: (a, b) => b.created - a.created,
};

export function find(models: readonly ModelEntry[], filter: Filter): ModelEntry[] {
  const tests = filter.words.toLowerCase().split(/\s+/).filter(Boolean).map(test);
  return models
    .filter((model) => {
      if (filter.state !== "any" && model.state !== filter.state) return false;
      if (filter.format !== "any" && (model.format ?? "unknown") !== filter.format) return false;
      const text = textOf(model);
      return tests.every((fits) => fits(model, text));
    })
    .sort(ORDERS[filter.sort]);
}

export function formatsOf(models: readonly ModelEntry[]): string[] {
  return [...new Set(models.map((model) => model.format ?? "unknown"))].sort();
}
