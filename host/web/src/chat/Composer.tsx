import { ArrowUp, Square } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { percent, whole } from "../lib/format";
import { cx } from "../ui/classes";

interface Props {
  disabled: boolean;
  writing: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
  /** Tokens of the last exchange, and how many there may be. */
  used: number | null;
  context: number | null;
}

export function Composer({ disabled, writing, onSend, onStop, used, context }: Props) {
  const [text, setText] = useState("");
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, 240)}px`;
  }, [text]);
  const submit = () => {
    if (disabled || writing || text.trim() === "") return;
    onSend(text);
    setText("");
  };
  return (
    <div className="mx-auto w-full max-w-3xl px-3 pb-3 sm:px-4 sm:pb-4">
      <div className="flex items-end gap-2 rounded-2xl border border-line-strong bg-panel p-2 pl-4 focus-within:border-accent">
        <textarea
          ref={box}
          rows={1}
          aria-label="Message"
          placeholder={disabled ? "Choose a model first" : "Write a message"}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault();
              submit();
            }
          }}
          className="max-h-60 min-h-9 flex-1 resize-none bg-transparent py-1.5 leading-6 placeholder:text-faint focus:outline-none"
        />
        {writing ? (
          <button type="button" onClick={onStop} aria-label="Stop the answer" title="Stop the answer" className="flex size-9 items-center justify-center rounded-xl bg-ink text-bg">
            <Square size={14} fill="currentColor" aria-hidden />
          </button>
        ) : (
          <button
            type="button"
            onClick={submit}
            disabled={disabled || text.trim() === ""}
            aria-label="Send"
            title="Send"
            className="flex size-9 items-center justify-center rounded-xl bg-accent text-accent-ink disabled:bg-sunken disabled:text-faint"
          >
            <ArrowUp size={18} aria-hidden />
          </button>
        )}
      </div>
      <div className="flex justify-between gap-4 px-2 pt-1.5 text-[12.5px] text-faint">
        <span className="max-sm:hidden">Enter sends, Shift and Enter begins a line</span>
        <Context used={used} context={context} />
      </div>
    </div>
  );
}

function Context({ used, context }: { used: number | null; context: number | null }) {
  if (used === null) return <span />;
  const share = context ? Math.min(1, used / context) : null;
  return (
    <span className="flex items-center gap-2">
      {share !== null && (
        <svg viewBox="0 0 64 4" width="64" height="4" aria-hidden className={cx("overflow-hidden rounded-full", share > 0.85 ? "text-warn" : "text-accent")}>
          <rect width="64" height="4" className="fill-line" />
          <rect width={Math.max(1, share * 64)} height="4" fill="currentColor" />
        </svg>
      )}
      <span>
        {context ? `${whole(used)} of ${whole(context)} tokens of context (${percent(share)})` : `${whole(used)} tokens of context`}
      </span>
    </span>
  );
}
