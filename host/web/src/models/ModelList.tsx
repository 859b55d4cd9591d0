import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef } from "react";
import { useLive } from "../api/live";
import { useProcesses } from "../api/queries";
import type { ModelEntry } from "../api/types";
import { bytes, count, percent } from "../lib/format";
import { ModelStateMark, State } from "../ui/State";
import { cx } from "../ui/classes";
import { LoadButton } from "./LoadButton";
import { useScroller } from "./useScroller";

type Row = { heading: string; note: string } | { model: ModelEntry };

/** Those that work, then, apart from them, those that do not, each with its reason. */
export function ModelList({ models, onOpen }: { models: ModelEntry[]; onOpen: (id: string) => void }) {
  const rows = useMemo(() => rowsOf(models), [models]);
  const list = useRef<HTMLDivElement>(null);
  const scroller = useScroller(list);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.element(),
    estimateSize: (index) => height(rows[index]),
    getItemKey: (index) => keyOf(rows[index]),
    scrollMargin: scroller.margin,
    overscan: 6,
  });
  return (
    <div ref={list} className="relative" style={{ height: virtual.getTotalSize() }} role="list" aria-label="Models">
      {virtual.getVirtualItems().map((item) => {
        const row = rows[item.index];
        if (!row) return null;
        return (
          <div key={item.key} data-index={item.index} ref={virtual.measureElement} role="listitem" className="absolute inset-x-0" style={{ transform: `translateY(${item.start - scroller.margin}px)` }}>
            {"heading" in row ? (
              <div className="flex items-baseline gap-3 pt-9 pb-2">
                <h2 className="text-[17px] font-semibold">{row.heading}</h2>
                <span className="text-[14px] text-faint">{row.note}</span>
              </div>
            ) : (
              <ModelRow model={row.model} onOpen={onOpen} />
            )}
          </div>
        );
      })}
    </div>
  );
}

function rowsOf(models: ModelEntry[]): Row[] {
  const able = models.filter((model) => model.state !== "unavailable");
  const unable = models.filter((model) => model.state === "unavailable");
  const rows: Row[] = able.map((model) => ({ model }));
  if (unable.length > 0) rows.push({ heading: "Cannot run", note: "each with the reason", }, ...unable.map((model) => ({ model })));
  return rows;
}

const height = (row: Row | undefined): number => (row && "model" in row ? (row.model.state === "unavailable" ? 92 : 68) : 70);
const keyOf = (row: Row | undefined): string => (row === undefined ? "" : "model" in row ? row.model.id : `heading ${row.heading}`);

function ModelRow({ model, onOpen }: { model: ModelEntry; onOpen: (id: string) => void }) {
  const progress = useLive((state) => state.loading[model.id]);
  const { data: processes } = useProcesses();
  const process = processes?.find((process) => process.model === model.id);
  const { summary } = model;
  const facts = [model.format, summary.architecture, summary.quantization].filter(Boolean).join(" · ");
  return (
    <div className="border-b border-line">
      <div className="grid min-h-16 grid-cols-[minmax(0,1fr)_auto] items-center gap-x-4 gap-y-1 py-2.5 sm:grid-cols-[minmax(0,1fr)_5rem_6rem_7rem_6.5rem]">
        <button type="button" onClick={() => onOpen(model.id)} className="group min-w-0 rounded-md text-left">
          <span className="block truncate font-medium group-hover:text-accent">{model.id}</span>
          <span className="block truncate text-[13.5px] text-faint">{facts || "unknown format"}</span>
        </button>
        <Figure label="weights">{count(summary.parameters)}</Figure>
        {process?.memory_bytes ? <Figure label="in memory">{bytes(process.memory_bytes)}</Figure> : <Figure label="on disk">{bytes(summary.size_bytes)}</Figure>}
        <span className="max-sm:col-start-1 max-sm:row-start-2">
          {progress === undefined ? <ModelStateMark state={model.state} /> : <State tone="busy">{`Loading ${percent(progress)}`}</State>}
        </span>
        <span className="justify-self-end max-sm:row-span-2 max-sm:row-start-1 max-sm:col-start-2">
          <LoadButton model={model} />
        </span>
      </div>
      {model.reason && <p className={cx("pb-2.5 text-[13.5px] break-words", model.state === "unavailable" ? "text-warn" : "text-bad")}>{model.reason}</p>}
    </div>
  );
}

function Figure({ label, children }: { label: string; children: string }) {
  return (
    <span className="hidden flex-col sm:flex">
      <span className="figures">{children}</span>
      <span className="text-[12px] text-faint">{label}</span>
    </span>
  );
}
