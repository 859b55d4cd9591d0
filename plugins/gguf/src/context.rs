//! A context of llama.cpp: one unified KV cache for many sequences.

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Batch, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;
use serde::Deserialize;

use crate::log;
use crate::model::{GgufModel, native};
use crate::options::{FlashAttention, Options};

/// The working state of one model.
pub(crate) struct GgufContext {
    /// Borrows from `model`: dropped first, in `drop`.
    inner: ManuallyDrop<LlamaContext<'static>>,
    batch: LlamaBatch<'static>,
    limits: ContextLimits,
    cache_bytes: u64,
    model: Arc<GgufModel>,
}

/// What the host wishes; the options of plugins.toml go before it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wishes {
    max_sequences: Option<u32>,
    context_tokens: Option<u32>,
    batch_tokens: Option<u32>,
}

impl GgufContext {
    /// # Errors
    /// `INVALID_ARGUMENT` for wishes that are no JSON, `OUT_OF_MEMORY` with the figures.
    pub(crate) fn new(model: Arc<GgufModel>, params_json: &str) -> Result<Self, PluginError> {
        let wishes: Wishes = serde_json::from_str(params_json)
            .map_err(|error| PluginError::invalid_argument(format!("context parameters: {error}")))?;
        let options = &model.options;
        let trained = model.inner.n_ctx_train();
        let context_tokens =
            options.context_tokens.or(wishes.context_tokens).unwrap_or(options.context_tokens(trained));
        let batch_tokens = options.batch_tokens.or(wishes.batch_tokens).unwrap_or(options.batch_tokens());
        let max_sequences = wishes.max_sequences.unwrap_or(1).clamp(1, MAX_SEQUENCES);
        let params = params(&model, context_tokens, batch_tokens, max_sequences);
        let (context, lines) = {
            let _one_at_a_time = model.making_context.lock().unwrap_or_else(PoisonError::into_inner);
            log::with_lines(|| outliving(&model).new_context(&model.backend, params))
        };
        let inner = context.map_err(|error| {
            let cause = log::cause(&lines).map_or_else(|| error.to_string(), str::to_owned);
            let message = format!(
                "llama.cpp could not make a context of {context_tokens} tokens for {max_sequences} sequences: {cause}; \
                 lower context_tokens under [plugin.gguf.options]"
            );
            PluginError::new(ErrorCode::OUT_OF_MEMORY, message).with_detail(lines)
        })?;
        let total_tokens = inner.n_ctx();
        let limits = ContextLimits {
            total_tokens,
            sequence_tokens: total_tokens,
            max_sequences,
            batch_tokens: inner.n_batch().min(batch_tokens),
        };
        Ok(GgufContext {
            inner: ManuallyDrop::new(inner),
            batch: LlamaBatch::new(batch_tokens as usize, 1),
            limits,
            cache_bytes: cache_bytes(&model, total_tokens),
            model,
        })
    }
}

/// llama.cpp's own bound (`LLAMA_MAX_SEQ`).
const MAX_SEQUENCES: u32 = 256;

fn params(
    model: &GgufModel,
    context_tokens: u32,
    batch_tokens: u32,
    max_sequences: u32,
) -> LlamaContextParams {
    let options: &Options = &model.options;
    let threads = options.threads.unwrap_or(model.default_threads);
    let batch_threads = options.batch_threads.unwrap_or(threads);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(context_tokens))
        .with_n_batch(batch_tokens)
        .with_n_ubatch(options.micro_batch_tokens().min(batch_tokens))
        .with_n_seq_max(max_sequences)
        .with_n_threads(threads.cast_signed())
        .with_n_threads_batch(batch_threads.cast_signed())
        .with_type_k(options.cache_type_k.native())
        .with_type_v(options.cache_type_v.native())
        .with_flash_attention_policy(match options.flash_attention {
            FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        })
        // One pool of cells for all sequences: a shared prefix is shared cells.
        .with_kv_unified(true)
        // Without it, a model with a sliding window forgets what `seq_rm` would have to bring back.
        .with_swa_full(true)
        .with_no_perf(true)
}

