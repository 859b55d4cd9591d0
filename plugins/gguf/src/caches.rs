//! Where sequences are: short ones in lanes, each in cells of its own, all others in a pool of cells that they share.
//!
//! A row of llama.cpp's attention looks at the mask of every cell of its cache, whose ever it is. In a pool that is what
//! sharing costs, a tenth of all time with eight answers of some hundred tokens. With a cache for each sequence nothing is
//! shared, and the context is cut into as many parts. So a sequence begins in a lane, as long as one is free and it is
//! short; it moves to the pool, a copy of a few milliseconds, when it outgrows its lane, when others shall begin as it
//! does, or when a new one needs the lane and it has not been gone on with for the longest time.

use impetus_plugin_api::{Batch, SeqId};

use crate::native::{DecodeFailure, NativeContext};
use crate::options::Options;
use crate::pieces::{Columns, Piece, Place};
use crate::state;

/// So few cells are copied rather than shared: then both sequences can be in lanes.
const LITTLE: u32 = 64;

/// Lanes of a context.
pub(crate) const LANES: u32 = 8;

/// As many cells of a lane are still little memory; the first that is.
const LANE_TOKENS: [u32; 3] = [1024, 512, 256];
const MOST_LANE_BYTES: u64 = 96 << 20;

/// The cells of a lane beside a pool of so many, or none. Looking at masks grows with a model's heads and layers, and so
/// does a cell, of which `bytes` tells the size; what else a row costs grows with the square of a layer's width.
pub(crate) fn lane_tokens(options: &Options, pool_tokens: u32, bytes: impl Fn(u32) -> u64) -> u32 {
    let fits = |tokens: &u32| bytes(tokens * LANES) <= MOST_LANE_BYTES;
    let tokens = options.lane_tokens.or_else(|| LANE_TOKENS.into_iter().find(fits)).unwrap_or(0);
    // llama.cpp rounds up to these.
    let tokens = tokens.next_multiple_of(256);
    if pool_tokens > tokens { tokens } else { 0 }
}

/// All sequences of one context of the host.
pub(crate) struct Caches {
    pool: NativeContext,
    lanes: Option<Lanes>,
    columns: Columns,
}

/// One cache for each of a few sequences.
struct Lanes {
    inner: NativeContext,
    /// Cells of each.
    tokens: u32,
    /// Which sequence is in which lane, and when it was last computed.
    holders: Vec<Option<(SeqId, u64)>>,
    now: u64,
    /// A sequence on its way.
    state: Vec<u8>,
}

impl Caches {
    /// `lanes` is a context of [`LANES`] sequences, each in so many cells of its own. They are used where llama.cpp writes
    /// sequences out in the form that is known here.
    pub(crate) fn new(mut pool: NativeContext, lanes: Option<(NativeContext, u32)>) -> Self {
        let mut is_known = |lanes: &mut NativeContext| {
            (pool.state_bytes(0), lanes.state_bytes(0)) == (state::EMPTY_POOL, state::EMPTY_LANES)
        };
        let lanes = lanes.and_then(|(mut inner, tokens)| is_known(&mut inner).then_some((inner, tokens)));
        let lanes = lanes.map(|(inner, tokens)| Lanes {
            inner,
            tokens,
            holders: vec![None; LANES as usize],
            now: 0,
            state: Vec::new(),
        });
        Caches { pool, lanes, columns: Columns::default() }
    }

    /// Where a sequence is.
    pub(crate) fn place(&self, sequence: SeqId) -> Place {
        self.lanes.as_ref().and_then(|lanes| lanes.of(sequence)).map_or(Place::Pool, Place::Lane)
    }

    /// The logits of a row of the last piece that was computed there.
    pub(crate) fn logits(&self, in_lanes: bool, row: usize) -> Option<&[f32]> {
        match &self.lanes {
            Some(lanes) if in_lanes => lanes.inner.logits(row),
            _ => self.pool.logits(row),
        }
    }

    /// Finds the best place for each sequence of a batch.
    ///
    /// # Errors
    /// `NoCells` where one that must go to the pool finds no room there.
    pub(crate) fn settle(&mut self, batch: Batch<'_>) -> Result<(), DecodeFailure> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        lanes.now += 1;
        let mut start = 0;
        for run in batch.sequences.as_slice().chunk_by(|a, b| a == b) {
            let (sequence, begun) = (run[0], batch.positions[start].0);
            start += run.len();
            let fits = begun as usize + run.len() <= lanes.tokens as usize;
            if lanes.of(sequence).is_some() {
                if fits {
                    lanes.touch(sequence);
                } else {
                    lanes.let_go(sequence, &mut self.pool)?;
                }
            } else if fits && begun <= LITTLE && lanes.make_room(batch.sequences.as_slice(), &mut self.pool) {
                lanes.admit(sequence, begun, &mut self.pool);
            }
        }
        Ok(())
    }

    /// Computes a piece of a batch.
    ///
    /// # Errors
    /// llama.cpp's.
    pub(crate) fn decode(&mut self, batch: Batch<'_>, piece: &Piece) -> Result<(), DecodeFailure> {
        match &mut self.lanes {
            Some(lanes) if piece.in_lanes => {
                let lane = |sequence| SeqId(lanes.of(sequence).unwrap_or_default());
                let rows = self.columns.gather(batch, piece, lane);
                lanes.inner.decode(rows)
            }
            _ => self.pool.decode(self.columns.gather(batch, piece, |sequence| sequence)),
        }
    }

