import type { ButtonHTMLAttributes, ReactNode } from "react";
import { cx } from "./classes";

type Kind = "plain" | "primary" | "quiet" | "danger";

const KINDS: Record<Kind, string> = {
  plain: "border border-line-strong bg-panel hover:border-ink",
  primary: "border border-accent bg-accent text-accent-ink hover:brightness-110 font-semibold",
  quiet: "border border-transparent text-soft hover:bg-sunken hover:text-ink",
  danger: "border border-bad text-bad hover:bg-bad-soft",
};

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: Kind;
  small?: boolean;
}

export function Button({ kind = "plain", small = false, className, type = "button", ...rest }: Props) {
  const size = small ? "h-8 px-2.5 text-[13.5px]" : "h-10 px-3.5";
  return (
    <button
      type={type}
      className={cx(
        "inline-flex items-center justify-center gap-1.5 rounded-lg whitespace-nowrap transition-colors disabled:opacity-45",
        size,
        KINDS[kind],
        className,
      )}
      {...rest}
    />
  );
}

interface IconProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  label: string;
  children: ReactNode;
}

/** A button that shows a picture alone; its label is read out, and shown when one points at it. */
export function IconButton({ label, className, type = "button", ...rest }: IconProps) {
  return (
    <button
      type={type}
      aria-label={label}
      title={label}
      className={cx(
        "inline-flex size-8 shrink-0 items-center justify-center rounded-lg text-soft transition-colors hover:bg-sunken hover:text-ink disabled:opacity-40",
        className,
      )}
      {...rest}
    />
  );
}
