import { X } from "lucide-react";
import { type ReactNode, useEffect, useId, useRef } from "react";
import { IconButton } from "./Button";
import { cx } from "./classes";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** At the right edge over the whole height, for what is long. */
  side?: boolean;
}

/** The browser's own dialog: it keeps the focus, closes by Escape, and hides what is behind it from screen readers. */
export function Dialog({ title, onClose, children, side = false }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === element.current) onClose();
      }}
      className={cx(
        "border border-line bg-panel p-0 shadow-float",
        side
          ? "my-0 mr-0 ml-auto h-dvh max-h-dvh w-[min(46rem,100vw)] max-w-none border-y-0 border-r-0"
          : "w-[min(34rem,calc(100vw-2rem))] rounded-2xl",
      )}
    >
      <div className="flex h-full flex-col">
        <header className="flex items-center gap-3 border-b border-line px-5 py-3">
          <h2 id={id} className="min-w-0 flex-1 truncate text-[17px] font-semibold">
            {title}
          </h2>
          <IconButton label="Close" onClick={onClose}>
            <X size={18} aria-hidden />
          </IconButton>
        </header>
        <div className="min-h-0 flex-1 overflow-auto p-5">{children}</div>
      </div>
    </dialog>
  );
}
