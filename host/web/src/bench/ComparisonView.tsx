import { told } from "../api/client";
import { inUnit } from "../lib/statistics";
import { Panel, Problem } from "../ui/Panel";
import { State, type Tone } from "../ui/State";
import { useComparison } from "./queries";
import type { Change } from "./types";

const VERDICTS: Record<Change["verdict"], [Tone, string]> = {
  better: ["good", "better"],
  worse: ["bad", "worse"],
  same: ["idle", "within the noise"],
  unknown: ["idle", "cannot be told"],
};

export function ComparisonView({ a, b }: { a: string; b: string }) {
  const { data, error } = useComparison(a, b);
  if (error) return <Problem>{told(error)}</Problem>;
  if (!data) return null;
  return (
    <Panel title="The second seen from the first">
      {data.remarks.length > 0 && <p className="border-b border-line px-4 py-3 text-warn">{data.remarks.join("; ")}</p>}
      <div className="overflow-x-auto" role="region" aria-label="Comparison" tabIndex={0}>
        <table className="w-full text-[14px]">
          <thead>
            <tr className="border-b border-line text-left text-[12.5px] text-faint">
              {["Figure", "First", "Second", "Ratio", "Verdict"].map((head) => (
                <th key={head} scope="col" className="px-4 py-2 font-medium">
                  {head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody className="divide-y divide-line">
            {data.changes.map((change) => {
              const [tone, word] = VERDICTS[change.verdict];
              return (
                <tr key={change.name}>
                  <th scope="row" className="px-4 py-2 text-left font-normal">
                    {change.label}
                  </th>
                  <td className="figures px-4 py-2 whitespace-nowrap">{inUnit(change.a, change.unit)}</td>
                  <td className="figures px-4 py-2 whitespace-nowrap">{inUnit(change.b, change.unit)}</td>
                  <td className="figures px-4 py-2 whitespace-nowrap">{inUnit(change.ratio, "ratio")}</td>
                  <td className="px-4 py-2">
                    <State tone={tone}>{word}</State>
                    <span className="block text-[12.5px] text-faint">{change.why}</span>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}
