//! `GET /v1/models` and `GET /v1/models/{id}`: what can be served now. An id may contain slashes.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Json;

use super::types::{ModelList, ModelObject};
use crate::http::App;
use crate::http::error::{Failure, Result, WireKind};
use crate::models::Models;

/// All of them.
#[utoipa::path(
    get, path = "/v1/models", tag = "OpenAI", summary = "What can be served now",
    responses((status = 200, description = "all of it", body = ModelList))
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<ModelList>> {
    let data = app.models.look(Models::servable).await?.into_iter().map(ModelObject::from).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One of them; for one that is there but cannot be served, why.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "OpenAI", summary = "One model",
    params(("id" = String, Path, description = "its id, which may have slashes")),
    responses((status = 200, description = "it can be served", body = ModelObject))
)]
pub(crate) async fn one(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>> {
    let Path(id) = path.map_err(|error| {
        Failure::wire(WireKind::NoSuchPath, format!("the model's id in the path cannot be read: {error}"))
    })?;
    let entry = app.models.look(move |models| models.find(&id)).await??;
    if !entry.is_servable() {
        return Err(entry.refusal().into());
    }
    Ok(Json(entry.into()))
}
