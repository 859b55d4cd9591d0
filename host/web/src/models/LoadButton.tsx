import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { told } from "../api/client";
import { useLive } from "../api/live";
import { load, useUnload } from "../api/queries";
import type { ModelEntry } from "../api/types";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Problem } from "../ui/Panel";

/** Loads or unloads a model, whichever there is to do. */
export function LoadButton({ model, keepAlive = null }: { model: ModelEntry; keepAlive?: string | null }) {
  const client = useQueryClient();
  const progress = useLive((state) => state.loading[model.id]);
  const unload = useUnload();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  if (model.state === "unavailable") return null;
  const isLoading = busy || progress !== undefined || model.state === "loading";
  const begin = async () => {
    setBusy(true);
    setFailure(null);
    try {
      await load(model.id, keepAlive, () => undefined);
    } catch (error) {
      setFailure(told(error));
    } finally {
      setBusy(false);
      for (const key of ["models", "processes", "plan"]) void client.invalidateQueries({ queryKey: [key] });
    }
  };
  return (
    <>
      {model.state === "loaded" ? (
        <Button small disabled={unload.isPending} onClick={() => unload.mutate(model.id, { onError: (error) => setFailure(told(error)) })} aria-label={`Unload ${model.id}`}>
          {unload.isPending ? "Unloading" : "Unload"}
        </Button>
      ) : (
        <Button small disabled={isLoading} onClick={() => void begin()} aria-label={`Load ${model.id}`}>
          {isLoading ? "Loading" : "Load"}
        </Button>
      )}
      {failure && (
        <Dialog title={`${model.id}: that did not work`} onClose={() => setFailure(null)}>
          <Problem>{failure}</Problem>
        </Dialog>
      )}
    </>
  );
}
