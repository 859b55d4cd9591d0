import * as Tabs from "@radix-ui/react-tabs";
import { Link } from "@tanstack/react-router";
import { MessageSquareText, Trash2 } from "lucide-react";
import { useState } from "react";
import { told } from "../api/client";
import { useDelete, useKeep, usePlan, useProcesses } from "../api/queries";
import type { ModelEntry } from "../api/types";
import { bytes, count, moment, rate, span, whole } from "../lib/format";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Input, Labelled } from "../ui/Field";
import { Figures, Problem } from "../ui/Panel";
import { ModelStateMark } from "../ui/State";
import { canChat } from "../chat/ModelPicker";
import { LoadButton } from "./LoadButton";
import { MemoryBar } from "./MemoryBar";
import { Metadata, Template, Tensors } from "./Details";

const TABS = [
  ["overview", "Overview"],
  ["tensors", "Tensors"],
  ["metadata", "Metadata"],
  ["template", "Template"],
] as const;

export function ModelDialog({ model, onClose }: { model: ModelEntry; onClose: () => void }) {
  return (
    <Dialog title={model.id} side onClose={onClose}>
      <Tabs.Root defaultValue="overview" className="flex h-full min-h-0 flex-col gap-4">
        <Tabs.List aria-label="About the model" className="flex flex-wrap gap-1 border-b border-line">
          {TABS.map(([key, name]) => (
            <Tabs.Trigger key={key} value={key} className="-mb-px border-b-2 border-transparent px-2.5 py-2 text-soft hover:text-ink sm:px-3 data-[state=active]:border-accent data-[state=active]:font-semibold data-[state=active]:text-ink">
              {name}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        <Tabs.Content value="overview" className="flex flex-col gap-6">
          <Overview model={model} onGone={onClose} />
        </Tabs.Content>
        <Tabs.Content value="tensors" className="min-h-0 flex-1">
          <Tensors id={model.id} />
        </Tabs.Content>
        <Tabs.Content value="metadata">
          <Metadata id={model.id} />
        </Tabs.Content>
        <Tabs.Content value="template">
          <Template id={model.id} />
        </Tabs.Content>
      </Tabs.Root>
    </Dialog>
  );
}

function Overview({ model, onGone }: { model: ModelEntry; onGone: () => void }) {
  const { summary } = model;
  const [keepAlive, setKeepAlive] = useState("");
  const { data: plan } = usePlan(model.id);
  const process = useProcesses().data?.find((process) => process.model === model.id);
  return (
    <>
      <div className="flex flex-wrap items-center gap-3">
        <ModelStateMark state={model.state} />
        <span className="flex-1" />
        {canChat(model) && (
          <Link to="/chat" search={{ model: model.id }} className="inline-flex h-8 items-center gap-1.5 rounded-lg border border-line-strong bg-panel px-2.5 text-[13.5px] hover:border-ink">
            <MessageSquareText size={15} aria-hidden /> Chat
          </Link>
        )}
        <LoadButton model={model} keepAlive={keepAlive.trim() || null} />
      </div>
      {model.reason && <Problem>{model.reason}</Problem>}
      <Figures
        items={[
          ["Format", model.format ?? "unknown"],
          ["Plugin", model.plugin ?? "none"],
          ["Architecture", summary.architecture ?? "–"],
          ["Quantisation", summary.quantization ?? "–"],
          ["Weights", count(summary.parameters)],
          ["On disk", bytes(summary.size_bytes)],
          ["Context", summary.context_length ? `${whole(summary.context_length)} tokens` : "–"],
          ["Vocabulary", whole(summary.vocab_size)],
          ["Licence", summary.license ?? "not stated"],
          ["Changed", model.created ? moment(model.created * 1000) : "–"],
        ]}
      />
      {plan?.memory && <MemoryBar fit={plan.memory} loaded={model.state === "loaded"} />}
      {process && (
        <section>
          <h3 className="label mb-2">Running</h3>
          <Figures
            items={[
              ["Process", `${process.pid} (${process.isolation === "process" ? "its own" : "the server's"})`],
              ["Memory", bytes(process.memory_bytes)],
              ["Requests", `${process.running} running, ${process.waiting} waiting`],
              ["Tokens/s", rate(process.tokens_per_second)],
              ["Idle", process.idle_secs === null || process.idle_secs === undefined ? "in use" : span(process.idle_secs)],
              ["Stays", process.keep_alive_secs === null || process.keep_alive_secs === undefined ? "until room is needed" : `${span(process.keep_alive_secs)} without use`],
            ]}
          />
          <p className="mt-2 text-[13px] text-faint">Confinement: {process.confinement.length ? process.confinement.join(", ") : "none"}</p>
        </section>
      )}
      {model.state !== "unavailable" && <KeepAlive model={model} value={keepAlive} onChange={setKeepAlive} />}
      {model.capabilities.length > 0 && (
        <section>
          <h3 className="label mb-2">What it can do</h3>
          <ul className="flex flex-wrap gap-1.5">
            {model.capabilities.map((name) => (
              <li key={name} className="rounded-md bg-sunken px-2 py-0.5 font-mono text-[12.5px] text-soft">
                {name}
              </li>
            ))}
          </ul>
        </section>
      )}
      <Delete model={model} onGone={onGone} />
    </>
  );
}

/** How long the model stays without use: told with a load, or at once where it is loaded. */
function KeepAlive({ model, value, onChange }: { model: ModelEntry; value: string; onChange: (value: string) => void }) {
  const keep = useKeep();
  const isLoaded = model.state === "loaded";
  return (
    <form
      className="flex flex-col gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        if (isLoaded && value.trim()) keep.mutate({ id: model.id, keepAlive: value.trim() }, { onSuccess: () => onChange("") });
      }}
    >
      <Labelled label="Keep it loaded for" hint={`Without use, such as 5m or 1h; -1 is for ever.${isLoaded ? "" : " Empty: as the server is configured."}`}>
        {(id, hint) => (
          <span className="flex gap-2">
            <Input id={id} aria-describedby={hint} placeholder={isLoaded ? "5m" : "as configured"} value={value} onChange={(event) => onChange(event.target.value)} className="max-w-40" />
            {isLoaded && (
              <Button type="submit" disabled={value.trim() === "" || keep.isPending}>
                Set
              </Button>
            )}
          </span>
        )}
      </Labelled>
      {keep.error && <Problem>{told(keep.error)}</Problem>}
    </form>
  );
}

function Delete({ model, onGone }: { model: ModelEntry; onGone: () => void }) {
  const [asking, setAsking] = useState(false);
  const [name, setName] = useState("");
  const gone = useDelete();
  return (
    <section className="border-t border-line pt-5">
      <Button kind="danger" small onClick={() => setAsking(true)}>
        <Trash2 size={15} aria-hidden /> Delete from disk
      </Button>
      {asking && (
        <Dialog title="Delete this model from disk?" onClose={() => setAsking(false)}>
          <form
            className="flex flex-col gap-4"
            onSubmit={(event) => {
              event.preventDefault();
              gone.mutate(model.id, { onSuccess: onGone });
            }}
          >
            <p>
              All files of <strong className="break-all">{model.id}</strong> ({bytes(model.summary.size_bytes)}) go from the server's disk for good.
            </p>
            <Labelled label="Write the model's name to confirm">
              {(id) => <Input id={id} autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />}
            </Labelled>
            {gone.error && <Problem>{told(gone.error)}</Problem>}
            <div className="flex justify-end gap-2">
              <Button onClick={() => setAsking(false)}>Keep it</Button>
              <Button kind="danger" type="submit" disabled={name !== model.id || gone.isPending}>
                Delete for good
              </Button>
            </div>
          </form>
        </Dialog>
      )}
    </section>
  );
}
