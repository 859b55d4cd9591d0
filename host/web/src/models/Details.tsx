import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import { told } from "../api/client";
import { useDetails } from "../api/queries";
import { bytes, whole } from "../lib/format";
import { Copy } from "../ui/Copy";
import { Input } from "../ui/Field";
import { Problem } from "../ui/Panel";

function Waiting({ error }: { error: Error | null }) {
  return error ? <Problem>{told(error)}</Problem> : <p className="animate-pulse text-soft">The headers are being read…</p>;
}

export function Tensors({ id }: { id: string }) {
  const { data, error } = useDetails(id);
  const [search, setSearch] = useState("");
  const scroller = useRef<HTMLDivElement>(null);
  const found = useMemo(() => (data?.tensors ?? []).filter((tensor) => tensor.name.includes(search.trim()) || tensor.type === search.trim().toUpperCase()), [data, search]);
  const rows = useVirtualizer({ count: found.length, getScrollElement: () => scroller.current, estimateSize: () => 31, overscan: 12 });
  if (!data) return <Waiting error={error} />;
  return (
    <div className="flex h-full min-h-64 flex-col gap-2">
      <Input type="search" aria-label="Search tensors" placeholder="Name or type" value={search} onChange={(event) => setSearch(event.target.value)} />
      <p className="text-[13.5px] text-faint">
        {whole(found.length)} tensors, {bytes(found.reduce((sum, tensor) => sum + tensor.bytes, 0))}
      </p>
      <div ref={scroller} className="min-h-0 flex-1 overflow-auto rounded-lg border border-line" tabIndex={0} role="region" aria-label="Tensors">
        <div role="table" aria-label="Tensors" aria-rowcount={found.length} className="relative min-w-[34rem] text-[13px]" style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map((row) => {
            const tensor = found[row.index];
            if (!tensor) return null;
            return (
              <div
                key={tensor.name}
                role="row"
                aria-rowindex={row.index + 1}
                className="absolute inset-x-0 grid grid-cols-[minmax(0,1fr)_9rem_4.5rem_5.5rem] items-center gap-3 border-b border-line px-3 font-mono"
                style={{ transform: `translateY(${row.start}px)`, height: row.size }}
              >
                <span role="cell" className="truncate" title={tensor.name}>
                  {tensor.name}
                </span>
                <span role="cell" className="text-right text-soft">
                  {tensor.shape.join(" × ")}
                </span>
                <span role="cell" className="text-soft">
                  {tensor.type}
                </span>
                <span role="cell" className="text-right text-soft">
                  {bytes(tensor.bytes)}
                </span>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

export function Metadata({ id }: { id: string }) {
  const { data, error } = useDetails(id);
  if (!data) return <Waiting error={error} />;
  const entries = Object.entries(data.metadata as Record<string, unknown>);
  if (entries.length === 0) return <p className="text-soft">Its headers say nothing more.</p>;
  return (
    <dl className="divide-y divide-line text-[13.5px]">
      {entries.map(([key, value]) => (
        <div key={key} className="grid gap-x-4 py-1.5 sm:grid-cols-[minmax(0,17rem)_minmax(0,1fr)]">
          <dt className="font-mono break-words text-soft">{key}</dt>
          <dd className="max-h-60 overflow-auto font-mono break-words whitespace-pre-wrap">{typeof value === "string" ? value : JSON.stringify(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Template({ id }: { id: string }) {
  const { data, error } = useDetails(id);
  if (!data) return <Waiting error={error} />;
  if (!data.chat_template) return <p className="text-soft">The model brings no chat template: it goes on from a text, and cannot be talked to.</p>;
  return (
    <div className="relative rounded-lg border border-line bg-sunken">
      <div className="absolute top-1 right-1">
        <Copy text={data.chat_template} label="Copy the template" />
      </div>
      <pre tabIndex={0} className="overflow-x-auto p-3 text-[12.5px] leading-relaxed whitespace-pre-wrap">
        {data.chat_template}
      </pre>
    </div>
  );
}
