//! Adding models over HTTP, piece by piece.
//!
//! `POST /api/uploads` with `{"files": [{"path", "bytes", "modified"}]}` begins an upload, or finds the one of the same files again;
//! each answer names the `next` piece, which `PUT /api/uploads/{id}?path=…&offset=…` takes as it is, until `next` is null
//! and `model` says what it became. Pieces have a limit of their own, far below what a body may have elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::response::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::JsonBody;
use super::error::{Failure, Result, WireKind};
use super::fields::Fields;
use super::guard::Administrator;
use crate::models::uploads::{Manifest, PIECE_BYTES, Stop, UploadState, Uploads, Wanted};

/// Uploads that are not complete.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadList {
    uploads: Vec<UploadState>,
}

/// What is to be uploaded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read field by field, so that each is refused by its name")]
pub(crate) struct NewUpload {
    /// One file, all numbered parts of one, or files that lie in one folder.
    files: Vec<NewFile>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewFile {
    /// Its path below the model folder.
    path: String,
    /// Its length.
    bytes: u64,
    /// When it was last changed, in milliseconds since 1970; may be missing. Another file of the same name and length is
    /// told apart by it.
    modified: Option<i64>,
}

/// Which piece it is.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Place {
    /// The file, as `next` names it.
    path: String,
    /// From this byte on.
    offset: u64,
}

type Shared = Extension<Arc<Uploads>>;

/// Uploads that can be gone on with.
#[utoipa::path(
    get, path = "/api/uploads", tag = "server", summary = "Uploads that are not complete",
    responses((status = 200, description = "how far each is", body = UploadList))
)]
pub(crate) async fn list(Extension(uploads): Shared) -> Result<Json<UploadList>> {
    let uploads = apart(move || uploads.list()).await?;
    Ok(Json(UploadList { uploads }))
}

/// Begins one, or goes on.
#[utoipa::path(
    post, path = "/api/uploads", tag = "server", summary = "Begins the upload of a model, or goes on with it",
    request_body = NewUpload,
    responses((status = 200, description = "the next piece, and how far it is", body = UploadState))
)]
pub(crate) async fn begin(
    _: Administrator,
    Extension(uploads): Shared,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<UploadState>> {
    let files = fields.list("files")?.ok_or_else(|| fields.missing("files"))?;
    fields.finish()?;
    let wanted = files.into_iter().map(|(path, value)| {
        let mut file = Fields::of(&path, value)?;
        let (path, bytes) = (file.required_text("path")?, file.integer("bytes")?);
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| file.missing("bytes"))?;
        let modified = file.integer("modified")?.and_then(|modified| i64::try_from(modified).ok());
        file.finish()?;
        Ok(Wanted { path, bytes, modified })
    });
    let wanted = wanted.collect::<Result<Vec<_>>>()?;
    apart(move || uploads.begin(&Manifest::new(wanted)?)).await.map(Json)
}

/// Takes a piece.
#[utoipa::path(
    put, path = "/api/uploads/{id}", tag = "server", summary = "Takes the next piece of an upload",
    params(("id" = String, Path, description = "the upload's id"), Place),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "the piece as it is"),
    responses((status = 200, description = "the next piece, or the model's id", body = UploadState))
)]
pub(crate) async fn take(
    State(app): State<App>,
    _: Administrator,
    Extension(uploads): Shared,
    (Path(id), Query(place)): (Path<String>, Query<Place>),
    body: Body,
) -> Result<Json<UploadState>> {
    let patience = Duration::from_secs(app.config.server.body_timeout_secs.into());
    let reading = to_bytes(body, PIECE_BYTES as usize);
    let piece = tokio::time::timeout(patience, reading).await.map_err(|_| {
        let message = format!("the piece was not there within {} s", patience.as_secs());
        Failure::wire(WireKind::TooSlow, message)
    })?;
    let piece = piece.map_err(|_| {
        let message =
            format!("the piece broke off, or is larger than the {PIECE_BYTES} bytes that a piece may have");
        Failure::wire(WireKind::BodyTooLarge, message)
    })?;
    apart(move || uploads.take(&id, &place.path, place.offset, &piece)).await.map(Json)
}

/// Throws one away.
#[utoipa::path(
    delete, path = "/api/uploads/{id}", tag = "server", summary = "Throws an upload away",
    params(("id" = String, Path, description = "the upload's id")),
    responses((status = 200, description = "the uploads that are left", body = UploadList))
)]
pub(crate) async fn discard(
    _: Administrator,
    Extension(uploads): Shared,
    Path(id): Path<String>,
) -> Result<Json<UploadList>> {
    let uploads = apart(move || uploads.discard(&id).and_then(|()| uploads.list())).await?;
    Ok(Json(UploadList { uploads }))
}

/// The disk and the plugins may take their time: that holds up nobody's events.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> crate::models::uploads::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| {
        crate::error::Error::new(crate::error::Kind::Internal, format!("an upload panicked: {error}"))
    })?;
    done.map_err(|stop| match stop {
        Stop::Exists(message) => Failure::wire(WireKind::ModelExists, message),
        Stop::NoRoom(message) => Failure::wire(WireKind::NoDisk, message),
        Stop::NoSuch(message) => Failure::wire(WireKind::NoSuchUpload, message),
        Stop::WrongPiece(message) => Failure::wire(WireKind::WrongPiece, message),
        Stop::Host(error) => error.into(),
    })
}
