import { ticks } from "../lib/ticks";
import { type Axis, endOf, inUnit, scaleOf } from "../lib/statistics";
import { cx } from "../ui/classes";
import { useNarrow, useWidth } from "./useWidth";

const ROW = 40;
/** Where a row's label stands above it. */
const LABEL = 20;
const AXIS = 22;
const PAD = 8;

/**
 * Measured figures on one axis: each sample a dot, the median a stroke, the middle half of the samples a band. What has
 * no samples says why, and nothing is drawn for it.
 */
export function DotPlot({ axis, title }: { axis: Axis; title: string }) {
  const [element, width] = useWidth<HTMLDivElement>();
  const narrow = useNarrow();
  const above = narrow ? LABEL : 0;
  const row = ROW + above;
  const end = endOf(axis);
  const shown = axis.figures.filter((figure) => figure.samples.length > 0);
  const missing = axis.figures.filter((figure) => figure.samples.length === 0);
  const x = (value: number) => PAD + (value / (end || 1)) * (width - 2 * PAD);
  const scale = scaleOf(axis);
  const marks = ticks(0, end / scale, width > 500 ? 5 : 3).map((mark) => mark * scale);
  return (
    <figure className="px-4 py-3" data-axis={`${axis.group} ${axis.unit}`}>
      <figcaption className="font-semibold first-letter:uppercase">{title}</figcaption>
      {shown.length > 0 && (
        <div className="mt-2 grid grid-cols-1 gap-x-4 sm:grid-cols-[minmax(0,17rem)_minmax(0,1fr)_9.5rem]">
          <ul className="max-sm:hidden">
            {shown.map((figure) => (
              <li key={figure.name} className="flex items-center text-[13.5px] leading-tight" style={{ height: row }} title={figure.how}>
                <span className="line-clamp-2">{figure.label}</span>
              </li>
            ))}
          </ul>
          <div ref={element} className="relative min-w-0 overflow-hidden">
            {narrow && (
              <ul className="absolute inset-x-0 top-0">
                {shown.map((figure) => (
                  <li key={figure.name} className="flex items-start justify-between gap-3 text-[12.5px]" style={{ height: row }}>
                    <span className="truncate text-soft">{figure.label}</span>
                    <span className="figures shrink-0">{inUnit(figure.median, figure.unit)}</span>
                  </li>
                ))}
              </ul>
            )}
            <svg width={width} height={shown.length * row + AXIS} role="img" aria-label={`${title}: ${shown.map((figure) => `${figure.label} ${inUnit(figure.median, figure.unit)}`).join("; ")}`}>
              {marks.map((value) => (
                <g key={value}>
                  <line x1={x(value)} x2={x(value)} y1={0} y2={shown.length * row} className="stroke-line" />
                  <text x={x(value)} y={shown.length * row + 15} textAnchor={value === 0 ? "start" : "middle"} className="fill-faint text-[11px]">
                    {inUnit(value, axis.unit).replace(" tokens/s", "").replace(" requests/s", "")}
                  </text>
                </g>
              ))}
              {axis.unit === "share" && <line x1={x(1)} x2={x(1)} y1={0} y2={shown.length * row} strokeWidth="2" strokeDasharray="4 3" className="stroke-series-3" />}
              {shown.map((figure, index) => {
                const y = index * row + above + ROW / 2;
                const median = figure.median ?? null;
                const sorted = [...figure.samples].sort((a, b) => a - b);
                const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
                return (
                  <g key={figure.name}>
                    {sorted.length > 2 && <rect x={x(at(0.25))} width={Math.max(1, x(at(0.75)) - x(at(0.25)))} y={y - 8} height={16} rx="3" className="fill-accent-soft" />}
                    {figure.samples.map((sample, at) => (
                      <circle key={`${at}`} cx={x(sample)} cy={y} r="3.2" className="fill-accent" fillOpacity="0.55" />
                    ))}
                    {median !== null && <line x1={x(median)} x2={x(median)} y1={y - 10} y2={y + 10} strokeWidth="2.2" className="stroke-ink" />}
                  </g>
                );
              })}
            </svg>
          </div>
          <ul className="hidden sm:block">
            {shown.map((figure) => (
              <li key={figure.name} className="flex items-center justify-end gap-2 text-right" style={{ height: row }}>
                {figure.noisy && (
                  <span className="text-[12px] text-warn" title={`The middle half of the samples spreads over ${inUnit(figure.iqr, figure.unit)}`}>
                    noisy
                  </span>
                )}
                <span className="figures whitespace-nowrap">{inUnit(figure.median, figure.unit)}</span>
              </li>
            ))}
          </ul>
        </div>
      )}
      {axis.unit === "share" && shown.length > 0 && <p className="text-[13px] text-faint">The dashed line is what this machine was measured to give at most.</p>}
      {missing.length > 0 && (
        <ul className={cx("text-[13.5px] text-soft", shown.length > 0 && "mt-2")}>
          {missing.map((figure) => (
            <li key={figure.name} className="py-0.5">
              {figure.label}: not available, {figure.not_available ?? "nothing was measured"}
            </li>
          ))}
        </ul>
      )}
    </figure>
  );
}
