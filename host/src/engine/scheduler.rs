//! Which tokens are computed next. Pure: no clock, no channel, no plugin.
//!
//! There is no prefill phase. A sequence has tokens and computed tokens; each step lets the second catch up with the
//! first within a token budget. Running sequences take their one token first, then prompts in order of rank take what
//! is left: by priority, then by arrival. A prompt starts from the longest beginning that the context holds of any
//! sequence, and waits while another is just computing what it shares. When cells run out, what is kept of ended
//! sequences goes first; then the last in rank gives way: its tokens are kept and computed again later. It also gives
//! way to one of a better priority that finds no room. Who was overtaken often enough goes before everybody.

use std::collections::VecDeque;

use super::budget::Budget;
use super::message::RequestId;
use super::prefix::{Match, PrefixTree, common_prefix};
pub(super) use super::room::{Edit, Limits, Reuse};
use super::step::{Computed, Sequence, Step};
use crate::plugins::model::{SeqId, Token};

/// Decides, step by step. `running` and `waiting` are each in order of rank.
#[derive(Debug)]
pub(super) struct Scheduler {
    limits: Limits,
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    tree: PrefixTree,
    edits: Vec<Edit>,
}

/// Whether a sequence can take another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// There is room.
    Grown,
    /// There is room, and the logits after this token are already there.
    AsProposed,
    /// The sequence has the longest length that it can have here.
    Full,
}

/// What became of the wish to start a sequence.
enum Start {
    Started,
    /// Another is just computing what it begins with.
    WaitsForAnother,
    NoRoom,
}

/// Waiting for another's tokens costs a step; for fewer than these it is not worth it.
const WORTH_WAITING: usize = 16;

/// Who was overtaken by so many because of their priority has the best from then on: nobody waits for ever.
const MOST_OVERTAKEN: u32 = 16;

/// A sequence that reuses at least one token in so many shows that its kind comes again.
const PROVEN_SHARE: usize = 2;

/// One cell in so many may hold what nothing was ever used again of. Prompts that come once would otherwise push out
/// conversations that go on, and kept cells are not free: llama.cpp's attention passes over every cell in use.
const UNPROVEN_SHARE: usize = 8;

