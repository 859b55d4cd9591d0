//! Vectors that follow from every token and its place, so that sequences which get mixed up are noticed.

use std::sync::Arc;
use std::time::Duration;

use impetus_plugin_api::sdk::{Embedder, Embedding};
use impetus_plugin_api::{EmbeddingLimits, PluginError, Token};

use crate::Script;

/// The embedder of a file with `embeddings = N`, the numbers of a vector.
pub(crate) struct Placer {
    script: Arc<Script>,
    calls: u32,
}

impl Embedding for Script {
    type Embedder = Placer;

    fn new_embedder(self: Arc<Self>, _params_json: &str) -> Result<Placer, PluginError> {
        Ok(Placer { script: self, calls: 0 })
    }
}

impl Embedder for Placer {
    fn limits(&self) -> EmbeddingLimits {
        let behaviour = &self.script.behaviour;
        let sequence_tokens = behaviour.number("sequence_tokens", 512);
        EmbeddingLimits {
            dimensions: behaviour.number("embeddings", 8),
            sequence_tokens,
            batch_tokens: behaviour.number("batch_tokens", 1024).max(sequence_tokens),
            batch_sequences: behaviour.number("batch_sequences", 32),
        }
    }

    fn metadata_json(&self) -> String {
        let matryoshka = self.script.behaviour.text("matryoshka").unwrap_or("false");
        format!(r#"{{"pooling": "place", "normalized": false, "matryoshka": {matryoshka}}}"#)
    }

    fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError> {
        let behaviour = &self.script.behaviour;
        self.calls += 1;
        std::thread::sleep(Duration::from_millis(behaviour.number("stall_ms", 0).into()));
        let told = |key: &str| behaviour.number(key, 0) == self.calls;
        assert!(!told("panic_at"), "told to panic in embed");
        if told("fail_at") {
            return Err(PluginError::internal("told to fail in embed"));
        }
        let dimensions = self.limits().dimensions as usize;
        let mut vectors = Vec::new();
        for tokens in sequences {
            let mut vector = vec![0.0; dimensions];
            for (place, token) in tokens.iter().enumerate() {
                vector[token.0 as usize % dimensions] += (place + 1) as f32 + token.0 as f32 / 256.0;
            }
            if behaviour.has("tell_company") {
                vector[0] = sequences.len() as f32;
            }
            vectors.extend(vector);
        }
        if behaviour.has("short_vectors") {
            vectors.pop();
        }
        if behaviour.has("no_numbers") {
            vectors[0] = f32::NAN;
        }
        Ok(vectors)
    }
}
