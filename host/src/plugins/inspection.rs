//! All that a model's headers say, as its plugin tells it: the contract's `inspection/1`.

use std::path::Path;

use impetus_plugin_api::{self as api, INSPECTION, InspectionTable};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::model::{load_error, utf8};
use crate::error::{Error, Kind, Result};

/// What somebody sees who looks into a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ModelDetails)]
pub struct Inspection {
    /// By the file's own names.
    #[schema(required, value_type = BTreeMap<String, Value>)]
    pub metadata: Map<String, Value>,
    /// In the file's order.
    #[schema(required)]
    pub tensors: Vec<Tensor>,
    /// The Jinja text of the chat template.
    pub chat_template: Option<String>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// What its numbers are stored as, such as `Q4_K`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As the format has it: GGUF names the innermost dimension first.
    pub shape: Vec<u64>,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Asks a plugin about a file whose head was read. `None` where it does not offer to tell.
pub(super) fn inspect(
    plugin: api::PluginRef,
    path: &Path,
    is_dir: bool,
    head: &[u8],
) -> Result<Option<Inspection>> {
    let Some(offered) = plugin.extension()(INSPECTION.into()).into_option() else { return Ok(None) };
    let table = offered.table::<InspectionTable>(INSPECTION).map_err(load_error)?;
    let input = api::ProbeInput { path: utf8(path)?.into(), is_dir, head: head.into() };
    let told = (table.inspect)(&input).into_result().map_err(load_error)?;
    serde_json::from_str(&told).map(Some).map_err(|error| {
        Error::new(Kind::LoadFailed, format!("what the plugin tells of the model is not understood: {error}"))
    })
}
