//! Ids that cross the border. Three `u32` in a row would be a bug that waits, so each has its own type.

use abi_stable::StableAbi;

/// A token id of one model's vocabulary: `0 <= id < Model::vocab_size()`.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

/// The place of a token in its sequence, counted from 0.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// A sequence slot of one context: `0 <= id < ContextLimits::max_sequences`. The host chooses which are in use.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u32);

/// Positions `start <= p < end` of a sequence.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosRange {
    /// First position inside.
    pub start: Position,
    /// First position outside.
    pub end: Position,
}

impl PosRange {
    /// Every position that a sequence can have.
    pub const ALL: PosRange = PosRange { start: Position(0), end: Position(u32::MAX) };

    /// From `start` to the end of the sequence.
    pub const fn from(start: Position) -> Self {
        PosRange { start, end: Position(u32::MAX) }
    }

    /// From `start` up to, not including, `end`.
    pub const fn new(start: Position, end: Position) -> Self {
        PosRange { start, end }
    }
}
