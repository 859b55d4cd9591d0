//! Models' life: what is loaded and how it goes, what a load would take, and loading and unloading by request.
//!
//! `GET /api/ps` → `{"processes": […]}`. `GET /api/models/{id}/plan` says what a load would mean. `POST
//! /api/models/{id}/load` answers when the model is there, or tells how far it is: with `accept: text/event-stream`,
//! `{"progress": 0.5}` and at the end `{"model": …}` or an error. `POST /api/models/{id}/unload`. An id may contain slashes.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use super::App;
use super::error::{Failure, Result, WireKind};
use super::guard::Administrator;
use super::sse::{self, Line};
use crate::error::Error;
use crate::models::{Entry, KeepAlive, Models};

/// What is loaded.
#[utoipa::path(
    get, path = "/api/ps", tag = "server", summary = "What is loaded: processes, memory, speed",
    responses((status = 200, description = "`processes`, a list", body = Value))
)]
pub(crate) async fn processes(State(app): State<App>) -> Result<Json<Value>> {
    let processes = app.models.look(Models::processes).await?;
    Ok(Json(json!({ "processes": processes })))
}

/// What can be asked about one model: its plan.
#[utoipa::path(
    get, path = "/api/models/{path}", tag = "server", summary = "What loading a model would take",
    params(("path" = String, Path, description = "the model's id, which may contain slashes, then /plan")),
    responses((status = 200, description = "plugin, format, memory needed and free, what would be unloaded", body = Value))
)]
pub(crate) async fn about(State(app): State<App>, Path(path): Path<String>) -> Result<Json<Value>> {
    let id = path.strip_suffix("/plan").ok_or_else(|| no_such(&path))?.to_owned();
    let plan = app.models.look(move |models| models.find(&id).map(|entry| plan(models, &entry))).await??;
    Ok(Json(plan))
}

/// What can be done with one model: load, unload.
#[utoipa::path(
    post, path = "/api/models/{path}", tag = "server", summary = "Loads or unloads a model",
    params(("path" = String, Path, description = "the model's id, which may contain slashes, then /load or /unload")),
    responses((status = 200, description = "the model's new state; with accept: text/event-stream, a load's progress", body = Value))
)]
pub(crate) async fn change(
    State(app): State<App>,
    _: Administrator,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    if let Some(id) = path.strip_suffix("/unload") {
        let left = app.models.unload(id).await?;
        return Ok(Json(json!({ "model": id, "state": left })).into_response());
    }
    let id = path.strip_suffix("/load").ok_or_else(|| no_such(&path))?.to_owned();
    let wanted = id.clone();
    let entry = app.models.look(move |models| models.find(&wanted)).await??;
    app.models.forgive(&entry.id);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(load_with_news(&app, entry));
    }
    // A load goes on when whoever asked for it goes away.
    let models = Arc::clone(&app.models);
    let load = tokio::spawn(async move { models.open_entry(entry, Arc::new(|_| ())).await });
    let loaded =
        load.await.map_err(|error| Error::new(crate::error::Kind::Internal, error.to_string()))??;
    Ok(Json(told(&loaded.id, loaded.context_tokens())).into_response())
}

fn load_with_news(app: &App, entry: Entry) -> Response {
    let (lines, mut received) = unbounded_channel();
    let models = Arc::clone(&app.models);
    tokio::spawn(async move {
        let news = lines.clone();
        let progress = Arc::new(move |fraction: f32| {
            let _ = news.send(Line::Data(json!({ "progress": fraction }).to_string()));
        });
        let last = match models.open_entry(entry, progress).await {
            Ok(loaded) => Line::Data(told(&loaded.id, loaded.context_tokens()).to_string()),
            Err(error) => Line::failure(&Failure::from(error)),
        };
        let _ = lines.send(last);
    });
    sse::respond(futures_util::stream::poll_fn(move |context| received.poll_recv(context)))
}

fn told(id: &str, context_tokens: u32) -> Value {
    json!({ "model": id, "state": "loaded", "context_tokens": context_tokens })
}

/// Which plugin would run a model, what it would take, and whether that is there.
fn plan(models: &Models, entry: &Entry) -> Value {
    let reason = entry.reason.as_deref().map(super::public::without_paths);
    let fit = entry.is_servable().then(|| models.fit(entry));
    json!({
        "model": entry.id, "format": entry.format, "plugin": entry.plugin, "state": entry.state,
        "reason": reason, "memory": fit,
    })
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
        "there is no `/api/models/{path}` here; there are GET /api/models/ID/plan, POST /api/models/ID/load and \
         /api/models/ID/unload"
    );
    Failure::wire(WireKind::NoSuchPath, message)
}
