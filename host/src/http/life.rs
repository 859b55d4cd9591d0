//! The life of models: what is loaded, what a load would take, what headers say; loading, unloading and deleting by
//! request.
//!
//! `GET /api/ps` → `{"processes": […]}`. `GET /api/models/{id}/plan` says what a load would mean, `…/details` what the
//! model's headers say. `POST /api/models/{id}/load` answers when the model is there, or tells how far it is: with `accept:
//! text/event-stream`, `{"progress": 0.5}` and at the end `{"model": …}` or an error. `POST /api/models/{id}/unload`.
//! `DELETE /api/models/{id}` takes its files from the disk. An id may contain slashes.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use utoipa::ToSchema;

use super::App;
use super::account::Account;
use super::body::JsonBody;
use super::error::{ErrorBody, Failure, Result, WireKind};
use super::guard::Administrator;
use super::public::without_paths;
use super::sse::{self, Line};
use crate::error::Error;
use crate::models::{Entry, Fit, KeepAlive, Left, ModelState, Models, Process};
use crate::plugins::inspection::Inspection;

/// What is loaded, by model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProcessList {
    processes: Vec<Process>,
}

/// Which plugin would run a model, what it would take, and whether that is there.
#[derive(Serialize, ToSchema)]
pub(crate) struct Plan {
    model: String,
    format: Option<String>,
    plugin: Option<String>,
    state: ModelState,
    /// Why it cannot be served, or not yet.
    reason: Option<String>,
    /// In how many seconds it may be tried again, after a load that failed or a crash; null: at once.
    retry_after_secs: Option<u16>,
    /// Null where it cannot be served.
    memory: Option<Fit>,
}

/// What can be asked about one model.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum About {
    /// `…/plan`
    Plan(Plan),
    /// `…/details`
    Details(Inspection),
}

/// What was made of a model.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    model: String,
    /// `loaded`, `unloaded`, `draining` or `not_loaded`.
    state: &'static str,
    /// Of a loaded one: the longest that prompt and answer together may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_tokens: Option<u32>,
}

/// What is told while a model is loaded, until it answers or failed.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LoadNews {
    /// How far it is, from 0 to 1.
    Progress { progress: f32 },
    /// It answers.
    Done(Changed),
    /// It does not.
    Failed(ErrorBody),
}

/// A model that is gone from the disk.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedModel)]
pub(crate) struct Deleted {
    model: String,
    /// Bytes that its files had.
    freed_bytes: u64,
}

/// How a model is loaded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read field by field, so that each is refused by its name")]
pub(crate) struct LoadOptions {
    /// How long it stays without use: seconds, or a text such as `5m`; negative: for ever.
    #[schema(value_type = Option<String>)]
    keep_alive: Option<String>,
}

/// What is loaded.
#[utoipa::path(
    get, path = "/api/ps", tag = "server", summary = "What is loaded: processes, memory, speed",
    responses((status = 200, description = "by model", body = ProcessList))
)]
pub(crate) async fn processes(State(app): State<App>) -> Result<Json<ProcessList>> {
    let processes = app.models.look(Models::processes).await?;
    Ok(Json(ProcessList { processes }))
}

/// What can be asked about one model: its plan, its details.
#[utoipa::path(
    get, path = "/api/models/{path}", tag = "server", summary = "What loading a model would take, or all that its headers say",
    params(("path" = String, Path, description = "the model's id, which may contain slashes, then /plan or /details")),
    responses((status = 200, description = "as was asked for", body = About))
)]
pub(crate) async fn about(State(app): State<App>, Path(path): Path<String>) -> Result<Json<About>> {
    if let Some(id) = path.strip_suffix("/details") {
        let id = id.to_owned();
        return Ok(Json(About::Details(app.models.look(move |models| models.details(&id)).await??)));
    }
    let id = path.strip_suffix("/plan").ok_or_else(|| no_such(&path))?.to_owned();
    let plan = app.models.look(move |models| models.find(&id).map(|entry| plan(models, &entry))).await??;
    Ok(Json(About::Plan(plan)))
}

