//! How the server goes at the moment: machine, processes, models, the last answers and failures. The web page asks for it
//! once, or hears it every second beside the changes.

use std::sync::LazyLock;
use std::time::Instant;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::public::without_paths;
use crate::journal::{Answered, Failed};
use crate::machine::{MachineNow, cpu_secs, resident_bytes};
use crate::models::Resident;

/// When this process began to serve.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How it goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerStatus {
    version: &'static str,
    uptime_secs: f64,
    machine: MachineNow,
    processes: Vec<ProcessNow>,
    models: Vec<ModelNow>,
    /// The latest first.
    answers: Vec<Answered>,
    /// The latest first.
    failures: Vec<Failed>,
}

/// A process of ours.
#[derive(Debug, Serialize, ToSchema)]
struct ProcessNow {
    /// The model that it runs; of the server itself, its name.
    name: String,
    kind: ProcessKind,
    pid: u32,
    /// Bytes in RAM, what it shares with others included.
    memory_bytes: Option<u64>,
    /// CPU seconds since it was started.
    cpu_secs: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ProcessKind {
    Server,
    Model,
}

/// A loaded model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoadedModelNow)]
struct ModelNow {
    model: String,
    /// Sequences being computed.
    running: usize,
    /// Sequences waiting for their turn.
    waiting: usize,
    /// Of all its answers, lately.
    tokens_per_second: f64,
    /// The part of its cache that holds something, 0 to 1.
    cache_usage: f64,
    /// The longest that prompt and answer together may be.
    context_tokens: u32,
    /// Since the server was started.
    prompt_tokens: u64,
    generated_tokens: u64,
    /// Tokens of prompts that were looked up in the cache, and those that were found.
    prefix_queries: u64,
    prefix_hits: u64,
}

/// Counts from now on.
pub(crate) fn start_clock() {
    LazyLock::force(&STARTED);
}

/// All of it.
#[utoipa::path(
    get, path = "/api/server", tag = "server", summary = "How the server goes: machine, processes, models, last answers and failures",
    responses((status = 200, description = "at the moment", body = ServerStatus))
)]
pub(crate) async fn read(State(app): State<App>) -> Json<ServerStatus> {
    Json(now(&app))
}

/// As it is now.
pub(crate) fn now(app: &App) -> ServerStatus {
    let own = std::process::id();
    let process = |name: &str, kind, pid| ProcessNow {
        name: name.to_owned(),
        kind,
        pid,
        memory_bytes: resident_bytes(pid),
        cpu_secs: cpu_secs(pid),
    };
    let loaded = app.models.loaded();
    let workers = loaded.iter().filter_map(|resident| {
        let pid = resident.worker.as_ref()?.pid();
        Some(process(&resident.id, ProcessKind::Model, pid))
    });
    let mut models: Vec<ModelNow> = loaded.iter().map(|resident| model(app, resident)).collect();
    models.sort_by(|a, b| a.model.cmp(&b.model));
    let mut processes: Vec<ProcessNow> = workers.collect();
    processes.sort_by(|a, b| a.name.cmp(&b.name));
    processes.insert(0, process("impetus", ProcessKind::Server, own));
    let journal = app.models.metrics().journal();
    let public = |failed: Failed| Failed { message: without_paths(&failed.message), ..failed };
    ServerStatus {
        version: env!("CARGO_PKG_VERSION"),
        uptime_secs: STARTED.elapsed().as_secs_f64(),
        machine: MachineNow::look(),
        processes,
        models,
        answers: journal.answers(),
        failures: journal.failures().into_iter().map(public).collect(),
    }
}

fn model(app: &App, resident: &Resident) -> ModelNow {
    let stats = resident.engine.stats();
    let totals = app.models.metrics().totals(&resident.id);
    ModelNow {
        model: resident.id.clone(),
        running: stats.running,
        waiting: stats.waiting,
        tokens_per_second: resident.tokens_per_second(),
        cache_usage: resident.engine.cache_usage(),
        context_tokens: resident.context_tokens(),
        prompt_tokens: totals.prompt_tokens,
        generated_tokens: totals.generated_tokens,
        prefix_queries: totals.prefix_queries,
        prefix_hits: totals.prefix_hits,
    }
}
