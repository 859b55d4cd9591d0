import { Link, Outlet } from "@tanstack/react-router";
import { Blocks, Boxes, ChartSpline, MessageSquareText, Monitor, Moon, Server, Sun } from "lucide-react";
import { Suspense, useState } from "react";
import { latest, useLive } from "../api/live";
import { rate } from "../lib/format";
import { readTheme, showTheme, type Theme } from "../lib/theme";
import { cx } from "../ui/classes";
import { KeyGate } from "./KeyGate";
import { LinkBanner } from "./LinkBanner";

const PAGES = [
  { to: "/chat", name: "Chat", icon: MessageSquareText },
  { to: "/models", name: "Models", icon: Boxes },
  { to: "/plugins", name: "Plugins", icon: Blocks },
  { to: "/benchmarks", name: "Benchmarks", icon: ChartSpline },
  { to: "/server", name: "Server", icon: Server },
] as const;

export function Shell() {
  return (
    <div className="flex h-dvh flex-col-reverse sm:flex-row">
      <a
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
        className="sr-only focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:z-50 focus:rounded-lg focus:bg-panel focus:px-3 focus:py-2"
      >
        To the content
      </a>
      <Rail />
      <div className="flex min-h-0 min-w-0 flex-1 flex-col">
        <LinkBanner />
        <div className="min-h-0 flex-1">
          <Suspense>
            <Outlet />
          </Suspense>
        </div>
      </div>
      <KeyGate />
    </div>
  );
}

function Rail() {
  return (
    <nav
      aria-label="Pages"
      className="flex shrink-0 border-line bg-panel max-sm:justify-around max-sm:border-t max-sm:pb-[env(safe-area-inset-bottom)] sm:w-48 sm:flex-col sm:border-r sm:px-3 sm:py-4"
    >
      <div className="hidden items-center gap-2.5 px-2 pb-5 sm:flex">
        <svg viewBox="0 0 32 22" width="30" height="21" aria-hidden className="text-accent">
          <path d="M0 21h7l3-7H3z" fill="currentColor" opacity=".45" />
          <path d="M9 21h7l5-13h-7z" fill="currentColor" opacity=".72" />
          <path d="M18 21h7L33 1h-7z" fill="currentColor" />
        </svg>
        <span className="text-[18px] font-bold tracking-[-0.03em]">Impetus</span>
      </div>
      {PAGES.map(({ to, name, icon: Icon }) => (
        <Link
          key={to}
          to={to}
          className={cx(
            "group flex items-center rounded-lg text-soft transition-colors hover:text-ink",
            "max-sm:min-w-14 max-sm:flex-col max-sm:gap-0.5 max-sm:px-1 max-sm:py-2 max-sm:text-[11px]",
            "sm:gap-3 sm:px-2.5 sm:py-2 sm:hover:bg-sunken",
          )}
          activeProps={{ className: "text-accent! font-semibold sm:bg-accent-soft!", "aria-current": "page" }}
        >
          <Icon size={19} strokeWidth={1.8} aria-hidden />
          {name}
        </Link>
      ))}
      <div className="mt-auto hidden flex-col gap-3 sm:flex">
        <Pulse />
        <ThemeChoice />
      </div>
    </nav>
  );
}

/** What the server is at now, in two figures. */
function Pulse() {
  const status = useLive(latest);
  const link = useLive((state) => state.link);
  if (!status || link !== "open") return null;
  const running = status.models.reduce((sum, model) => sum + model.running, 0);
  const speed = status.models.reduce((sum, model) => sum + model.tokens_per_second, 0);
  return (
    <dl className="grid grid-cols-2 gap-2 border-t border-line px-2 pt-3 text-[13px]">
      <div>
        <dt className="text-faint">running</dt>
        <dd className="figures">{running}</dd>
      </div>
      <div>
        <dt className="text-faint">tokens/s</dt>
        <dd className="figures">{rate(speed)}</dd>
      </div>
    </dl>
  );
}

const THEMES = [
  ["system", "As the system has it", Monitor],
  ["light", "Light", Sun],
  ["dark", "Dark", Moon],
] as const;

export function ThemeChoice() {
  const [theme, setTheme] = useState<Theme>(readTheme);
  return (
    <div role="group" aria-label="Colours" className="flex rounded-lg bg-sunken p-0.5">
      {THEMES.map(([key, name, Icon]) => (
        <button
          key={key}
          type="button"
          aria-pressed={theme === key}
          aria-label={name}
          title={name}
          onClick={() => {
            showTheme(key);
            setTheme(key);
          }}
          className={cx(
            "flex flex-1 items-center justify-center rounded-md py-1.5",
            theme === key ? "bg-panel text-ink shadow-sm" : "text-faint hover:text-ink",
          )}
        >
          <Icon size={15} aria-hidden />
        </button>
      ))}
    </div>
  );
}
