//! Which blocks hold which positions of which sequence. Pure: no memory, no model.
//!
//! A block holds [`BLOCK`] positions from a multiple of it on. Blocks are shared by copies of a sequence until one of
//! them writes: then that one gets a block of its own.

use super::Slot;
use crate::kernels::KeyBlock;

/// Positions of a block.
pub(crate) const BLOCK: u32 = crate::kernels::LANES as u32;

/// The sequences and their blocks.
#[derive(Debug)]
pub(crate) struct Table {
    sequences: Vec<Vec<KeyBlock>>,
    /// How many sequences have each block.
    users: Vec<u32>,
    free: Vec<u32>,
}

/// There are no blocks left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Where a new token goes, and what must be copied before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    /// A block whose content must first be copied into the slot's block.
    pub(crate) copied_from: Option<u32>,
}

impl Table {
    pub(crate) fn new(sequences: usize, blocks: usize) -> Self {
        Table {
            sequences: vec![Vec::new(); sequences],
            users: vec![0; blocks],
            free: (0..blocks as u32).rev().collect(),
        }
    }

    /// The blocks of a sequence, in order.
    pub(crate) fn blocks(&self, sequence: usize) -> &[KeyBlock] {
        &self.sequences[sequence]
    }

    /// The last position that a sequence holds.
    pub(crate) fn last(&self, sequence: usize) -> Option<u32> {
        let block = self.sequences[sequence].last()?;
        Some(block.first + block.present.checked_ilog2()?)
    }

    /// How many blocks are in nobody's use.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many blocks `tokens` more at the end of a sequence take.
    pub(crate) fn needed(&self, sequence: usize, first: u32, tokens: u32) -> usize {
        let last = self.sequences[sequence].last();
        let own = last.filter(|block| block.first / BLOCK == first / BLOCK);
        let blocks = ((first + tokens - 1) / BLOCK - first / BLOCK + 1) as usize;
        match own {
            // The block that is written on; one of several users takes a copy.
            Some(block) if self.users[block.id as usize] == 1 => blocks - 1,
            _ => blocks,
        }
    }

    /// Makes room for a token at a position behind the sequence's last one.
    ///
    /// # Errors
    /// [`Full`] when there is no block; nothing has changed then.
    pub(crate) fn push(&mut self, sequence: usize, position: u32) -> Result<Place, Full> {
        let (first, bit) = (position / BLOCK * BLOCK, position % BLOCK);
        let slot = |block| Slot { block, slot: bit as usize };
        let last = self.sequences[sequence].last().copied().filter(|block| block.first == first);
        let place = match last {
            Some(block) if self.users[block.id as usize] == 1 => {
                Place { slot: slot(block.id), copied_from: None }
            }
            Some(block) => {
                let id = self.take()?;
                self.users[block.id as usize] -= 1;
                if let Some(last) = self.sequences[sequence].last_mut() {
                    last.id = id;
                }
                Place { slot: slot(id), copied_from: Some(block.id) }
            }
            None => {
                let id = self.take()?;
                self.sequences[sequence].push(KeyBlock { id, first, present: 0 });
                Place { slot: slot(id), copied_from: None }
            }
        };
        if let Some(last) = self.sequences[sequence].last_mut() {
            last.present |= 1 << bit;
        }
        Ok(place)
    }

    /// How many blocks of a sequence, from the one of this number on, others have too.
    pub(crate) fn shared(&self, sequence: usize, first: usize) -> usize {
        let blocks = &self.sequences[sequence][first..];
        blocks.iter().filter(|block| self.users[block.id as usize] > 1).count()
    }

    /// Gives a sequence blocks of its own instead of those that others have too, from the one of this number on. What
    /// they hold is to be written anew; answers what each was before and is now.
    ///
    /// # Errors
    /// [`Full`] when there are too few.
    pub(crate) fn own(&mut self, sequence: usize, first: usize) -> Result<Vec<(u32, u32)>, Full> {
        if self.shared(sequence, first) > self.free() {
            return Err(Full);
        }
        let mut replaced = Vec::new();
        for number in first..self.sequences[sequence].len() {
            let before = self.sequences[sequence][number].id;
            if self.users[before as usize] > 1 {
                let id = self.take()?;
                self.users[before as usize] -= 1;
                self.sequences[sequence][number].id = id;
                replaced.push((before, id));
            }
        }
        Ok(replaced)
    }

    /// Forgets the positions from `start` up to `end`, which is not among them.
    pub(crate) fn remove(&mut self, sequence: usize, start: u32, end: u32) {
        let mut blocks = std::mem::take(&mut self.sequences[sequence]);
        blocks.retain_mut(|block| {
            block.present &= !bits(block.first, start, end);
            if block.present == 0 {
                self.release(block.id);
            }
            block.present != 0
        });
        self.sequences[sequence] = blocks;
    }

