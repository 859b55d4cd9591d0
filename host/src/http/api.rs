//! What there is and why: plugins, formats, models, whether they can be served or not.
//!
//! `GET /api/plugins` → `{"plugins": [record…]}`, `GET /api/formats` → `{"formats": […]}`, `GET /api/models` →
//! `{"models": [entry…]}`, `GET /api/events` → each change as it happens. No path of this machine's disk is in them.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{Json, Response};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::Result;
use super::public::{file_name, without_paths};
use super::sse::{self, Line};
use super::status::{self, ServerStatus};
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
    let public = |text: Option<String>| text.as_deref().map(without_paths);
    let public = |entry: Entry| Entry { reason: public(entry.reason), detail: public(entry.detail), ..entry };
    let models = app.models.look(Models::list).await?;
    Ok(Json(ModelList { models: models.into_iter().map(public).collect() }))
}

/// Each change of plugins and models, as server-sent events, for as long as the client listens. What stands now comes
/// first, so that nothing is missed between looking at a list and listening.
#[utoipa::path(
    get, path = "/api/events", tag = "server", summary = "Each change of plugins and models as it happens",
    params(Wishes),
    responses((status = 200, description = "server-sent events, each of them so", body = Event, content_type = "text/event-stream"))
)]
pub(crate) async fn events(State(app): State<App>, Query(wishes): Query<Wishes>) -> Response {
    let listener = app.plugins.events().listen();
    let now = app.plugins.now().into_iter().map(line);
    let next = |mut listener: Listener| async move { Some((line(listener.next().await?), listener)) };
    let later = stream::unfold(listener, next);
    let changes = stream::iter([Line::Comment]).chain(stream::iter(now)).chain(later);
    if !wishes.status {
        return sse::respond(changes);
    }
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let states = stream::unfold((ticks, app), |(mut ticks, app)| async move {
        ticks.tick().await;
        Some((Line::Data(sse::json(&Event::Told(Told::Status { status: status::now(&app) }))), (ticks, app)))
    });
    sse::respond(stream::select(changes, states))
}

/// How often the status is told.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What else is told beside the changes.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Wishes {
    /// How the server goes, each second, as `{"type": "status", "status": {…}}`.
    #[serde(default)]
    status: bool,
}

/// One event.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Event)]
pub(crate) enum Event {
    Change(Change),
    Told(Told),
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Told {
    /// How the server goes.
    Status { status: ServerStatus },
}

fn line(change: Change) -> Line {
    Line::Data(sse::json(&Event::Change(public_change(change))))
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
