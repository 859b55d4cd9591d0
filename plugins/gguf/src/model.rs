//! A loaded GGUF model: weights and vocabulary, shared by threads.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use impetus_plugin_api::sdk::{self, Progress};
use impetus_plugin_api::{
    Capabilities, EMBEDDINGS, ErrorCode, Extension, Flow, PluginError, Token, TokenizeOptions,
};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::{LlamaTokenAttr, LlamaTokenAttrs};
use serde_json::{Value, json};

use crate::context::GgufContext;
use crate::embedder::{GgufEmbedder, Pooling};
use crate::log;
use crate::options::Options;

/// A model of llama.cpp with what its contexts need.
pub(crate) struct GgufModel {
    pub(crate) inner: LlamaModel,
    /// llama.cpp must not be shut down before its models.
    _backend: Arc<LlamaBackend>,
    pub(crate) options: Options,
    pub(crate) default_threads: u32,
    /// How it embeds, where its file says so.
    pub(crate) pooling: Option<Pooling>,
    /// It embeds alone.
    is_encoder: bool,
    /// What the header says, for the metadata.
    summary: Value,
    /// llama.cpp changes the model a little while it makes a context: one at a time.
    pub(crate) making_context: Mutex<()>,
}

impl GgufModel {
    /// Loads the file.
    ///
    /// # Errors
    /// `CANCELLED`, or what llama.cpp's own log says.
    pub(crate) fn load(
        backend: Arc<LlamaBackend>,
        path: &Path,
        loading: Loading,
        progress: Progress,
    ) -> Result<GgufModel, PluginError> {
        let Loading { options, default_threads, pooling, is_encoder, summary } = loading;
        let cancelled = Arc::new(AtomicBool::new(false));
        let cancel = Arc::clone(&cancelled);
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(options.gpu_layers)
            .with_use_mmap(options.mmap.unwrap_or(true))
            .with_use_mlock(options.mlock)
            .with_progress_callback(move |fraction| match progress.report(fraction) {
                Flow::Continue => true,
                Flow::Cancel => {
                    cancel.store(true, Ordering::Relaxed);
                    false
                }
            });
        let (result, lines) = log::with_lines(|| LlamaModel::load_from_file(&backend, path, &params));
        if cancelled.load(Ordering::Relaxed) {
            return Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled"));
        }
        let inner = result.map_err(|error| {
            let cause = log::cause(&lines).map_or_else(|| error.to_string(), str::to_owned);
            PluginError::new(code_of(&lines), format!("llama.cpp could not load it: {cause}"))
                .with_detail(lines)
        })?;
        Ok(GgufModel {
            inner,
            _backend: backend,
            options,
            default_threads,
            pooling,
            is_encoder,
            summary,
            making_context: Mutex::new(()),
        })
    }

    fn special_tokens(&self) -> Value {
        let vocab = self.inner.vocab();
        let named = [
            ("bos", vocab.bos()),
            ("eos", vocab.eos()),
            ("eot", vocab.eot()),
            ("sep", vocab.sep()),
            ("pad", vocab.pad()),
            ("mask", vocab.mask()),
        ];
        let texts = named
            .into_iter()
            .filter_map(|(name, token)| Some((name.to_owned(), self.text_of(token)?.into())));
        Value::Object(texts.collect())
    }

    fn control_tokens(&self) -> Vec<Value> {
        let vocab = self.inner.vocab();
        let ids = (0..vocab.n_tokens()).map(LlamaToken);
        ids.filter(|&token| is_control(vocab.attr(token)))
            .filter_map(|token| Some(json!({"id": token.0, "text": self.text_of(token)?})))
            .collect()
    }

    fn text_of(&self, token: LlamaToken) -> Option<String> {
        let vocab = self.inner.vocab();
        // A model without a token of this kind answers -1.
        let exists = (0..vocab.n_tokens()).contains(&token.0);
        let text = exists.then(|| vocab.text(token)).flatten()?;
        Some(text.to_string_lossy().into_owned())
    }
}

/// Layers that the options send to a graphics card; none in a build that knows no card.
#[expect(unsafe_code, reason = "llama.cpp is a C library")]
fn gpu_layers(options: &Options) -> u32 {
    // SAFETY: a plain function without arguments.
    if unsafe { llama_cpp_sys_2::llama_supports_gpu_offload() } { options.gpu_layers } else { 0 }
}

/// What a load needs besides the file.
pub(crate) struct Loading {
    pub(crate) options: Options,
    pub(crate) default_threads: u32,
    pub(crate) pooling: Option<Pooling>,
    pub(crate) is_encoder: bool,
    pub(crate) summary: Value,
}

impl sdk::Model for GgufModel {
    type Context = GgufContext;

    fn metadata_json(&self) -> String {
        let mut metadata = self.summary.clone();
        metadata["chat_template"] = match self.inner.chat_template(None) {
            Ok(template) => template.to_string().map_or(Value::Null, Value::String),
            Err(_) => Value::Null,
        };
        metadata["special_tokens"] = self.special_tokens();
        metadata["control_tokens"] = self.control_tokens().into();
        metadata["parameters"] = self.inner.n_params().into();
        metadata["context_length"] = self.inner.n_ctx_train().into();
        metadata["gpu_layers"] = gpu_layers(&self.options).into();
        metadata["add_bos"] = self.inner.vocab().should_add_bos().into();
        metadata.to_string()
    }

    fn capabilities(&self) -> Capabilities {
        if self.is_encoder {
            return Capabilities::default();
        }
        let base = Capabilities::GENERATE;
        if self.inner.is_recurrent() || self.inner.is_hybrid() {
            base.with(Capabilities::RECURRENT)
        } else {
            base.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
        }
    }

    fn vocab_size(&self) -> u32 {
        u32::try_from(self.inner.vocab().n_tokens()).unwrap_or(0)
    }

    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        let tokens = self.inner.vocab().tokenize(text.as_bytes(), options.add_special, options.parse_special);
        Ok(tokens.into_iter().map(|token| Token(token.0.cast_unsigned())).collect())
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        Ok(self.inner.vocab().token_to_piece(native(token), true, None))
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        self.inner.vocab().is_eog(native(token))
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<GgufContext, PluginError> {
        if self.is_encoder {
            return Err(PluginError::unsupported("an encoder generates nothing: it has embeddings alone"));
        }
        GgufContext::new(self, params_json)
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        (name == EMBEDDINGS && self.pooling.is_some()).then(sdk::embeddings::<Self>)
    }
}

impl sdk::Embedding for GgufModel {
    type Embedder = GgufEmbedder;

    fn new_embedder(self: Arc<Self>, _params_json: &str) -> Result<GgufEmbedder, PluginError> {
        GgufEmbedder::new(self)
    }
}

/// The id as llama.cpp has it. Ids are below the vocabulary's size, which is an `i32` there.
pub(crate) fn native(token: Token) -> LlamaToken {
    LlamaToken(token.0.cast_signed())
}

/// Tokens that llama.cpp makes of text only where special tokens are parsed.
fn is_control(attributes: LlamaTokenAttrs) -> bool {
    attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::Unknown)
}

fn code_of(lines: &str) -> ErrorCode {
    if lines.contains("unable to allocate") || lines.contains("failed to allocate") {
        ErrorCode::OUT_OF_MEMORY
    } else if lines.contains("unknown model architecture") || lines.contains("unknown pre-tokenizer") {
        ErrorCode::UNSUPPORTED
    } else {
        ErrorCode::CORRUPT_MODEL
    }
}
