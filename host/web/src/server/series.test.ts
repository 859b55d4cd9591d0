import { expect, it } from "vitest";
import type { Sample } from "../api/live";
import type { ServerStatus } from "../api/types";
import { line } from "../charts/TimeChart";
import { axes, endOf, inUnit, scaleOf } from "../lib/statistics";
import type { Figure, Unit } from "../bench/types";
import { byModel, cpuOf, growth, over, pace, quantile } from "./series";

const sample = (at: number, uptime: number, totals: Record<string, number>): Sample => ({
  at,
  status: {
    uptime_secs: uptime,
    models: Object.entries(totals).map(([model, generated_tokens]) => ({ model, generated_tokens })),
    processes: Object.entries(totals).map(([, cpu_secs], index) => ({ pid: index + 1, cpu_secs })),
  } as unknown as ServerStatus,
});
const tokens = byModel((model) => model.generated_tokens);

it("what only grows becomes a rate; a new start of the server does not", () => {
  const samples = [sample(0, 10, { a: 100 }), sample(1000, 12, { a: 140 }), sample(2000, 1, { a: 5 }), sample(3000, 3, { a: 9 }), sample(4000, 4, { a: 8 })];
  expect(growth(samples, tokens)).toEqual([
    { at: 1000, value: 20 },
    { at: 3000, value: 2 },
  ]);
  expect(over(samples, (status) => (status.uptime_secs > 2 ? 1 : null))).toHaveLength(4);
});

it("a model that is loaded again brings no speed with it: what it did before was not done now", () => {
  const samples = [sample(0, 10, { a: 100 }), sample(1000, 11, { a: 110, b: 90_000 }), sample(2000, 12, { a: 110, b: 90_004 }), sample(3000, 13, { b: 90_008 }), sample(4000, 14, {}), sample(5000, 15, {}), sample(6000, 16, { b: 90_008 })];
  expect(growth(samples, tokens)).toEqual([
    { at: 1000, value: 10 },
    { at: 2000, value: 4 },
    { at: 3000, value: 4 },
    { at: 4000, value: 0 },
    { at: 5000, value: 0 },
  ]);
});

it("the cores in use are those of processes that were there before, and unknown where the system does not say", () => {
  const [before, after] = [sample(0, 10, { server: 5, model: 2 }), sample(1000, 11, { server: 5.5, model: 4, other: 60 })];
  expect(growth([before, after], cpuOf())).toEqual([{ at: 1000, value: 2.5 }]);
  expect(growth([before, after], cpuOf(2))).toEqual([{ at: 1000, value: 2 }]);
  expect(growth([before, after], cpuOf(3))).toEqual([]);
  expect(growth([before, after], () => ({ machine: null }))).toEqual([]);
});

it("quantiles lie between the samples", () => {
  expect([quantile([], 0.5), quantile([3], 0.9), quantile([1, 2, 3, 4], 0.5)]).toEqual([null, 3, 2.5]);
});

it("an answer of one token has no pace", () => {
  const answer = { request: "", model: "", at: 0, prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1, first_token_secs: 1, total_secs: 2, ending: "stop" };
  expect(pace(answer)).toBeNull();
  expect(pace({ ...answer, completion_tokens: 11 })).toBe(10);
});

it("a line is broken where nothing was measured", () => {
  const points = [0, 1000, 9000, 10_000].map((at) => ({ at, value: 1 }));
  expect(line(points, (at) => at / 1000, (value) => value)).toBe("M0.0 1.0L1.0 1.0M9.0 1.0L10.0 1.0");
});

it("figures of one group and unit share an axis; a share's axis ends at the limit", () => {
  const figure = (group: string, unit: Unit, samples: number[]): Figure => ({ name: "", group, label: "", unit, better: "higher", samples, median: null, iqr: null, noisy: null, not_available: null, how: "", derived_from: [] });
  const found = axes([figure("decode", "tokens_per_second", [50]), figure("limits", "share", [0.4]), figure("decode", "tokens_per_second", [60])]);
  expect(found.map(({ group, figures }) => [group, figures.length])).toEqual([["decode", 2], ["limits", 1]]);
  expect(found.map((axis) => Math.round(endOf(axis) * 10) / 10)).toEqual([62.4, 1]);
  expect([inUnit(0.42, "share"), inUnit(null, "seconds"), inUnit(3.5e9, "bytes_per_second"), inUnit(5e10, "operations_per_second"), inUnit(0, "operations_per_second")]).toEqual(["42.0 %", "–", "3.3 GiB/s", "50 Gop/s", "0 op/s"]);
  const [memory] = axes([figure("memory", "bytes_per_second", [10 * 2 ** 30])]);
  expect(memory && [scaleOf(memory), scaleOf({ ...memory, unit: "seconds" })]).toEqual([2 ** 30, 1]);
});
