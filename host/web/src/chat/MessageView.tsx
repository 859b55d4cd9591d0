import { ChevronLeft, ChevronRight, Pencil, RotateCcw } from "lucide-react";
import { lazy, memo, Suspense, useState } from "react";
import { rate, seconds, whole } from "../lib/format";
import { children, choose } from "../lib/tree";
import { Button, IconButton } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { TextArea } from "../ui/Field";
import { Problem } from "../ui/Panel";
import { speed } from "./request";
import { answer, edit, say } from "./session";
import { Calls } from "./Calls";
import type { Conversation, Figures, Message } from "./types";

const Markdown = lazy(async () => ({ default: (await import("./Markdown")).Markdown }));
const Probabilities = lazy(async () => ({ default: (await import("./Probabilities")).Probabilities }));

interface Props {
  conversation: Conversation;
  message: Message;
  isWriting: boolean;
  isBusy: boolean;
  isLast: boolean;
  /** What is waited for before the first token. */
  waitingFor: string | null;
}

export const MessageView = memo(function MessageView(props: Props) {
  const { message } = props;
  if (message.role === "user") return <Said {...props} />;
  if (message.role === "tool") return <Result message={message} />;
  return <Answer {...props} />;
});

function Said({ conversation, message, isBusy }: Props) {
  const [text, setText] = useState<string | null>(null);
  if (text !== null) {
    return (
      <form
        className="ml-auto flex w-full max-w-[42rem] flex-col gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          setText(null);
          void say(text, message.parent);
        }}
      >
        <TextArea aria-label="The message, edited" rows={4} autoFocus value={text} onChange={(event) => setText(event.target.value)} />
        <div className="flex justify-end gap-2">
          <Button small kind="quiet" onClick={() => setText(null)}>
            Leave as it was
          </Button>
          <Button small kind="primary" type="submit" disabled={isBusy || text.trim() === ""}>
            Send as a new branch
          </Button>
        </div>
      </form>
    );
  }
  return (
    <article aria-label="You" className="group flex flex-col items-end gap-1">
      <div className="max-w-[85%] rounded-2xl rounded-br-md bg-accent-soft px-4 py-2.5 break-words whitespace-pre-wrap">{message.content}</div>
      <div className="flex items-center gap-0.5 opacity-0 transition-opacity group-focus-within:opacity-100 group-hover:opacity-100 max-sm:opacity-100">
        <Branches conversation={conversation} message={message} />
        <Copy text={message.content} label="Copy the message" />
        <IconButton label="Edit the message" disabled={isBusy} onClick={() => setText(message.content)}>
          <Pencil size={15} aria-hidden />
        </IconButton>
      </div>
    </article>
  );
}

function Answer({ conversation, message, isWriting, isBusy, isLast, waitingFor }: Props) {
  const [showsTokens, setShowsTokens] = useState(false);
  const says = Boolean(message.content || message.reasoning || message.calls?.length);
  return (
    <article aria-label={`Answer of ${message.model ?? "the model"}`} aria-busy={isWriting} className="flex flex-col gap-2">
      <div className="text-[13px] font-medium text-faint">{message.model}</div>
      {message.reasoning && <Reasoning text={message.reasoning} isGoing={isWriting && !message.content} />}
      {isWriting && !says && <p className="animate-pulse text-soft">{waitingFor ?? "The prompt is being read"}…</p>}
      {showsTokens && message.tokens ? (
        <Suspense>
          <Probabilities tokens={message.tokens} />
        </Suspense>
      ) : (
        message.content && (
          <Suspense fallback={<p className="whitespace-pre-wrap">{message.content}</p>}>
            <Markdown text={message.content} />
          </Suspense>
        )
      )}
      {message.calls && <Calls message={message} open={isLast && !isBusy} />}
      {message.error && (
        <Problem
          action={
            <Button small disabled={isBusy} onClick={() => void answer(message.parent)}>
              Try again
            </Button>
          }
        >
          {message.error}
        </Problem>
      )}
      {!isWriting && (
        <div className="flex flex-wrap items-center gap-x-1 gap-y-1 text-[13px] text-faint">
          <Branches conversation={conversation} message={message} />
          <Copy text={message.content} label="Copy the answer" />
          <IconButton label="Answer again" disabled={isBusy} onClick={() => void answer(message.parent)}>
            <RotateCcw size={15} aria-hidden />
          </IconButton>
          {message.tokens && (
            <button type="button" aria-pressed={showsTokens} onClick={() => setShowsTokens(!showsTokens)} className="rounded-md px-2 py-1 hover:bg-sunken hover:text-ink">
              {showsTokens ? "As text" : "Token probabilities"}
            </button>
          )}
          <Took figures={message.figures} finish={message.finish ?? null} />
        </div>
      )}
    </article>
  );
}

const FINISH: Record<string, string> = { length: "cut off at the limit", stopped: "stopped", tool_calls: "calls tools" };

function Took({ figures, finish }: { figures: Figures | undefined; finish: string | null }) {
  const words: string[] = [];
  if (finish && FINISH[finish]) words.push(FINISH[finish]);
  if (figures) {
    const perSecond = speed(figures);
    if (perSecond !== null) words.push(`${rate(perSecond)} tokens/s`);
    if (figures.firstTokenMs !== null) words.push(`first token after ${seconds(figures.firstTokenMs / 1000)}`);
    const reasoning = figures.reasoningTokens ? `, ${whole(figures.reasoningTokens)} of reasoning` : "";
    words.push(`${whole(figures.completionTokens)} tokens${reasoning}`);
    const cached = figures.cachedTokens ? ` (${whole(figures.cachedTokens)} from the cache)` : "";
    words.push(`prompt ${whole(figures.promptTokens)}${cached}`);
  }
  if (words.length === 0) return null;
  return (
    <span className="ml-1" title="Tokens are the server's count, times were measured in this browser">
      {words.join(" · ")}
    </span>
  );
}

function Reasoning({ text, isGoing }: { text: string; isGoing: boolean }) {
  return (
    <details className="rounded-lg border border-line bg-sunken/60 px-3 py-1.5 text-[14px] text-soft">
      <summary className="font-medium">{isGoing ? "Thinking…" : "Reasoning"}</summary>
      <div className="mt-1.5 border-t border-line pt-2 break-words whitespace-pre-wrap">{text}</div>
    </details>
  );
}

function Result({ message }: { message: Message }) {
  return (
    <article aria-label="Result of a tool" className="rounded-lg border border-line bg-sunken/60 px-3 py-2 text-[14px]">
      <div className="label">Result</div>
      <pre className="mt-1 overflow-x-auto text-[13px] whitespace-pre-wrap">{message.content}</pre>
    </article>
  );
}

/** Goes from one branch at a fork to the next. */
function Branches({ conversation, message }: { conversation: Conversation; message: Message }) {
  const all = children(conversation, message.parent);
  if (all.length < 2) return null;
  const at = all.findIndex((other) => other.id === message.id);
  const go = (step: number) => {
    const next = all[at + step];
    if (next) edit((now) => choose(now, next.id));
  };
  return (
    <span className="flex items-center text-[13px]">
      <IconButton label="Branch before" disabled={at === 0} onClick={() => go(-1)}>
        <ChevronLeft size={16} aria-hidden />
      </IconButton>
      <span className="figures">
        {at + 1}/{all.length}
      </span>
      <IconButton label="Branch after" disabled={at === all.length - 1} onClick={() => go(1)}>
        <ChevronRight size={16} aria-hidden />
      </IconButton>
    </span>
  );
}
