import { KeyRound } from "lucide-react";
import { askForKey } from "../api/client";
import { latest, useLive } from "../api/live";
import type { Answered, Failed, ServerStatus } from "../api/types";
import { TimeChart } from "../charts/TimeChart";
import { bytes, moment, percent, rate, seconds, span, whole } from "../lib/format";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Page, Panel } from "../ui/Panel";
import { ThemeChoice } from "../layout/Shell";
import { byModel, cpuOf, growth, over, pace, quantile, sum } from "./series";

export function ServerPage() {
  const status = useLive(latest);
  const samples = useLive((state) => state.samples);
  if (!status) {
    return (
      <Page title="Server" lead="The machine, its processes, and what they are at.">
        <p className="animate-pulse text-soft">Waiting for the server's first word…</p>
      </Page>
    );
  }
  const now = samples.at(-1)?.at ?? Date.now();
  const hits = growth(samples, byModel((model) => model.prefix_hits));
  return (
    <Page title="Server" lead={`Impetus ${status.version}, up for ${span(status.uptime_secs)}.`} actions={<Actions />}>
      <Now status={status} />
      <div className="grid gap-4 lg:grid-cols-2">
        <Panel>
          <TimeChart
            title="Tokens a second"
            now={now}
            least={5}
            show={rate}
            series={[
              { name: "generated", colour: "accent", points: growth(samples, byModel((model) => model.generated_tokens)) },
              { name: "found in the cache", colour: "series-2", points: hits },
            ]}
          />
        </Panel>
        <Panel>
          <TimeChart
            title="Requests"
            now={now}
            least={4}
            show={(value) => String(Math.round(value * 10) / 10)}
            series={[
              { name: "running", colour: "accent", points: over(samples, (status) => sum(status, (model) => model.running)) },
              { name: "waiting", colour: "series-3", points: over(samples, (status) => sum(status, (model) => model.waiting)) },
            ]}
          />
        </Panel>
        <Panel>
          <TimeChart
            title="Cores in use"
            now={now}
            most={status.machine.cores}
            show={(value) => String(Math.round(value * 10) / 10)}
            series={[
              { name: "whole machine", colour: "faint", points: growth(samples, (status) => ({ machine: status.machine.cpu_busy_secs ?? null })) },
              { name: "Impetus", colour: "accent", points: growth(samples, cpuOf()) },
            ]}
          />
        </Panel>
        <Panel>
          <TimeChart
            title="Memory"
            now={now}
            most={status.machine.memory_bytes ?? null}
            unit={2 ** 30}
            show={bytes}
            series={[
              {
                name: "whole machine",
                colour: "faint",
                points: over(samples, ({ machine }) => (machine.memory_bytes && machine.available_bytes ? machine.memory_bytes - machine.available_bytes : null)),
              },
              { name: "Impetus", colour: "accent", points: over(samples, (status) => status.processes.reduce((total, process) => total + (process.memory_bytes ?? 0), 0)) },
            ]}
          />
        </Panel>
      </div>
      <Processes status={status} />
      <Answers answers={status.answers} />
      <Failures failures={status.failures} />
      <p className="text-[13.5px] text-faint">
        <a href="/docs" className="underline">
          The HTTP API
        </a>
        {" · "}
        <a href="/assets/licences.txt" className="underline">
          Licences of what this page is made of
        </a>
      </p>
    </Page>
  );
}

function Actions() {
  return (
    <div className="flex items-center gap-2">
      <div className="w-32 sm:hidden">
        <ThemeChoice />
      </div>
      <Button small onClick={askForKey}>
        <KeyRound size={15} aria-hidden /> Use another key
      </Button>
    </div>
  );
}

function Now({ status }: { status: ServerStatus }) {
  const samples = useLive((state) => state.samples);
  const firsts = status.answers.flatMap((answer) => answer.first_token_secs ?? []);
  const queries = sum(status, (model) => model.prefix_queries);
  const usage = status.models.map((model) => model.cache_usage);
  const figures: [string, string, string][] = [
    ["running", String(sum(status, (model) => model.running)), `${sum(status, (model) => model.waiting)} waiting`],
    ["tokens/s", rate(growth(samples.slice(-6), byModel((model) => model.generated_tokens)).at(-1)?.value ?? null), "generated, of all models"],
    ["first token", seconds(quantile(firsts, 0.5)), firsts.length ? `median of ${firsts.length}; 95 %: ${seconds(quantile(firsts, 0.95))}` : "no answer yet"],
    ["cache in use", usage.length ? percent(Math.max(...usage)) : "–", usage.length > 1 ? "of the fullest model" : "of the model's context"],
    ["cache hits", queries > 0 ? percent(sum(status, (model) => model.prefix_hits) / queries) : "–", "of prompt tokens"],
  ];
  return (
    <dl className="grid grid-cols-2 border-y border-line sm:grid-cols-5 sm:divide-x sm:divide-line">
      {figures.map(([name, value, note]) => (
        <div key={name} className="px-1 py-3.5 sm:px-4 sm:first:pl-0">
          <dt className="label">{name}</dt>
          <dd className="mt-1 text-[24px] leading-none font-semibold tracking-[-0.02em]">{value}</dd>
          <dd className="mt-1.5 text-[13px] text-faint">{note}</dd>
        </div>
      ))}
    </dl>
  );
}

