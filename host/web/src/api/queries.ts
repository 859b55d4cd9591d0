/** What the pages ask of the server, under the names by which `live` declares it stale. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { ask, idPath, send } from "./client";
import { events } from "./sse";
import type { Answer, Changed, DeletedModel, LoadNews, ModelDetails, Plan } from "./types";

/** Files that appear in the model folders by themselves are told by nobody: they are looked for. */
const LOOK_AGAIN_MS = 10_000;

export function useModels() {
  return useQuery({
    queryKey: ["models"],
    queryFn: async () => (await ask<Answer<"/api/models">>("/api/models")).models,
    refetchInterval: LOOK_AGAIN_MS,
  });
}

export function usePlugins() {
  return useQuery({
    queryKey: ["plugins"],
    queryFn: async () => (await ask<Answer<"/api/plugins">>("/api/plugins")).plugins,
  });
}

export function useProcesses() {
  return useQuery({
    queryKey: ["processes"],
    queryFn: async () => (await ask<Answer<"/api/ps">>("/api/ps")).processes,
    refetchInterval: 5_000,
  });
}

export function usePlan(id: string | null) {
  return useQuery({
    queryKey: ["plan", id],
    queryFn: () => ask<Plan>(`/api/models/${idPath(id ?? "")}/plan`),
    enabled: id !== null,
  });
}

export function useDetails(id: string | null) {
  return useQuery({
    queryKey: ["details", id],
    queryFn: () => ask<ModelDetails>(`/api/models/${idPath(id ?? "")}/details`),
    enabled: id !== null,
    staleTime: 60_000,
    retry: false,
  });
}

/** Loads a model; resolves when it answers. */
export async function load(id: string, keepAlive: string | null, onProgress: (fraction: number) => void): Promise<void> {
  const response = await send(`/api/models/${idPath(id)}/load`, {
    method: "POST",
    headers: { accept: "text/event-stream" },
    ...(keepAlive === null ? {} : { json: { keep_alive: keepAlive } }),
  });
  for await (const data of events(response)) {
    const told = JSON.parse(data) as LoadNews;
    if ("error" in told) throw new Error(told.error.message);
    if ("progress" in told) onProgress(told.progress);
  }
}

/** Sets how long a loaded model stays without use. */
export function useKeep() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, keepAlive }: { id: string; keepAlive: string }) => load(id, keepAlive, () => undefined),
    onSettled: () => void client.invalidateQueries({ queryKey: ["processes"] }),
  });
}

export function useUnload() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => ask<Changed>(`/api/models/${idPath(id)}/unload`, { method: "POST" }),
    onSettled: () => {
      for (const key of ["models", "processes", "plan"]) void client.invalidateQueries({ queryKey: [key] });
    },
  });
}

export function useDelete() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => ask<DeletedModel>(`/api/models/${idPath(id)}`, { method: "DELETE" }),
    onSettled: () => {
      for (const key of ["models", "processes"]) void client.invalidateQueries({ queryKey: [key] });
    },
  });
}
