//! Attention in both directions: every row of a sequence sees every other of it. The decoder's kernel does it, with all
//! queries at the sequence's last position.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::machine::{Batch, Buffers, Machine};
use crate::decoder::padded;
use crate::kernels::{Attend, CacheElement, F32, Kernels, KeyBlock, LANES, MAX_ROWS, QueryRow};
use crate::pool::Shared;

/// Heads, and how wide they are.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Heads {
    /// Floats of a block of keys and values.
    fn stride(self) -> usize {
        2 * LANES * padded(self.width)
    }
}

/// `softmax(q k / sqrt(width)) v` of each sequence and head, from `mixed` to `attended`.
pub(super) fn attend(machine: &mut Machine, buffers: &mut Buffers, batch: &Batch, heads: Heads) {
    // Where each sequence's blocks begin, those of all its heads.
    let mut first_block = 0;
    let starts = batch.sequences.iter().map(|rows| {
        let start = first_block;
        first_block += rows.len().div_ceil(LANES) * heads.count;
        start
    });
    let starts: Vec<usize> = starts.collect();
    let needed = first_block * heads.stride();
    if buffers.keys.len() < needed {
        buffers.keys.resize(needed, 0.0);
    }
    let (mixed, keys) = (&buffers.mixed, Shared::new(&mut buffers.keys));
    let attended = Shared::new(&mut buffers.attended);
    let kernels = machine.kernels;
    // A sequence's heads in pieces of their own: the longest sequences keep all threads busy too.
    machine.pool.run(batch.sequences.len() * heads.count, |piece| {
        let (sequence, head) = (piece / heads.count, piece % heads.count);
        let rows = batch.sequences[sequence].clone();
        let blocks = rows.len().div_ceil(LANES);
        let from = (starts[sequence] + head * blocks) * heads.stride();
        // SAFETY: the blocks of this sequence and head are this piece's alone.
        let keys = unsafe { keys.slice(from..from + blocks * heads.stride()) };
        Head { kernels, mixed, heads, head, rows }.attend(keys, &attended);
    });
}

/// One head of one sequence.
struct Head<'a> {
    kernels: &'a Kernels,
    /// `[rows][3][heads][width]`
    mixed: &'a [f32],
    heads: Heads,
    head: usize,
    rows: Range<usize>,
}

impl Head<'_> {
    /// Queries, keys or values (0, 1, 2) of a row.
    fn part(&self, row: usize, which: usize) -> &[f32] {
        let Heads { count, width } = self.heads;
        let at = (row * 3 + which) * count * width + self.head * width;
        &self.mixed[at..at + width]
    }

    fn attend(&self, keys: &mut [f32], attended: &Shared<'_, f32>) {
        let (width, wide) = (self.heads.width, padded(self.heads.width));
        let blocks = self.store(keys, wide);
        let scale = 1.0 / (width as f32).sqrt();
        let last = self.rows.len() as u32 - 1;
        let mut queries = vec![0.0f32; MAX_ROWS * wide];
        let mut answers = vec![0.0f32; MAX_ROWS * wide];
        let mut row = self.rows.start;
        while row < self.rows.end {
            let count = (self.rows.end - row).min(MAX_ROWS);
            let tile = (0..count).map(|i| {
                let query = &mut queries[i * wide..i * wide + width];
                query.iter_mut().zip(self.part(row + i, 0)).for_each(|(to, from)| *to = from * scale);
                QueryRow { query: query.as_ptr(), out: answers[i * wide..].as_mut_ptr(), position: last }
            });
            let tile: Vec<QueryRow> = tile.collect();
            let job = Attend::<F32> {
                rows: &tile,
                blocks: &blocks,
                memory: keys.as_ptr(),
                stride: self.heads.stride(),
                head_width: wide,
                window: u32::MAX,
                softcap: None,
            };
            // SAFETY: queries and answers have room for the padded width; the blocks are those just stored, and each
            // query sees all of them.
            unsafe { F32::attend(self.kernels, &job) };
            for i in 0..count {
                let at = ((row + i) * self.heads.count + self.head) * width;
                // SAFETY: this head of these rows is this piece's alone.
                let to = unsafe { attended.slice(at..at + width) };
                to.copy_from_slice(&answers[i * wide..i * wide + width]);
            }
            row += count;
        }
    }

    /// Lays keys and values out in blocks: keys with one dimension of a block together, then values row by row.
    fn store(&self, to: &mut [f32], wide: usize) -> Vec<KeyBlock> {
        let width = self.heads.width;
        to.fill(0.0);
        let store = |(id, block): (usize, &mut [f32])| {
            let first = self.rows.start + id * LANES;
            let count = (self.rows.end - first).min(LANES);
            let (keys, values) = block.split_at_mut(LANES * wide);
            for slot in 0..count {
                for (dimension, &key) in self.part(first + slot, 1).iter().enumerate() {
                    keys[dimension * LANES + slot] = key;
                }
                values[slot * wide..slot * wide + width].copy_from_slice(self.part(first + slot, 2));
            }
            let present = if count == LANES { u16::MAX } else { (1 << count) - 1 };
            KeyBlock { id: id as u32, first: (id * LANES) as u32, present }
        };
        to.chunks_exact_mut(self.heads.stride()).enumerate().map(store).collect()
    }
}
