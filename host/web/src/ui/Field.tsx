import { type InputHTMLAttributes, type ReactNode, type TextareaHTMLAttributes, useId } from "react";
import { cx } from "./classes";

const BOX = "w-full rounded-lg border border-line-strong bg-panel px-3 text-ink placeholder:text-faint focus:border-accent";

export function Input({ className, ...rest }: InputHTMLAttributes<HTMLInputElement>) {
  return <input className={cx(BOX, "h-9", className)} {...rest} />;
}

export function TextArea({ className, ...rest }: TextareaHTMLAttributes<HTMLTextAreaElement>) {
  return <textarea className={cx(BOX, "py-2", className)} {...rest} />;
}

interface SelectProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: readonly (readonly [string, string])[];
  className?: string;
  hideLabel?: boolean;
}

export function Select({ label, value, onChange, options, className, hideLabel = true }: SelectProps) {
  const id = useId();
  return (
    <span className={cx("inline-flex flex-col gap-1", className)}>
      <label htmlFor={id} className={hideLabel ? "sr-only" : "text-[14px] font-medium"}>
        {label}
      </label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)} className={cx(BOX, "h-9 pr-8")}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </span>
  );
}

/** A labelled place for anything, with a word on what it means. */
export function Labelled({ label, hint, children }: { label: string; hint?: ReactNode; children: (id: string, hintId: string) => ReactNode }) {
  const id = useId();
  return (
    <div>
      <label htmlFor={id} className="text-[14px] font-medium">
        {label}
      </label>
      <div className="mt-1">{children(id, `${id}-hint`)}</div>
      {hint && (
        <p id={`${id}-hint`} className="mt-1 text-[13px] text-faint">
          {hint}
        </p>
      )}
    </div>
  );
}
