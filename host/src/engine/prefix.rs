//! Which tokens the context holds for which slot: a radix tree over token ids. Pure: it knows no plugin and no clock.
//!
//! A node (`nodes.rs`) is a run of cells, and a slot's sequence is the path from a root to the node where it ends. What two slots share
//! they share as nodes, exactly as `seq_cp` makes them share cells, so the tree's size is the number of cells in use.
//! Slots are running or kept: kept ones belong to nobody, wait for a prompt that begins as they do, and are the first to
//! go when cells or slots run out, the one that was used least recently first.

use super::nodes::Nodes;
use crate::plugins::model::{SeqId, Token};

/// The tree and its slots.
#[derive(Debug)]
pub(super) struct PrefixTree {
    nodes: Nodes,
    slots: Vec<Option<Slot>>,
    uses: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Where it ends; `None` while it holds nothing.
    node: Option<usize>,
    running: bool,
    /// Its sequence began with much that another had computed: so may the next.
    proven: bool,
    last_use: u64,
}

/// What a new sequence can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// A slot that holds these tokens.
    pub(super) slot: SeqId,
    /// How many.
    pub(super) tokens: usize,
    /// How many of them running sequences hold anyway.
    pub(super) pinned: usize,
    /// Nobody runs in the slot.
    pub(super) kept: bool,
    /// The slot holds nothing beyond them.
    pub(super) whole: bool,
}

impl PrefixTree {
    /// A tree for slots `0..slots`, all free.
    pub(super) fn new(slots: usize) -> Self {
        PrefixTree { nodes: Nodes::default(), slots: vec![None; slots], uses: 0 }
    }

    /// Cells in use.
    pub(super) fn cells(&self) -> usize {
        self.nodes.cells()
    }

    /// Of these, the ones that running sequences hold: no eviction frees them.
    pub(super) fn pinned(&self) -> usize {
        self.nodes.pinned()
    }

    /// A slot that is free.
    pub(super) fn free_slot(&self) -> Option<SeqId> {
        self.slots.iter().position(Option::is_none).map(|at| SeqId(at as u32))
    }

    /// Tokens that a slot holds.
    pub(super) fn held(&self, slot: SeqId) -> usize {
        self.slots[slot.0 as usize].and_then(|slot| slot.node).map_or(0, |node| self.nodes.get(node).end())
    }