/// The model as something that lives for ever, which the context's type asks for.
#[expect(unsafe_code, reason = "the context borrows from the model that it is stored beside")]
fn outliving(model: &Arc<GgufModel>) -> &'static LlamaModel {
    // SAFETY: the model's address is fixed behind the `Arc`. Whoever stores the context stores a clone of that `Arc`
    // beside it and drops the context first (`GgufContext::drop`), so the reference is not used after the model's end.
    unsafe { &*std::ptr::from_ref(&model.inner) }
}

/// Bytes of keys and values, by the model's shape; an estimate where layers differ from each other.
fn cache_bytes(model: &GgufModel, tokens: u32) -> u64 {
    let inner = &model.inner;
    let heads = f64::from(inner.n_head().max(1));
    let width = f64::from(inner.n_embd()) / heads * f64::from(inner.n_head_kv());
    let bits = model.options.cache_type_k.bits() + model.options.cache_type_v.bits();
    (f64::from(tokens) * f64::from(inner.n_layer()) * width * bits / 8.0) as u64
}

impl sdk::Context for GgufContext {
    fn limits(&self) -> ContextLimits {
        self.limits
    }

    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        self.batch.clear();
        for row in 0..batch.tokens.len() {
            let sequence = [batch.sequences[row].0.cast_signed()];
            let position = batch.positions[row].0.cast_signed();
            self.batch.add(native(batch.tokens[row]), position, &sequence, batch.wants_logits[row]).map_err(
                |error| PluginError::internal(format!("row {row} does not fit into the batch: {error}")),
            )?;
        }
        let (inner, rows) = (&mut self.inner, &mut self.batch);
        let (result, lines) = log::with_lines(|| inner.decode(rows));
        result.map_err(|error| decode_error(error, lines))
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        // The adapter has checked that this row wanted logits, so llama.cpp has them.
        let row = i32::try_from(row).map_err(|_| PluginError::invalid_argument(format!("row {row}")))?;
        Ok(self.inner.get_logits_ith(row))
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        let (start, end) = bounds(range);
        self.inner.kv_cache_seq_rm(sequence.0.cast_signed(), start, end).map_err(|error| {
            let message = format!(
                "sequence {} cannot be cut at {}..{}: {error}; this model's state holds only its last position",
                sequence.0, range.start.0, range.end.0
            );
            PluginError::unsupported(message)
        })
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        let (start, end) = bounds(range);
        self.inner.copy_kv_cache_seq(from.0.cast_signed(), to.0.cast_signed(), start, end).map_err(|error| {
            PluginError::invalid_argument(format!(
                "sequence {} cannot be copied to {}: {error}",
                from.0, to.0
            ))
        })
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        // -1 where the sequence is empty.
        u32::try_from(self.inner.kv_cache_seq_pos_max(sequence.0.cast_signed())).ok().map(Position)
    }

    fn memory_stats_json(&self) -> String {
        serde_json::json!({ "kv_cache_bytes": self.cache_bytes }).to_string()
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.inner.clear_kv_cache();
        Ok(())
    }
}

impl Drop for GgufContext {
    #[expect(unsafe_code, reason = "the context goes before the model that it borrows from")]
    fn drop(&mut self) {
        // SAFETY: `inner` is not used again: this is `drop`. `model` is a field and is dropped after this.
        unsafe { ManuallyDrop::drop(&mut self.inner) };
        debug_assert!(Arc::strong_count(&self.model) > 0);
    }
}

/// llama.cpp's positions are signed; an end beyond them means no end.
fn bounds(range: PosRange) -> (Option<u32>, Option<u32>) {
    let signed = |position: Position| Some(position.0).filter(|&position| i32::try_from(position).is_ok());
    (signed(range.start), signed(range.end))
}

fn decode_error(error: DecodeError, lines: String) -> PluginError {
    match error {
        DecodeError::NoKvCacheSlot => {
            PluginError::new(ErrorCode::CACHE_FULL, "the KV cache has no cells for this batch")
        }
        // llama.cpp's -1: it found the batch itself wrong, and says why in its log.
        DecodeError::NTokensZero => {
            let cause = log::cause(&lines).unwrap_or("no reason given").to_owned();
            PluginError::invalid_argument(format!("llama.cpp refused the batch: {cause}")).with_detail(lines)
        }
        DecodeError::Unknown(code) => {
            PluginError::internal(format!("llama_decode failed with {code}")).with_detail(lines)
        }
    }
}
