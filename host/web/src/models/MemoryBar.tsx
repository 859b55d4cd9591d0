import type { Fit } from "../api/types";
import { bytes } from "../lib/format";
import { State, type Tone } from "../ui/State";

const VERDICTS: Record<Fit["verdict"], [Tone, string]> = {
  fits: ["good", "It fits"],
  fits_after_unloading: ["warn", "It fits when others are unloaded"],
  others_are_busy: ["warn", "Not now: others are busy"],
  too_large: ["bad", "It does not fit"],
};

const KNOWN: Record<string, string> = { measured: "as was measured before", estimate: "as its plugin estimates", files: "by the size of its files" };

/** Will it fit? What it needs beside what is taken, to scale. */
export function MemoryBar({ fit, loaded }: { fit: Fit; loaded: boolean }) {
  const budget = fit.budget_bytes ?? null;
  const whole = Math.max(budget ?? 0, fit.used_bytes + fit.needed_bytes, 1);
  const x = (value: number) => (value / whole) * 100;
  const [tone, verdict] = VERDICTS[fit.verdict];
  return (
    <section aria-label="Memory">
      <div className="mb-2 flex items-center justify-between gap-3">
        <h3 className="label">Memory</h3>
        {!loaded && <State tone={tone}>{verdict}</State>}
      </div>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" width="100%" height="14" aria-hidden className="overflow-hidden rounded-md">
        <rect width="100" height="6" className="fill-sunken" />
        <rect width={x(fit.used_bytes)} height="6" className="fill-line-strong" />
        <rect x={x(fit.used_bytes)} width={x(fit.needed_bytes)} height="6" className={fit.verdict === "too_large" ? "fill-bad" : "fill-accent"} />
        {budget !== null && budget < whole && <rect x={x(budget) - 0.3} width="0.6" height="6" className="fill-ink" />}
      </svg>
      <p className="mt-1.5 text-[13.5px] text-soft">
        It {loaded ? "takes" : "needs"} about {bytes(fit.needed_bytes)}, {KNOWN[fit.known_from] ?? fit.known_from}. Other models take {bytes(fit.used_bytes)}
        {budget === null ? "; how much there is, this machine does not say." : ` of the ${bytes(budget)} that models may have.`}
        {fit.would_unload.length > 0 && ` For it ${fit.would_unload.join(", ")} would be unloaded.`}
      </p>
    </section>
  );
}
