//! `GET /v1/models` and `GET /v1/models/{id}`: what can be served now. An id may contain slashes.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Json;

use super::types::{ModelList, ModelObject};
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::error::{Failure, Result, WireKind};
use crate::models::{Entry, Models};

/// All of them.
pub(crate) async fn list(State(app): State<App>) -> Result<Json<ModelList>> {
    let data = listed(&app, Models::servable).await?.into_iter().map(ModelObject::from).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One of them; for one that is there but cannot be served, why.
pub(crate) async fn one(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>> {
    let Path(id) = path.map_err(|error| {
        Failure::wire(WireKind::NoSuchPath, format!("the model's id in the path cannot be read: {error}"))
    })?;
    let entry = listed(&app, move |models| models.find(&id)).await??;
    if !entry.is_servable() {
        return Err(unservable(&entry).into());
    }
    Ok(Json(entry.into()))
}

/// Looks through the model folders, which may be on a slow disk, where it holds nobody up.
pub(crate) async fn listed<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&Models) -> T + Send + 'static,
) -> Result<T> {
    let models = Arc::clone(&app.models);
    let looked = tokio::task::spawn_blocking(move || look(&models)).await;
    looked.map_err(|error| Error::new(Kind::Internal, format!("listing models panicked: {error}")).into())
}

fn unservable(entry: &Entry) -> Error {
    let reason = entry.reason.as_deref().unwrap_or("no loaded plugin can run it");
    // A plugin that knows the file has judged it; where none does, the plugin is what is missing.
    let kind = if entry.plugin.is_some() { Kind::LoadFailed } else { Kind::PluginUnavailable };
    Error::new(kind, format!("model `{}` cannot be served: {reason}", entry.id))
}
