//! A context: the cache, the threads and the buffers of one model, behind the contract.

use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Batch, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId};
use serde::Deserialize;

use crate::cache::{BLOCK, Memory, Shape, Slot, Table};
use crate::decoder::{Run, Step, Workspace, forward, padded};
use crate::kernels::{Bf16, F16, F32, Kernels};
use crate::model::DecoderModel;
use crate::options::CacheType;
use crate::pool::Pool;

/// The working state of one model.
pub(crate) struct DecoderContext {
    model: Arc<DecoderModel>,
    kernels: &'static Kernels,
    pool: Pool,
    limits: ContextLimits,
    table: Table,
    memory: AnyMemory,
    workspace: Workspace,
    rows: Rows,
}

/// The cache by its type.
enum AnyMemory {
    F32(Memory<F32>),
    F16(Memory<F16>),
    Bf16(Memory<Bf16>),
}

/// The last batch, column by column. Kept, so that no step allocates.
#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<Slot>,
    runs: Vec<Run>,
    /// Rows whose logits were wanted.
    wanted: Vec<usize>,
}

/// What the host wishes; the options of plugins.toml go before it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wishes {
    max_sequences: Option<u32>,
    context_tokens: Option<u32>,
    batch_tokens: Option<u32>,
}

/// More sequences than any host runs at once.
const MAX_SEQUENCES: u32 = 4096;

/// Positions stay below this: sums of two fit.
const MAX_POSITION: u32 = 1 << 30;

impl DecoderContext {
    /// # Errors
    /// `INVALID_ARGUMENT` for wishes that are no JSON, `OUT_OF_MEMORY` with the figure.
    pub(crate) fn new(model: Arc<DecoderModel>, params_json: &str) -> Result<Self, PluginError> {
        let wishes: Wishes = serde_json::from_str(params_json)
            .map_err(|error| PluginError::invalid_argument(format!("context parameters: {error}")))?;
        let options = &model.options;
        let trained = model.decoder.context_length;
        let cells =
            options.context_tokens.or(wishes.context_tokens).unwrap_or(options.context_tokens(trained));
        let total_tokens = cells.clamp(1, 1 << 24).next_multiple_of(BLOCK);
        let batch_tokens = options.batch_tokens.or(wishes.batch_tokens).unwrap_or(options.batch_tokens());
        let batch_tokens = batch_tokens.clamp(1, 1 << 14);
        let max_sequences = wishes.max_sequences.unwrap_or(1).clamp(1, MAX_SEQUENCES);
        // A sequence's last block is partly empty, and one that writes into a shared block takes a copy: with so many
        // blocks more, all the cells that are promised can be used.
        let blocks = (total_tokens / BLOCK + 2 * max_sequences) as usize;
        let shape = Shape {
            layers: model.decoder.layers.len(),
            kv_heads: model.decoder.kv_heads,
            head_width: padded(model.decoder.head_width),
            blocks,
        };
        let memory = match options.cache_type.unwrap_or(CacheType::of(model.weight_type)) {
            CacheType::F32 => AnyMemory::F32(Memory::new(shape)?),
            CacheType::F16 => AnyMemory::F16(Memory::new(shape)?),
            CacheType::Bf16 => AnyMemory::Bf16(Memory::new(shape)?),
        };
        let kernels = Kernels::of(options.level());
        let forms = model.weights.forms(kernels);
        Ok(DecoderContext {
            kernels,
            pool: Pool::new(options.threads.unwrap_or(model.default_threads).max(1) as usize),
            limits: ContextLimits {
                total_tokens,
                sequence_tokens: total_tokens,
                max_sequences,
                batch_tokens,
            },
            table: Table::new(max_sequences as usize, blocks),
            memory,
            workspace: Workspace::new(&model.decoder, batch_tokens as usize, forms),
            rows: Rows::default(),
            model,
        })
    }

