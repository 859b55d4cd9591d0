//! What was measured, as far as a reader must know it to measure the same again: a model's size and kind, and how each plugin
//! was told to work.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::options::Options;
use crate::config::{Config, Engine, Isolation};
use crate::models::{Entry, Loaded};
use crate::plugins::Spec;

/// A model that was measured. What its plugin does not say is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkModel)]
pub struct Subject {
    /// Its id.
    pub id: String,
    /// Its format.
    pub format: Option<String>,
    /// Such as `llama`.
    pub architecture: Option<String>,
    /// Such as `Q4_1`.
    pub quantization: Option<String>,
    /// Bytes of its files.
    pub size_bytes: Option<u64>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// Bytes of all weights as they lie in memory; known once it was loaded.
    pub weight_bytes: Option<u64>,
    /// Experts of a layer, where a token goes through some of them alone.
    pub experts: Option<u64>,
    /// Layers that are computed on a graphics card.
    pub gpu_layers: Option<u64>,
}

impl Subject {
    /// As its headers say.
    pub fn of(entry: &Entry) -> Self {
        let summary = &entry.summary;
        Subject {
            id: entry.id.clone(),
            format: entry.format.clone(),
            architecture: summary.architecture.clone(),
            quantization: summary.quantization.clone(),
            size_bytes: summary.size_bytes,
            parameters: summary.parameters,
            weight_bytes: None,
            experts: None,
            gpu_layers: None,
        }
    }

    /// The same with what its plugin says now that it is loaded.
    pub(super) fn loaded(self, loaded: &Loaded) -> Self {
        let raw = &loaded.metadata().raw;
        let number = |key: &str| raw.get(key).and_then(Value::as_u64).filter(|&value| value > 0);
        let text = |key: &str| raw.get(key).and_then(Value::as_str).map(str::to_owned);
        Subject {
            architecture: text("architecture").or(self.architecture),
            quantization: text("quantization").or(self.quantization),
            parameters: number("parameters").or(self.parameters),
            weight_bytes: number("weight_bytes"),
            experts: number("experts").filter(|&experts| experts > 1),
            gpu_layers: number("gpu_layers"),
            ..self
        }
    }
}

/// How a plugin was told to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkPlugin)]
pub struct PluginUsed {
    /// Where its code ran.
    pub isolation: String,
    /// Its options as plugins.toml has them; what is not there the plugin decided.
    #[schema(value_type = Object)]
    pub options: Value,
}

impl PluginUsed {
    pub(super) fn of(spec: &Spec) -> Self {
        let isolation = match spec.isolation {
            Isolation::Process => "process",
            Isolation::None => "none",
        };
        let options = serde_json::from_str(&spec.options).unwrap_or_default();
        PluginUsed { isolation: isolation.to_owned(), options }
    }
}

/// Options as a report tells them: those of the benchmark, and of the engine where it is this program's own.
pub fn told(options: &Options, own_engine: Option<&Config>) -> Value {
    let mut told = serde_json::to_value(options).unwrap_or_default();
    if let Some(config) = own_engine {
        let Engine { max_sequences, queue, step_tokens, step_ms, kept_sequences, speculate } = config.engine;
        // A model is measured without guesses, whatever plugins.toml says.
        let speculate = speculate && !matches!(options, Options::Model(_));
        told["engine"] = json!({
            "max_sequences": max_sequences, "queue": queue, "step_tokens": step_tokens, "step_ms": step_ms,
            "kept_sequences": kept_sequences, "speculate": speculate,
        });
    }
    told
}

/// Which text a perplexity is of: the file's name, and the SHA-256 of what is in it.
pub fn told_text(path: &Path, text: &str, window: u32) -> Value {
    let sha256: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    json!({ "file": file, "sha256": sha256, "window": window })
}

/// Every value of a JSON object that is none itself, by its path such as `engine.step_tokens`.
pub(super) fn leaves(value: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    gather(String::new(), value, &mut found);
    found
}

fn gather(path: String, value: &Value, found: &mut Map<String, Value>) {
    match value.as_object() {
        Some(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                gather(path, value, found);
            }
        }
        None => {
            found.insert(path, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::options::{ModelOptions, ServeOptions};

    #[test]
    fn the_engine_stands_among_the_options_where_it_is_ours() {
        let config = Config::parse("[engine]\nstep_tokens = 77", Path::new("/")).unwrap();
        let model = told(&Options::Model(ModelOptions::default()), Some(&config));
        assert_eq!(
            (&model["engine"]["step_tokens"], &model["engine"]["speculate"]),
            (&json!(77), &json!(false))
        );
        let served = told(&Options::Serve(ServeOptions::default()), Some(&config));
        assert_eq!(served["engine"]["speculate"], true);
        assert!(told(&Options::Serve(ServeOptions::default()), None)["engine"].is_null());
    }

    #[test]
    fn a_text_is_known_by_its_content() {
        let told = told_text(Path::new("/a/b.txt"), "abc", 512);
        assert_eq!(told["file"], "b.txt");
        assert_eq!(told["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn values_are_found_by_their_paths() {
        let found = leaves(&json!({"a": {"b": 1, "c": {"d": [2]}}, "e": null}));
        assert_eq!(Value::Object(found), json!({"a.b": 1, "a.c.d": [2], "e": null}));
    }
}
