//! What a checkpoint becomes: a decoder, our own or candle's, which generates, or an encoder, which embeds.

use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api::sdk::{self, embeddings};
use impetus_plugin_api::{
    Batch, Capabilities, ContextLimits, EMBEDDINGS, Extension, Flow, PluginError, PosRange, Position, SeqId,
    Token, TokenizeOptions,
};

use crate::candle::{CandleContext, CandleModel};
use crate::config::Description;
use crate::context::DecoderContext;
use crate::encoder::{EncoderModel, EncoderState, is_encoder};
use crate::model::DecoderModel;
use crate::options::Options;

/// A loaded checkpoint.
pub(crate) enum CheckpointModel {
    Decoder(Arc<DecoderModel>),
    Candle(Arc<CandleModel>),
    Encoder(Arc<EncoderModel>),
}

impl CheckpointModel {
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
        if is_encoder(description.family()) {
            let model = EncoderModel::load(folder, options, default_threads, progress)?;
            return Ok(CheckpointModel::Encoder(Arc::new(model)));
        }
        if crate::candle::is_ours(description.family()) {
            let model = CandleModel::load(folder, options, default_threads, progress)?;
            return Ok(CheckpointModel::Candle(Arc::new(model)));
        }
        let model = DecoderModel::load(folder, options, default_threads, progress)?;
        Ok(CheckpointModel::Decoder(Arc::new(model)))
    }
}

impl sdk::Model for CheckpointModel {
    type Context = AnyContext;

    fn metadata_json(&self) -> String {
        match self {
            CheckpointModel::Decoder(model) => model.metadata_json(),
            CheckpointModel::Candle(model) => model.metadata_json(),
            CheckpointModel::Encoder(model) => model.metadata_json(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self {
            CheckpointModel::Decoder(model) => model.capabilities(),
            CheckpointModel::Candle(model) => model.capabilities(),
            CheckpointModel::Encoder(_) => Capabilities::default(),
        }
    }

    fn vocab_size(&self) -> u32 {
        match self {
            CheckpointModel::Decoder(model) => model.vocab_size(),
            CheckpointModel::Candle(model) => model.vocab_size(),
            CheckpointModel::Encoder(model) => model.vocab_size(),
        }
    }

    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        match self {
            CheckpointModel::Decoder(model) => model.tokenize(text, options),
            CheckpointModel::Candle(model) => model.tokenize(text, options),
            CheckpointModel::Encoder(model) => model.tokenize(text, options),
        }
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        match self {
            CheckpointModel::Decoder(model) => model.token_bytes(token),
            CheckpointModel::Candle(model) => Ok(model.token_bytes(token)),
            CheckpointModel::Encoder(model) => Ok(model.token_bytes(token)),
        }
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        match self {
            CheckpointModel::Decoder(model) => model.is_end_of_generation(token),
            CheckpointModel::Candle(model) => model.is_end_of_generation(token),
            CheckpointModel::Encoder(_) => false,
        }
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<AnyContext, PluginError> {
        match &*self {
            CheckpointModel::Decoder(model) => {
                let context = Arc::clone(model).new_context(params_json)?;
                Ok(AnyContext::Decoder(Box::new(context)))
            }
            CheckpointModel::Candle(model) => {
                let context = CandleContext::new(Arc::clone(model), params_json)?;
                Ok(AnyContext::Candle(Box::new(context)))
            }
            CheckpointModel::Encoder(_) => {
                Err(PluginError::unsupported("an encoder generates nothing: it has embeddings alone"))
            }
        }
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        match self {
            CheckpointModel::Encoder(_) if name == EMBEDDINGS => Some(embeddings::<Self>()),
            CheckpointModel::Encoder(_) | CheckpointModel::Decoder(_) | CheckpointModel::Candle(_) => None,
        }
    }
}

impl sdk::Embedding for CheckpointModel {
    type Embedder = EncoderState;

    fn new_embedder(self: Arc<Self>, _params_json: &str) -> Result<EncoderState, PluginError> {
        match &*self {
            CheckpointModel::Encoder(model) => EncoderState::new(Arc::clone(model)),
            CheckpointModel::Decoder(_) | CheckpointModel::Candle(_) => {
                Err(PluginError::unsupported("a decoder makes no embeddings"))
            }
        }
    }
}

/// The working state of a decoder.
pub(crate) enum AnyContext {
    Decoder(Box<DecoderContext>),
    Candle(Box<CandleContext>),
}

impl AnyContext {
    fn inner(&self) -> &dyn sdk::Context {
        match self {
            AnyContext::Decoder(context) => &**context,
            AnyContext::Candle(context) => &**context,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn sdk::Context {
        match self {
            AnyContext::Decoder(context) => &mut **context,
            AnyContext::Candle(context) => &mut **context,
        }
    }
}

impl sdk::Context for AnyContext {
    fn limits(&self) -> ContextLimits {
        self.inner().limits()
    }

    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        self.inner_mut().decode(batch)
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        self.inner().logits(row)
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        self.inner_mut().seq_rm(sequence, range)
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        self.inner_mut().seq_cp(from, to, range)
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        self.inner().seq_pos_max(sequence)
    }

    fn memory_stats_json(&self) -> String {
        self.inner().memory_stats_json()
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.inner_mut().clear()
    }
}
