//! A loaded decoder of candle's: weights and vocabulary, shared by threads.

use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use impetus_plugin_api::{Capabilities, ErrorCode, Flow, PluginError, Token, TokenizeOptions};
use serde_json::{Value, json};

use super::families::Outline;
use super::lane::Network;
use super::tensors::Tensors;
use crate::checkpoint::{Checkpoint, TIED};
use crate::config::Description;
use crate::options::Options;
use crate::summary;
use crate::tokenizer::Text;
use crate::words::Words;

/// A model and what its contexts need.
pub(crate) struct CandleModel {
    pub(super) outline: Outline,
    pub(super) network: Network,
    pub(super) options: Options,
    pub(super) default_threads: u32,
    words: Words,
}

impl CandleModel {
    /// Loads a folder.
    ///
    /// # Errors
    /// `CANCELLED`, or what is wrong with the folder, by file and field or tensor.
    pub(crate) fn load(
        folder: &Path,
        options: Options,
        default_threads: u32,
        progress: impl Fn(f32) -> Flow,
    ) -> Result<Self, PluginError> {
        let description = Description::read(folder)?;
        let (outline, config) = Outline::read(&description)?;
        let checkpoint = Checkpoint::open(folder)?;
        let text = Text::open(folder, outline.vocab_size)?;
        let mut tensors = Tensors::read(&checkpoint, outline.prefix)?;
        if let Some((from, to)) = outline.renamed {
            tensors.rename(from, to);
        }
        if progress(0.5) == Flow::Cancel {
            return Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled"));
        }
        let used = tensors.used();
        let builder = VarBuilder::from_backend(Box::new(tensors), DType::F32, Device::Cpu);
        let network =
            Network::load(config, builder).map_err(|error| PluginError::corrupt_model(error.to_string()))?;
        // The embedding again, where they are tied.
        used.check_all(|name| outline.tied && name == TIED)?;
        if outline.tied {
            for embedding in EMBEDDINGS {
                for prefix in ["", outline.prefix] {
                    checkpoint.check_tied(&format!("{prefix}{embedding}.weight"))?;
                }
            }
        }
        let summary = outline.summary(&description, &checkpoint, &options);
        let words = Words::new(description, text, summary);
        Ok(CandleModel { outline, network, options, default_threads, words })
    }

    pub(crate) fn metadata_json(&self) -> String {
        let mut metadata = self.words.metadata();
        metadata["notes"] = json!([NOTE]);
        metadata.to_string()
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let recurrent =
            if self.outline.recurrent { Capabilities::RECURRENT } else { Capabilities::default() };
        Capabilities::GENERATE.with(recurrent)
    }

    pub(crate) fn vocab_size(&self) -> u32 {
        u32::try_from(self.outline.vocab_size).unwrap_or(0)
    }

    pub(crate) fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        self.words.tokenize(text, options)
    }

    pub(crate) fn token_bytes(&self, token: Token) -> Vec<u8> {
        self.words.token_bytes(token)
    }

    pub(crate) fn is_end_of_generation(&self, token: Token) -> bool {
        self.words.is_end(token)
    }
}

/// What these families call their embedding.
const EMBEDDINGS: [&str; 3] = ["embeddings", "embedding", "embed_tokens"];

const NOTE: &str = "runs through candle in float32: one sequence after another, and behind the first piece of a prompt \
                    token by token; its state can be neither cut nor copied";

impl Outline {
    /// What the headers say, as `probe` answers it.
    pub(crate) fn summary(
        &self,
        description: &Description,
        checkpoint: &Checkpoint,
        options: &Options,
    ) -> Value {
        // Weights are not rounded, but copied as float32.
        let options = Options { quantize: None, ..options.clone() };
        let mut summary = summary::summary(description, checkpoint, None, &options);
        let bytes: u64 = checkpoint.entries().map(|entry| entry.elements() as u64 * 4).sum();
        summary["context_length"] = self.longest.into();
        summary["vocab_size"] = self.vocab_size.into();
        summary["embedding_length"] = self.hidden.into();
        summary["layers"] = self.layers.into();
        summary["estimated_bytes"] = bytes.into();
        summary["notes"] = json!([NOTE]);
        summary
    }
}
