//! A context: the cache, the threads and the buffers of one model, behind the contract.

use std::sync::Arc;

use impetus_plugin_api::sdk;
use impetus_plugin_api::{Batch, ContextLimits, ErrorCode, PluginError, PosRange, Position, SeqId};
use serde::Deserialize;

use crate::cache::{BLOCK, Memory, Shape, Slot, Table};
use crate::config::{Decoder, Rope};
use crate::decoder::{Run, Step, Weights, Workspace, forward, padded};
use crate::kernels::{Bf16, F16, F32, Kernels};
use crate::model::DecoderModel;
use crate::options::CacheType;
use crate::pool::Pool;
use crate::stages::{Rewind, Stages};

/// The working state of one model.
pub(crate) struct DecoderContext {
    model: Arc<DecoderModel>,
    kernels: &'static Kernels,
    pool: Pool,
    limits: ContextLimits,
    /// Positions stay below this.
    positions: u32,
    table: Table,
    memory: AnyMemory,
    workspace: Workspace,
    rows: Rows,
    /// Where cached keys may have to be computed anew, with the rows for it.
    stages: Option<Stages>,
    again: Rows,
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
pub(crate) struct Wishes {
    max_sequences: Option<u32>,
    pub(crate) context_tokens: Option<u32>,
    pub(crate) batch_tokens: Option<u32>,
}

impl Wishes {
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no JSON object.
    pub(crate) fn read(params_json: &str) -> Result<Self, PluginError> {
        serde_json::from_str(params_json)
            .map_err(|error| PluginError::invalid_argument(format!("context parameters: {error}")))
    }

