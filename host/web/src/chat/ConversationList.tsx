import { Download, Plus, Trash2, Upload } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { told } from "../api/client";
import { moment } from "../lib/format";
import { Button, IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Input } from "../ui/Field";
import { Problem } from "../ui/Panel";
import { cx } from "../ui/classes";
import { forget, useSession } from "./session";
import { exportAll, type Heading, importAll, list } from "./store";

interface Props {
  onOpen: (id: string) => void;
  onNew: () => void;
}

export function ConversationList({ onOpen, onNew }: Props) {
  const { conversation, kept, writing } = useSession();
  const [search, setSearch] = useState("");
  const [found, setFound] = useState<Heading[]>([]);
  const [imported, setImported] = useState(0);
  const [problem, setProblem] = useState<string | null>(null);
  const [leaving, setLeaving] = useState<Heading | null>(null);
  useEffect(() => {
    let current = true;
    list(search)
      .then((headings) => current && setFound(headings))
      .catch((error) => current && setProblem(`The conversations of this browser cannot be read: ${told(error)}`));
    return () => {
      current = false;
    };
  }, [search, kept, imported]);
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({ count: found.length, getScrollElement: () => scroller.current, estimateSize: () => 46, overscan: 8 });
  return (
    <div className="flex h-full min-h-0 flex-col gap-2 p-3">
      <Button onClick={onNew} className="w-full justify-start">
        <Plus size={17} aria-hidden /> New chat
      </Button>
      <Input type="search" aria-label="Search conversations" placeholder="Search conversations" value={search} onChange={(event) => setSearch(event.target.value)} />
      {problem && <Problem>{problem}</Problem>}
      <div ref={scroller} className="-mx-1 min-h-0 flex-1 overflow-auto px-1" tabIndex={-1}>
        <ul aria-label="Conversations" className="relative" style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map((row) => {
            const heading = found[row.index];
            if (!heading) return null;
            const isOpen = heading.id === conversation.id;
            return (
              <li key={heading.id} className="group absolute inset-x-0 flex items-center" style={{ transform: `translateY(${row.start}px)`, height: row.size }}>
                <button
                  type="button"
                  onClick={() => onOpen(heading.id)}
                  aria-current={isOpen}
                  className={cx("flex h-[42px] min-w-0 flex-1 items-center gap-2 rounded-lg px-2.5 text-left", isOpen ? "bg-sunken font-medium" : "hover:bg-sunken")}
                >
                  <span className="min-w-0 flex-1 truncate">{heading.title}</span>
                  <span className="text-[12px] text-faint group-focus-within:hidden group-hover:hidden max-lg:hidden">{writing?.conversation === heading.id ? "writing" : moment(heading.updatedAt)}</span>
                </button>
                <IconButton label={`Delete the conversation “${heading.title}”`} onClick={() => setLeaving(heading)} className="absolute right-1 opacity-0 group-focus-within:opacity-100 group-hover:opacity-100 max-lg:opacity-100">
                  <Trash2 size={15} aria-hidden />
                </IconButton>
              </li>
            );
          })}
        </ul>
        {found.length === 0 && <p className="px-2.5 py-3 text-[14px] text-faint">{search ? "Nothing found." : "Conversations are kept in this browser, and stand here."}</p>}
      </div>
      <Files onProblem={setProblem} onImported={() => setImported(imported + 1)} />
      {leaving && (
        <Dialog title="Delete this conversation?" onClose={() => setLeaving(null)}>
          <p className="mb-4">
            “{leaving.title}” goes from this browser for good, with all its branches.
          </p>
          <div className="flex justify-end gap-2">
            <Button onClick={() => setLeaving(null)}>Keep it</Button>
            <Button
              kind="danger"
              onClick={() => {
                void forget(leaving.id);
                setLeaving(null);
              }}
            >
              Delete
            </Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}

function Files({ onProblem, onImported }: { onProblem: (problem: string | null) => void; onImported: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  const download = async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await exportAll()], { type: "application/json" }));
    link.download = `impetus-conversations-${new Date().toISOString().slice(0, 10)}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <div className="flex gap-1 border-t border-line pt-2">
      <Button small kind="quiet" onClick={() => void download().catch((error) => onProblem(told(error)))}>
        <Download size={15} aria-hidden /> Export
      </Button>
      <Button small kind="quiet" onClick={() => input.current?.click()}>
        <Upload size={15} aria-hidden /> Import
      </Button>
      <input
        ref={input}
        type="file"
        accept="application/json,.json"
        hidden
        aria-label="A file of exported conversations"
        onChange={async (event) => {
          const file = event.target.files?.[0];
          event.target.value = "";
          if (!file) return;
          try {
            await importAll(await file.text());
            onProblem(null);
            onImported();
          } catch (error) {
            onProblem(`${file.name} was not imported: ${told(error)}`);
          }
        }}
      />
    </div>
  );
}
