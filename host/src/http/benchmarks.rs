//! Benchmarks by request: one at a time, as jobs that tell their progress among the events.
//!
//! `POST /api/benchmarks` begins one, `GET /api/benchmarks` lists them, `GET /api/benchmarks/{id}` has a report, `DELETE`
//! stops one or forgets it, `GET /api/benchmarks/{id}/against/{other}` sets two side by side.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{Json, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::App;
use super::body::JsonBody;
use super::error::{Failure, Result, WireKind};
use super::guard::Administrator;
use super::public::without_paths;
use crate::bench::{
    self, Comparison, Job, Jobs, ModelOptions, Options, Order, Recorder, Report, ServeOptions, Store,
    Subject, Target, Worked,
};
use crate::error::{Error, Kind};
use crate::models::{Entry, Models};

/// Every benchmark of this server.
#[derive(Serialize, ToSchema)]
#[schema(as = BenchmarkList)]
pub(crate) struct JobList {
    benchmarks: Vec<Job>,
}

/// The benchmarks of a server.
pub(crate) fn jobs(app: &App) -> Arc<Jobs> {
    let store = app.config.data.as_ref().map(|folder| Store::at(folder.join(bench::DATABASE)));
    Jobs::new(store, app.plugins.events().clone())
}

/// In front of every route: a benchmark that runs is told of what its server answers meanwhile. Its own requests come through
/// a door of their own.
pub(crate) async fn notice(State(jobs): State<Arc<Jobs>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.method() == Method::POST && (path.starts_with("/v1/") || path == "/chat/completions") {
        jobs.request_came();
    }
    next.run(request).await
}

/// Begins a benchmark.
#[utoipa::path(
    post, path = "/api/benchmarks", tag = "server", summary = "Begins a benchmark; its progress is among the events",
    responses((status = 200, description = "the benchmark, running", body = Job))
)]
pub(crate) async fn start(
    State(app): State<App>,
    Extension(jobs): Extension<Arc<Jobs>>,
    _: Administrator,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<Job>> {
    let force = fields.flag("force")?.unwrap_or(false);
    let save = fields.flag("save")?.unwrap_or(false);
    let wanted: Map<String, Value> = fields.into_values().collect();
    let options: Options = serde_json::from_value(Value::Object(wanted))
        .map_err(|error| Error::new(Kind::InvalidRequest, format!("this is no benchmark: {error}")))?;
    options.check()?;
    let users: usize = app.models.loaded().iter().map(|model| model.users()).sum();
    if users > 0 && !force && !jobs.is_running() {
        let message = format!(
            "{users} requests are being served, which a benchmark would slow down and be slowed down by: try again when they \
             have ended, or say `\"force\": true`"
        );
        return Err(Failure::wire(WireKind::ServerBusy, message));
    }
    let order = ToBegin { options, save, force, busy: users };
    let started = begin(&app, &jobs, order).await?;
    started.map(|job| Json(public(job))).ok_or_else(|| {
        let message =
            "a benchmark is running: wait for its end, or cancel it with DELETE /api/benchmarks/{id}";
        Failure::wire(WireKind::BenchmarkRunning, message)
    })
}

/// What a client wants, checked.
struct ToBegin {
    options: Options,
    save: bool,
    force: bool,
    /// Requests that are being served now.
    busy: usize,
}

async fn begin(app: &App, jobs: &Arc<Jobs>, wanted: ToBegin) -> Result<Option<Job>> {
    let ToBegin { options, save, force, busy } = wanted;
    let own_engine = (!matches!(options, Options::Machine(_))).then_some(&*app.config);
    let mut told = bench::told(&options, own_engine);
    told["force"] = force.into();
    let order = |subject: &str| Order {
        kind: options.kind(),
        subject: subject.to_owned(),
        options: told,
        save,
        busy,
    };
    let app = app.clone();
    Ok(match options.clone() {
        Options::Machine(options) => jobs.start(order("this machine"), move |mut recorder| async move {
            let work = move || {
                bench::machine(&app.plugins, &app.models, &options, &mut recorder);
                recorder
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(recorder) => (recorder, Ok(())),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        })?,
        Options::Model(options) => {
            let id = options.model.clone();
            let entry = app.models.look(move |models: &Models| models.find(&id)).await??;
            if !entry.is_servable() {
                return Err(entry.refusal().into());
            }
            jobs.start(order(&entry.id.clone()), move |recorder| model(app, entry, options, recorder))?
        }
        Options::Serve(options) => {
            let id = options.model.clone();
            let entry = app.models.look(move |models: &Models| models.find(&id)).await??;
            jobs.start(order(&entry.id.clone()), move |recorder| serve(app, entry, options, recorder))?
        }
    })
}

async fn model(app: App, entry: Entry, options: ModelOptions, mut recorder: Recorder) -> Worked {
    let done = bench::model(&app.plugins, &app.config, (entry, None), &options, &mut recorder).await;
    (recorder, done)
}

async fn serve(app: App, entry: Entry, options: ServeOptions, mut recorder: Recorder) -> Worked {
    recorder.subject.clone_from(&entry.id);
    recorder.of_model(Subject::of(&entry));
    if let Some(spec) = entry.plugin.as_deref().and_then(|id| app.plugins.spec(id)) {
        recorder.used(&spec);
    }
    let server = match super::privately(&app).await {
        Ok(server) => server,
        Err(error) => {
            let message = format!("no port on this machine can be opened for it: {error}");
            return (recorder, Err(Error::new(Kind::Internal, message)));
        }
    };
    let (url, key) = (server.url.clone(), Some(server.key.clone()));
    let target = Target { url, key, model: entry.id, body: Map::new() };
    let done = bench::serve(&[target], &options, &mut recorder).await;
    (recorder, done)
}

/// Every benchmark, newest first.
#[utoipa::path(
    get, path = "/api/benchmarks", tag = "server", summary = "Benchmarks that run, have ended or were saved",
    responses((status = 200, description = "newest first, without reports", body = JobList))
)]
pub(crate) async fn list(Extension(jobs): Extension<Arc<Jobs>>) -> Result<Json<JobList>> {
    let benchmarks = blocking(move || jobs.list()).await?;
    Ok(Json(JobList { benchmarks: benchmarks.into_iter().map(public).collect() }))
}

