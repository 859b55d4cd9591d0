//! All that a header says, for people: the contract's `inspection/1`.

use impetus_plugin_api::sdk::Inspection;
use impetus_plugin_api::{PluginError, ProbeInput};
use serde_json::{Map, Value, json};

use crate::header::{self, Header, Tensor};
use crate::{Gguf, parts};

/// Told by itself.
const TEMPLATE: &str = "tokenizer.chat_template";

impl Inspection for Gguf {
    fn inspect(input: &ProbeInput<'_>) -> Result<String, PluginError> {
        Ok(told(&parts::read_model(input.path())?).to_string())
    }
}

fn told(header: &Header) -> Value {
    let mut metadata: Vec<_> = header.metadata.iter().filter(|(key, _)| *key != TEMPLATE).collect();
    metadata.sort_by_key(|(key, _)| *key);
    let metadata: Map<String, Value> =
        metadata.into_iter().map(|(key, value)| (key.clone(), shown(value))).collect();
    json!({
        "metadata": metadata,
        "tensors": header.tensors.iter().map(tensor).collect::<Vec<_>>(),
        "chat_template": header.text(TEMPLATE),
    })
}

fn shown(value: &header::Value) -> Value {
    match value {
        header::Value::Unsigned(number) => (*number).into(),
        header::Value::Signed(number) => (*number).into(),
        header::Value::Float(number) => (*number).into(),
        header::Value::Bool(flag) => (*flag).into(),
        header::Value::Text(text) => text.as_str().into(),
        header::Value::Array { length, numbers } if numbers.len() as u64 == *length => numbers.clone().into(),
        header::Value::Array { length, .. } => format!("a list of {length}").into(),
    }
}

fn tensor(tensor: &Tensor) -> Value {
    json!({"name": tensor.name, "type": tensor.kind.name, "shape": tensor.shape, "bytes": tensor.bytes})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::tests::{Writer, read};

    #[test]
    fn metadata_tensors_and_template_are_told() {
        let file = Writer::default()
            .text("general.architecture", "llama")
            .text("tokenizer.chat_template", "{{ messages }}")
            .number("llama.block_count", 2)
            .tensor("token_embd.weight", &[64, 100])
            .file();
        let told = told(&read(&file).unwrap());
        assert_eq!(told["metadata"], json!({"general.architecture": "llama", "llama.block_count": 2}));
        assert_eq!(told["chat_template"], "{{ messages }}");
        let tensor = json!({"name": "token_embd.weight", "type": "F32", "shape": [64, 100], "bytes": 25_600});
        assert_eq!(told["tensors"], json!([tensor]));
    }
}
