//! For those who watch over the process: is it alive, is what it must serve there.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::error::Result;
use crate::models::Models;

/// How it goes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or what is missing.
    status: &'static str,
    /// Plugins that plugins.toml requires and that are not loaded, or an engine of which is down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Missing>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    see: Option<&'static str>,
}

/// A plugin that does not serve.
#[derive(Serialize, ToSchema)]
pub(crate) struct Missing {
    id: String,
    /// Its state, that there is no such plugin, or `engine_down`.
    state: String,
}

const OK: Health = Health { status: "ok", plugins: Vec::new(), see: None };

/// The process answers.
#[utoipa::path(
    get, path = "/health", tag = "server", summary = "Whether the process answers",
    responses((status = 200, description = "it does", body = Health))
)]
pub(crate) async fn alive() -> Json<Health> {
    Json(OK)
}

/// The same, under the name that Kubernetes has for it.
#[utoipa::path(
    get, path = "/livez", tag = "server", summary = "Whether the process answers",
    responses((status = 200, description = "it does", body = Health))
)]
pub(crate) async fn live() -> Json<Health> {
    Json(OK)
}

/// Every plugin that plugins.toml marks `required` is loaded, and none of its engines is down. Which formats there are is
/// the business of `/api/formats`.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    summary = "Whether every required plugin is loaded, and none of its engines is down",
    responses(
        (status = 200, description = "each of them", body = Health),
        (status = 503, description = "one is missing, or an engine of one is down", body = Health)
    )
)]
pub(crate) async fn ready(State(app): State<App>) -> Result<(StatusCode, Json<Health>)> {
    let missing = app.plugins.missing_required();
    let mut plugins: Vec<Missing> = missing.into_iter().map(|(id, state)| Missing { id, state }).collect();
    let (mut status, mut see) = ("required_plugin_missing", "/api/plugins");
    if plugins.is_empty() && app.plugins.requires_any() {
        let down: BTreeSet<String> =
            app.models.look(Models::down).await?.into_iter().map(|(_, down)| down.plugin).collect();
        let required = down.into_iter().filter(|plugin| app.plugins.is_required(plugin));
        plugins = required.map(|id| Missing { id, state: "engine_down".to_owned() }).collect();
        (status, see) = ("required_engine_down", "/api/models");
    }
    if plugins.is_empty() {
        return Ok((StatusCode::OK, Json(OK)));
    }
    Ok((StatusCode::SERVICE_UNAVAILABLE, Json(Health { status, plugins, see: Some(see) })))
}
