//! A loaded checkpoint: weights and vocabulary, shared by threads.

use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Capabilities, ErrorCode, Flow, PluginError, Token, TokenizeOptions};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Checkpoint, Dtype, Rounding};
use crate::config::{Decoder, Description};
use crate::context::DecoderContext;
use crate::decoder::{Packing, Weights};
use crate::options::{Options, Quantize};
use crate::summary;
use crate::tokenizer::Text;

/// A model and what its contexts need.
pub(crate) struct DecoderModel {
    pub(crate) decoder: Decoder,
    pub(crate) weights: Weights,
    pub(crate) weight_type: Dtype,
    pub(crate) options: Options,
    pub(crate) default_threads: u32,
    text: Text,
    description: Description,
    summary: Value,
    end_tokens: Vec<u32>,
}

impl DecoderModel {
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
        let decoder = description.decoder()?;
        let checkpoint = Checkpoint::open(folder)?;
        crate::told_how(&description, &checkpoint)?;
        let text = Text::open(folder, decoder.vocab_size)?;
        let layers = decoder.layers.len();
        let packing = Packing {
            rounding: rounding(&description, &options)?,
            threads: options.threads.unwrap_or(default_threads).max(1) as usize,
        };
        let report = |done| match progress(done as f32 / layers as f32) {
            Flow::Continue => Ok(()),
            Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
        };
        let weights = Weights::load((&checkpoint, packing), &decoder, report)?;
        let summary = summary::summary(&description, &checkpoint, Some(&decoder), &options);
        let end_tokens = end_tokens(&description, &text);
        Ok(DecoderModel {
            weight_type: summary::weight_type(&checkpoint),
            decoder,
            weights,
            options,
            default_threads,
            text,
            summary,
            end_tokens,
            description,
        })
    }

    /// Names and texts of the special tokens that `tokenizer_config.json` has.
    fn special_tokens(&self) -> Map<String, Value> {
        let named = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let text = |name: &str| self.description.special_token(name);
        named.into_iter().filter_map(|name| Some((name.to_owned(), text(name)?.into()))).collect()
    }
}

/// What numbers are rounded to: those that are rounded already stay as they are.
fn rounding(description: &Description, options: &Options) -> Result<Option<Rounding>, PluginError> {
    let wished = options.quantize.map(Quantize::rounding);
    Ok(if description.rounded()? { None } else { wished })
}

/// What ends an answer: the configurations' tokens and the tokeniser's own end.
fn end_tokens(description: &Description, text: &Text) -> Vec<u32> {
    let mut ids = description.end_tokens();
    ids.extend(description.special_token("eos").and_then(|eos| text.id(eos)));
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl sdk::Model for DecoderModel {
    type Context = DecoderContext;

    fn metadata_json(&self) -> String {
        let control = self.text.control().iter().map(|(id, text)| json!({"id": id, "text": text}));
        let mut metadata = self.summary.clone();
        metadata["chat_template"] = self.description.chat_template.clone().into();
        metadata["special_tokens"] = self.special_tokens().into();
        metadata["control_tokens"] = control.collect();
        metadata["generation_defaults"] = self.description.generation.clone().into();
        metadata.to_string()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::GENERATE.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
    }

    fn vocab_size(&self) -> u32 {
        u32::try_from(self.decoder.vocab_size).unwrap_or(0)
    }

    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        let ids = self.text.encode(text, options.add_special, options.parse_special)?;
        Ok(ids.into_iter().map(Token).collect())
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        Ok(self.text.bytes(token.0).to_vec())
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        self.end_tokens.contains(&token.0)
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<DecoderContext, PluginError> {
        DecoderContext::new(self, params_json)
    }
}
