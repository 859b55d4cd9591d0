import { useNavigate, useSearch } from "@tanstack/react-router";
import { PanelLeft, SlidersHorizontal } from "lucide-react";
import { useEffect, useState } from "react";
import { useLive } from "../api/live";
import { useModels, useProcesses } from "../api/queries";
import type { ModelEntry } from "../api/types";
import { percent } from "../lib/format";
import { branch } from "../lib/tree";
import { IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Empty } from "../ui/Panel";
import { Composer } from "./Composer";
import { ConversationList } from "./ConversationList";
import { MessageList } from "./MessageList";
import { canChat, ModelPicker } from "./ModelPicker";
import { begin, edit, open, say, stop, useSession } from "./session";
import { SettingsPanel } from "./SettingsPanel";

type Shown = "none" | "conversations" | "settings";

export function ChatPage() {
  const { conversation, writing } = useSession();
  const { data: models } = useModels();
  const { data: processes } = useProcesses();
  const progress = useLive((state) => state.loading);
  const [shown, setShown] = useState<Shown>("none");
  const [aside, setAside] = useState(false);
  useAddress();
  useFirstModel();

  const model = models?.find((model) => model.id === conversation.model);
  const messages = branch(conversation);
  const figures = messages.findLast((message) => message.figures)?.figures;
  const context = processes?.find((process) => process.model === conversation.model)?.context_tokens ?? model?.summary.context_length ?? null;
  const loading = conversation.model ? progress[conversation.model] : undefined;
  const pickModel = (id: string) => edit((now) => ({ ...now, model: id }));
  const list = (close: () => void) => <List onDone={close} />;
  const wide = () => window.matchMedia("(min-width: 1280px)").matches;

  return (
    <div className="flex h-full min-h-0">
      <aside aria-label="Conversations" className="hidden w-64 shrink-0 border-r border-line lg:block">
        {list(() => undefined)}
      </aside>
      <main id="main" tabIndex={-1} className="flex min-h-0 min-w-0 flex-1 flex-col">
        <header className="flex items-center gap-1 border-b border-line px-2 py-1.5 sm:px-3">
          <IconButton label="Conversations" className="lg:hidden" onClick={() => setShown("conversations")}>
            <PanelLeft size={18} aria-hidden />
          </IconButton>
          <h1 className="sr-only">Chat: {conversation.title}</h1>
          <div className="min-w-0 flex-1">
            <ModelPicker value={conversation.model} onChange={pickModel} />
          </div>
          <IconButton label="Settings of this conversation" onClick={() => (wide() ? setAside(!aside) : setShown("settings"))}>
            <SlidersHorizontal size={18} aria-hidden />
          </IconButton>
        </header>
        {messages.length === 0 ? (
          <div className="flex min-h-0 flex-1 items-center justify-center overflow-auto">
            <Welcome models={models} model={conversation.model} />
          </div>
        ) : (
          <MessageList
            conversation={conversation}
            writing={writing?.message ?? null}
            isBusy={writing !== null}
            waitingFor={loading === undefined ? null : `${conversation.model} is being loaded: ${percent(loading)}`}
          />
        )}
        <Composer
          disabled={conversation.model === null}
          writing={writing !== null}
          onSend={(text) => void say(text, messages.at(-1)?.id ?? null)}
          onStop={stop}
          used={figures ? figures.promptTokens + figures.completionTokens : null}
          context={context}
        />
      </main>
      {aside && (
        <aside aria-label="Settings of this conversation" className="hidden w-80 shrink-0 overflow-auto border-l border-line bg-panel p-4 xl:block">
          <SettingsPanel key={conversation.id} conversation={conversation} />
        </aside>
      )}
      {shown === "conversations" && (
        <Dialog title="Conversations" side onClose={() => setShown("none")}>
          {list(() => setShown("none"))}
        </Dialog>
      )}
      {shown === "settings" && (
        <Dialog title="Settings of this conversation" side onClose={() => setShown("none")}>
          <SettingsPanel key={conversation.id} conversation={conversation} />
        </Dialog>
      )}
    </div>
  );
}

function List({ onDone }: { onDone: () => void }) {
  const go = useNavigate();
  return (
    <ConversationList
      onOpen={(id) => {
        void go({ to: "/chat", search: { id } });
        onDone();
      }}
      onNew={() => {
        begin();
        void go({ to: "/chat", search: {} });
        onDone();
      }}
    />
  );
}

/** The address names the conversation, or a model to begin one with. */
function useAddress(): void {
  const search = useSearch({ from: "/chat" });
  const go = useNavigate();
  useEffect(() => {
    if (search.model) {
      const { model } = search;
      begin();
      edit((now) => ({ ...now, model }));
      void go({ to: "/chat", search: {}, replace: true });
    } else if (search.id) {
      void open(search.id).then((found) => {
        if (!found) void go({ to: "/chat", search: {}, replace: true });
      });
    }
  }, [search.id, search.model, go, search]);
}

/** A conversation without a model takes one that is loaded, else the first there is. */
function useFirstModel(): void {
  const { conversation } = useSession();
  const { data: models } = useModels();
  useEffect(() => {
    if (conversation.model !== null || !models) return;
    const able = models.filter(canChat);
    const first = able.find((model) => model.state === "loaded") ?? able.find((model) => model.summary.chat_template) ?? able[0];
    if (first) edit((now) => ({ ...now, model: first.id }));
  }, [conversation.model, models]);
}

function Welcome({ models, model }: { models: ModelEntry[] | undefined; model: string | null }) {
  if (models && !models.some(canChat)) {
    return (
      <Empty title="No model can be served yet">
        {models.length > 0 && (
          <>
            {models.length === 1 ? "One was found that cannot run" : `${models.length} were found that cannot run`}: the page{" "}
            <a className="text-accent underline" href="#/models">Models</a> says why.{" "}
          </>
        )}
        Drop a GGUF file or a checkpoint's folder onto the page <a className="text-accent underline" href="#/models">Models</a>, or put it into the server's model folder.
      </Empty>
    );
  }
  return (
    <Empty title={model ? `Talk to ${model}` : "Choose a model"}>
      Answers come from this server alone. What you write is kept in this browser, and nowhere else.
    </Empty>
  );
}
