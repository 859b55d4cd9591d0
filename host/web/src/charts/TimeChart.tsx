import { roof, ticks } from "../lib/ticks";
import { useWidth } from "./useWidth";

export interface Series {
  name: string;
  colour: "accent" | "series-2" | "series-3" | "faint";
  points: { at: number; value: number }[];
}

interface Props {
  title: string;
  series: Series[];
  /** Where the axis ends at least. */
  least?: number;
  /** What round numbers are round in: GiB rather than bytes. */
  unit?: number;
  /** A fixed end of the axis. */
  most?: number | null;
  show: (value: number) => string;
  /** The newest moment, and how long the axis is. */
  now: number;
  spanMs?: number;
}

const STROKES = { accent: "stroke-accent", "series-2": "stroke-series-2", "series-3": "stroke-series-3", faint: "stroke-faint" };
const FILLS = { accent: "fill-accent", "series-2": "fill-series-2", "series-3": "fill-series-3", faint: "fill-faint" };
const HEIGHT = 132;
const LEFT = 66;
const BOTTOM = 18;
const TOP = 8;

/** How something went over the last minutes. Where nothing was measured there is no line. */
export function TimeChart({ title, series, least = 1, unit = 1, most, show, now, spanMs = 300_000 }: Props) {
  const [element, width] = useWidth<HTMLDivElement>();
  const highest = Math.max(least, ...series.flatMap((one) => one.points.map((point) => point.value)));
  const top = most ?? roof(highest / unit) * unit;
  const x = (at: number) => LEFT + (1 - (now - at) / spanMs) * (width - LEFT - 4);
  const y = (value: number) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  return (
    <figure className="min-w-0 p-4">
      <figcaption className="mb-1 flex flex-wrap items-baseline gap-x-4 gap-y-1">
        <span className="font-semibold">{title}</span>
        {series.map((one) => (
          <span key={one.name} className="flex items-center gap-1.5 text-[13.5px] text-soft">
            <svg width="14" height="8" aria-hidden>
              <line x1="0" x2="14" y1="4" y2="4" strokeWidth="2.5" className={STROKES[one.colour]} />
            </svg>
            {one.name}
            <span className="figures text-ink">{one.points.length ? show(one.points.at(-1)?.value ?? 0) : "–"}</span>
          </span>
        ))}
      </figcaption>
      <div ref={element} className="overflow-hidden">
        <svg width={width} height={HEIGHT} role="img" aria-label={`${title} over the last ${Math.round(spanMs / 60_000)} minutes`}>
          {ticks(0, top / unit, 2).map((rounded) => {
            const value = rounded * unit;
            return (
            <g key={value}>
              <line x1={LEFT} x2={width} y1={y(value)} y2={y(value)} className="stroke-line" />
              <text x={LEFT - 8} y={y(value) + 4} textAnchor="end" className="fill-faint font-mono text-[11px]">
                {show(value)}
              </text>
            </g>
            );
          })}
          {[5, 4, 3, 2, 1].map((minutes) => (
            <text key={minutes} x={x(now - minutes * 60_000)} y={HEIGHT - 3} textAnchor={minutes === 5 ? "start" : "middle"} className="fill-faint text-[11px]">
              {width > 420 || minutes % 2 === 1 ? `−${minutes} min` : ""}
            </text>
          ))}
          {series.map((one) => (
            <g key={one.name}>
              <path d={line(one.points, x, y)} fill="none" strokeWidth="1.8" strokeLinejoin="round" className={STROKES[one.colour]} />
              {one.points.length > 0 && <circle cx={x(one.points.at(-1)?.at ?? now)} cy={y(one.points.at(-1)?.value ?? 0)} r="2.6" className={FILLS[one.colour]} />}
            </g>
          ))}
        </svg>
      </div>
    </figure>
  );
}

/** Longer without a measurement than this, and the line is broken. */
const GAP_MS = 4_000;

export function line(points: { at: number; value: number }[], x: (at: number) => number, y: (value: number) => number): string {
  return points
    .map((point, index) => {
      const before = points[index - 1];
      const command = before === undefined || point.at - before.at > GAP_MS ? "M" : "L";
      return `${command}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`;
    })
    .join("");
}
