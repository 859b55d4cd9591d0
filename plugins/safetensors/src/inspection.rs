//! All that a folder's headers and config.json say, for people: the contract's `inspection/1`.

use std::path::Path;

use impetus_plugin_api::sdk::Inspection;
use impetus_plugin_api::{PluginError, ProbeInput};
use serde_json::{Value, json};

use crate::Safetensors;
use crate::checkpoint::{Checkpoint, Entry};
use crate::config::Description;

impl Inspection for Safetensors {
    fn inspect(input: &ProbeInput<'_>) -> Result<String, PluginError> {
        let path = input.path();
        // A file of weights is shown with the folder that it is a part of.
        let folder = if input.is_dir { path } else { path.parent().unwrap_or(Path::new(".")) };
        let (description, checkpoint) = (Description::read(folder)?, Checkpoint::open(folder)?);
        let told = json!({
            "metadata": description.config,
            "tensors": checkpoint.entries().map(tensor).collect::<Vec<_>>(),
            "chat_template": description.chat_template,
        });
        Ok(told.to_string())
    }
}

fn tensor(entry: &Entry) -> Value {
    json!({"name": entry.name, "type": format!("{:?}", entry.dtype), "shape": entry.shape, "bytes": entry.range.len()})
}