const TH = "px-3 py-2 text-left text-[12.5px] font-medium text-faint whitespace-nowrap first:pl-4 last:pr-4";
const TD = "px-3 py-2 align-top first:pl-4 last:pr-4";

function Table({ label, heads, children }: { label: string; heads: string[]; children: React.ReactNode }) {
  return (
    <div className="overflow-x-auto" tabIndex={0} role="region" aria-label={label}>
      <table className="w-full text-[14px]">
        <thead>
          <tr className="border-b border-line">
            {heads.map((head) => (
              <th key={head} scope="col" className={TH}>
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody className="divide-y divide-line">{children}</tbody>
      </table>
    </div>
  );
}

function Processes({ status }: { status: ServerStatus }) {
  const samples = useLive((state) => state.samples);
  return (
    <Panel title="Processes" aside={`${status.machine.cores} cores, ${bytes(status.machine.memory_bytes)} of memory`}>
      <Table label="Processes" heads={["Process", "PID", "Memory", "Cores in use", "Running", "Waiting", "Cache"]}>
        {status.processes.map((process) => {
          const model = status.models.find((model) => process.kind === "model" && model.model === process.name);
          return (
            <tr key={process.pid}>
              <th scope="row" className={`${TD} text-left font-medium`}>
                {process.kind === "server" ? "the server" : process.name}
              </th>
              <td className={`${TD} figures`}>{process.pid}</td>
              <td className={`${TD} figures whitespace-nowrap`}>{bytes(process.memory_bytes)}</td>
              <td className={`${TD} figures`}>{rate(growth(samples.slice(-4), cpuOf(process.pid)).at(-1)?.value ?? null)}</td>
              <td className={`${TD} figures`}>{model ? model.running : "–"}</td>
              <td className={`${TD} figures`}>{model ? model.waiting : "–"}</td>
              <td className={`${TD} figures`}>{model ? percent(model.cache_usage) : "–"}</td>
            </tr>
          );
        })}
      </Table>
    </Panel>
  );
}

const SHOWN = 12;

function Answers({ answers }: { answers: Answered[] }) {
  return (
    <Panel title="Last answers" aside={answers.length ? `${Math.min(SHOWN, answers.length)} of the last ${answers.length}` : undefined}>
      {answers.length === 0 ? (
        <p className="px-4 py-4 text-soft">None since the server was started.</p>
      ) : (
        <Table label="Last answers" heads={["At", "Model", "Prompt", "Answer", "First token", "Tokens/s", "Took", "Ended by", "Request"]}>
          {answers.slice(0, SHOWN).map((answer, index) => (
            <tr key={`${answer.request} ${index}`}>
              <td className={`${TD} figures whitespace-nowrap`}>{moment(answer.at * 1000)}</td>
              <td className={TD}>{answer.model}</td>
              <td className={`${TD} figures whitespace-nowrap`}>
                {whole(answer.prompt_tokens)}
                {answer.cached_tokens > 0 && ` (${whole(answer.cached_tokens)} cached)`}
              </td>
              <td className={`${TD} figures`}>{whole(answer.completion_tokens)}</td>
              <td className={`${TD} figures whitespace-nowrap`}>{seconds(answer.first_token_secs)}</td>
              <td className={`${TD} figures`}>{rate(pace(answer))}</td>
              <td className={`${TD} figures whitespace-nowrap`}>{seconds(answer.total_secs)}</td>
              <td className={TD}>{answer.ending}</td>
              <td className={TD}>
                <RequestId id={answer.request} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

function Failures({ failures }: { failures: Failed[] }) {
  return (
    <Panel title="Last errors" aside={failures.length ? `${failures.length} since the server was started, at most` : undefined}>
      {failures.length === 0 ? (
        <p className="px-4 py-4 text-soft">No request was refused or failed since the server was started.</p>
      ) : (
        <Table label="Last errors" heads={["At", "Status", "Request", "What failed", "Id"]}>
          {failures.slice(0, SHOWN).map((failure, index) => (
            <tr key={`${failure.request} ${index}`}>
              <td className={`${TD} figures whitespace-nowrap`}>{moment(failure.at * 1000)}</td>
              <td className={`${TD} figures ${failure.status >= 500 ? "text-bad" : "text-warn"}`}>{failure.status}</td>
              <td className={`${TD} font-mono text-[12.5px] break-all`}>
                {failure.method} {failure.path}
              </td>
              <td className={`${TD} min-w-60 break-words`}>
                {failure.message}
                {failure.code && <span className="block text-[12.5px] text-faint">{failure.code}</span>}
              </td>
              <td className={TD}>
                <RequestId id={failure.request} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

function RequestId({ id }: { id: string }) {
  return (
    <span className="flex items-center gap-1">
      <code className="text-[12px]" title={id}>
        {id.length > 14 ? `${id.slice(0, 12)}…` : id}
      </code>
      <Copy text={id} label="Copy the request's id" />
    </span>
  );
}
