import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { ask } from "../api/client";
import type { Answer } from "../api/types";
import type { Comparison, Job, Options } from "./types";

/** A running one is looked at again even where its events were missed. */
const LOOK_AGAIN_MS = 2_000;

export function useJobs() {
  return useQuery({
    queryKey: ["benchmarks"],
    queryFn: async () => (await ask<Answer<"/api/benchmarks">>("/api/benchmarks")).benchmarks,
    refetchInterval: ({ state }) => (state.data?.some((job) => job.state === "running") ? LOOK_AGAIN_MS : false),
    retry: false,
  });
}

export function useJob(id: string | null) {
  return useQuery({
    queryKey: ["benchmark", id],
    queryFn: () => ask<Job>(`/api/benchmarks/${id}`),
    enabled: id !== null,
    refetchInterval: ({ state }) => (state.data?.state === "running" ? LOOK_AGAIN_MS : false),
  });
}

export function useComparison(a: string | null, b: string | null) {
  return useQuery({
    queryKey: ["benchmark", a, "against", b],
    queryFn: () => ask<Comparison>(`/api/benchmarks/${a}/against/${b}`),
    enabled: a !== null && b !== null,
  });
}

function useChange<T>(change: (value: T) => Promise<Job>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSettled: () => {
      for (const key of ["benchmarks", "benchmark"]) void client.invalidateQueries({ queryKey: [key] });
    },
  });
}

export const useStart = () => useChange((options: Options) => ask<Job>("/api/benchmarks", { json: options }));

/** Cancels a running one, forgets an ended one. */
export const useRemove = () => useChange((id: string) => ask<Job>(`/api/benchmarks/${id}`, { method: "DELETE" }));
