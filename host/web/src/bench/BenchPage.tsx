import { Trash2, X } from "lucide-react";
import { useState } from "react";
import { told } from "../api/client";
import { moment, percent, span } from "../lib/format";
import { Button, IconButton } from "../ui/Button";
import { Empty, Page, Panel, Problem } from "../ui/Panel";
import { State, type Tone } from "../ui/State";
import { cx } from "../ui/classes";
import { ComparisonView } from "./ComparisonView";
import { useJobs, useRemove } from "./queries";
import { ReportView } from "./ReportView";
import { StartForm } from "./StartForm";
import type { Job } from "./types";

const STATES: Record<Job["state"], [Tone, string]> = {
  running: ["busy", "Running"],
  finished: ["good", "Finished"],
  cancelled: ["idle", "Cancelled"],
  failed: ["bad", "Failed"],
};

const KINDS: Record<Job["kind"], string> = { machine: "machine", model: "model", serve: "under load" };

export function BenchPage() {
  const { data: jobs, error } = useJobs();
  const [shown, setShown] = useState<string | null>(null);
  const [against, setAgainst] = useState<string | null>(null);
  const running = jobs?.find((job) => job.state === "running");
  // One that was forgotten, here or elsewhere, is shown no more, and none is compared with itself.
  const find = (id: string | null) => jobs?.find((job) => job.id === id);
  const chosen = find(shown) ?? jobs?.find((job) => job.state === "finished");
  const other = find(against);
  const compared = chosen && other && other.id !== chosen.id && other.kind === chosen.kind ? other : undefined;
  return (
    <Page title="Benchmarks" lead="Measured here and now, every run shown. Nothing is drawn that was not measured.">
      {error && <Problem>{told(error)}</Problem>}
      {running ? <Running job={running} /> : <StartForm onStarted={(job) => setShown(job.id)} />}
      {jobs?.length === 0 && <Empty title="Nothing was measured yet">A benchmark of this machine first tells what any model can reach here.</Empty>}
      {chosen && compared && <ComparisonView a={compared.id} b={chosen.id} />}
      {chosen && <ReportView id={chosen.id} />}
      {jobs && jobs.length > 0 && <History jobs={jobs} shown={chosen} against={compared} onShow={setShown} onAgainst={setAgainst} />}
    </Page>
  );
}

function Running({ job }: { job: Job }) {
  const cancel = useRemove();
  const { progress } = job;
  const share = progress && progress.of > 0 ? progress.done / progress.of : 0;
  return (
    <Panel title={`Measuring ${job.subject}`} aside={`for ${span(job.seconds)}`}>
      <div className="flex flex-col gap-3 p-4">
        <progress className="sr-only" aria-label="How much is measured" max={100} value={share * 100} />
        <svg viewBox="0 0 100 3" preserveAspectRatio="none" width="100%" height="6" aria-hidden className="overflow-hidden rounded-full">
          <rect width="100" height="3" className="fill-sunken" />
          <rect width={share * 100} height="3" className="fill-accent" />
        </svg>
        <div className="flex items-center gap-3">
          <p className="min-w-0 flex-1 text-soft" role="status">
            {progress ? `${percent(share)}: ${progress.what}` : "It begins…"}
          </p>
          <Button small onClick={() => cancel.mutate(job.id)} disabled={cancel.isPending}>
            <X size={15} aria-hidden /> Stop
          </Button>
        </div>
        {cancel.error && <Problem>{told(cancel.error)}</Problem>}
      </div>
    </Panel>
  );
}

interface HistoryProps {
  jobs: Job[];
  shown: Job | undefined;
  against: Job | undefined;
  onShow: (id: string) => void;
  onAgainst: (id: string | null) => void;
}

function History({ jobs, shown, against, onShow, onAgainst }: HistoryProps) {
  const remove = useRemove();
  return (
    <Panel title="History" aside="Choose one to see it, another to compare it with">
      {remove.error && <Problem>{told(remove.error)}</Problem>}
      <ul className="divide-y divide-line">
        {jobs.map((job) => {
          const [tone, word] = STATES[job.state];
          return (
            <li key={job.id} className={cx("flex flex-wrap items-center gap-x-4 gap-y-1 px-4 py-2", job.id === shown?.id && "bg-sunken")}>
              <button type="button" onClick={() => onShow(job.id)} aria-current={job.id === shown?.id} className="min-w-0 flex-1 basis-60 rounded-md py-1 text-left hover:text-accent">
                <span className="block truncate font-medium">{job.subject}</span>
                <span className="text-[13px] text-faint">
                  {KINDS[job.kind]}, {moment(Date.parse(job.started_at))}, {span(job.seconds)}
                  {job.saved && ", kept"}
                </span>
                {job.error && <span className="block text-[13.5px] text-bad">{job.error}</span>}
              </button>
              <State tone={tone}>{word}</State>
              {job.state === "finished" && job.id !== shown?.id && job.kind === shown?.kind && (
                <Button small kind="quiet" aria-pressed={job.id === against?.id} onClick={() => onAgainst(job.id === against?.id ? null : job.id)}>
                  {job.id === against?.id ? "Compared" : "Compare"}
                </Button>
              )}
              {job.state !== "running" && (
                <IconButton label={`Forget the benchmark of ${job.subject}`} onClick={() => remove.mutate(job.id)}>
                  <Trash2 size={15} aria-hidden />
                </IconButton>
              )}
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}
