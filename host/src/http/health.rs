//! For those who watch over the process: is it alive, is what it must serve there.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde_json::{Value, json};

use super::App;

/// The process answers.
pub(crate) async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Every plugin that plugins.toml marks `required` is loaded. Which formats there are is the business of `/api/formats`.
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let missing = app.plugins.missing_required();
    if missing.is_empty() {
        return (StatusCode::OK, Json(json!({"status": "ok"})));
    }
    let missing: Vec<Value> = missing.iter().map(|(id, why)| json!({"id": id, "state": why})).collect();
    let body = json!({"status": "required_plugin_missing", "plugins": missing, "see": "/api/plugins"});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
