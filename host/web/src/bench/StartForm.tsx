import { useState } from "react";
import { Refusal, told } from "../api/client";
import { useModels } from "../api/queries";
import { canChat } from "../chat/ModelPicker";
import { Button } from "../ui/Button";
import { Input, Labelled, Select } from "../ui/Field";
import { Panel, Problem } from "../ui/Panel";
import { cx } from "../ui/classes";
import { useStart } from "./queries";
import type { Job, Kind, Options } from "./types";

const KINDS: [Kind, string, string][] = [
  ["machine", "This machine", "How fast memory, arithmetic, disk and devices are: the limits that every model has here."],
  ["model", "A model", "How fast it reads prompts and writes answers, what memory it takes, and which share of the machine that is."],
  ["serve", "This server under load", "Many clients at once: throughput, and how long the first token and the others take."],
];

export function StartForm({ onStarted }: { onStarted: (job: Job) => void }) {
  const [kind, setKind] = useState<Kind>("model");
  const models = (useModels().data ?? []).filter(canChat);
  const [model, setModel] = useState<string | null>(null);
  const [runs, setRuns] = useState("5");
  const [prompt, setPrompt] = useState("512");
  const [generated, setGenerated] = useState("128");
  const [clients, setClients] = useState("8");
  const [requests, setRequests] = useState("16");
  const [save, setSave] = useState(true);
  const start = useStart();
  const chosen = model ?? models[0]?.id ?? null;
  const numbers = (text: string) => text.split(/[\s,]+/).filter(Boolean).map(Number);
  const options = (): Options => {
    if (kind === "machine") return { kind, runs: Number(runs), save };
    if (kind === "model") return { kind, model: chosen ?? "", runs: Number(runs), prompt_tokens: numbers(prompt), generated_tokens: numbers(generated), save };
    return { kind, model: chosen ?? "", rounds: Number(runs), clients: Number(clients), requests: Number(requests), prompt_words: numbers(prompt)[0] ?? 200, max_tokens: numbers(generated)[0] ?? 64, save };
  };
  const begin = (force: boolean) => start.mutate({ ...options(), ...(force ? { force: true } : {}) }, { onSuccess: onStarted });
  const busy = start.error instanceof Refusal && start.error.code === "server_busy";
  return (
    <Panel title="Measure">
      <form
        className="flex flex-col gap-4 p-4"
        onSubmit={(event) => {
          event.preventDefault();
          begin(false);
        }}
      >
        <fieldset className="grid gap-2 md:grid-cols-3">
          <legend className="sr-only">What is measured</legend>
          {KINDS.map(([key, name, text]) => (
            <label key={key} className={cx("cursor-pointer rounded-lg border p-3 has-focus-visible:outline-2 has-focus-visible:outline-accent", kind === key ? "border-accent bg-accent-soft" : "border-line hover:border-line-strong")}>
              <input type="radio" name="kind" value={key} checked={kind === key} onChange={() => setKind(key)} className="sr-only" />
              <span className="block font-semibold">{name}</span>
              <span className="block text-[13.5px] text-soft">{text}</span>
            </label>
          ))}
        </fieldset>
        <div className="flex flex-wrap items-start gap-4">
          {kind !== "machine" && <Select label="Model" hideLabel={false} value={chosen ?? ""} onChange={setModel} options={models.length ? models.map(({ id }) => [id, id] as const) : [["", "none can be served"]]} className="max-w-full" />}
          <Small label={kind === "serve" ? "Rounds" : "Runs"} value={runs} onChange={setRuns} />
          {kind === "serve" && <Small label="Clients" value={clients} onChange={setClients} />}
          {kind === "serve" && <Small label="Requests each round" value={requests} onChange={setRequests} />}
          {kind === "model" && <Small label="Prompt tokens" value={prompt} onChange={setPrompt} />}
          {kind === "model" && <Small label="Generated tokens" value={generated} onChange={setGenerated} />}
        </div>
        {start.error && (
          <Problem
            action={
              busy ? (
                <Button small onClick={() => begin(true)}>
                  Measure all the same
                </Button>
              ) : undefined
            }
          >
            {told(start.error)}
          </Problem>
        )}
        <div className="flex flex-wrap items-center gap-4">
          <Button kind="primary" type="submit" disabled={start.isPending || (kind !== "machine" && chosen === null)}>
            Start
          </Button>
          <label className="flex items-center gap-2 text-[14px]">
            <input type="checkbox" checked={save} onChange={(event) => setSave(event.target.checked)} className="size-4 accent-accent" />
            Keep the result over restarts of the server
          </label>
        </div>
      </form>
    </Panel>
  );
}

function Small({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  return <Labelled label={label}>{(id) => <Input id={id} required inputMode="numeric" value={value} onChange={(event) => onChange(event.target.value)} className="w-36 font-mono text-[13px]" />}</Labelled>;
}