    /// Takes a batch's columns, and checks that each sequence's rows go on where it ends.
    fn read(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        let rows = &mut self.rows;
        rows.tokens.clear();
        rows.tokens.extend(batch.tokens.iter().map(|token| token.0));
        rows.positions.clear();
        rows.positions.extend(batch.positions.iter().map(|position| position.0));
        rows.runs.clear();
        for (row, (sequence, &position)) in batch.sequences.iter().zip(&rows.positions).enumerate() {
            let sequence = sequence.0 as usize;
            let earlier = rows.runs.iter().rev().find(|run| run.sequence == sequence);
            let last = match earlier {
                Some(run) => Some(rows.positions[run.rows.end - 1]),
                None => self.table.last(sequence),
            };
            if last.is_some_and(|last| last + 1 != position) || position >= MAX_POSITION {
                return Err(PluginError::invalid_argument(format!(
                    "sequence {sequence} goes on at position {}; found {position}",
                    last.map_or(0, |last| last + 1)
                )));
            }
            match rows.runs.last_mut() {
                Some(run) if run.sequence == sequence => run.rows.end = row + 1,
                _ => rows.runs.push(Run { rows: row..row + 1, sequence }),
            }
        }
        rows.wanted.clear();
        rows.wanted
            .extend(batch.wants_logits.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(row, _)| row));
        Ok(())
    }

    /// Finds room for every row, or for none.
    fn place(&mut self) -> Result<(), PluginError> {
        let Rows { positions, runs, slots, .. } = &mut self.rows;
        let needed =
            |run: &Run| self.table.needed(run.sequence, positions[run.rows.start], run.rows.len() as u32);
        if runs.iter().map(needed).sum::<usize>() > self.table.free() {
            return Err(PluginError::new(ErrorCode::CACHE_FULL, "the KV cache has no cells for this batch"));
        }
        slots.clear();
        for run in runs {
            for row in run.rows.clone() {
                let bug =
                    |_| PluginError::internal("blocks that were counted as free are not: this is a bug");
                let place = self.table.push(run.sequence, positions[row]).map_err(bug)?;
                if let Some(from) = place.copied_from {
                    self.memory.copy_block(from, place.slot.block);
                }
                slots.push(place.slot);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl DecoderContext {
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }
}

impl AnyMemory {
    fn copy_block(&mut self, from: u32, to: u32) {
        match self {
            AnyMemory::F32(memory) => memory.copy_block(from, to),
            AnyMemory::F16(memory) => memory.copy_block(from, to),
            AnyMemory::Bf16(memory) => memory.copy_block(from, to),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            AnyMemory::F32(memory) => memory.bytes(),
            AnyMemory::F16(memory) => memory.bytes(),
            AnyMemory::Bf16(memory) => memory.bytes(),
        }
    }
}

impl sdk::Context for DecoderContext {
    fn limits(&self) -> ContextLimits {
        self.limits
    }

    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        self.read(batch)?;
        self.place()?;
        let Rows { tokens, positions, slots, runs, wanted } = &self.rows;
        let step = Step { tokens, positions, slots, runs, table: &self.table, wanted };
        let model = (&self.model.decoder, &self.model.weights);
        let computer = (self.kernels, &mut self.pool);
        match &mut self.memory {
            AnyMemory::F32(memory) => forward(computer, model, memory, &mut self.workspace, &step),
            AnyMemory::F16(memory) => forward(computer, model, memory, &mut self.workspace, &step),
            AnyMemory::Bf16(memory) => forward(computer, model, memory, &mut self.workspace, &step),
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        let missing = || PluginError::internal(format!("there are no logits of row {row}"));
        let wanted = self.rows.wanted.binary_search(&row).map_err(|_| missing())?;
        self.workspace.logits(wanted, self.model.decoder.vocab_size).ok_or_else(missing)
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        self.table.remove(sequence.0 as usize, range.start.0, range.end.0);
        Ok(())
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        self.table.copy(from.0 as usize, to.0 as usize, range.start.0, range.end.0);
        Ok(())
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        self.table.last(sequence.0 as usize).map(Position)
    }

    fn memory_stats_json(&self) -> String {
        let (cache, compute) = (self.memory.bytes(), self.workspace.bytes());
        serde_json::json!({ "kv_cache_bytes": cache, "compute_bytes": compute }).to_string()
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.table.clear();
        Ok(())
    }
}
