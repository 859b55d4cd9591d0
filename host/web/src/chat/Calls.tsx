import { Wrench } from "lucide-react";
import { useState } from "react";
import { Button } from "../ui/Button";
import { Labelled, TextArea } from "../ui/Field";
import { tellResults } from "./session";
import type { Message, ToolCall } from "./types";

/** The calls of an answer; while it is the last one, with a place for each result. */
export function Calls({ message, open }: { message: Message; open: boolean }) {
  const [results, setResults] = useState<Record<string, string>>({});
  const calls = message.calls ?? [];
  const answered = calls.every((call) => (results[call.id] ?? "").trim() !== "");
  return (
    <form
      className="flex flex-col gap-3"
      onSubmit={(event) => {
        event.preventDefault();
        void tellResults(message, results);
      }}
    >
      {calls.map((call) => (
        <div key={call.id} className="rounded-lg border border-line">
          <div className="flex items-center gap-2 border-b border-line px-3 py-1.5 text-[14px]">
            <Wrench size={15} aria-hidden className="text-series-2" />
            <span>
              calls <code className="font-semibold">{call.name}</code>
            </span>
          </div>
          <pre className="overflow-x-auto px-3 py-2 text-[13px]">{pretty(call)}</pre>
          {open && (
            <div className="border-t border-line p-3">
              <Labelled label={`What ${call.name} answers`} hint="This page runs no tools: you say what the call gave.">
                {(id, hint) => (
                  <TextArea
                    id={id}
                    aria-describedby={hint}
                    rows={2}
                    className="font-mono text-[13px]"
                    value={results[call.id] ?? ""}
                    onChange={(event) => setResults({ ...results, [call.id]: event.target.value })}
                  />
                )}
              </Labelled>
            </div>
          )}
        </div>
      ))}
      {open && (
        <Button kind="primary" small type="submit" disabled={!answered} className="self-start">
          Tell the results
        </Button>
      )}
    </form>
  );
}

function pretty(call: ToolCall): string {
  try {
    return JSON.stringify(JSON.parse(call.arguments), null, 2);
  } catch {
    return call.arguments;
  }
}
