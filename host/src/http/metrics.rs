//! `GET /metrics`: what was counted so far and what is the case now, in Prometheus' text format.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

use super::App;
use super::error::Result;
use crate::error::{Error, Kind};
use crate::metrics::{ModelNow, PluginNow};

/// All of it.
#[utoipa::path(
    get, path = "/metrics", tag = "server", summary = "What was counted, for Prometheus",
    responses((status = 200, description = "text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(crate) async fn read(State(app): State<App>) -> Result<Response> {
    let models: Vec<ModelNow> = app
        .models
        .loaded()
        .iter()
        .map(|loaded| {
            let stats = loaded.engine.stats();
            ModelNow {
                model: loaded.id.clone(),
                running: stats.running,
                waiting: stats.waiting,
                cache_usage: loaded.engine.cache_usage(),
            }
        })
        .collect();
    let plugins: Vec<PluginNow> = app
        .plugins
        .records()
        .iter()
        .map(|record| PluginNow { id: record.id.clone(), state: record.state.to_string() })
        .collect();
    let text = app.models.metrics().text(&models, &plugins);
    let text = text.map_err(|error| Error::new(Kind::Internal, format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
