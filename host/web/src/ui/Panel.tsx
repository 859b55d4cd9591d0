import type { ReactNode } from "react";
import { cx } from "./classes";

/** The frame of each page but the chat: a title, what it is about, and what can be done. */
export function Page({ title, lead, actions, children }: { title: string; lead?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  return (
    <main id="main" className="h-full overflow-auto" tabIndex={-1}>
      <div className="mx-auto flex min-h-full max-w-6xl flex-col gap-6 px-4 py-6 sm:px-8 sm:py-9">
        <header className="flex flex-wrap items-end gap-x-6 gap-y-3">
          <div className="min-w-0 flex-1 basis-72">
            <h1 className="text-[26px] leading-tight font-semibold tracking-[-0.02em]">{title}</h1>
            {lead && <p className="mt-1 max-w-2xl text-soft">{lead}</p>}
          </div>
          {actions}
        </header>
        {children}
      </div>
    </main>
  );
}

export function Panel({ title, aside, children, className }: { title?: string; aside?: ReactNode; children: ReactNode; className?: string }) {
  return (
    <section className={cx("min-w-0 rounded-xl border border-line bg-panel", className)}>
      {title && (
        <header className="flex flex-wrap items-baseline justify-between gap-2 border-b border-line px-4 py-2.5">
          <h2 className="font-semibold">{title}</h2>
          {aside && <div className="text-[13.5px] text-faint">{aside}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-2 px-6 py-12 text-center">
      <svg viewBox="0 0 64 32" width="72" height="36" aria-hidden className="text-line-strong">
        <path d="M4 26h10l4-9H8zM22 26h10l7-16H29zM42 26h8L60 4H50z" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />
      </svg>
      <p className="font-semibold">{title}</p>
      {children && <div className="max-w-md text-soft">{children}</div>}
    </div>
  );
}

export function Problem({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <div role="alert" className="flex flex-wrap items-center gap-3 rounded-lg border border-bad/40 bg-bad-soft px-3.5 py-2.5 text-[14px] text-ink">
      <span className="min-w-0 flex-1 basis-60 break-words">{children}</span>
      {action}
    </div>
  );
}

export function Figures({ items }: { items: [string, ReactNode][] }) {
  return (
    <dl className="grid grid-cols-[repeat(auto-fill,minmax(10rem,1fr))] gap-x-6 gap-y-3">
      {items.map(([name, value]) => (
        <div key={name} className="min-w-0">
          <dt className="label">{name}</dt>
          <dd className="figures mt-0.5 break-words text-ink">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
