import { DotPlot } from "../charts/DotPlot";
import { bytes, span } from "../lib/format";
import { axes } from "../lib/statistics";
import { Figures, Panel, Problem } from "../ui/Panel";
import { useJob } from "./queries";
import type { Report } from "./types";

const GROUPS: Record<string, string> = { limits: "share of the machine's limits" };

export function ReportView({ id }: { id: string }) {
  const { data: job } = useJob(id);
  if (!job?.report) return null;
  const { report } = job;
  return (
    <Panel title={`${report.subject}, ${new Date(report.started_at).toLocaleString("en-GB")}`} aside={report.interrupted ? "stopped before its end" : `took ${span(report.seconds)}`}>
      <div className="border-b border-line p-4">
        <About report={report} />
        {report.notes.map((note) => (
          <p key={note} className="mt-3 text-[14px] text-soft">
            {note}
          </p>
        ))}
        {job.error && <Problem>{job.error}</Problem>}
      </div>
      <div className="divide-y divide-line">
        {axes(report.figures).map((axis) => (
          <DotPlot key={`${axis.group} ${axis.unit}`} axis={axis} title={GROUPS[axis.group] ?? axis.group} />
        ))}
      </div>
    </Panel>
  );
}

function About({ report }: { report: Report }) {
  const { machine, versions } = report;
  return (
    <Figures
      items={[
        ["Processor", machine.cpu ?? machine.architecture],
        ["Logical cores", String(machine.logical_cpus)],
        ["Memory", bytes(machine.memory_bytes)],
        ["System", machine.system ?? "–"],
        ["Instructions", machine.instructions.join(", ") || "–"],
        ["Versions", Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")],
      ]}
    />
  );
}
