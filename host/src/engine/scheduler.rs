//! Which tokens are computed next. Pure: no clock, no channel, no plugin.
//!
//! There is no prefill phase. A sequence has tokens and computed tokens; each step lets the second catch up with the
//! first within a token budget. Running sequences take their one token first, then prompts in order of arrival take
//! what is left. When cells run out, the youngest gives way: its tokens are kept and computed again later.

use std::collections::VecDeque;

use super::message::RequestId;
use crate::plugins::model::{Position, Rows, SeqId, Token};

/// What a context has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Cells for tokens, shared by all sequences.
    pub(super) total_tokens: usize,
    /// The longest that one sequence may be.
    pub(super) sequence_tokens: usize,
    /// Sequence slots.
    pub(super) slots: usize,
    /// Tokens of one step.
    pub(super) step_tokens: usize,
}

impl Limits {
    /// The longest that a sequence can ever become here.
    pub(super) fn longest(&self) -> usize {
        self.sequence_tokens.min(self.total_tokens)
    }
}

/// Decides, step by step. `running` and `waiting` are each in order of arrival.
#[derive(Debug)]
pub(super) struct Scheduler {
    limits: Limits,
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    free_slots: Vec<SeqId>,
    /// Slots whose cells must be given back before the next decode.
    emptied: Vec<SeqId>,
}

/// A request's tokens, and how many of them the context holds.
#[derive(Debug)]
struct Sequence {
    id: RequestId,
    tokens: Vec<Token>,
    computed: usize,
    /// `None` while it waits.
    slot: Option<SeqId>,
}

/// One step's work.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What to decode.
    pub(super) rows: Rows,
    /// Rows whose logits decide a next token, with the sequence that they belong to.
    pub(super) wanted: Vec<(usize, RequestId)>,
    /// How many rows each sequence has in this step.
    shares: Vec<(RequestId, usize)>,
}

impl Step {
    /// The sequences of this step.
    pub(super) fn members(&self) -> impl Iterator<Item = RequestId> {
        self.shares.iter().map(|&(id, _)| id)
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.wanted.clear();
        self.shares.clear();
    }
}

/// Whether a sequence can take another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// There is room.
    Grown,
    /// The sequence has the longest length that it can have here.
    Full,
}

impl Scheduler {
    pub(super) fn new(limits: Limits) -> Self {
        let free_slots = (0..limits.slots).rev().map(|slot| SeqId(slot as u32)).collect();
        Scheduler { limits, running: Vec::new(), waiting: VecDeque::new(), free_slots, emptied: Vec::new() }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets a prompt wait for its turn. The caller has checked that it is not empty and shorter than
    /// [`Limits::longest`].
    pub(super) fn add(&mut self, id: RequestId, prompt: Vec<Token>) {
        self.waiting.push_back(Sequence { id, tokens: prompt, computed: 0, slot: None });
    }

    /// Forgets a sequence, wherever it stands.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.waiting.retain(|sequence| sequence.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let sequence = self.running.remove(at);
            self.release(sequence.slot);
        }
    }

    /// Appends a sampled token.
    pub(super) fn push(&mut self, id: RequestId, token: Token) -> Growth {
        let longest = self.limits.longest();
        let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else {
            return Growth::Full;
        };
        sequence.tokens.push(token);
        if sequence.tokens.len() < longest { Growth::Grown } else { Growth::Full }
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Slots that were given up since the last call: the context must forget them before the next decode.
    pub(super) fn take_emptied(&mut self) -> Vec<SeqId> {
        std::mem::take(&mut self.emptied)
    }

    /// Fills `step` with what to compute next. Empty rows mean that nobody has anything to compute.
    pub(super) fn plan(&mut self, step: &mut Step) {
        step.clear();
        self.make_room();
        self.start_waiting();
        let mut budget = self.limits.step_tokens;
        let mut cells = self.limits.total_tokens.saturating_sub(self.cells());
        // Those with one token to go are generating: they come first, so that no prompt stalls them for long.
        let (answers, prompts): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|&at| self.running[at].pending() == 1);
        for at in answers.into_iter().chain(prompts) {
            let share = self.running[at].pending().min(budget).min(cells);
            self.running[at].emit(share, step);
            budget -= share;
            cells -= share;
        }
    }

    /// Marks the step's rows as computed.
    pub(super) fn done(&mut self, step: &Step) {
        for &(id, rows) in &step.shares {
            if let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) {
                sequence.computed += rows;
            }
        }
    }

    /// After a failed decode: what the context says that it still holds of each sequence is what is computed.
    pub(super) fn resynchronise(&mut self, held: impl Fn(SeqId) -> usize) {
        for sequence in &mut self.running {
            if let Some(slot) = sequence.slot {
                sequence.computed = sequence.computed.min(held(slot));
            }
        }
    }

    /// The youngest running sequence waits again, keeping its tokens. `false` when it would be the only one.
    pub(super) fn preempt_youngest(&mut self) -> bool {
        if self.running.len() < 2 {
            return false;
        }
        let Some(mut sequence) = self.running.pop() else { return false };
        self.release(sequence.slot.take());
        sequence.computed = 0;
        // It arrived before everyone who waits, or it would not have been running.
        self.waiting.push_front(sequence);
        true
    }

    /// Cells that the context holds now.
    fn cells(&self) -> usize {
        self.running.iter().map(|sequence| sequence.computed).sum()
    }

    /// Cells that the running sequences need to hold all their tokens.
    fn demand(&self) -> usize {
        self.running.iter().map(|sequence| sequence.tokens.len()).sum()
    }

    fn make_room(&mut self) {
        while self.demand() > self.limits.total_tokens && self.preempt_youngest() {}
    }

    /// Starts waiting sequences in their order, while a slot is free and the whole prompt and one more token fit. The
    /// first that does not fit holds up those behind it: nobody is overtaken for ever.
    fn start_waiting(&mut self) {
        while let Some(next) = self.waiting.front() {
            let needed = next.tokens.len() + usize::from(!self.running.is_empty()) * (1 + self.running.len());
            if self.demand() + needed > self.limits.total_tokens {
                return;
            }
            let Some(slot) = self.free_slots.pop() else { return };
            if let Some(mut sequence) = self.waiting.pop_front() {
                sequence.slot = Some(slot);
                let at = self.running.partition_point(|other| other.id < sequence.id);
                self.running.insert(at, sequence);
            }
        }
    }

    fn release(&mut self, slot: Option<SeqId>) {
        if let Some(slot) = slot {
            self.free_slots.push(slot);
            self.emptied.push(slot);
        }
    }
}

impl Sequence {
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Writes the next `share` rows. Logits are wanted where they decide a new token: at the last one.
    fn emit(&self, share: usize, step: &mut Step) {
        let Some(slot) = self.slot.filter(|_| share > 0) else { return };
        for at in self.computed..self.computed + share {
            let last = at + 1 == self.tokens.len();
            if last {
                step.wanted.push((step.rows.len(), self.id));
            }
            step.rows.tokens.push(self.tokens[at]);
            step.rows.positions.push(Position(at as u32));
            step.rows.sequences.push(slot);
            step.rows.wants_logits.push(last);
        }
        step.shares.push((self.id, share));
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
