//! Embeddings through llama.cpp: a context of its own that pools each sequence's rows as the file says.
//!
//! Vectors are given the length 1, as llama.cpp's own programs do: a GGUF file does not say whether its model does so.

use std::sync::{Arc, PoisonError};

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Batch, EmbeddingLimits, ErrorCode, PluginError, Position, SeqId, Token};
use llama_cpp_sys_2 as sys;

use crate::context::{MAX_SEQUENCES, default_params};
use crate::log;
use crate::model::GgufModel;
use crate::native::{DecodeFailure, NativeContext, ThreadPool};

/// How a file says that rows become a vector: `ARCHITECTURE.pooling_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Mean,
    Cls,
    Last,
}

impl Pooling {
    /// By llama.cpp's number.
    pub(crate) fn of(number: u64) -> Option<Self> {
        match number {
            1 => Some(Pooling::Mean),
            2 => Some(Pooling::Cls),
            3 => Some(Pooling::Last),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
        }
    }

    fn native(self) -> sys::llama_pooling_type {
        match self {
            Pooling::Mean => sys::LLAMA_POOLING_TYPE_MEAN,
            Pooling::Cls => sys::LLAMA_POOLING_TYPE_CLS,
            Pooling::Last => sys::LLAMA_POOLING_TYPE_LAST,
        }
    }
}

/// The working state of one model.
pub(crate) struct GgufEmbedder {
    inner: NativeContext,
    pooling: Pooling,
    limits: EmbeddingLimits,
}

/// A sequence is computed in one piece, and the memory for that grows with its square: so long by default.
const DEFAULT_SEQUENCE_TOKENS: u32 = 4096;

/// Sequences of one batch: llama.cpp keeps a row of output for each.
const BATCH_SEQUENCES: u32 = 64;

impl GgufEmbedder {
    /// # Errors
    /// `UNSUPPORTED` for a model whose file names no pooling, `OUT_OF_MEMORY` with the figures.
    pub(crate) fn new(model: Arc<GgufModel>) -> Result<Self, PluginError> {
        let pooling = model.pooling.ok_or_else(|| PluginError::unsupported("its file names no pooling"))?;
        let options = &model.options;
        let trained = model.inner.n_ctx_train().max(1);
        let wished = options.context_tokens.unwrap_or(DEFAULT_SEQUENCE_TOKENS);
        let sequence_tokens = trained.min(wished);
        let batch_tokens = sequence_tokens.max(options.batch_tokens());
        let threads = options.batch_threads.or(options.threads).unwrap_or(model.default_threads);
        let mut params = default_params(&model);
        params.embeddings = true;
        params.pooling_type = pooling.native();
        params.n_ctx = batch_tokens;
        params.n_batch = batch_tokens;
        // Sequences must not be cut: each is pooled within one piece.
        params.n_ubatch = batch_tokens;
        params.n_seq_max = BATCH_SEQUENCES.min(MAX_SEQUENCES);
        params.n_threads = threads.cast_signed();
        params.n_threads_batch = threads.cast_signed();
        let (context, lines) = {
            let _one_at_a_time = model.making_context.lock().unwrap_or_else(PoisonError::into_inner);
            log::with_lines(|| {
                let threads = Arc::new(ThreadPool::new(threads)?);
                NativeContext::new(Arc::clone(&model), params, threads)
            })
        };
        let inner = context.ok_or_else(|| {
            let cause = log::cause(&lines).unwrap_or("no reason given");
            let message = format!(
                "llama.cpp could not make a context for embeddings of {batch_tokens} tokens: {cause}; lower \
                 context_tokens under [plugin.gguf.options]"
            );
            PluginError::new(ErrorCode::OUT_OF_MEMORY, message).with_detail(lines)
        })?;
        let limits = EmbeddingLimits {
            dimensions: inner.embedding_length(),
            sequence_tokens,
            batch_tokens,
            batch_sequences: BATCH_SEQUENCES,
        };
        Ok(GgufEmbedder { inner, pooling, limits })
    }
}

impl sdk::Embedder for GgufEmbedder {
    fn limits(&self) -> EmbeddingLimits {
        self.limits
    }

    fn metadata_json(&self) -> String {
        serde_json::json!({"pooling": self.pooling.name(), "normalized": true}).to_string()
    }

    fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError> {
        let tokens = sequences.concat();
        let positions: Vec<Position> =
            sequences.iter().flat_map(|tokens| (0..tokens.len() as u32).map(Position)).collect();
        let of =
            |(number, tokens): (usize, &&[Token])| std::iter::repeat_n(SeqId(number as u32), tokens.len());
        let ids: Vec<SeqId> = sequences.iter().enumerate().flat_map(of).collect();
        let wanted = vec![true; tokens.len()];
        let batch = Batch {
            tokens: tokens.as_slice().into(),
            positions: positions.as_slice().into(),
            sequences: ids.as_slice().into(),
            wants_logits: wanted.as_slice().into(),
        };
        // Of a decoder, the last batch's keys and values; an encoder has none.
        self.inner.clear();
        let (result, lines) = log::with_lines(|| self.inner.decode(batch));
        result.map_err(|failure| failed(failure, lines))?;
        let mut vectors = Vec::with_capacity(sequences.len() * self.limits.dimensions as usize);
        for number in 0..sequences.len() {
            let vector = self.inner.embedding(number).ok_or_else(|| {
                PluginError::internal(format!("llama.cpp has no vector of sequence {number}"))
            })?;
            let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(1e-12);
            vectors.extend(vector.iter().map(|&x| (f64::from(x) / length) as f32));
        }
        Ok(vectors)
    }
}

fn failed(failure: DecodeFailure, lines: String) -> PluginError {
    let cause = log::cause(&lines).unwrap_or("no reason given").to_owned();
    PluginError::internal(format!("llama.cpp could not embed ({failure:?}): {cause}")).with_detail(lines)
}
