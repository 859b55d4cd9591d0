//! What a checkpoint becomes: a decoder, which generates, or an encoder, which embeds.

use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api::sdk::{self, embeddings};
use impetus_plugin_api::{Capabilities, EMBEDDINGS, Extension, Flow, PluginError, Token, TokenizeOptions};

use crate::config::Description;
use crate::context::DecoderContext;
use crate::encoder::{EncoderModel, EncoderState, is_encoder};
use crate::model::DecoderModel;
use crate::options::Options;

/// A loaded checkpoint.
pub(crate) enum CheckpointModel {
    Decoder(Arc<DecoderModel>),
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
        if is_encoder(Description::read(folder)?.family()) {
            let model = EncoderModel::load(folder, options, default_threads, progress)?;
            return Ok(CheckpointModel::Encoder(Arc::new(model)));
        }
        let model = DecoderModel::load(folder, options, default_threads, progress)?;
        Ok(CheckpointModel::Decoder(Arc::new(model)))
    }
}

impl sdk::Model for CheckpointModel {
    type Context = DecoderContext;

    fn metadata_json(&self) -> String {
        match self {
            CheckpointModel::Decoder(model) => model.metadata_json(),
            CheckpointModel::Encoder(model) => model.metadata_json(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self {
            CheckpointModel::Decoder(model) => model.capabilities(),
            CheckpointModel::Encoder(_) => Capabilities::default(),
        }
    }

    fn vocab_size(&self) -> u32 {
        match self {
            CheckpointModel::Decoder(model) => model.vocab_size(),
            CheckpointModel::Encoder(model) => model.vocab_size(),
        }
    }

    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        match self {
            CheckpointModel::Decoder(model) => model.tokenize(text, options),
            CheckpointModel::Encoder(model) => model.tokenize(text, options),
        }
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        match self {
            CheckpointModel::Decoder(model) => model.token_bytes(token),
            CheckpointModel::Encoder(model) => Ok(model.token_bytes(token)),
        }
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        match self {
            CheckpointModel::Decoder(model) => model.is_end_of_generation(token),
            CheckpointModel::Encoder(_) => false,
        }
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<DecoderContext, PluginError> {
        match &*self {
            CheckpointModel::Decoder(model) => Arc::clone(model).new_context(params_json),
            CheckpointModel::Encoder(_) => {
                Err(PluginError::unsupported("an encoder generates nothing: it has embeddings alone"))
            }
        }
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        match self {
            CheckpointModel::Encoder(_) if name == EMBEDDINGS => Some(embeddings::<Self>()),
            CheckpointModel::Encoder(_) | CheckpointModel::Decoder(_) => None,
        }
    }
}

impl sdk::Embedding for CheckpointModel {
    type Embedder = EncoderState;

    fn new_embedder(self: Arc<Self>, _params_json: &str) -> Result<EncoderState, PluginError> {
        match &*self {
            CheckpointModel::Encoder(model) => EncoderState::new(Arc::clone(model)),
            CheckpointModel::Decoder(_) => Err(PluginError::unsupported("a decoder makes no embeddings")),
        }
    }
}
