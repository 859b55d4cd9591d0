//! A batch through the decoder: rows of many sequences share each matrix; attention is each sequence's own.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::rotation::Rotation;
use super::weights::{LayerWeights, Projection, Weights};
use super::workspace::{Workspace, padded};
use crate::cache::{LayerMemory, Memory, Slot};
use crate::config::{Decoder, Layer, QueryKeyNorm};
use crate::kernels::{Attend, CacheElement, Kernels, KeyBlock, MAX_ROWS, Operand, Output, QueryRow};
use crate::pool::{Pool, Shared};

/// What to compute.
pub(crate) struct Step<'a> {
    /// `[rows]`
    pub(crate) tokens: &'a [u32],
    pub(crate) positions: &'a [u32],
    /// Where each row's keys and values go.
    pub(crate) slots: &'a [Slot],
    /// Rows of one sequence after another; together all rows.
    pub(crate) runs: &'a [Run],
    /// The blocks of each run's sequence, its new tokens' included.
    pub(crate) blocks: &'a [&'a [KeyBlock]],
    /// Rows whose logits are wanted, in order.
    pub(crate) wanted: &'a [usize],
}

/// Rows of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) rows: Range<usize>,
    pub(crate) sequence: usize,
}

/// The immutable half of a computation and the threads that do it.
struct Computer<'a> {
    kernels: &'a Kernels,
    pool: &'a mut Pool,
    decoder: &'a Decoder,
}

/// Computes a step: keys and values go to `memory`, the wanted logits to `workspace`.
pub(crate) fn forward<E: CacheElement>(
    (kernels, pool): (&Kernels, &mut Pool),
    (decoder, weights): (&Decoder, &Weights),
    memory: &mut Memory<E>,
    workspace: &mut Workspace,
    step: &Step<'_>,
) {
    let mut computer = Computer { kernels, pool, decoder };
    computer.embed(weights, workspace, step.tokens);
    for rotation in &mut workspace.rotations {
        rotation.turn(step.positions.iter().copied());
    }
    for (i, weights) in weights.layers.iter().enumerate() {
        let mut memory = memory.layer(i);
        computer.attention(weights, &mut memory, workspace, step);
        computer.feed_forward(weights, workspace, step.tokens.len());
    }
    computer.logits(weights, workspace, step.wanted);
}

/// Rows of a matrix that a thread takes at least.
const GRAIN: usize = 4;

