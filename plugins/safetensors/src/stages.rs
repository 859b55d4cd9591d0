//! Sequences whose positions turn otherwise once they are longer than the model was trained for (`longrope`): what was
//! cached before is then computed anew, from the tokens.
//!
//! Pure bookkeeping of blocks; the context computes.

use crate::cache::{BLOCK, Slot, Table};
use crate::config::{Decoder, Rope};

/// What each block of the cache holds, and for which stage of its rope it was computed.
pub(crate) struct Stages {
    rope: Rope,
    /// `[blocks][BLOCK]`
    tokens: Vec<u32>,
    /// `[blocks]`
    stages: Vec<u32>,
}

/// Cells of a sequence that are of another stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewind {
    pub(crate) sequence: usize,
    /// The first such block, by its number in the sequence; those behind it were computed from it.
    pub(crate) first: usize,
    /// Tokens that the sequence is going to have.
    pub(crate) length: u32,
}

impl Stages {
    /// None for a decoder whose sequences need no such thing.
    pub(crate) fn new(decoder: &Decoder, blocks: usize) -> Option<Self> {
        let rope = decoder.ropes.iter().find(|rope| rope.starts_anew())?.clone();
        let tokens = vec![0; blocks * BLOCK as usize];
        Some(Stages { rope, tokens, stages: vec![0; blocks] })
    }

    /// What must be computed anew before a sequence goes on to a length.
    pub(crate) fn rewind(&self, table: &Table, sequence: usize, length: u32) -> Option<Rewind> {
        let stage = self.rope.stage(length);
        let other = |block: &crate::kernels::KeyBlock| self.stages[block.id as usize] != stage;
        let first = table.blocks(sequence).iter().position(other)?;
        Some(Rewind { sequence, first, length })
    }

    /// The cells of a rewind, in order: tokens, positions and places.
    pub(crate) fn cells(&self, table: &Table, rewind: Rewind) -> impl Iterator<Item = (u32, u32, Slot)> + '_ {
        let blocks = table.blocks(rewind.sequence)[rewind.first..].to_vec();
        blocks.into_iter().flat_map(move |block| {
            let present = (0..BLOCK).filter(move |bit| block.present & (1 << bit) != 0);
            present.map(move |bit| {
                let slot = Slot { block: block.id, slot: bit as usize };
                (self.tokens[self.place(slot)], block.first + bit, slot)
            })
        })
    }

    /// Remembers a cell that is about to be computed for a length.
    pub(crate) fn store(&mut self, slot: Slot, token: u32, length: u32) {
        let place = self.place(slot);
        self.tokens[place] = token;
        self.stages[slot.block as usize] = self.rope.stage(length);
    }

    /// A block was copied.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        let width = BLOCK as usize;
        let from_cells = from as usize * width;
        self.tokens.copy_within(from_cells..from_cells + width, to as usize * width);
        self.stages[to as usize] = self.stages[from as usize];
    }

    fn place(&self, slot: Slot) -> usize {
        slot.block as usize * BLOCK as usize + slot.slot
    }
}
