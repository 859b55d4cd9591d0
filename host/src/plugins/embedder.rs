//! A plugin's embedders as the rest of the host sees them: plain Rust, plain errors, checked answers.

use std::sync::Arc;

use impetus_plugin_api::{self as api, EMBEDDINGS, EmbeddingsTable};
use serde_json::Value;

pub use impetus_plugin_api::EmbeddingLimits;

use super::model::{Model, load_error};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Token;

/// A model's working state for embeddings. One thread uses it.
pub struct Embedder {
    inner: api::EmbedderBox,
    limits: EmbeddingLimits,
    matryoshka: Matryoshka,
    normalized: bool,
    /// Dropped after `inner`: embedders go before their model.
    _model: Arc<Model>,
}

/// Which beginnings of a vector are vectors of their own (Kusupati et al. 2022, arXiv:2205.13147).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matryoshka {
    /// None.
    Whole,
    /// All.
    Any,
    /// Those of these lengths.
    Lengths(Vec<u32>),
}

impl Model {
    /// Whether it offers embeddings.
    pub fn embeds(&self) -> bool {
        self.inner.extension(EMBEDDINGS.into()).is_some()
    }

    /// An embedder; `None` where the model offers none.
    ///
    /// # Errors
    /// What the plugin refuses, or [`Kind::LoadFailed`] where its table is laid out differently.
    pub fn new_embedder(self: &Arc<Self>) -> Result<Option<Embedder>> {
        let Some(offered) = self.inner.extension(EMBEDDINGS.into()).into_option() else { return Ok(None) };
        let table = offered.table::<EmbeddingsTable>(EMBEDDINGS).map_err(load_error)?;
        let inner = (table.new_embedder)(&self.inner, "{}".into()).into_result().map_err(load_error)?;
        let limits = inner.limits();
        let EmbeddingLimits { dimensions, sequence_tokens, batch_tokens, batch_sequences } = limits;
        if [dimensions, sequence_tokens, batch_sequences].contains(&0) || batch_tokens < sequence_tokens {
            let message = format!("the plugin's embedder has limits of no use: {limits:?}");
            return Err(Error::new(Kind::LoadFailed, message));
        }
        let metadata = inner.metadata_json().into_result().map_err(load_error)?;
        let metadata: Value = serde_json::from_str(&metadata).unwrap_or_default();
        Ok(Some(Embedder {
            inner,
            limits,
            matryoshka: Matryoshka::of(&metadata["matryoshka"]),
            normalized: metadata["normalized"].as_bool().unwrap_or(false),
            _model: Arc::clone(self),
        }))
    }
}

impl Matryoshka {
    /// What has the wrong type counts as missing.
    fn of(told: &Value) -> Self {
        match told {
            Value::Bool(true) => Matryoshka::Any,
            Value::Array(lengths) => Matryoshka::Lengths(
                lengths.iter().filter_map(|length| u32::try_from(length.as_u64()?).ok()).collect(),
            ),
            _ => Matryoshka::Whole,
        }
    }
}

impl Embedder {
    /// The bounds as they really are.
    pub fn limits(&self) -> EmbeddingLimits {
        self.limits
    }

    /// Which shorter vectors it allows.
    pub fn matryoshka(&self) -> &Matryoshka {
        &self.matryoshka
    }

    /// Whether its vectors have length 1.
    pub fn is_normalized(&self) -> bool {
        self.normalized
    }

    /// Vectors of sequences that stand one behind the other in `tokens`: `[sequences][dimensions]`, each number finite.
    ///
    /// # Errors
    /// What the plugin reports, and [`INTERNAL`](api::ErrorCode::INTERNAL) for an answer that is no such vectors.
    pub fn embed(&mut self, tokens: &[Token], lengths: &[u32]) -> Result<Vec<f32>, api::PluginError> {
        let batch = api::EmbeddingBatch { tokens: tokens.into(), lengths: lengths.into() };
        let vectors: Vec<f32> = self.inner.embed(batch).into_result()?.into();
        if vectors.len() != lengths.len() * self.limits.dimensions as usize {
            return Err(api::PluginError::internal(format!(
                "the plugin gave {} numbers for {} vectors of {}",
                vectors.len(),
                lengths.len(),
                self.limits.dimensions
            )));
        }
        match vectors.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(api::PluginError::internal(format!("the plugin gave {number} in a vector"))),
            None => Ok(vectors),
        }
    }
}
