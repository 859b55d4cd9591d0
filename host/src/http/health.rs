//! For those who watch over the process: is it alive, can it serve anything.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde_json::{Value, json};

use super::App;

/// The process answers.
pub(crate) async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// At least one format can be served. Whether a model of it is there is the business of `/v1/models`.
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    if app.plugins.formats().is_empty() {
        let body = json!({"status": "no_plugin_loaded", "see": "/api/plugins"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    (StatusCode::OK, Json(json!({"status": "ok"})))
}
