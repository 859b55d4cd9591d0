//! The working state of a model: llama.cpp's contexts behind the contract.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{
    Batch, Capabilities, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId,
};
use llama_cpp_sys_2 as sys;
use serde::Deserialize;

use crate::caches::{self, Caches, LANES};
use crate::grouping::Grouping;
use crate::log;
use crate::model::GgufModel;
use crate::native::{DecodeFailure, NativeContext, ThreadPool, has_window};
use crate::options::FlashAttention;
use crate::pieces::{Piece, are_single, cut};

/// The working state of one model.
pub(crate) struct GgufContext {
    caches: Caches,
    limits: ContextLimits,
    vocab_size: usize,
    cache_bytes: u64,
    /// Whether batches are cut: on a processor, where what was computed can be undone.
    cuts: bool,
    /// Of the pool, and of the lanes.
    groupings: [Grouping; 2],
    /// Where the logits of each row are that wanted them.
    logits: Vec<Logits>,
    /// Those that llama.cpp has overwritten since.
    kept: Vec<f32>,
}

/// Where a row's logits are.
#[derive(Debug, Clone, Copy)]
enum Logits {
    /// Nowhere: they were not wanted.
    None,
    /// In `kept`, from here on.
    Kept(usize),
    /// With llama.cpp, as this row of the last piece that was computed there.
    Native { in_lanes: bool, row: usize },
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
        let threads = options.threads.unwrap_or(model.default_threads);
        let batch_threads = options.batch_threads.unwrap_or(threads);
        let mut params = default_params(&model);
        params.n_ctx = context_tokens;
        // llama.cpp aborts where a batch has fewer rows than there are sequences, whatever is decoded.
        params.n_batch = batch_tokens.max(max_sequences);
        params.n_ubatch = options.micro_batch_tokens().min(batch_tokens);
        params.n_seq_max = max_sequences;
        params.n_threads = threads.cast_signed();
        params.n_threads_batch = batch_threads.cast_signed();
        // Where what was computed can be undone, on a processor: elsewhere other rules hold.
        let cuts =
            sdk::Model::capabilities(&*model).has(Capabilities::PARTIAL_SEQ_RM) && options.gpu_layers == 0;
        let lane_tokens = if cuts { lane_tokens(&model, context_tokens, max_sequences) } else { 0 };
        let (contexts, lines) = {
            let _one_at_a_time = model.making_context.lock().unwrap_or_else(PoisonError::into_inner);
            log::with_lines(|| contexts(&model, params, threads.max(batch_threads), lane_tokens))
        };
        let (pool, lanes) = contexts.ok_or_else(|| {
            let cause = log::cause(&lines).unwrap_or("no reason given");
            let message = format!(
                "llama.cpp could not make a context of {context_tokens} tokens for {max_sequences} sequences: {cause}; \
                 lower context_tokens under [plugin.gguf.options]"
            );
            PluginError::new(ErrorCode::OUT_OF_MEMORY, message).with_detail(lines)
        })?;
        let total_tokens = pool.n_ctx();
        let limits = ContextLimits {
            total_tokens,
            sequence_tokens: total_tokens,
            max_sequences,
            batch_tokens: pool.n_batch().min(batch_tokens),
        };
        let cells = pool.n_ctx() + lanes.as_ref().map_or(0, NativeContext::n_ctx);
        Ok(GgufContext {
            vocab_size: pool.vocab_size(),
            caches: Caches::new(pool, lanes.map(|lanes| (lanes, lane_tokens))),
            limits,
            cache_bytes: cache_bytes(&model, cells),
            cuts,
            groupings: [Grouping::new(), Grouping::new()],
            logits: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// Computes a batch piece by piece. Where one fails, those before it are undone.
    fn decode_pieces(&mut self, batch: Batch<'_>) -> Result<(), DecodeFailure> {
        self.caches.settle(batch)?;
        let sequences = batch.sequences.as_slice();
        let place = |sequence| self.caches.place(sequence);
        let apart = |in_lanes, rows| self.groupings[usize::from(in_lanes)].is_faster_apart(rows);
        let Some(pieces) = cut(sequences, place, apart) else {
            return self.decode_whole(batch);
        };
        for (at, piece) in pieces.iter().enumerate() {
            let started = Instant::now();
            if let Err(failure) = self.caches.decode(batch, piece) {
                pieces[..at].iter().for_each(|piece| self.undo(batch, piece));
                return Err(failure);
            }
            if are_single(&piece.rows, sequences) {
                let seconds = started.elapsed().as_secs_f64();
                self.groupings[usize::from(piece.in_lanes)].observe(piece.rows.len(), seconds);
            }
            let stays = pieces[at + 1..].iter().all(|later| later.in_lanes != piece.in_lanes);
            self.find_logits(batch, piece, stays)?;
        }
        Ok(())
    }

    fn decode_whole(&mut self, batch: Batch<'_>) -> Result<(), DecodeFailure> {
        self.caches.decode_whole(batch)?;
        for (row, place) in self.logits.iter_mut().enumerate() {
            *place = Logits::Native { in_lanes: false, row };
        }
        Ok(())
    }

    /// Notes where the logits of a piece are that was just computed, and keeps them unless they stay there.
    fn find_logits(&mut self, batch: Batch<'_>, piece: &Piece, stays: bool) -> Result<(), DecodeFailure> {
        let wanted = piece.rows.iter().enumerate().filter(|&(_, &row)| batch.wants_logits[row]);
        for (native, &row) in wanted {
            self.logits[row] = if stays {
                Logits::Native { in_lanes: piece.in_lanes, row: native }
            } else {
                let start = self.kept.len();
                let logits = self.caches.logits(piece.in_lanes, native).ok_or(DecodeFailure::NoLogits)?;
                self.kept.extend_from_slice(logits);
                Logits::Kept(start)
            };
        }
        Ok(())
    }

    /// Cuts each sequence of a piece back to where the batch began it.
    fn undo(&mut self, batch: Batch<'_>, piece: &Piece) {
        let begins = |&&row: &&usize| row == 0 || batch.sequences[row - 1] != batch.sequences[row];
        for &row in piece.rows.iter().filter(begins) {
            let (sequence, position) = (batch.sequences[row], batch.positions[row]);
            self.caches.seq_rm(sequence, position.0.cast_signed(), -1);
        }
    }
}

/// The pool, and the lanes where there are any; both compute with the same threads.
fn contexts(
    model: &Arc<GgufModel>,
    mut params: sys::llama_context_params,
    threads: u32,
    lane_tokens: u32,
) -> Option<(NativeContext, Option<NativeContext>)> {
    let threads = Arc::new(ThreadPool::new(threads)?);
    let pool = NativeContext::new(Arc::clone(model), params, Arc::clone(&threads))?;
    if lane_tokens == 0 {
        return Some((pool, None));
    }
    params.kv_unified = false;
    params.n_seq_max = LANES;
    params.n_ctx = lane_tokens * LANES;
    params.n_ubatch = params.n_ubatch.min(LANE_ROWS);
    // Without them all goes on in the pool.
    Some((pool, NativeContext::new(Arc::clone(model), params, threads)))
}

/// The cells of a lane.
fn lane_tokens(model: &GgufModel, context_tokens: u32, max_sequences: u32) -> u32 {
    // What has slid out of a window is not written out with a sequence; one sequence shares its cells with nobody.
    if has_window(model) || max_sequences < 2 {
        return 0;
    }
    caches::lane_tokens(&model.options, context_tokens, |tokens| cache_bytes(model, tokens))
}

/// Rows that are computed together in lanes: more are not faster, and cost memory.
const LANE_ROWS: u32 = 256;

/// llama.cpp's own bound (`LLAMA_MAX_SEQ`).
pub(crate) const MAX_SEQUENCES: u32 = 256;

#[expect(unsafe_code, reason = "llama.cpp's defaults come from a C function")]
pub(crate) fn default_params(model: &GgufModel) -> sys::llama_context_params {
    let options = &model.options;
    // SAFETY: a plain function without arguments.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.type_k = options.cache_type_k.native();
    params.type_v = options.cache_type_v.native();
    params.flash_attn_type = match options.flash_attention {
        FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    };
    // One pool of cells for all sequences: a shared prefix is shared cells.
    params.kv_unified = true;
    // Without it, a model with a sliding window forgets what `seq_rm` would have to bring back.
    params.swa_full = true;
    params.no_perf = true;
    params
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
        let rows = batch.tokens.len();
        self.kept.clear();
        self.logits.clear();
        self.logits.resize(rows, Logits::None);
        let (result, lines) =
            log::with_lines(|| if self.cuts { self.decode_pieces(batch) } else { self.decode_whole(batch) });
        result.map_err(|failure| decode_error(failure, lines))
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        // The adapter has checked that this row wanted logits, so they are somewhere.
        let missing = || PluginError::internal(format!("llama.cpp has no logits of row {row}"));
        match self.logits.get(row).copied().unwrap_or(Logits::None) {
            Logits::None => Err(missing()),
            Logits::Kept(start) => Ok(&self.kept[start..start + self.vocab_size]),
            Logits::Native { in_lanes, row } => self.caches.logits(in_lanes, row).ok_or_else(missing),
        }
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        let (start, end) = bounds(range);
        if self.caches.seq_rm(sequence, start, end) {
            return Ok(());
        }
        Err(PluginError::unsupported(format!(
            "sequence {} cannot be cut at {}..{}: this model's state holds only its last position",
            sequence.0, range.start.0, range.end.0
        )))
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        // A beginning is all that can be copied between caches, and all that a host asks for.
        let (start, end) = bounds(range);
        if start > 0 {
            return Err(PluginError::unsupported(format!("only beginnings are copied, not from {start} on")));
        }
        if self.caches.seq_cp(from, to, end) {
            return Ok(());
        }
        Err(PluginError::new(ErrorCode::CACHE_FULL, "the KV cache has no cells for a copy"))
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        // -1 where the sequence is empty.
        u32::try_from(self.caches.seq_pos_max(sequence)).ok().map(Position)
    }

    fn memory_stats_json(&self) -> String {
        serde_json::json!({ "kv_cache_bytes": self.cache_bytes }).to_string()
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.caches.clear();
        Ok(())
    }
}

/// llama.cpp's positions are signed; an end beyond them means no end.
fn bounds(range: PosRange) -> (i32, i32) {
    let signed = |position: Position| i32::try_from(position.0);
    (signed(range.start).unwrap_or(i32::MAX), signed(range.end).unwrap_or(-1))
}

fn decode_error(failure: DecodeFailure, lines: String) -> PluginError {
    match failure {
        DecodeFailure::NoCells => {
            PluginError::new(ErrorCode::CACHE_FULL, "the KV cache has no cells for this batch")
        }
        DecodeFailure::Refused => {
            let cause = log::cause(&lines).unwrap_or("no reason given").to_owned();
            PluginError::invalid_argument(format!("llama.cpp refused the batch: {cause}")).with_detail(lines)
        }
        DecodeFailure::NoLogits => {
            PluginError::internal("llama.cpp has no logits of a row that wanted them").with_detail(lines)
        }
        DecodeFailure::Code(code) => {
            PluginError::internal(format!("llama_decode failed with {code}")).with_detail(lines)
        }
    }
}
