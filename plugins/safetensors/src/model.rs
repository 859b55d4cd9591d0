//! A loaded checkpoint: weights and vocabulary, shared by threads.

use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Capabilities, ErrorCode, Flow, PluginError, Token, TokenizeOptions};

use crate::checkpoint::{Checkpoint, CodeBits, Dtype, Place, Rounding};
use crate::config::{Decoder, Description};
use crate::context::DecoderContext;
use crate::decoder::{Observed, Packing, Weights};
use crate::kernels::Kernels;
use crate::options::{Options, Quantize};
use crate::summary;
use crate::tokenizer::Text;
use crate::words::Words;

/// A model and what its contexts need.
pub(crate) struct DecoderModel {
    pub(crate) decoder: Decoder,
    pub(crate) weights: Weights,
    pub(crate) weight_type: Dtype,
    pub(crate) options: Options,
    pub(crate) default_threads: u32,
    words: Words,
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
        let rounding = rounding(&description, &options)?;
        // What is rounded is read once, and has large pages then.
        let large = options.large_pages.unwrap_or(false) && rounding.is_none();
        let place = if large { Place::LargePages } else { Place::Mapped };
        let checkpoint = Checkpoint::open_in(folder, place)?;
        crate::told_how(&description, &checkpoint)?;
        let text = Text::open(folder, decoder.vocab_size)?;
        let layers = decoder.layers.len();
        let threads = options.threads.unwrap_or(default_threads).max(1) as usize;
        let plain = Packing { rounding: None, observed: None, threads };
        let observed = match rounding {
            // So few bits must be spent where errors count.
            Some(Rounding { bits: CodeBits::Four, .. }) => {
                let weights = Weights::load((&checkpoint, plain), &decoder, |_| Ok(()))?;
                let kernels = Kernels::of(options.level());
                Some(Observed::of((kernels, threads), (&decoder, &weights))?)
            }
            _ => None,
        };
        let packing = Packing { rounding, observed: observed.as_ref(), ..plain };
        let report = |done| match progress(done as f32 / layers as f32) {
            Flow::Continue => Ok(()),
            Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
        };
        let weights = Weights::load((&checkpoint, packing), &decoder, report)?;
        let summary = summary::summary(&description, &checkpoint, Some(&decoder), &options);
        Ok(DecoderModel {
            weight_type: summary::weight_type(&checkpoint),
            decoder,
            weights,
            options,
            default_threads,
            words: Words::new(description, text, summary),
        })
    }
}

/// What numbers are rounded to: those that are rounded already stay as they are.
fn rounding(description: &Description, options: &Options) -> Result<Option<Rounding>, PluginError> {
    let wished = options.quantize.map(Quantize::rounding);
    Ok(if description.rounded()? { None } else { wished })
}

impl sdk::Model for DecoderModel {
    type Context = DecoderContext;

    fn metadata_json(&self) -> String {
        self.words.metadata().to_string()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::GENERATE.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
    }

    fn vocab_size(&self) -> u32 {
        u32::try_from(self.decoder.vocab_size).unwrap_or(0)
    }

    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        self.words.tokenize(text, options)
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        Ok(self.words.token_bytes(token))
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        self.words.is_end(token)
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<DecoderContext, PluginError> {
        DecoderContext::new(self, params_json)
    }
}
