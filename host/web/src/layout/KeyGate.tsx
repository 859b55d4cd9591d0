import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { forgetKey, keepKey, type Refusal, whenNoKey } from "../api/client";
import { tryAgain } from "../api/live";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Input, Labelled } from "../ui/Field";

/** Asks for a key when the server wants one. */
export function KeyGate() {
  const client = useQueryClient();
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [key, setKey] = useState("");
  const [forLong, setForLong] = useState(false);
  useEffect(() => whenNoKey((refused) => setRefusal((known) => known ?? refused)), []);
  if (!refusal) return null;
  return (
    <Dialog title="This server wants a key" onClose={() => setRefusal(null)}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          forgetKey();
          keepKey(key.trim(), forLong);
          setRefusal(null);
          tryAgain();
          void client.invalidateQueries();
        }}
      >
        <p>{refusal.message}</p>
        <Labelled label="Key" hint="An API key to chat; an admin key also to load, add and delete models. Both are in plugins.toml.">
          {(id, hint) => (
            <Input id={id} aria-describedby={hint} type="password" autoComplete="off" required value={key} onChange={(event) => setKey(event.target.value)} />
          )}
        </Labelled>
        <label className="flex items-center gap-2 text-[14px]">
          <input type="checkbox" checked={forLong} onChange={(event) => setForLong(event.target.checked)} className="size-4 accent-accent" />
          Keep it in this browser, not only in this tab
        </label>
        <Button kind="primary" type="submit">
          Use this key
        </Button>
      </form>
    </Dialog>
  );
}
