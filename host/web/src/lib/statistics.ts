/** Figures of benchmarks, in their units, for people. */
import type { Figure, Unit } from "../bench/types";
import { bytes, count, rate, seconds } from "./format";

export function inUnit(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) return "–";
  switch (unit) {
    case "bytes_per_second":
      return `${bytes(value)}/s`;
    case "bytes":
      return bytes(value);
    case "operations_per_second":
      // Of operations a billion is called giga.
      return `${count(value).replace(/B$/, "G")}${value < 1000 ? " " : ""}op/s`;
    case "tokens_per_second":
      return `${rate(value)} tokens/s`;
    case "requests_per_second":
      return `${value.toFixed(2)} requests/s`;
    case "seconds":
      return seconds(value);
    case "joules_per_token":
      return `${value.toPrecision(3)} J/token`;
    case "share":
      return `${(value * 100).toFixed(1)} %`;
    case "ratio":
      return `× ${value.toFixed(3)}`;
    case "perplexity":
      return value.toFixed(3);
    case "nats_per_token":
      return `${value.toFixed(4)} nats/token`;
    case "count":
      return count(value);
  }
}

export interface Axis {
  group: string;
  unit: Unit;
  figures: Figure[];
}

/** The figures of one group and unit can stand on one axis. In the report's order. */
export function axes(figures: readonly Figure[]): Axis[] {
  const found: Axis[] = [];
  for (const figure of figures) {
    const known = found.find((axis) => axis.group === figure.group && axis.unit === figure.unit);
    if (known) known.figures.push(figure);
    else found.push({ group: figure.group, unit: figure.unit, figures: [figure] });
  }
  return found;
}

/** Where an axis ends: a share's limit is the whole, and what was measured beyond it is shown too. */
export function endOf(axis: Axis): number {
  const highest = Math.max(0, ...axis.figures.flatMap((figure) => figure.samples));
  return axis.unit === "share" ? Math.max(1, highest) : highest * 1.04;
}

/** What round numbers on an axis are round in: KiB, MiB or GiB where bytes are counted. */
export function scaleOf(axis: Axis): number {
  const end = endOf(axis);
  const counts = axis.unit === "bytes" || axis.unit === "bytes_per_second";
  return counts && end >= 1024 ? 1024 ** Math.floor(Math.log(end) / Math.log(1024)) : 1;
}
