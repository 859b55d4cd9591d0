import { Check, Copy as CopyIcon, X } from "lucide-react";
import { useState } from "react";
import { IconButton } from "./Button";

type Outcome = "none" | "copied" | "refused";

const WORDS: Record<Exclude<Outcome, "none">, string> = { copied: "Copied", refused: "The browser does not let this page copy: mark the text and copy it yourself" };

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [outcome, setOutcome] = useState<Outcome>("none");
  return (
    <IconButton
      label={outcome === "none" ? label : WORDS[outcome]}
      onClick={async (event) => {
        const button = event.currentTarget;
        setOutcome((await copy(text, button)) ? "copied" : "refused");
        window.setTimeout(() => setOutcome("none"), 2_500);
      }}
    >
      {outcome === "none" && <CopyIcon size={16} aria-hidden />}
      {outcome === "copied" && <Check size={16} aria-hidden />}
      {outcome === "refused" && <X size={16} aria-hidden className="text-bad" />}
    </IconButton>
  );
}

/** Whether it is in the clipboard now. */
async function copy(text: string, button: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without a secure connection there is no clipboard for pages, or it refuses: the old way needs none.
    return copyMarked(text, button);
  }
}

function copyMarked(text: string, button: HTMLElement): boolean {
  const box = document.createElement("textarea");
  box.value = text;
  box.readOnly = true;
  box.className = "sr-only";
  // An open dialog lets nothing outside of it be marked.
  (button.closest("dialog") ?? document.body).append(box);
  box.select();
  try {
    return document.execCommand("copy");
  } finally {
    box.remove();
    button.focus();
  }
}
