//! What there is and why: plugins, formats, models, whether they can be served or not.
//!
//! `GET /api/plugins` → `{"plugins": [record…]}`, `GET /api/formats` → `{"formats": […]}`, `GET /api/models` →
//! `{"models": [entry…]}`, `GET /api/events` → each change as it happens. No path of this machine's disk is in them.

use std::path::PathBuf;

use axum::extract::State;
use axum::response::{Json, Response};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::error::Result;
use super::public::{file_name, without_paths};
use super::sse::{self, Line};
use crate::events::{Change, Listener};
use crate::models::{Entry, Models};
use crate::plugins::{ActiveFormat, Record};

#[derive(Serialize, ToSchema)]
pub(crate) struct PluginList {
    plugins: Vec<Record>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct FormatList {
    formats: Vec<ActiveFormat>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FoundModels)]
pub(crate) struct ModelList {
    models: Vec<Entry>,
}

/// Every plugin's record.
#[utoipa::path(
    get, path = "/api/plugins", tag = "server", summary = "What became of each plugin",
    responses((status = 200, description = "every plugin that was found", body = PluginList))
)]
pub(crate) async fn plugins(State(app): State<App>) -> Json<PluginList> {
    Json(PluginList { plugins: app.plugins.records().into_iter().map(public_record).collect() })
}

/// The formats that can be served now.
#[utoipa::path(
    get, path = "/api/formats", tag = "server", summary = "Which formats can be served",
    responses((status = 200, description = "by name", body = FormatList))
)]
pub(crate) async fn formats(State(app): State<App>) -> Json<FormatList> {
    Json(FormatList { formats: app.plugins.formats() })
}

/// Every model that was found.
#[utoipa::path(
    get, path = "/api/models", tag = "server", summary = "Every model that was found, with reasons",
    responses((status = 200, description = "also what cannot be served", body = ModelList))
)]
pub(crate) async fn models(State(app): State<App>) -> Result<Json<ModelList>> {
    let public = |entry: Entry| Entry { reason: entry.reason.as_deref().map(without_paths), ..entry };
    let models = app.models.look(Models::list).await?;
    Ok(Json(ModelList { models: models.into_iter().map(public).collect() }))
}

/// Each change of plugins and models, as server-sent events, for as long as the client listens. What stands now comes
/// first, so that nothing is missed between looking at a list and listening.
#[utoipa::path(
    get, path = "/api/events", tag = "server", summary = "Each change of plugins and models as it happens",
    responses((status = 200, description = "server-sent events", body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn events(State(app): State<App>) -> Response {
    let listener = app.plugins.events().listen();
    let now = app.plugins.now().into_iter().map(line);
    let next = |mut listener: Listener| async move { Some((line(listener.next().await?), listener)) };
    let later = stream::unfold(listener, next);
    sse::respond(stream::iter([Line::Comment]).chain(stream::iter(now)).chain(later))
}

fn line(change: Change) -> Line {
    Line::Data(sse::json(&public_change(change)))
}

/// The same without this machine's paths.
fn public_change(change: Change) -> Change {
    let public = |text: Option<String>| text.as_deref().map(without_paths);
    match change {
        Change::Plugin { id, version, state, reason, hint } => {
            Change::Plugin { id, version, state, reason: public(reason), hint: public(hint) }
        }
        Change::Model { id, state, reason } => Change::Model { id, state, reason: public(reason) },
        Change::Benchmark { id, kind, state, progress, reason } => {
            Change::Benchmark { id, kind, state, progress, reason: public(reason) }
        }
        Change::ConfigurationRefused { reason } => {
            Change::ConfigurationRefused { reason: without_paths(&reason) }
        }
        same @ (Change::PluginRemoved { .. }
        | Change::Formats { .. }
        | Change::Configuration { .. }
        | Change::Missed { .. }) => same,
    }
}

fn public_record(record: Record) -> Record {
    let public = |text: Option<String>| text.as_deref().map(without_paths);
    Record {
        path: PathBuf::from(file_name(&record.path)),
        reason: public(record.reason),
        hint: public(record.hint),
        detail: public(record.detail),
        ..record
    }
}
