//! Attention of a batch: queries and keys get their positions, each sequence's queries see its own keys.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::forward::{Computer, Run, Step};
use super::rotation::Rotation;
use super::weights::{HeadNorms, LayerWeights};
use super::workspace::{Workspace, padded};
use crate::cache::LayerMemory;
use crate::config::{Decoder, Layer};
use crate::kernels::{Attend, CacheElement, Kernels, LANES, MAX_ROWS, QueryRow, SharedOperand};
use crate::pool::Shared;

impl Computer<'_> {
    /// Norms (where the family has them) and rotates queries and keys, scales queries, stores keys and values.
    pub(super) fn rotate<E: CacheElement>(
        &mut self,
        weights: &LayerWeights,
        memory: &LayerMemory<'_, E>,
        workspace: &mut Workspace,
        step: &Step<'_>,
    ) {
        let Decoder { heads, kv_heads, head_width, scales, .. } = *self.decoder;
        let (query_width, key_width, wide) = (heads * head_width, kv_heads * head_width, padded(head_width));
        let mixed = Shared::new(&mut workspace.mixed);
        let queries = Shared::new(&mut workspace.queries);
        let rotation = weights.kind.rope.and_then(|rope| workspace.rotations.get(rope));
        let computer = &Turner { kernels: self.kernels, decoder: self.decoder, rotation };
        self.pool.split(step.tokens.len(), 1, |rows| {
            for row in rows {
                let stride = query_width + 2 * key_width;
                // SAFETY: each row is one thread's.
                let mixed = unsafe { mixed.slice(row * stride..(row + 1) * stride) };
                let (query, rest) = mixed.split_at_mut(query_width);
                let (key, value) = rest.split_at_mut(key_width);
                computer.turn(row, query, weights.norms.query.as_ref());
                computer.turn(row, key, weights.norms.key.as_ref());
                computer.clip(value);
                // SAFETY: as above.
                let to = unsafe { queries.slice(row * heads * wide..(row + 1) * heads * wide) };
                for (to, from) in to.chunks_exact_mut(wide).zip(query.chunks_exact(head_width)) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = from * scales.score);
                }
                // SAFETY: each slot is one row's.
                unsafe { memory.store(step.slots[row], head_width, key, value) };
            }
        });
    }

    /// Each sequence's queries over its own keys and values.
    pub(super) fn attend<E: CacheElement>(
        &mut self,
        layer: Layer,
        memory: &LayerMemory<'_, E>,
        workspace: &mut Workspace,
        step: &Step<'_>,
    ) {
        let Workspace { queries, answers, attended, .. } = workspace;
        let attention = Attention {
            decoder: self.decoder,
            kernels: self.kernels,
            layer,
            queries,
            answers: Shared::new(answers),
            step,
        };
        let attended = attended.share();
        let (group, kv_heads) = (self.decoder.heads / self.decoder.kv_heads, self.decoder.kv_heads);
        let tiles = |run: &Run| (run.rows.len() * group).div_ceil(MAX_ROWS);
        let pieces = step.runs.iter().map(|run| tiles(run) * kv_heads).sum();
        self.pool.run(pieces, |mut piece| {
            for (number, run) in step.runs.iter().enumerate() {
                if let Some(later) = piece.checked_sub(tiles(run) * kv_heads) {
                    piece = later;
                    continue;
                }
                // The long tiles at the end of a prompt first, so that no thread gets one last.
                let (tile, head) = (tiles(run) - 1 - piece / kv_heads, piece % kv_heads);
                let queries = tile * MAX_ROWS..((tile + 1) * MAX_ROWS).min(run.rows.len() * group);
                attention.tile(number, head, queries.clone(), memory);
                for query in queries {
                    attention.finish(run.rows.start + query / group, head * group + query % group, &attended);
                }
                return;
            }
        });
    }
}

/// Norms and rotates heads.
struct Turner<'a> {
    kernels: &'a Kernels,
    decoder: &'a Decoder,
    rotation: Option<&'a Rotation>,
}

