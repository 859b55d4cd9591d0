//! What a context has room for, and what can be done to it. Pure.

use crate::plugins::model::SeqId;

/// What a context has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Cells for tokens, shared by all sequences.
    pub(super) total_tokens: usize,
    /// The longest that one sequence may be.
    pub(super) sequence_tokens: usize,
    /// Sequences that run at once.
    pub(super) running: usize,
    /// Sequence slots; those beyond `running` hold what may be used again.
    pub(super) slots: usize,
    /// Tokens of one step.
    pub(super) step_tokens: usize,
    /// What of an ended sequence can be used again.
    pub(super) reuse: Reuse,
}

/// How much of what the context holds a new sequence can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Any beginning of any sequence: sequences can be copied and cut.
    Beginnings,
    /// An ended sequence that is such a beginning whole: its state cannot be copied or cut.
    WholeStates,
    /// None: what has ended is forgotten.
    Nothing,
}

impl Limits {
    /// The longest that a sequence can ever become here.
    pub(super) fn longest(&self) -> usize {
        self.sequence_tokens.min(self.total_tokens)
    }
}

/// What must be done to the context, in order, before the next decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// The first tokens of one slot become those of an empty one.
    Copy { from: SeqId, to: SeqId, tokens: usize },
    /// A slot keeps its first tokens only.
    Cut { slot: SeqId, tokens: usize },
}