impl Scheduler {
    pub(super) fn new(limits: Limits) -> Self {
        let tree = PrefixTree::new(limits.slots);
        Scheduler { limits, running: Vec::new(), waiting: VecDeque::new(), tree, edits: Vec::new() }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets a prompt wait for its turn. The caller has checked that it is not empty and shorter than
    /// [`Limits::longest`]. A smaller `priority` goes first.
    pub(super) fn add(&mut self, id: RequestId, priority: i32, prompt: Vec<Token>, computed: Computed) {
        self.queue(Sequence::new(id, priority, prompt, computed));
    }

    /// Lets a sequence go, wherever it stands. What the context holds of it may be used again.
    pub(super) fn remove(&mut self, id: RequestId) {
        if let Some(mut sequence) = self.take(id) {
            self.retire(&mut sequence);
        }
    }

    /// Lets a sequence go of which nothing in the context can be trusted.
    pub(super) fn discard(&mut self, id: RequestId) {
        if let Some(slot) = self.take(id).and_then(|sequence| sequence.slot) {
            self.forget(slot);
        }
    }

    /// Appends a sampled token. Where it is the proposed one, the context holds it already.
    pub(super) fn push(&mut self, id: RequestId, token: Token) -> Growth {
        let longest = self.limits.longest();
        let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else {
            return Growth::Full;
        };
        let as_proposed = sequence.ahead.first() == Some(&token);
        sequence.tokens.push(token);
        if let Some(slot) = sequence.slot.filter(|_| as_proposed) {
            sequence.ahead.remove(0);
            sequence.computed += 1;
            self.tree.extend(slot, &[token]);
        }
        if sequence.tokens.len() >= longest {
            Growth::Full
        } else if as_proposed {
            Growth::AsProposed
        } else {
            Growth::Grown
        }
    }

    /// Tokens that this sequence may go on with: they are computed with the next step, as far as there is room, and each
    /// wants logits. Only for contexts that can be cut. Gives how many of them are tried.
    pub(super) fn propose(&mut self, id: RequestId, draft: &[Token]) -> usize {
        let longest = self.limits.longest();
        let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else { return 0 };
        let room = longest - 1 - sequence.tokens.len().min(longest - 1);
        sequence.proposed = draft[..draft.len().min(room)].to_vec();
        sequence.proposed.len()
    }

    pub(super) fn is_running(&self, id: RequestId) -> bool {
        self.running.iter().any(|sequence| sequence.id == id)
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// The only sequence that there is, if it is alone.
    pub(super) fn only_one(&self) -> Option<RequestId> {
        match &self.running[..] {
            [one] if self.waiting.is_empty() => Some(one.id),
            _ => None,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Cells that hold something.
    pub(super) fn cells(&self) -> usize {
        self.tree.cells()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// What must be done to the context before the next decode; asked once.
    pub(super) fn take_edits(&mut self) -> Vec<Edit> {
        std::mem::take(&mut self.edits)
    }

    /// Fills `step` with what to compute next: a token of every answer, and about `budget` rows of prompts. Empty rows mean
    /// that nobody has anything to compute.
    pub(super) fn plan(&mut self, step: &mut Step, budget: usize) {
        step.clear();
        self.running.iter_mut().for_each(|sequence| Self::cut_ahead(sequence, &mut self.edits));
        while self.demand() > self.limits.total_tokens && self.running.len() > 1 && self.preempt_last() {}
        self.start_waiting(step);
        let mut cells = self.limits.total_tokens.saturating_sub(self.tree.pinned());
        // Those with one token to go are generating: they come first, so that no prompt stalls them for long.
        let (answers, prompts): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|&at| self.running[at].pending() == 1);
        for at in answers {
            let room = self.limits.step_tokens - step.rows.len();
            cells -= self.running[at].emit(room.min(cells), step);
        }
        let mut budget = Budget::new(budget.min(self.limits.step_tokens - step.rows.len()));
        for at in prompts {
            let room = (self.limits.step_tokens - step.rows.len()).min(cells);
            let rows = budget.take(self.running[at].pending(), room);
            cells -= self.running[at].emit(rows, step);
        }
        while self.tree.cells() + step.rows.len() > self.limits.total_tokens && self.evict(None) {}
    }

    /// Marks the step's rows as computed.
    pub(super) fn done(&mut self, step: &Step) {
        for &(id, rows) in &step.shares {
            let sequence = self.running.iter_mut().find(|sequence| sequence.id == id);
            if let Some((sequence, slot)) = sequence.and_then(|found| found.slot.map(|slot| (found, slot))) {
                let end = sequence.computed + rows;
                self.tree.extend(slot, &sequence.tokens[sequence.computed..end]);
                sequence.computed_to(end);
            }
        }
    }

    /// After a failed decode: what the context says that it still holds of each slot is what is computed.
    pub(super) fn resynchronise(&mut self, held: impl Fn(SeqId) -> usize) {
        for slot in self.tree.occupied().collect::<Vec<_>>() {
            self.tree.truncate(slot, held(slot));
            if self.tree.held(slot) == 0 && self.running.iter().all(|sequence| sequence.slot != Some(slot)) {
                self.tree.release(slot);
            }
        }
        for sequence in &mut self.running {
            if let Some(slot) = sequence.slot {
                sequence.computed = self.tree.held(slot);
            }
        }
    }

    /// The context has fewer cells than it said: what is kept goes, then the last in rank waits. `false` when a single
    /// sequence is all that there is.
    pub(super) fn give_way(&mut self) -> bool {
        let mut gave = false;
        while self.evict(None) {
            gave = true;
        }
        gave || (self.running.len() > 1 && self.preempt_last())
    }

    /// The last running sequence in rank waits again, keeping its tokens.
    fn preempt_last(&mut self) -> bool {
        let Some(mut sequence) = self.running.pop() else { return false };
        self.retire(&mut sequence);
        self.queue(sequence);
        true
    }

    fn queue(&mut self, sequence: Sequence) {
        let place = self.waiting.partition_point(|other| other.rank() < sequence.rank());
        self.waiting.insert(place, sequence);
    }

    /// Cells that the running sequences need to hold all their tokens.
    fn demand(&self) -> usize {
        self.tree.pinned() + self.running.iter().map(Sequence::pending).sum::<usize>()
    }

    /// Starts waiting sequences in their order, while there is room. The first for which there is none holds up those
    /// behind it: nobody is overtaken for ever. Who waits for another's tokens is overtaken only until these are computed.
    fn start_waiting(&mut self, step: &mut Step) {
        let mut at = 0;
        while at < self.waiting.len() {
            let has_seat = self.running.len() < self.limits.running;
            match if has_seat { self.start(at, step) } else { Start::NoRoom } {
                Start::Started => {}
                Start::WaitsForAnother => at += 1,
                Start::NoRoom if self.outranks_somebody(at) => _ = self.preempt_last(),
                Start::NoRoom => break,
            }
        }
        // Those that were overtaken too often have moved up.
        self.waiting.make_contiguous().sort_unstable_by_key(Sequence::rank);
    }

    /// Whether one who runs has a worse priority than this one who waits. Who has moved up waits for the next seat instead
    /// of taking one.
    fn outranks_somebody(&self, at: usize) -> bool {
        let waiting = &self.waiting[at];
        let last = self.running.last().filter(|_| waiting.overtaken < MOST_OVERTAKEN);
        last.is_some_and(|last| last.priority > waiting.priority)
    }

    /// Counts for those who came earlier and have a worse priority that this one starts before them.
    fn overtake(&mut self, starting: (i32, RequestId)) {
        let (priority, id) = starting;
        for other in self.waiting.iter_mut().filter(|other| other.id < id && other.priority > priority) {
            other.overtaken += 1;
            if other.overtaken >= MOST_OVERTAKEN {
                other.priority = i32::MIN;
            }
        }
    }

    /// A sequence starts when a slot is free and the whole prompt and one more token of everybody fit.
    fn start(&mut self, at: usize, step: &mut Step) -> Start {
        let tokens = &self.waiting[at].tokens;
        // The last token is always computed: its logits decide the next.
        let wanted = &tokens[..tokens.len() - 1];
        let reuse = if self.waiting[at].starts_anew() { Reuse::Nothing } else { self.limits.reuse };
        let found = match reuse {
            Reuse::Beginnings => self.tree.find(wanted, false),
            Reuse::WholeStates => self.tree.find(wanted, true),
            Reuse::Nothing => None,
        };
        let (reused, pinned) = found.map_or((0, 0), |found| (found.tokens, found.pinned));
        if reuse == Reuse::Beginnings && self.being_computed(wanted) >= reused + WORTH_WAITING {
            return Start::WaitsForAnother;
        }
        let reserve = usize::from(!self.running.is_empty()) * (1 + self.running.len());
        if self.demand() + tokens.len() - pinned + reserve > self.limits.total_tokens {
            return Start::NoRoom;
        }
        let tokens_len = tokens.len();
        let Some(slot) = self.occupy(found) else { return Start::NoRoom };
        if reused * PROVEN_SHARE >= tokens_len {
            self.tree.prove(slot);
        }
        if let Some(mut sequence) = self.waiting.remove(at) {
            sequence.slot = Some(slot);
            sequence.computed = reused;
            if !std::mem::replace(&mut sequence.ran, true) {
                step.started.push((sequence.id, reused));
            }
            self.overtake(sequence.rank());
            let place = self.running.partition_point(|other| other.rank() < sequence.rank());
            self.running.insert(place, sequence);
        }
        Start::Started
    }

    /// How many of these tokens a running sequence has or will soon have computed.
    fn being_computed(&self, tokens: &[Token]) -> usize {
        self.running.iter().map(|other| common_prefix(&other.tokens, tokens)).max().unwrap_or(0)
    }

    /// A slot for a new sequence, in which what was found is held.
    fn occupy(&mut self, found: Option<Match>) -> Option<SeqId> {
        let Some(found) = found else {
            let slot = self.free_slot(None)?;
            self.tree.start(slot);
            return Some(slot);
        };
        if found.kept && found.whole {
            self.tree.adopt(found.slot, found.tokens);
            return Some(found.slot);
        }
        if let Some(slot) = self.free_slot(Some(found.slot)) {
            self.tree.fork(found.slot, slot, found.tokens);
            self.edits.push(Edit::Copy { from: found.slot, to: slot, tokens: found.tokens });
            return Some(slot);
        }
        if !found.kept {
            return None;
        }
        // The slot that holds it is the only one that nobody runs in.
        self.tree.adopt(found.slot, found.tokens);
        self.edits.push(Edit::Cut { slot: found.slot, tokens: found.tokens });
        Some(found.slot)
    }

    fn free_slot(&mut self, spared: Option<SeqId>) -> Option<SeqId> {
        if let Some(slot) = self.tree.free_slot() {
            return Some(slot);
        }
        self.evict(spared);
        self.tree.free_slot()
    }

    /// Forgets the kept sequence that was used least recently.
    fn evict(&mut self, spared: Option<SeqId>) -> bool {
        let evicted = self.tree.evict(spared);
        self.edits.extend(evicted.map(|slot| Edit::Cut { slot, tokens: 0 }));
        evicted.is_some()
    }

    fn take(&mut self, id: RequestId) -> Option<Sequence> {
        self.waiting.retain(|sequence| sequence.id != id);
        let at = self.running.iter().position(|sequence| sequence.id == id)?;
        Some(self.running.remove(at))
    }

    /// A sequence runs no more; what the context holds of it may be used again.
    fn retire(&mut self, sequence: &mut Sequence) {
        Self::cut_ahead(sequence, &mut self.edits);
        sequence.proposed.clear();
        sequence.computed = 0;
        let Some(slot) = sequence.slot.take() else { return };
        match self.limits.reuse {
            Reuse::Nothing => self.forget(slot),
            Reuse::Beginnings | Reuse::WholeStates => {
                let mut spare = self.tree.keep(slot);
                spare.extend(self.tree.evict_unproven(self.limits.total_tokens / UNPROVEN_SHARE));
                self.edits.extend(spare.into_iter().map(|slot| Edit::Cut { slot, tokens: 0 }));
            }
        }
    }

    /// The context forgets what the last step computed of proposed tokens that did not come.
    fn cut_ahead(sequence: &mut Sequence, edits: &mut Vec<Edit>) {
        let slot = sequence.slot.filter(|_| !sequence.ahead.is_empty());
        edits.extend(slot.map(|slot| Edit::Cut { slot, tokens: sequence.computed }));
        sequence.ahead.clear();
    }

    fn forget(&mut self, slot: SeqId) {
        self.tree.release(slot);
        self.edits.push(Edit::Cut { slot, tokens: 0 });
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
