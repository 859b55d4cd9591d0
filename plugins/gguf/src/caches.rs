//! Where sequences are: in the pool of cells that all share, or, while a prompt is long and new, in a nursery.
//!
//! A row of llama.cpp's attention looks at the mask of every cell of its cache, whose ever it is. That is cheap for one
//! row of an answer and dear for the hundreds of a prompt, which are most of what there is to compute: so a prompt grows
//! up in a small cache of its own, and moves to the pool with its first short run of rows. That costs a copy of its keys
//! and values, a few milliseconds. What sequences share, they share in the pool.

use impetus_plugin_api::{Batch, SeqId};

use crate::native::{DecodeFailure, NativeContext};
use crate::pieces::{Piece, TILE_ROWS};

/// A sequence with more cells in the pool stays there: most of its cells may be shared.
pub(crate) const LITTLE: u32 = 64;

/// All sequences of one context of the host.
pub(crate) struct Caches {
    pool: NativeContext,
    nursery: Option<Nursery>,
}

/// The cache of prompts.
struct Nursery {
    inner: NativeContext,
    /// Whether a sequence, by its id, is here.
    holds: Vec<bool>,
    /// A sequence on its way.
    state: Vec<u8>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Pool,
    Nursery,
}

impl Caches {
    pub(crate) fn new(pool: NativeContext, nursery: Option<NativeContext>, max_sequences: u32) -> Self {
        let holds = vec![false; max_sequences as usize];
        let nursery = nursery.map(|inner| Nursery { inner, holds, state: Vec::new() });
        Caches { pool, nursery }
    }

    /// A cache, to be computed in or read from.
    pub(crate) fn at(&self, place: Place) -> &NativeContext {
        match (&self.nursery, place) {
            (Some(nursery), Place::Nursery) => &nursery.inner,
            _ => &self.pool,
        }
    }

    fn at_mut(&mut self, place: Place) -> &mut NativeContext {
        match (&mut self.nursery, place) {
            (Some(nursery), Place::Nursery) => &mut nursery.inner,
            _ => &mut self.pool,
        }
    }

    /// Computes a piece of a batch, which is `rows`, wherever it is best, and says where that was.
    ///
    /// # Errors
    /// llama.cpp's, and `NoCells` where a sequence finds no room in the pool; its state is what it was.
    pub(crate) fn decode(
        &mut self,
        batch: Batch<'_>,
        piece: &Piece,
        rows: Batch<'_>,
    ) -> Result<Place, DecodeFailure> {
        let place = if self.grows_up(batch, piece) { Place::Nursery } else { Place::Pool };
        if place == Place::Pool && self.nursery.is_some() {
            for row in piece.rows() {
                self.move_to_pool(batch.sequences[row])?;
            }
        }
        self.at_mut(place).decode(rows).map(|()| place)
    }

    /// Whether a piece is the long run of a prompt that has room in the nursery, in which it then is.
    fn grows_up(&mut self, batch: Batch<'_>, piece: &Piece) -> bool {
        let (Some(nursery), Piece::Run(run)) = (&mut self.nursery, piece) else { return false };
        let sequence = batch.sequences[run.start];
        let is_of_one = batch.sequences.as_slice()[run.clone()].iter().all(|&id| id == sequence);
        if run.len() < TILE_ROWS || !is_of_one {
            return false;
        }
        let begun = batch.positions[run.start].0;
        if nursery.has(sequence) {
            return nursery.room() >= run.len();
        }
        let needed = run.len() + begun as usize;
        if begun > LITTLE || needed > nursery.inner.n_ctx() as usize {
            return false;
        }
        if nursery.room() < needed {
            // Prompts that nobody goes on with, and those of which there is more to come than the nursery holds.
            nursery.let_all_go(&mut self.pool);
        }
        nursery.room() >= needed && nursery.admit(sequence, begun, &mut self.pool)
    }