/// One benchmark.
#[utoipa::path(
    get, path = "/api/benchmarks/{id}", tag = "server", summary = "A benchmark with its report",
    params(("id" = String, Path, description = "its id")),
    responses((status = 200, description = "with its report once it has ended", body = Job))
)]
pub(crate) async fn one(Extension(jobs): Extension<Arc<Jobs>>, Path(id): Path<String>) -> Result<Json<Job>> {
    found(&jobs, &id).await.map(Json)
}

/// Stops a running benchmark, forgets one that has ended.
#[utoipa::path(
    delete, path = "/api/benchmarks/{id}", tag = "server", summary = "Stops a benchmark, or forgets it",
    params(("id" = String, Path, description = "its id")),
    responses((status = 200, description = "as it was: one that ran ends soon, with what it measured", body = Job))
)]
pub(crate) async fn remove(
    Extension(jobs): Extension<Arc<Jobs>>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Job>> {
    let wanted = id.clone();
    let removed = blocking(move || jobs.remove(&wanted)).await?;
    removed.map(|job| Json(public(job))).ok_or_else(|| no_such(&id))
}

/// Two benchmarks side by side.
#[utoipa::path(
    get, path = "/api/benchmarks/{id}/against/{other}", tag = "server", summary = "What another benchmark found otherwise",
    params(
        ("id" = String, Path, description = "the first's id"),
        ("other" = String, Path, description = "the id of the one that is seen from the first"),
    ),
    responses((status = 200, description = "each figure of both, and what changed beyond the noise", body = Comparison))
)]
pub(crate) async fn against(
    Extension(jobs): Extension<Arc<Jobs>>,
    Path((id, other)): Path<(String, String)>,
) -> Result<Json<Comparison>> {
    let (a, b) = (reported(&jobs, &id).await?, reported(&jobs, &other).await?);
    Ok(Json(bench::compare(&a, &b)))
}

async fn found(jobs: &Arc<Jobs>, id: &str) -> Result<Job> {
    let (jobs, wanted) = (Arc::clone(jobs), id.to_owned());
    let job = blocking(move || jobs.get(&wanted)).await?;
    job.map(public).ok_or_else(|| no_such(id))
}

async fn reported(jobs: &Arc<Jobs>, id: &str) -> Result<Report> {
    let job = found(jobs, id).await?;
    job.report.ok_or_else(|| {
        let message = format!("benchmark `{id}` has no report: it runs still, or it failed");
        Error::new(Kind::InvalidRequest, message).into()
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> crate::error::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(Kind::Internal, format!("benchmarks: {error}"))))
}

/// The same without this machine's paths, which plugins' and the system's words may have.
fn public(mut job: Job) -> Job {
    let clean = |text: &mut String| *text = without_paths(text);
    job.error.as_mut().map(clean);
    if let Some(report) = &mut job.report {
        report.notes.iter_mut().for_each(clean);
        report.plugins.values_mut().for_each(|plugin| without_paths_in(&mut plugin.options));
        report.figures.iter_mut().filter_map(|figure| figure.not_available.as_mut()).for_each(clean);
        report.requests.iter_mut().filter_map(|request| request.error.as_mut()).for_each(clean);
    }
    job
}

fn without_paths_in(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_paths(text),
        Value::Array(values) => values.iter_mut().for_each(without_paths_in),
        Value::Object(fields) => fields.values_mut().for_each(without_paths_in),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn no_such(id: &str) -> Failure {
    let message =
        format!("there is no benchmark `{id}`: it was forgotten, or made room for newer ones unsaved");
    Failure::wire_at(WireKind::NoSuchBenchmark, "id", message)
}
