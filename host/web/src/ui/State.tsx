import { cx } from "./classes";

export type Tone = "good" | "busy" | "idle" | "warn" | "bad";

const COLOURS: Record<Tone, string> = {
  good: "text-accent",
  busy: "text-warn",
  idle: "text-faint",
  warn: "text-warn",
  bad: "text-bad",
};

/** A state is a shape as well as a colour, and always a word. */
export function State({ tone, children }: { tone: Tone; children: string }) {
  return (
    <span className={cx("inline-flex items-center gap-1.5 text-[13.5px] font-medium whitespace-nowrap", COLOURS[tone])}>
      <svg viewBox="0 0 12 12" width="10" height="10" aria-hidden className={tone === "busy" ? "animate-pulse" : undefined}>
        {tone === "good" && <circle cx="6" cy="6" r="5" fill="currentColor" />}
        {tone === "busy" && <path d="M6 1a5 5 0 0 1 0 10z M6 1a5 5 0 1 0 0 10" fill="currentColor" fillOpacity=".55" stroke="currentColor" />}
        {tone === "idle" && <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" strokeWidth="1.6" />}
        {tone === "warn" && <path d="M6 1 11.2 10.5H.8z" fill="currentColor" />}
        {tone === "bad" && <path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" strokeWidth="2.4" strokeLinecap="round" />}
      </svg>
      {children}
    </span>
  );
}

const MODEL: Record<string, [Tone, string]> = {
  available: ["idle", "On disk"],
  loading: ["busy", "Loading"],
  loaded: ["good", "Loaded"],
  crashed: ["bad", "Crashed"],
  unavailable: ["warn", "Cannot run"],
};

export function ModelStateMark({ state }: { state: string }) {
  const [tone, word] = MODEL[state] ?? ["idle", state];
  return <State tone={tone}>{word}</State>;
}