    fn move_to_pool(&mut self, sequence: SeqId) -> Result<(), DecodeFailure> {
        match &mut self.nursery {
            Some(nursery) if nursery.has(sequence) => nursery.let_go(sequence, &mut self.pool),
            _ => Ok(()),
        }
    }

    fn place_of(&self, sequence: SeqId) -> Place {
        let in_nursery = self.nursery.as_ref().is_some_and(|nursery| nursery.has(sequence));
        if in_nursery { Place::Nursery } else { Place::Pool }
    }

    /// Forgets positions `start..end` of a sequence (a negative `end` is none); `false` where its state cannot be cut there.
    pub(crate) fn seq_rm(&mut self, sequence: SeqId, start: i32, end: i32) -> bool {
        let place = self.place_of(sequence);
        let cut = self.at_mut(place).seq_rm(sequence.0.cast_signed(), start, end);
        if let Some(nursery) = &mut self.nursery
            && nursery.inner.seq_pos_max(sequence.0.cast_signed()) < 0
        {
            nursery.hold(sequence, false);
        }
        cut
    }

    /// Makes positions `start..end` part of another, empty sequence as well.
    pub(crate) fn seq_cp(&mut self, from: SeqId, to: SeqId, start: i32, end: i32) {
        // Where the pool has no room, both are in the nursery.
        let _ = self.move_to_pool(from);
        let place = self.place_of(from);
        self.at_mut(place).seq_cp(from.0.cast_signed(), to.0.cast_signed(), start, end);
        if let Some(nursery) = &mut self.nursery {
            nursery.hold(to, place == Place::Nursery);
        }
    }

    /// The last position of a sequence, -1 where it is empty.
    pub(crate) fn seq_pos_max(&self, sequence: SeqId) -> i32 {
        self.at(self.place_of(sequence)).seq_pos_max(sequence.0.cast_signed())
    }

    /// Forgets every sequence.
    pub(crate) fn clear(&mut self) {
        self.pool.clear();
        if let Some(nursery) = &mut self.nursery {
            nursery.inner.clear();
            nursery.holds.fill(false);
        }
    }
}

impl Nursery {
    fn has(&self, sequence: SeqId) -> bool {
        self.holds.get(sequence.0 as usize).copied().unwrap_or(false)
    }

    fn hold(&mut self, sequence: SeqId, holds: bool) {
        if let Some(place) = self.holds.get_mut(sequence.0 as usize) {
            *place = holds;
        }
    }

    /// Cells that are free for certain: what sequences share is counted for each.
    fn room(&self) -> usize {
        let ids = (0..).zip(&self.holds).filter(|(_, holds)| **holds);
        let used: i64 = ids.map(|(id, _)| i64::from(self.inner.seq_pos_max(id)) + 1).sum();
        (self.inner.n_ctx() as usize).saturating_sub(used.cast_unsigned() as usize)
    }

    /// Takes a sequence in that has so many cells in the pool.
    fn admit(&mut self, sequence: SeqId, begun: u32, pool: &mut NativeContext) -> bool {
        let id = sequence.0.cast_signed();
        if begun > 0 {
            if !self.inner.take_over(pool, id, &mut self.state) {
                return false;
            }
            pool.seq_rm(id, 0, -1);
        }
        self.hold(sequence, true);
        true
    }

    fn let_all_go(&mut self, pool: &mut NativeContext) {
        for id in 0..self.holds.len() as u32 {
            if self.has(SeqId(id)) {
                // Whom the pool has no room for stays.
                let _ = self.let_go(SeqId(id), pool);
            }
        }
    }

    fn let_go(&mut self, sequence: SeqId, pool: &mut NativeContext) -> Result<(), DecodeFailure> {
        let id = sequence.0.cast_signed();
        if self.inner.seq_pos_max(id) >= 0 {
            if !pool.take_over(&mut self.inner, id, &mut self.state) {
                return Err(DecodeFailure::NoCells);
            }
            self.inner.seq_rm(id, 0, -1);
        }
        self.hold(sequence, false);
        Ok(())
    }
}
