//! For those who watch over the process: is it alive, is what it must serve there.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;

/// How it goes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or what is missing.
    status: &'static str,
    /// Plugins that plugins.toml requires and that are not loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Missing>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    see: Option<&'static str>,
}

/// A plugin that is not loaded.
#[derive(Serialize, ToSchema)]
pub(crate) struct Missing {
    id: String,
    /// Its state, or that there is no such plugin.
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

/// Every plugin that plugins.toml marks `required` is loaded. Which formats there are is the business of `/api/formats`.
#[utoipa::path(
    get, path = "/readyz", tag = "server", summary = "Whether every required plugin is loaded",
    responses(
        (status = 200, description = "each of them", body = Health),
        (status = 503, description = "one is missing", body = Health)
    )
)]
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Health>) {
    let missing = app.plugins.missing_required();
    if missing.is_empty() {
        return (StatusCode::OK, Json(OK));
    }
    let missing = missing.iter().map(|(id, why)| Missing { id: id.to_string(), state: why.to_string() });
    let plugins = missing.collect();
    let body = Health { status: "required_plugin_missing", plugins, see: Some("/api/plugins") };
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
