import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Pause, Play, X } from "lucide-react";
import { useEffect } from "react";
import { ask } from "../api/client";
import type { Answer, UploadState } from "../api/types";
import { bytes, percent } from "../lib/format";
import { Button, IconButton } from "../ui/Button";
import { Panel } from "../ui/Panel";
import { State, type Tone } from "../ui/State";
import { afterUploads, discard, dismiss, goOn, pause, type Upload, useUploads } from "./uploading";

/** What is on its way, what arrived or was refused since the page is open, and what was left half-way before. */
export function Uploads() {
  const client = useQueryClient();
  const uploads = useUploads();
  const { data: onServer = [] } = useQuery({
    queryKey: ["uploads"],
    queryFn: async () => (await ask<Answer<"/api/uploads">>("/api/uploads")).uploads,
    retry: false,
  });
  useEffect(
    () =>
      afterUploads(() => {
        for (const key of ["models", "uploads"]) void client.invalidateQueries({ queryKey: [key] });
      }),
    [client],
  );
  const here = new Set(uploads.map((upload) => upload.state?.id));
  const left = onServer.filter((state) => !here.has(state.id));
  if (uploads.length + left.length === 0) return null;
  return (
    <Panel title="Being added">
      <ul className="divide-y divide-line">
        {uploads.map((upload) => (
          <Row key={upload.key} upload={upload} />
        ))}
        {left.map((state) => (
          <li key={state.id} className="flex flex-wrap items-center gap-x-4 gap-y-1 px-4 py-3">
            <span className="min-w-0 flex-1 basis-60">
              <span className="block truncate font-medium">{nameOf(state)}</span>
              <span className="text-[13.5px] text-soft">
                {bytes(state.received)} of {bytes(state.bytes)} came. Drop the same files again to go on.
              </span>
            </span>
            <State tone="idle">Left half-way</State>
            <Button small kind="quiet" onClick={() => void discard(state.id).then(() => client.invalidateQueries({ queryKey: ["uploads"] }))}>
              Discard
            </Button>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function nameOf(state: UploadState): string {
  const first = state.files[0]?.path ?? state.id;
  return first.split("/")[0] ?? first;
}

const STAGES: Record<Upload["stage"], [Tone, string]> = {
  asking: ["busy", "Asking"],
  sending: ["busy", "Sending"],
  waiting: ["warn", "Waiting for the server"],
  paused: ["idle", "Paused"],
  done: ["good", "Added"],
  refused: ["bad", "Refused"],
};

function Row({ upload }: { upload: Upload }) {
  const { stage, state } = upload;
  const received = state?.received ?? 0;
  const share = upload.bytes > 0 ? received / upload.bytes : 0;
  const [tone, word] = STAGES[stage];
  const hashes = stage === "done" ? (state?.files.filter((file) => file.sha256) ?? []) : [];
  return (
    <li className="px-4 py-3" data-testid="upload">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1">
        <span className="min-w-0 flex-1 basis-60 truncate font-medium">{upload.name}</span>
        <State tone={tone}>{stage === "sending" ? (state?.checked ? `Sending ${percent(share)}` : "Sending the header") : word}</State>
        {(stage === "sending" || stage === "waiting") && (
          <IconButton label={`Pause ${upload.name}`} onClick={() => pause(upload.key)}>
            <Pause size={16} aria-hidden />
          </IconButton>
        )}
        {stage === "paused" && (
          <IconButton label={`Go on with ${upload.name}`} onClick={() => goOn(upload.key)}>
            <Play size={16} aria-hidden />
          </IconButton>
        )}
        <IconButton label={stage === "done" || stage === "refused" ? `Close the line of ${upload.name}` : `Cancel ${upload.name}`} onClick={() => void dismiss(upload.key)}>
          <X size={16} aria-hidden />
        </IconButton>
      </div>
      {stage !== "refused" && stage !== "done" && (
        <>
          <progress className="sr-only" aria-label={`How much of ${upload.name} is sent`} max={100} value={share * 100} />
          <svg viewBox="0 0 100 3" preserveAspectRatio="none" width="100%" height="5" aria-hidden className="mt-2 overflow-hidden rounded-full">
            <rect width="100" height="3" className="fill-sunken" />
            <rect width={share * 100} height="3" className="fill-accent" />
          </svg>
          <p className="mt-1.5 text-[13.5px] text-soft">
            {bytes(received)} of {bytes(upload.bytes)}
            {upload.speed !== null && `, ${bytes(upload.speed)}/s`}
          </p>
        </>
      )}
      {upload.problem && <p className="mt-1 text-[14px] break-words text-bad">{upload.problem}</p>}
      {stage === "done" && state?.model && (
        <p className="mt-1 text-[14px]">
          <Link to="/models" search={{ model: state.model }} className="text-accent underline">
            {state.model}
          </Link>{" "}
          is among the models now.
        </p>
      )}
      {hashes.map((file) => (
        <p key={file.path} className="mt-1 font-mono text-[12px] break-all text-faint">
          {hashes.length > 1 && `${file.path}: `}sha256 {file.sha256}
        </p>
      ))}
    </li>
  );
}
