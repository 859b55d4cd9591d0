//! A context of one of candle's decoders: a state for each sequence, moved on one after another.

use std::ops::Range;
use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Batch, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId};

use super::lane::Lane;
use super::model::CandleModel;
use crate::context::Wishes;

/// The working state of one model.
pub(crate) struct CandleContext {
    model: Arc<CandleModel>,
    pool: rayon::ThreadPool,
    limits: ContextLimits,
    /// By sequence.
    lanes: Vec<Option<Lane>>,
    /// Rows of the last batch whose logits were wanted, in order, and their logits behind each other.
    wanted: Vec<usize>,
    logits: Vec<f32>,
}

/// Rows of one sequence behind each other.
struct Run {
    rows: Range<usize>,
    sequence: usize,
}

impl CandleContext {
    /// # Errors
    /// `INVALID_ARGUMENT` for wishes that are no JSON, `INTERNAL` when no threads can be had.
    pub(crate) fn new(model: Arc<CandleModel>, params_json: &str) -> Result<Self, PluginError> {
        let wishes = Wishes::read(params_json)?;
        let options = &model.options;
        let threads = options.threads.unwrap_or(model.default_threads).max(1) as usize;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("candle-{number}"))
            .build()
            .map_err(|error| PluginError::internal(format!("no threads for candle: {error}")))?;
        let longest = model.outline.longest;
        let total_tokens =
            options.context_tokens.or(wishes.context_tokens).unwrap_or(options.context_tokens(longest));
        let limits = ContextLimits {
            total_tokens,
            sequence_tokens: total_tokens.min(u32::try_from(longest).unwrap_or(u32::MAX)),
            max_sequences: wishes.sequences(),
            batch_tokens: options.batch_tokens.or(wishes.batch_tokens).unwrap_or(options.batch_tokens()),
        };
        let lanes = (0..limits.max_sequences).map(|_| None).collect();
        Ok(CandleContext { model, pool, limits, lanes, wanted: Vec::new(), logits: Vec::new() })
    }

    /// A batch's rows by sequence, where each goes on where its sequence ends and there is room for all.
    fn runs(&self, batch: &Batch<'_>) -> Result<Vec<Run>, PluginError> {
        let mut lengths: Vec<usize> =
            self.lanes.iter().map(|lane| lane.as_ref().map_or(0, |lane| lane.tokens)).collect();
        let mut runs: Vec<Run> = Vec::new();
        for (row, (sequence, position)) in batch.sequences.iter().zip(batch.positions.iter()).enumerate() {
            let sequence = sequence.0 as usize;
            let length = &mut lengths[sequence];
            if position.0 as usize != *length || position.0 >= self.limits.sequence_tokens {
                return Err(PluginError::invalid_argument(format!(
                    "sequence {sequence} goes on at position {length}, below {}; found {}",
                    self.limits.sequence_tokens, position.0
                )));
            }
            *length += 1;
            match runs.last_mut() {
                Some(run) if run.sequence == sequence => run.rows.end = row + 1,
                _ => runs.push(Run { rows: row..row + 1, sequence }),
            }
        }
        if lengths.iter().sum::<usize>() > self.limits.total_tokens as usize {
            return Err(PluginError::new(ErrorCode::CACHE_FULL, "the context has no room for this batch"));
        }
        Ok(runs)
    }

    /// Moves a sequence on by a run, in pieces that end where logits are wanted.
    fn advance(
        &mut self,
        run: &Run,
        tokens: &[u32],
        wants_logits: impl Fn(usize) -> bool,
    ) -> candle_core::Result<()> {
        // Of no use after an error.
        let mut lane = match self.lanes[run.sequence].take() {
            Some(lane) => lane,
            None => self.model.network.lane()?,
        };
        let mut row = run.rows.start;
        while row < run.rows.end {
            let end = (row..run.rows.end).find(|&row| wants_logits(row)).map_or(run.rows.end, |row| row + 1);
            let piece = row..row + lane.piece(end - row);
            let logits = self.pool.install(|| lane.step(&tokens[piece.clone()]))?;
            row = piece.end;
            if wants_logits(row - 1) {
                self.wanted.push(row - 1);
                self.logits.extend(logits);
            }
        }
        self.lanes[run.sequence] = Some(lane);
        Ok(())
    }
}

impl sdk::Context for CandleContext {
    fn limits(&self) -> ContextLimits {
        self.limits
    }

    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        let runs = self.runs(&batch)?;
        let tokens: Vec<u32> = batch.tokens.iter().map(|token| token.0).collect();
        self.wanted.clear();
        self.logits.clear();
        for run in &runs {
            self.advance(run, &tokens, |row| batch.wants_logits[row])
                .map_err(|error| PluginError::internal(format!("candle failed: {error}")))?;
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        let vocab_size = self.model.outline.vocab_size;
        let wanted = self.wanted.iter().position(|&wanted| wanted == row);
        wanted
            .and_then(|place| self.logits.get(place * vocab_size..(place + 1) * vocab_size))
            .ok_or_else(|| PluginError::internal(format!("there are no logits of row {row}")))
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        let lane = &mut self.lanes[sequence.0 as usize];
        let length = lane.as_ref().map_or(0, |lane| lane.tokens);
        let (start, end) = (range.start.0 as usize, range.end.0 as usize);
        if start >= length || start >= end {
            return Ok(());
        }
        if start > 0 || end < length {
            return Err(PluginError::unsupported(format!(
                "sequence {} cannot be cut at {start}: its state holds only its last position",
                sequence.0
            )));
        }
        *lane = None;
        Ok(())
    }

    fn seq_cp(&mut self, from: SeqId, _: SeqId, _: PosRange) -> Result<(), PluginError> {
        Err(PluginError::unsupported(format!("sequence {} cannot be copied: its state is candle's", from.0)))
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        let lane = self.lanes.get(sequence.0 as usize)?.as_ref()?;
        u32::try_from(lane.tokens).ok()?.checked_sub(1).map(Position)
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.lanes.iter_mut().for_each(|lane| *lane = None);
        Ok(())
    }
}
