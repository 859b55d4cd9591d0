//! What there is and why: plugins, formats, models, whether they can be served or not.
//!
//! `GET /api/plugins` → `{"plugins": [record…]}`, `GET /api/formats` → `{"formats": […]}`, `GET /api/models` →
//! `{"models": [entry…]}`. No path of this machine's disk is in them.

use std::path::PathBuf;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;

use super::App;
use super::error::Result;
use super::public::{file_name, without_paths};
use crate::models::{Entry, Models};
use crate::plugins::{ActiveFormat, Record};

#[derive(Serialize)]
pub(crate) struct PluginList {
    plugins: Vec<Record>,
}

#[derive(Serialize)]
pub(crate) struct FormatList {
    formats: Vec<ActiveFormat>,
}

#[derive(Serialize)]
pub(crate) struct ModelList {
    models: Vec<Entry>,
}

/// Every plugin's record.
pub(crate) async fn plugins(State(app): State<App>) -> Json<PluginList> {
    Json(PluginList { plugins: app.plugins.records().iter().cloned().map(public_record).collect() })
}

/// The formats that can be served now.
pub(crate) async fn formats(State(app): State<App>) -> Json<FormatList> {
    Json(FormatList { formats: app.plugins.formats() })
}

/// Every model that was found.
pub(crate) async fn models(State(app): State<App>) -> Result<Json<ModelList>> {
    let public = |entry: Entry| Entry { reason: entry.reason.as_deref().map(without_paths), ..entry };
    let models = app.models.look(Models::list).await?;
    Ok(Json(ModelList { models: models.into_iter().map(public).collect() }))
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