/// What can be done with one model: load, unload.
#[utoipa::path(
    post, path = "/api/models/{path}", tag = "server", summary = "Loads or unloads a model",
    params(("path" = String, Path, description = "the model's id, which may contain slashes, then /load or /unload")),
    request_body(content = Option<LoadOptions>, description = "of a load; may be left out"),
    responses((
        status = 200, description = "the model's new state; with accept: text/event-stream, a load's progress",
        content((Changed = "application/json"), (LoadNews = "text/event-stream"))
    ))
)]
pub(crate) async fn change(
    State(app): State<App>,
    _: Administrator,
    Extension(account): Extension<Account>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response> {
    if let Some(id) = path.strip_suffix("/unload") {
        let state = match app.models.unload(id).await? {
            Left::Unloaded => "unloaded",
            Left::Draining => "draining",
            Left::NotLoaded => "not_loaded",
        };
        return Ok(Json(Changed { model: id.to_owned(), state, context_tokens: None }).into_response());
    }
    let id = path.strip_suffix("/load").ok_or_else(|| no_such(&path))?.to_owned();
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants_news = accept.is_some_and(|accept| accept.contains("text/event-stream"));
    let keep_alive = load_options(&app, request).await?;
    let entry = app.models.look(move |models| models.find(&id)).await??;
    app.models.forgive(&entry.id);
    if wants_news {
        return Ok(load_with_news(&app, account, entry, keep_alive));
    }
    // A load goes on when whoever asked for it goes away.
    let models = Arc::clone(&app.models);
    let load = tokio::spawn(async move { models.open_entry(entry, Arc::new(|_| ())).await });
    let loaded =
        load.await.map_err(|error| Error::new(crate::error::Kind::Internal, error.to_string()))??;
    keep_alive.into_iter().for_each(|keep_alive| loaded.keep(keep_alive));
    Ok(Json(told(&loaded.id, loaded.context_tokens())).into_response())
}

/// Takes a model's files from the disk for good; one that is loaded is unloaded first.
#[utoipa::path(
    delete, path = "/api/models/{path}", tag = "server", summary = "Deletes a model's files",
    params(("path" = String, Path, description = "the model's id, which may contain slashes")),
    responses((status = 200, description = "they are gone", body = Deleted))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Deleted>> {
    let (model, freed_bytes) = app.models.delete(&id).await?;
    Ok(Json(Deleted { model, freed_bytes }))
}

/// The body of a load may be missing.
async fn load_options(app: &App, request: Request) -> Result<Option<KeepAlive>> {
    if !request.headers().contains_key(header::CONTENT_TYPE) {
        return Ok(None);
    }
    let JsonBody(mut fields) = JsonBody::from_request(request, app).await?;
    let wanted = fields.value("keep_alive").map(|value| keep_alive(&value)).transpose()?;
    fields.finish()?;
    Ok(wanted)
}

fn load_with_news(app: &App, account: Account, entry: Entry, keep_alive: Option<KeepAlive>) -> Response {
    let (lines, mut received) = unbounded_channel();
    let models = Arc::clone(&app.models);
    tokio::spawn(async move {
        let news = lines.clone();
        let progress = Arc::new(move |fraction: f32| {
            let _ = news.send(line(&LoadNews::Progress { progress: fraction }));
        });
        let last = match models.open_entry(entry, progress).await {
            Ok(loaded) => {
                keep_alive.into_iter().for_each(|keep_alive| loaded.keep(keep_alive));
                line(&LoadNews::Done(told(&loaded.id, loaded.context_tokens())))
            }
            Err(error) => {
                let failure = Failure::from(error);
                account.failed(&failure, StatusCode::OK);
                line(&LoadNews::Failed(failure.body()))
            }
        };
        let _ = lines.send(last);
    });
    sse::respond(futures_util::stream::poll_fn(move |context| received.poll_recv(context)))
}

fn line(news: &LoadNews) -> Line {
    Line::Data(sse::json(news))
}

fn told(id: &str, context_tokens: u32) -> Changed {
    Changed { model: id.to_owned(), state: "loaded", context_tokens: Some(context_tokens) }
}

fn plan(models: &Models, entry: &Entry) -> Plan {
    let cooling = models.cooling(entry);
    let reason = entry.reason.as_ref().or(cooling.as_ref().map(|error| &error.message));
    Plan {
        model: entry.id.clone(),
        format: entry.format.clone(),
        plugin: entry.plugin.clone(),
        state: entry.state,
        reason: reason.map(|reason| without_paths(reason)),
        retry_after_secs: cooling.and_then(|error| error.retry_after_secs),
        memory: entry.is_servable().then(|| models.fit(entry)),
    }
}

/// A request's `keep_alive`: seconds, or a text with a unit.
pub(crate) fn keep_alive(value: &Value) -> Result<KeepAlive, Error> {
    match value {
        Value::String(text) => KeepAlive::parse(text),
        other => KeepAlive::parse(&other.to_string()),
    }
}

fn no_such(path: &str) -> Failure {
    let message = format!(
        "there is no `/api/models/{path}` here; there are GET /api/models/ID/plan and /api/models/ID/details, POST \
         /api/models/ID/load and /api/models/ID/unload, and DELETE /api/models/ID"
    );
    Failure::wire(WireKind::NoSuchPath, message)
}
