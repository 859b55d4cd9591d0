import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef } from "react";
import { branch } from "../lib/tree";
import { MessageView } from "./MessageView";
import type { Conversation } from "./types";

/** How near to the end one must be to be kept there while an answer grows. */
const NEAR_END = 80;

interface Props {
  conversation: Conversation;
  writing: string | null;
  isBusy: boolean;
  waitingFor: string | null;
}

/** The shown branch. Only what is in sight is in the document. */
export function MessageList({ conversation, writing, isBusy, waitingFor }: Props) {
  const messages = useMemo(() => branch(conversation), [conversation]);
  const scroller = useRef<HTMLDivElement>(null);
  const staysAtEnd = useRef(true);
  const rows = useVirtualizer({
    count: messages.length,
    getScrollElement: () => scroller.current,
    getItemKey: (index) => messages[index]?.id ?? index,
    estimateSize: () => 140,
    overscan: 4,
    paddingStart: 20,
    paddingEnd: 20,
    gap: 26,
  });
  const height = rows.getTotalSize();
  useEffect(() => {
    const element = scroller.current;
    if (element && staysAtEnd.current) element.scrollTop = element.scrollHeight;
  }, [height, messages.at(-1)?.id, messages.at(-1)?.content]);
  useEffect(() => {
    staysAtEnd.current = true;
  }, [conversation.id]);
  return (
    <div
      ref={scroller}
      role="log"
      aria-label="Conversation"
      tabIndex={0}
      className="min-h-0 flex-1 overflow-auto [overflow-anchor:none]"
      onScroll={(event) => {
        const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
        staysAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_END;
      }}
    >
      <div className="relative mx-auto max-w-3xl" style={{ height }}>
        {rows.getVirtualItems().map((row) => {
          const message = messages[row.index];
          if (!message) return null;
          return (
            <div key={row.key} ref={rows.measureElement} data-index={row.index} className="absolute inset-x-0 px-4" style={{ transform: `translateY(${row.start}px)` }}>
              <MessageView
                conversation={conversation}
                message={message}
                isWriting={message.id === writing}
                isBusy={isBusy}
                isLast={row.index === messages.length - 1}
                waitingFor={waitingFor}
              />
            </div>
          );
        })}
      </div>
    </div>
  );
}