    /// Slots.
    pub(crate) fn sequences(&self) -> u32 {
        self.max_sequences.unwrap_or(1).clamp(1, MAX_SEQUENCES)
    }
}

/// More sequences than any host runs at once.
const MAX_SEQUENCES: u32 = 4096;

/// Positions stay below this in any case: sums of two fit.
const MAX_POSITION: u32 = 1 << 30;

impl DecoderContext {
    /// # Errors
    /// `INVALID_ARGUMENT` for wishes that are no JSON, `OUT_OF_MEMORY` with the figure.
    pub(crate) fn new(model: Arc<DecoderModel>, params_json: &str) -> Result<Self, PluginError> {
        let wishes = Wishes::read(params_json)?;
        let options = &model.options;
        let trained = model.decoder.context_length;
        let cells =
            options.context_tokens.or(wishes.context_tokens).unwrap_or(options.context_tokens(trained));
        let total_tokens = cells.clamp(1, 1 << 24).next_multiple_of(BLOCK);
        let batch_tokens = options.batch_tokens.or(wishes.batch_tokens).unwrap_or(options.batch_tokens());
        let batch_tokens = batch_tokens.clamp(1, 1 << 14);
        let max_sequences = wishes.sequences();
        // A sequence's last block is partly empty, and one that writes into a shared block takes a copy: with so many
        // blocks more, all the cells that are promised can be used.
        let blocks = (total_tokens / BLOCK + 2 * max_sequences) as usize;
        // Learned positions end.
        let learned = model.decoder.names.positions.and(u32::try_from(model.decoder.context_length).ok());
        let positions = learned.unwrap_or(MAX_POSITION).min(MAX_POSITION);
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
                sequence_tokens: total_tokens.min(positions),
                max_sequences,
                batch_tokens,
            },
            positions,
            table: Table::new(max_sequences as usize, blocks),
            memory,
            workspace: Workspace::new(&model.decoder, batch_tokens as usize, forms),
            rows: Rows::default(),
            stages: Stages::new(&model.decoder, blocks),
            again: Rows::default(),
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
            if last.is_some_and(|last| last + 1 != position) || position >= self.positions {
                return Err(PluginError::invalid_argument(format!(
                    "sequence {sequence} goes on at position {}, below {}; found {position}",
                    last.map_or(0, |last| last + 1),
                    self.positions
                )));
            }
            match rows.runs.last_mut() {
                Some(run) if run.sequence == sequence => {
                    (run.rows.end, run.length) = (row + 1, position + 1);
                }
                _ => rows.runs.push(Run { rows: row..row + 1, sequence, length: position + 1 }),
            }
        }
        if self.model.decoder.ropes.iter().any(Rope::looks_at_length) {
            one_length(&mut rows.runs);
        }
        rows.wanted.clear();
        rows.wanted
            .extend(batch.wants_logits.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(row, _)| row));
        Ok(())
    }

    /// Finds room for every row, or for none. What is cached for another length is computed anew before.
    fn place(&mut self) -> Result<(), PluginError> {
        let Rows { positions, runs, .. } = &self.rows;
        let needed =
            |run: &Run| self.table.needed(run.sequence, positions[run.rows.start], run.rows.len() as u32);
        let rewind = |run: &Run| self.stages.as_ref()?.rewind(&self.table, run.sequence, run.length);
        let shared =
            |run: &Run| rewind(run).map_or(0, |rewind| self.table.shared(rewind.sequence, rewind.first));
        if runs.iter().map(|run| needed(run) + shared(run)).sum::<usize>() > self.table.free() {
            return Err(PluginError::new(ErrorCode::CACHE_FULL, "the KV cache has no cells for this batch"));
        }
        for run in 0..runs.len() {
            let Run { sequence, length, .. } = self.rows.runs[run];
            let rewind = self.stages.as_ref().and_then(|stages| stages.rewind(&self.table, sequence, length));
            if let Some(rewind) = rewind {
                self.rewind(rewind)?;
            }
        }
        let Rows { tokens, positions, runs, slots, .. } = &mut self.rows;
        slots.clear();
        for run in runs {
            for row in run.rows.clone() {
                let place = self.table.push(run.sequence, positions[row]).map_err(miscounted)?;
                if let Some(from) = place.copied_from {
                    self.memory.copy_block(from, place.slot.block);
                    self.stages.iter_mut().for_each(|stages| stages.copy(from, place.slot.block));
                }
                self.stages.iter_mut().for_each(|stages| stages.store(place.slot, tokens[row], run.length));
                slots.push(place.slot);
            }
        }
        Ok(())
    }

    /// Computes a sequence's cells anew for another length, in steps of as many rows as fit.
    fn rewind(&mut self, rewind: Rewind) -> Result<(), PluginError> {
        let Rewind { sequence, first, length } = rewind;
        let Some(stages) = &mut self.stages else { return Ok(()) };
        for (from, to) in self.table.own(sequence, first).map_err(miscounted)? {
            stages.copy(from, to);
        }
        let cells: Vec<_> = stages.cells(&self.table, rewind).collect();
        for cells in cells.chunks(self.limits.batch_tokens as usize) {
            let Rows { tokens, positions, slots, runs, wanted } = &mut self.again;
            tokens.clear();
            positions.clear();
            slots.clear();
            for &(token, position, slot) in cells {
                tokens.push(token);
                positions.push(position);
                slots.push(slot);
                stages.store(slot, token, length);
            }
            *runs = vec![Run { rows: 0..cells.len(), sequence, length }];
            let step = Step { tokens, positions, slots, runs, table: &self.table, wanted };
            let model = (&self.model.decoder, &self.model.weights);
            self.memory.forward((self.kernels, &mut self.pool), model, &mut self.workspace, &step);
        }
        Ok(())
    }
}

/// Several runs of one sequence are of the length that it has behind the last.
fn one_length(runs: &mut [Run]) {
    for run in 0..runs.len() {
        let same = runs[run..].iter().filter(|other| other.sequence == runs[run].sequence);
        runs[run].length = same.map(|other| other.length).max().unwrap_or(0);
    }
}

fn miscounted(_: crate::cache::Full) -> PluginError {
    PluginError::internal("blocks that were counted as free are not: this is a bug")
}

#[cfg(test)]
impl DecoderContext {
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }
}

impl AnyMemory {
    /// Computes a step.
    fn forward(
        &mut self,
        computer: (&Kernels, &mut Pool),
        model: (&Decoder, &Weights),
        workspace: &mut Workspace,
        step: &Step<'_>,
    ) {
        match self {
            AnyMemory::F32(memory) => forward(computer, model, memory, workspace, step),
            AnyMemory::F16(memory) => forward(computer, model, memory, workspace, step),
            AnyMemory::Bf16(memory) => forward(computer, model, memory, workspace, step),
        }
    }

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
        let kernels = self.kernels.for_step(tokens.len(), runs.len());
        self.memory.forward((kernels, &mut self.pool), model, &mut self.workspace, &step);
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