    /// Makes the positions from `start` up to `end` of a sequence those of another as well; what that one held there
    /// before, in the same blocks, is forgotten.
    pub(crate) fn copy(&mut self, from: usize, to: usize, start: u32, end: u32) {
        if from == to {
            return;
        }
        let shared: Vec<KeyBlock> = self.sequences[from]
            .iter()
            .map(|block| KeyBlock { present: block.present & bits(block.first, start, end), ..*block })
            .filter(|block| block.present != 0)
            .collect();
        for block in shared {
            self.users[block.id as usize] += 1;
            let blocks = &mut self.sequences[to];
            match blocks.binary_search_by_key(&block.first, |block| block.first) {
                Ok(at) => {
                    let before = std::mem::replace(&mut blocks[at], block);
                    self.release(before.id);
                }
                Err(at) => blocks.insert(at, block),
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        for sequence in 0..self.sequences.len() {
            self.remove(sequence, 0, u32::MAX);
        }
    }

    fn take(&mut self) -> Result<u32, Full> {
        let id = self.free.pop().ok_or(Full)?;
        self.users[id as usize] = 1;
        Ok(id)
    }

    fn release(&mut self, id: u32) {
        let users = &mut self.users[id as usize];
        *users -= 1;
        if *users == 0 {
            self.free.push(id);
        }
    }
}

/// The slots of the block at `first` whose positions are from `start` up to `end`.
fn bits(first: u32, start: u32, end: u32) -> u16 {
    let below = |position: u32| {
        let count = position.saturating_sub(first).min(BLOCK);
        ((1u32 << count) - 1) as u16
    };
    below(end) & !below(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(table: &mut Table, sequence: usize, positions: std::ops::Range<u32>) {
        for position in positions {
            table.push(sequence, position).unwrap();
        }
    }

    fn positions(table: &Table, sequence: usize) -> Vec<u32> {
        let blocks = table.blocks(sequence).iter();
        blocks.flat_map(|b| (0..BLOCK).filter(|i| b.present & (1 << i) != 0).map(|i| b.first + i)).collect()
    }

    #[test]
    fn a_copy_shares_until_one_writes() {
        let mut table = Table::new(2, 4);
        fill(&mut table, 0, 0..20);
        table.copy(0, 1, 0, 18);
        assert_eq!((table.free(), table.last(1)), (2, Some(17)));
        assert_eq!(table.needed(1, 18, 1), 1, "a copy of the last block");
        let shared = table.blocks(1)[1].id;
        let place = table.push(1, 18).unwrap();
        assert_eq!(place.copied_from, Some(shared));
        assert_eq!(place.slot.slot, 2);
        assert_eq!(table.push(0, 20).unwrap().copied_from, None, "the other has it alone now");
        assert_eq!(positions(&table, 0), (0..21).collect::<Vec<_>>());
        assert_eq!(positions(&table, 1), (0..19).collect::<Vec<_>>());
        table.remove(0, 0, u32::MAX);
        assert_eq!(table.free(), 2 - 1 + 1);
        table.remove(1, 0, u32::MAX);
        assert_eq!(table.free(), 4);
    }

    #[test]
    fn a_cut_may_be_anywhere() {
        let mut table = Table::new(1, 8);
        fill(&mut table, 0, 0..50);
        table.remove(0, 10, 37);
        assert_eq!(positions(&table, 0), (0..10).chain(37..50).collect::<Vec<_>>());
        assert_eq!(table.free(), 8 - 3);
        table.remove(0, 45, u32::MAX);
        assert_eq!(table.last(0), Some(44));
        fill(&mut table, 0, 45..47);
        assert_eq!(table.last(0), Some(46));
    }

    #[test]
    fn a_sequence_gets_blocks_of_its_own() {
        let mut table = Table::new(2, 8);
        fill(&mut table, 0, 0..40);
        table.copy(0, 1, 0, 40);
        assert_eq!((table.shared(1, 0), table.shared(1, 2)), (3, 1));
        let before = table.blocks(0).to_vec();
        let replaced = table.own(1, 1).unwrap();
        assert_eq!(replaced.iter().map(|pair| pair.0).collect::<Vec<_>>(), [before[1].id, before[2].id]);
        assert_eq!((table.blocks(0), table.shared(1, 0)), (before.as_slice(), 1));
        assert_eq!(positions(&table, 1), positions(&table, 0));
        assert_eq!(table.free(), 8 - 3 - 2);
        let mut full = Table::new(2, 3);
        fill(&mut full, 0, 0..40);
        full.copy(0, 1, 0, 40);
        assert_eq!(full.own(1, 0), Err(Full));
        assert_eq!(full.shared(1, 0), 3, "nothing changed");
    }

    #[test]
    fn needed_blocks_are_those_that_a_push_takes() {
        let mut table = Table::new(1, 8);
        for position in 0..100 {
            let needed = table.needed(0, position, 1);
            let before = table.free();
            table.push(0, position).unwrap();
            assert_eq!(before - table.free(), needed, "{position}");
        }
        assert_eq!(table.needed(0, 100, 12), 0);
        assert_eq!(table.needed(0, 100, 13), 1);
        let mut full = Table::new(1, 1);
        fill(&mut full, 0, 0..16);
        assert_eq!(full.push(0, 16), Err(Full));
        assert_eq!(full.last(0), Some(15), "nothing changed");
    }
}