    /// Slots that hold something or run.
    pub(super) fn occupied(&self) -> impl Iterator<Item = SeqId> + '_ {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(at, _)| SeqId(at as u32))
    }

    /// The longest beginning of `tokens` that a slot holds. With `whole_only`, the longest kept slot that is such a
    /// beginning whole: for states that cannot be cut.
    pub(super) fn find(&self, tokens: &[Token], whole_only: bool) -> Option<Match> {
        let mut best: Option<Match> = None;
        let mut open: Vec<(usize, usize)> = self.nodes.roots().iter().map(|&root| (root, 0)).collect();
        while let Some((at, pinned_above)) = open.pop() {
            let node = self.nodes.get(at);
            let common = common_prefix(&node.tokens, &tokens[node.start..]);
            if common == 0 {
                continue;
            }
            let pinned = pinned_above + if node.running > 0 { common } else { 0 };
            let all = common == node.tokens.len();
            if all {
                open.extend(node.children.iter().map(|&child| (child, pinned)));
            }
            let reached = node.start + common;
            if best.is_some_and(|best| best.tokens >= reached) {
                continue;
            }
            let kept_end = node.ends.iter().copied().find(|&slot| all && !self.is_running(slot));
            let slot = if whole_only { kept_end } else { kept_end.or_else(|| Some(self.nodes.any_end(at))) };
            best = slot.map_or(best, |slot| {
                let (kept, whole) = (!self.is_running(slot), self.held(slot) == reached);
                Some(Match { slot, tokens: reached, pinned, kept, whole })
            });
        }
        best
    }

    /// Lets a sequence run in a free slot; it holds nothing yet.
    pub(super) fn start(&mut self, slot: SeqId) {
        self.uses += 1;
        self.slots[slot.0 as usize] =
            Some(Slot { node: None, running: true, proven: false, last_use: self.uses });
    }

    /// Lets a sequence run in a free slot, from the first `tokens` tokens of another slot on.
    pub(super) fn fork(&mut self, from: SeqId, to: SeqId, tokens: usize) {
        self.touch(from);
        self.start(to);
        let Some(mut at) = self.slot(from).node else { return };
        while self.nodes.get(at).start >= tokens {
            let Some(parent) = self.nodes.get(at).parent else { return };
            at = parent;
        }
        if self.nodes.get(at).end() > tokens {
            at = self.nodes.split(at, tokens);
        }
        self.nodes.add_end(at, to);
        self.set_node(to, Some(at));
        self.nodes.count(at, |node| (node.holders + 1, node.running + 1));
    }

    /// Lets a sequence run on in a kept slot, of which only the first `tokens` tokens stay.
    pub(super) fn adopt(&mut self, slot: SeqId, tokens: usize) {
        self.touch(slot);
        self.truncate(slot, tokens);
        if let Some(entry) = &mut self.slots[slot.0 as usize] {
            entry.running = true;
            if let Some(at) = entry.node {
                self.nodes.count(at, |node| (node.holders, node.running + 1));
            }
        }
    }

    /// The sequence of a running slot goes on from much that another had computed.
    pub(super) fn prove(&mut self, slot: SeqId) {
        if let Some(entry) = &mut self.slots[slot.0 as usize] {
            entry.proven = true;
        }
    }

    /// A running slot holds these tokens too, from here on.
    pub(super) fn extend(&mut self, slot: SeqId, tokens: &[Token]) {
        if tokens.is_empty() {
            return;
        }
        let node = self.nodes.extend(self.slot(slot).node, slot, tokens);
        self.set_node(slot, Some(node));
    }

    /// A slot forgets all but its first `tokens` tokens.
    pub(super) fn truncate(&mut self, slot: SeqId, tokens: usize) {
        let Slot { node: Some(end), running, .. } = self.slot(slot) else { return };
        if self.nodes.get(end).end() <= tokens {
            return;
        }
        self.nodes.remove_end(end, slot);
        let mut next = Some(end);
        while let Some(at) = next.filter(|&at| self.nodes.get(at).start >= tokens) {
            next = self.nodes.get(at).parent;
            self.nodes.leave(at, running);
        }
        if let Some(at) = next {
            let mut at = at;
            if self.nodes.get(at).end() > tokens {
                let upper = self.nodes.split(at, tokens);
                self.nodes.leave(at, running);
                at = upper;
            }
            self.nodes.add_end(at, slot);
            next = Some(at);
        }
        self.set_node(slot, next);
    }

    /// A running slot's sequence has ended: it is kept. Gives the slots that are free now because another holds all that
    /// they held; the context must forget them.
    pub(super) fn keep(&mut self, slot: SeqId) -> Vec<SeqId> {
        self.touch(slot);
        if let Some(entry) = &mut self.slots[slot.0 as usize] {
            entry.running = false;
        }
        let Some(end) = self.slot(slot).node else {
            self.release(slot);
            return vec![slot];
        };
        self.nodes.count(end, |node| (node.holders, node.running - 1));
        let mut spare = Vec::new();
        if self.nodes.get(end).holders > 1 {
            spare.push(slot);
        } else {
            let mut next = self.nodes.get(end).parent;
            while let Some(at) = next {
                spare
                    .extend(self.nodes.get(at).ends.iter().copied().filter(|&other| !self.is_running(other)));
                next = self.nodes.get(at).parent;
            }
        }
        spare.iter().for_each(|&slot| self.release(slot));
        spare
    }

    /// Frees a slot, whatever it holds.
    pub(super) fn release(&mut self, slot: SeqId) {
        self.truncate(slot, 0);
        self.slots[slot.0 as usize] = None;
    }

    /// Frees the kept slot that was used least recently, except `spared`; the context must forget it.
    pub(super) fn evict(&mut self, spared: Option<SeqId>) -> Option<SeqId> {
        let kept = self.occupied().filter(|&slot| !self.is_running(slot) && Some(slot) != spared);
        let oldest = kept.min_by_key(|&slot| self.slot(slot).last_use)?;
        self.release(oldest);
        Some(oldest)
    }

    /// Frees, least recently used first, kept slots that nothing was ever used again of, until these hold at most `cells`
    /// cells alone; the last one kept stays. Gives the slots that the context must forget.
    pub(super) fn evict_unproven(&mut self, cells: usize) -> Vec<SeqId> {
        let unproven = |slot: &SeqId| !self.slot(*slot).running && !self.slot(*slot).proven;
        let mut found: Vec<SeqId> = self.occupied().filter(unproven).collect();
        found.sort_by_key(|&slot| std::cmp::Reverse(self.slot(slot).last_use));
        let mut held = 0;
        let beyond = found.iter().enumerate().filter(|&(at, &slot)| {
            held += self.held_alone(slot);
            at > 0 && held > cells
        });
        let evicted: Vec<SeqId> = beyond.map(|(_, &slot)| slot).collect();
        evicted.iter().for_each(|&slot| self.release(slot));
        evicted
    }

    /// Cells that no other slot holds.
    fn held_alone(&self, slot: SeqId) -> usize {
        let mut cells = 0;
        let mut next = self.slot(slot).node;
        while let Some(at) = next.filter(|&at| self.nodes.get(at).holders == 1) {
            cells += self.nodes.get(at).tokens.len();
            next = self.nodes.get(at).parent;
        }
        cells
    }

    fn is_running(&self, slot: SeqId) -> bool {
        self.slot(slot).running
    }

    fn slot(&self, slot: SeqId) -> Slot {
        self.slots[slot.0 as usize].unwrap_or(Slot { node: None, running: false, proven: false, last_use: 0 })
    }

    fn set_node(&mut self, slot: SeqId, node: Option<usize>) {
        if let Some(entry) = &mut self.slots[slot.0 as usize] {
            entry.node = node;
        }
    }

    fn touch(&mut self, slot: SeqId) {
        self.uses += 1;
        if let Some(entry) = &mut self.slots[slot.0 as usize] {
            entry.last_use = self.uses;
        }
    }
}

/// How many tokens two sequences begin with alike.
pub(super) fn common_prefix(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
#[path = "prefix_tests.rs"]
mod tests;
