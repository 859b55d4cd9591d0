//! A loaded encoder: weights, vocabulary and pooling, shared by threads.

use std::path::Path;

use impetus_plugin_api::{ErrorCode, Flow, PluginError, Token, TokenizeOptions};
use serde_json::{Map, Value, json};

use super::bert::BertWeights;
use super::config::{Encoder, Network};
use super::through_candle::CandleModel;
use crate::checkpoint::Checkpoint;
use crate::config::Description;
use crate::options::Options;
use crate::summary;
use crate::tokenizer::Text;

/// An encoder and what its working states need.
pub(crate) struct EncoderModel {
    pub(super) encoder: Encoder,
    pub(super) weights: Weights,
    pub(super) options: Options,
    pub(super) default_threads: u32,
    text: Text,
    description: Description,
    summary: Value,
}

/// What computes it.
pub(super) enum Weights {
    Bert(Box<BertWeights>),
    Candle(CandleModel),
}

impl EncoderModel {
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
        let encoder = Encoder::read(folder, &description)?;
        let checkpoint = Checkpoint::open(folder)?;
        let text = Text::open(folder, encoder.vocab_size)?;
        let report = |done: usize| match progress(done as f32 / encoder.layers as f32) {
            Flow::Continue => Ok(()),
            Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
        };
        let weights = match &encoder.network {
            Network::Bert(bert) => {
                Weights::Bert(Box::new(BertWeights::load(&checkpoint, &encoder, bert, report)?))
            }
            network => {
                let model = CandleModel::load(&checkpoint, network)?;
                report(encoder.layers)?;
                let missing = || PluginError::internal("a network without its weights: this is a bug");
                Weights::Candle(model.ok_or_else(missing)?)
            }
        };
        let summary = encoder.summary(&description, &checkpoint, &options);
        Ok(EncoderModel { encoder, weights, options, default_threads, text, description, summary })
    }

    /// As [`sdk::Model::metadata_json`](impetus_plugin_api::sdk::Model::metadata_json) says.
    pub(crate) fn metadata_json(&self) -> String {
        let control = self.text.control().iter().map(|(id, text)| json!({"id": id, "text": text}));
        let named = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let special: Map<String, Value> = named
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.description.special_token(name)?.into())))
            .collect();
        let mut metadata = self.summary.clone();
        metadata["special_tokens"] = special.into();
        metadata["control_tokens"] = control.collect();
        metadata["embeddings"] = self.encoder.pooling.metadata();
        metadata["notes"] = self.encoder.pooling.notes.clone().into();
        metadata.to_string()
    }

    pub(crate) fn vocab_size(&self) -> u32 {
        u32::try_from(self.encoder.vocab_size).unwrap_or(0)
    }

    pub(crate) fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        let ids = self.text.encode(text, options.add_special, options.parse_special)?;
        Ok(ids.into_iter().map(Token).collect())
    }

    pub(crate) fn token_bytes(&self, token: Token) -> Vec<u8> {
        self.text.bytes(token.0).to_vec()
    }
}

impl Encoder {
    /// What the headers say, as `probe` answers it.
    pub(crate) fn summary(
        &self,
        description: &Description,
        checkpoint: &Checkpoint,
        options: &Options,
    ) -> Value {
        // Weights of encoders are not rounded.
        let options = Options { quantize: None, ..options.clone() };
        let mut summary = summary::summary(description, checkpoint, None, &options);
        let bytes: u64 = checkpoint
            .entries()
            .map(|entry| match self.network {
                // Looked up where they lie; everything else is copied as float32.
                Network::Bert(_) if entry.name.contains("_embeddings.") => entry.range.len() as u64,
                Network::Bert(_) | Network::ModernBert(_) | Network::NomicBert(_) => {
                    entry.elements() as u64 * 4
                }
            })
            .sum();
        summary["context_length"] = self.longest.into();
        summary["vocab_size"] = self.vocab_size.into();
        summary["embedding_length"] = self.hidden.into();
        summary["layers"] = self.layers.into();
        summary["estimated_bytes"] = bytes.into();
        summary["chat_template"] = false.into();
        summary["capabilities"] = json!(["embeddings"]);
        summary
    }
}