impl Turner<'_> {
    /// All heads (of queries, or of keys) of a row.
    fn turn(&self, row: usize, heads: &mut [f32], norm: Option<&HeadNorms>) {
        let width = self.decoder.head_width;
        match norm {
            None => {}
            Some(HeadNorms::Whole(norm)) => norm.apply_in_place(self.kernels, heads),
            Some(HeadNorms::Each(norms)) => {
                // One norm for all heads, or one for each.
                for (head, norm) in heads.chunks_exact_mut(width).zip(norms.iter().cycle()) {
                    norm.apply_in_place(self.kernels, head);
                }
            }
        }
        self.clip(heads);
        if let Some(rotation) = self.rotation {
            for head in heads.chunks_exact_mut(self.decoder.head_width) {
                rotation.apply(row, head);
            }
        }
    }
}

impl Turner<'_> {
    /// Keeps numbers within the family's bounds, where it has such.
    fn clip(&self, numbers: &mut [f32]) {
        if let Some(clip) = self.decoder.scales.clip {
            numbers.iter_mut().for_each(|x| *x = x.clamp(-clip, clip));
        }
    }
}

/// One layer's attention.
struct Attention<'a> {
    decoder: &'a Decoder,
    kernels: &'a Kernels,
    layer: Layer,
    /// `[rows][heads][padded head_width]`, as the answers.
    queries: &'a [f32],
    answers: Shared<'a, f32>,
    step: &'a Step<'a>,
}

impl Attention<'_> {
    /// Some queries of a run, counted token by token and within these by the heads that share a head of keys.
    fn tile<E: CacheElement>(
        &self,
        run: usize,
        head: usize,
        queries: Range<usize>,
        memory: &LayerMemory<'_, E>,
    ) {
        let group = self.decoder.heads / self.decoder.kv_heads;
        let run = &self.step.runs[run];
        let blocks = self.step.table.blocks(run.sequence);
        let first_row = run.rows.start;
        let width = padded(self.decoder.head_width);
        let mut rows =
            [QueryRow { query: std::ptr::null(), out: std::ptr::null_mut(), position: 0 }; MAX_ROWS];
        for (to, query) in rows.iter_mut().zip(queries.clone()) {
            let row = first_row + query / group;
            let at = (row * self.decoder.heads + head * group + query % group) * width;
            let query = self.queries[at..at + width].as_ptr();
            *to = QueryRow { query, out: self.answers.at(at), position: self.step.positions[row] };
        }
        let rows = &rows[..queries.len()];
        let window = self.layer.window.unwrap_or(u32::MAX);
        let (first, last) = (rows[0].position, rows[rows.len() - 1].position);
        // Blocks that some of these queries see.
        let from = (first + 1).saturating_sub(window);
        let start = blocks.partition_point(|block| u64::from(block.first) + LANES as u64 <= u64::from(from));
        let end = blocks.partition_point(|block| block.first <= last);
        let (memory, stride) = memory.head(head);
        let job = Attend::<E> {
            rows,
            blocks: &blocks[start..end],
            memory,
            stride,
            head_width: width,
            window,
            softcap: self.decoder.scales.score_cap,
        };
        // SAFETY: every query sees its own key, which was stored before; the answers are this tile's alone; blocks are
        // those of the cache whose memory this is.
        unsafe { E::attend(self.kernels, &job) };
    }

    /// Hands a finished head on to the output matrix.
    fn finish(&self, row: usize, head: usize, attended: &SharedOperand<'_>) {
        let (width, wide) = (self.decoder.head_width, padded(self.decoder.head_width));
        let at = (row * self.decoder.heads + head) * wide;
        // SAFETY: this head of this row is this thread's, which has just computed it.
        unsafe {
            let answer = self.answers.slice(at..at + width);
            attended
                .fill(self.kernels, row, head * width..(head + 1) * width, |to| to.copy_from_slice(answer));
        }
    }
}