    /// Computes a batch as it is, in the pool.
    ///
    /// # Errors
    /// llama.cpp's, and `NoCells` where a sequence finds no room in the pool.
    pub(crate) fn decode_whole(&mut self, batch: Batch<'_>) -> Result<(), DecodeFailure> {
        if let Some(lanes) = &mut self.lanes {
            for &sequence in batch.sequences.as_slice() {
                lanes.let_go(sequence, &mut self.pool)?;
            }
        }
        self.pool.decode(batch)
    }

    /// Forgets positions `start..end` of a sequence (a negative `end` is none); `false` where its state cannot be cut there.
    pub(crate) fn seq_rm(&mut self, sequence: SeqId, start: i32, end: i32) -> bool {
        let Some((lanes, lane)) =
            self.lanes.as_mut().and_then(|lanes| lanes.of(sequence).map(|lane| (lanes, lane)))
        else {
            return self.pool.seq_rm(sequence.0.cast_signed(), start, end);
        };
        let cut = lanes.inner.seq_rm(lane.cast_signed(), start, end);
        if lanes.inner.seq_pos_max(lane.cast_signed()) < 0 {
            lanes.holders[lane as usize] = None;
        }
        cut
    }

    /// Makes the positions before `end` (a negative one is none) part of another, empty sequence as well. `false` where
    /// there is no room for it.
    pub(crate) fn seq_cp(&mut self, from: SeqId, to: SeqId, end: i32) -> bool {
        if let Some(lanes) = &mut self.lanes
            && let Some(lane) = lanes.of(from)
        {
            if end >= 0 && end.cast_unsigned() <= LITTLE {
                return lanes.copy_to_pool(lane, to, &mut self.pool)
                    && self.pool.seq_rm(to.0.cast_signed(), end, -1);
            }
            if lanes.let_go(from, &mut self.pool).is_err() {
                return false;
            }
        }
        self.pool.seq_cp(from.0.cast_signed(), to.0.cast_signed(), 0, end);
        true
    }

    /// The last position of a sequence, -1 where it is empty.
    pub(crate) fn seq_pos_max(&self, sequence: SeqId) -> i32 {
        match &self.lanes {
            Some(lanes) if let Some(lane) = lanes.of(sequence) => lanes.inner.seq_pos_max(lane.cast_signed()),
            _ => self.pool.seq_pos_max(sequence.0.cast_signed()),
        }
    }

    /// Forgets every sequence.
    pub(crate) fn clear(&mut self) {
        self.pool.clear();
        if let Some(lanes) = &mut self.lanes {
            lanes.inner.clear();
            lanes.holders.fill(None);
        }
    }
}

impl Lanes {
    /// The lane of a sequence.
    fn of(&self, sequence: SeqId) -> Option<u32> {
        let at = self.holders.iter().position(|holder| holder.is_some_and(|(id, _)| id == sequence))?;
        Some(at as u32)
    }

    fn touch(&mut self, sequence: SeqId) {
        let now = self.now;
        for (id, last) in self.holders.iter_mut().flatten().filter(|(id, _)| *id == sequence) {
            (*id, *last) = (sequence, now);
        }
    }

    /// Whether a lane is free, or the one of a sequence that is not in this batch can be.
    fn make_room(&mut self, batch: &[SeqId], pool: &mut NativeContext) -> bool {
        if self.holders.iter().any(Option::is_none) {
            return true;
        }
        let others = self.holders.iter().flatten().filter(|(id, _)| !batch.contains(id));
        let oldest = others.min_by_key(|(_, last)| *last).map(|(id, _)| *id);
        oldest.is_some_and(|id| self.let_go(id, pool).is_ok())
    }

    /// Takes a sequence in that has so many cells in the pool. Where that fails it stays there.
    fn admit(&mut self, sequence: SeqId, begun: u32, pool: &mut NativeContext) {
        let Some(lane) = self.holders.iter().position(Option::is_none) else { return };
        let id = sequence.0.cast_signed();
        if begun > 0 {
            pool.write_out(id, &mut self.state);
            state::to_lanes(&mut self.state);
            if !self.inner.read_in(lane as i32, &self.state) {
                return;
            }
            pool.seq_rm(id, 0, -1);
        }
        self.holders[lane] = Some((sequence, self.now));
    }

    fn copy_to_pool(&mut self, lane: u32, sequence: SeqId, pool: &mut NativeContext) -> bool {
        self.inner.write_out(lane.cast_signed(), &mut self.state);
        state::from_lane(&mut self.state, lane);
        pool.read_in(sequence.0.cast_signed(), &self.state)
    }

    /// Moves a sequence to the pool, if it is here.
    fn let_go(&mut self, sequence: SeqId, pool: &mut NativeContext) -> Result<(), DecodeFailure> {
        let Some(lane) = self.of(sequence) else { return Ok(()) };
        let id = lane.cast_signed();
        if self.inner.seq_pos_max(id) >= 0 {
            if !self.copy_to_pool(lane, sequence, pool) {
                return Err(DecodeFailure::NoCells);
            }
            self.inner.seq_rm(id, 0, -1);
        }
        self.holders[lane as usize] = None;
        Ok(())
    }
}