impl Computer<'_> {
    /// `stream[r] = embedding[token[r]] * scale`
    fn embed(&mut self, weights: &Weights, workspace: &mut Workspace, tokens: &[u32]) {
        let (hidden, scale) = (self.decoder.hidden, self.decoder.scales.embedding);
        let stream = Shared::new(&mut workspace.stream);
        self.pool.split(tokens.len(), 1, |rows| {
            for row in rows {
                // SAFETY: each row is one thread's.
                let to = unsafe { stream.slice(row * hidden..(row + 1) * hidden) };
                weights.embedding.read_row(tokens[row] as usize, to);
                if scale != 1.0 {
                    to.iter_mut().for_each(|x| *x *= scale);
                }
            }
        });
    }

    fn attention<E: CacheElement>(
        &mut self,
        weights: &LayerWeights,
        memory: &mut LayerMemory<'_, E>,
        workspace: &mut Workspace,
        step: &Step<'_>,
    ) {
        let rows = step.tokens.len();
        let Decoder { heads, kv_heads, head_width, .. } = *self.decoder;
        // q, k, v = W_q x, W_k x, W_v x of the normed stream.
        self.norm(weights.norms.before_attention.as_deref(), workspace, rows);
        let stride = (heads + 2 * kv_heads) * head_width;
        let mixed = Shared::new(&mut workspace.mixed);
        let columns = [(&weights.query, 0), (&weights.key, heads), (&weights.value, heads + kv_heads)];
        self.project(
            (&workspace.normed, rows),
            &columns.map(|(p, head)| (p, head * head_width)),
            (&mixed, stride),
        );
        // Positions, and keys and values into the cache.
        self.rotate(weights, memory, workspace, step);
        // softmax(q k / sqrt(d)) v
        self.attend(weights.kind, memory, workspace, step);
        // stream += W_o answers
        let Workspace { stream, branch, attended, .. } = workspace;
        let behind = weights.norms.behind_attention.as_deref();
        self.add((attended, rows), &weights.attention_output, behind, (stream, branch));
    }

    /// `normed = norm(stream)`, or the stream as it is.
    fn norm(&mut self, weight: Option<&[f32]>, workspace: &mut Workspace, rows: usize) {
        let Workspace { stream, normed, .. } = workspace;
        let (hidden, epsilon, kernels) = (self.decoder.hidden, self.decoder.norm_epsilon, self.kernels);
        let normed = normed.share();
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                let from = &stream[row * hidden..(row + 1) * hidden];
                // SAFETY: each row is one thread's.
                unsafe {
                    normed.fill(kernels, row, 0..hidden, |to| match weight {
                        Some(weight) => kernels.rms_norm(from, weight, epsilon, to),
                        None => to.copy_from_slice(from),
                    });
                }
            }
        });
    }

    /// Several matrices with the same input, each to its own columns of `out`.
    fn project(
        &mut self,
        (input, rows): (&Operand, usize),
        projections: &[(&Projection, usize)],
        (out, stride): (&Shared<'_, f32>, usize),
    ) {
        let kernels = self.kernels;
        let total = projections.iter().map(|(projection, _)| projection.matrix.rows()).sum();
        self.pool.split(total, GRAIN, |range| {
            let mut before = 0;
            for &(projection, column) in projections {
                let count = projection.matrix.rows();
                let part = range.start.max(before)..range.end.min(before + count);
                if !part.is_empty() {
                    let part = part.start - before..part.end - before;
                    let to = Output { to: out, stride, column, add: false, scale: 1.0 };
                    // SAFETY: each column is one thread's.
                    unsafe {
                        kernels.multiply((input, rows), projection.parts(), part, &to);
                    }
                }
                before += count;
            }
        });
    }

    /// `stream += scale * (W input + b)`, through a norm where the family has one there.
    fn add(
        &mut self,
        (input, rows): (&Operand, usize),
        projection: &Projection,
        behind: Option<&[f32]>,
        (stream, branch): (&mut [f32], &mut [f32]),
    ) {
        let (hidden, epsilon, scale) =
            (self.decoder.hidden, self.decoder.norm_epsilon, self.decoder.scales.residual);
        let kernels = self.kernels;
        let direct = behind.is_none();
        let to = Shared::new(if direct { &mut *stream } else { &mut *branch });
        let factor = if direct { scale } else { 1.0 };
        self.pool.split(hidden, GRAIN, |range| {
            let out = Output { to: &to, stride: hidden, column: 0, add: direct, scale: factor };
            // SAFETY: each column is one thread's.
            unsafe { kernels.multiply((input, rows), projection.parts(), range, &out) }
        });
        let Some(weight) = behind else { return };
        let (stream, branch) = (Shared::new(stream), Shared::new(branch));
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                let place = row * hidden..(row + 1) * hidden;
                // SAFETY: each row is one thread's.
                let (stream, branch) = unsafe { (stream.slice(place.clone()), branch.slice(place)) };
                let normed: &mut [f32] = branch;
                kernels.rms_norm_in_place(normed, weight, epsilon);
                stream.iter_mut().zip(normed).for_each(|(stream, x)| *stream += *x * scale);
            }
        });
    }

    /// Norms (where the family has them) and rotates queries and keys, scales queries, stores keys and values.
    fn rotate<E: CacheElement>(
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
                computer.turn(row, query, weights.norms.query.as_deref());
                computer.turn(row, key, weights.norms.key.as_deref());
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
    fn attend<E: CacheElement>(
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

    /// `stream += W_down (activation(W_gate x) * W_up x)` of the normed stream.
    fn feed_forward(&mut self, weights: &LayerWeights, workspace: &mut Workspace, rows: usize) {
        self.norm(weights.norms.before_mlp.as_deref(), workspace, rows);
        let Workspace { stream, branch, normed, gate, up, gated, .. } = workspace;
        let (kernels, activation, width) = (self.kernels, self.decoder.activation, self.decoder.intermediate);
        let (gate, up) = (Shared::new(gate), Shared::new(up));
        let shared = gated.share();
        self.pool.split(width, GRAIN, |range| {
            for (projection, to) in [(&weights.gate, &gate), (&weights.up, &up)] {
                let out = Output { to, stride: width, column: 0, add: false, scale: 1.0 };
                // SAFETY: each column is one thread's.
                unsafe { kernels.multiply((normed, rows), projection.parts(), range.clone(), &out) };
            }
            for row in 0..rows {
                let place = row * width + range.start..row * width + range.end;
                // SAFETY: each column is one thread's.
                unsafe {
                    let (gate, up) = (gate.slice(place.clone()), up.slice(place));
                    shared.fill(kernels, row, range.clone(), |to| {
                        to.copy_from_slice(gate);
                        kernels.gate(activation, to, up);
                    });
                }
            }
        });
        let behind = weights.norms.behind_mlp.as_deref();
        self.add((gated, rows), &weights.down, behind, (stream, branch));
    }

    /// Logits of the wanted rows: their last norm, then the output matrix.
    fn logits(&mut self, weights: &Weights, workspace: &mut Workspace, wanted: &[usize]) {
        let Decoder { hidden, vocab_size, norm_epsilon, scales, .. } = *self.decoder;
        let Workspace { stream, normed, logits, .. } = workspace;
        let kernels = self.kernels;
        let shared = normed.share();
        for (to, &row) in wanted.iter().enumerate() {
            let from = &stream[row * hidden..(row + 1) * hidden];
            // SAFETY: one thread.
            unsafe {
                shared.fill(kernels, to, 0..hidden, |to| {
                    kernels.rms_norm(from, &weights.norm, norm_epsilon, to)
                });
            }
        }
        logits.resize(wanted.len() * vocab_size, 0.0);
        let out = Shared::new(logits);
        self.pool.split(vocab_size, GRAIN, |range| {
            let to = Output { to: &out, stride: vocab_size, column: 0, add: false, scale: scales.logits };
            // SAFETY: each column is one thread's.
            unsafe { kernels.multiply((normed, wanted.len()), weights.output.parts(), range.clone(), &to) };
            let Some(cap) = scales.logits_cap else { return };
            for row in 0..wanted.len() {
                // SAFETY: as above.
                let logits =
                    unsafe { out.slice(row * vocab_size + range.start..row * vocab_size + range.end) };
                logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
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
    fn turn(&self, row: usize, heads: &mut [f32], norm: Option<&[f32]>) {
        let epsilon = self.decoder.norm_epsilon;
        match (norm, self.decoder.query_key_norm) {
            (Some(norm), QueryKeyNorm::Whole) => self.kernels.rms_norm_in_place(heads, norm, epsilon),
            (Some(norm), QueryKeyNorm::Head) => {
                for head in heads.chunks_exact_mut(self.decoder.head_width) {
                    self.kernels.rms_norm_in_place(head, norm, epsilon);
                }
            }
            (Some(_), QueryKeyNorm::None) | (None, _) => {}
        }
        if let Some(rotation) = self.rotation {
            for head in heads.chunks_exact_mut(self.decoder.head_width) {
                rotation.apply(row, head);
            }
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
        let blocks = self.step.blocks[run];
        let first_row = self.step.runs[run].rows.start;
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
        let start = blocks.partition_point(|block| {
            u64::from(block.first) + crate::kernels::LANES as u64 <= u64::from(from)
        });
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
    fn finish(&self, row: usize, head: usize, attended: &crate::kernels::SharedOperand<'_>) {
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
