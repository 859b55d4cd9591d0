/** Figures for people: few digits, the unit named, nothing invented where nothing is known. */

const NONE = "–";

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let rest = value;
  while (rest >= 1024 && at < units.length - 1) {
    rest /= 1024;
    at += 1;
  }
  return `${at === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${units[at]}`;
}

/** 135 M, 7.2 B. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  for (const [limit, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "K"],
  ] as const) {
    if (value >= limit) {
      const short = value / limit;
      return `${short >= 100 ? Math.round(short) : Number(short.toPrecision(2 + (short >= 10 ? 1 : 0)))} ${unit}`;
    }
  }
  return String(Math.round(value * 100) / 100);
}

export function whole(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : Math.round(value).toLocaleString("en-GB").replaceAll(",", "\u202f");
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  return span(value);
}

/** 3 min, 2 h 5 min. */
export function span(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  const total = Math.floor(value);
  const [days, hours, minutes] = [Math.floor(total / 86_400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return total < 600 ? `${minutes} min ${total % 60} s` : `${minutes} min`;
  return `${total} s`;
}

export function rate(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

export function percent(fraction: number | null | undefined): string {
  if (fraction === null || fraction === undefined || !Number.isFinite(fraction)) return NONE;
  return `${Math.round(fraction * 100)} %`;
}

/** 14:03 today, else the date. */
export function moment(ms: number, now: number = Date.now()): string {
  const [then, today] = [new Date(ms), new Date(now)];
  const sameDay = then.toDateString() === today.toDateString();
  return sameDay
    ? then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })
    : then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: then.getFullYear() === today.getFullYear() ? undefined : "numeric" });
}
