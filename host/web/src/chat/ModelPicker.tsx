import * as Popover from "@radix-ui/react-popover";
import { Check, ChevronDown } from "lucide-react";
import { useId, useMemo, useState } from "react";
import { useModels } from "../api/queries";
import type { ModelEntry } from "../api/types";
import { count } from "../lib/format";
import { Input } from "../ui/Field";
import { ModelStateMark } from "../ui/State";
import { cx } from "../ui/classes";

/** What can be talked to: served now, and not for embeddings alone. */
export function canChat(model: ModelEntry): boolean {
  const embedsOnly = model.capabilities.includes("embeddings") && !model.capabilities.includes("generate");
  return model.state !== "unavailable" && !embedsOnly;
}

/** Shown at most; a search finds the others. */
const SHOWN = 50;

export function ModelPicker({ value, onChange }: { value: string | null; onChange: (id: string) => void }) {
  const [open, setOpen] = useState(false);
  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger
        aria-label={`Model: ${value ?? "none chosen"}`}
        className="flex h-9 max-w-full min-w-0 items-center gap-1.5 rounded-lg border border-transparent px-2 font-semibold hover:bg-sunken"
      >
        <span className="truncate">{value ?? "Choose a model"}</span>
        <ChevronDown size={16} aria-hidden className="shrink-0 text-faint" />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          sideOffset={6}
          collisionPadding={12}
          aria-label="Choose a model"
          className="z-40 w-[min(26rem,calc(100vw-1.5rem))] rounded-xl border border-line bg-panel p-2 shadow-float"
        >
          <Choices
            value={value}
            onChange={(id) => {
              onChange(id);
              setOpen(false);
            }}
          />
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Choices({ value, onChange }: { value: string | null; onChange: (id: string) => void }) {
  const { data = [] } = useModels();
  const [search, setSearch] = useState("");
  const [at, setAt] = useState(0);
  const list = useId();
  const found = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    return data.filter((model) => canChat(model) && words.every((word) => model.id.toLowerCase().includes(word)));
  }, [data, search]);
  const shown = found.slice(0, SHOWN);
  return (
    <>
      <Input
        type="search"
        role="combobox"
        aria-expanded="true"
        aria-controls={list}
        aria-label="Search models"
        aria-activedescendant={shown[at] ? `${list}-${at}` : undefined}
        placeholder="Search models"
        value={search}
        onChange={(event) => {
          setSearch(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
          if (step !== 0 && shown.length > 0) {
            event.preventDefault();
            setAt((now) => (now + step + shown.length) % shown.length);
          }
          const chosen = shown[at];
          if (event.key === "Enter" && chosen) onChange(chosen.id);
        }}
      />
      <ul id={list} role="listbox" aria-label="Models" className="mt-2 max-h-80 overflow-auto">
        {shown.map((model, index) => (
          <li
            key={model.id}
            id={`${list}-${index}`}
            role="option"
            aria-selected={model.id === value}
            onMouseMove={() => setAt(index)}
            onClick={() => onChange(model.id)}
            className={cx("flex cursor-pointer items-center gap-3 rounded-lg px-2.5 py-2", index === at && "bg-sunken")}
          >
            <span className="min-w-0 flex-1">
              <span className="block truncate font-medium">{model.id}</span>
              <span className="block truncate text-[13px] text-faint">
                {[model.summary.architecture, model.summary.quantization, model.summary.parameters ? `${count(model.summary.parameters)} weights` : null].filter(Boolean).join(" · ")}
              </span>
            </span>
            <ModelStateMark state={model.state} />
            {model.id === value && <Check size={16} aria-hidden className="text-accent" />}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="px-2.5 py-3 text-soft">{search ? "No model that can be served has this name." : "No model can be served yet: see the page Models."}</p>}
      {found.length > SHOWN && <p className="px-2.5 pt-2 text-[13px] text-faint">and {found.length - SHOWN} more: search for them</p>}
    </>
  );
}
