// Provisional until generated.
export interface components {
  schemas: {
    ModelState: "available" | "loading" | "loaded" | "crashed" | "unavailable";
    ModelSummary: { architecture?: string | null; name?: string | null; quantization?: string | null; parameters?: number | null; context_length?: number | null; vocab_size?: number | null; size_bytes?: number | null; estimated_bytes?: number | null; chat_template?: boolean | null; license?: string | null };
    ModelEntry: { id: string; created: number; format?: string | null; plugin?: string | null; state: components["schemas"]["ModelState"]; reason?: string | null; summary: components["schemas"]["ModelSummary"]; capabilities: string[] };
    PluginState: "loaded" | "disabled" | "untrusted" | "hash_mismatch" | "not_a_plugin" | "unsupported_platform" | "incompatible_api" | "abi_mismatch" | "load_failed" | "manifest_mismatch" | "duplicate_plugin" | "duplicate_format" | "init_failed" | "crashed" | "quarantined";
    FormatRecord: { id: string; extensions: string[]; priority: number; active: boolean; shadowed_by?: string | null };
    PluginRecord: { id: string; name?: string | null; version?: string | null; path: string; sha256?: string | null; superseded: boolean; state: components["schemas"]["PluginState"]; reason?: string | null; hint?: string | null; detail?: string | null; api_version?: string | null; host_api_version: string; license?: string | null; build?: string | null; formats: components["schemas"]["FormatRecord"][] };
    Verdict: "fits" | "fits_after_unloading" | "others_are_busy" | "too_large";
    Fit: { needed_bytes: number; known_from: string; budget_bytes?: number | null; used_bytes: number; verdict: components["schemas"]["Verdict"]; would_unload: string[] };
    Plan: { model: string; format?: string | null; plugin?: string | null; state: components["schemas"]["ModelState"]; reason?: string | null; memory?: components["schemas"]["Fit"] | null };
    Process: { model: string; state: string; isolation: string; pid: number; memory_bytes?: number | null; running: number; waiting: number; tokens_per_second: number; idle_secs?: number | null; keep_alive_secs?: number | null; confinement: string[]; context_tokens?: number | null };
    Tensor: { name: string; type: string; shape: number[]; bytes: number };
    ModelDetails: { metadata: Record<string, unknown>; tensors: components["schemas"]["Tensor"][]; chat_template?: string | null };
    UploadFile: { path: string; bytes: number; received: number; sha256?: string | null };
    Piece: { path: string; offset: number; bytes: number };
    UploadState: { id: string; bytes: number; received: number; checked: boolean; files: components["schemas"]["UploadFile"][]; next?: components["schemas"]["Piece"] | null; model?: string | null };
    MachineNow: { cores: number; memory_bytes?: number | null; available_bytes?: number | null; cpu_busy_secs?: number | null; cpu_total_secs?: number | null };
    ProcessNow: { name: string; kind: "server" | "model"; pid: number; memory_bytes?: number | null; cpu_secs?: number | null };
    ModelNow: { model: string; running: number; waiting: number; tokens_per_second: number; cache_usage: number; context_tokens: number; prompt_tokens: number; generated_tokens: number; prefix_queries: number; prefix_hits: number };
    Answered: { request: string; model: string; at: number; prompt_tokens: number; cached_tokens: number; completion_tokens: number; first_token_secs?: number | null; total_secs: number; ending: string };
    Failed: { request: string; at: number; method: string; path: string; status: number; code?: string | null; message: string };
    ServerStatus: { version: string; uptime_secs: number; machine: components["schemas"]["MachineNow"]; processes: components["schemas"]["ProcessNow"][]; models: components["schemas"]["ModelNow"][]; answers: components["schemas"]["Answered"][]; failures: components["schemas"]["Failed"][] };
  };
}
export interface paths { "/v1/chat/completions": { post: { requestBody: { content: { "application/json": { model: string; messages: unknown[]; [name: string]: unknown } } } } } }
