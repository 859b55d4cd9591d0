//! A batch through the decoder: rows of many sequences share each matrix; attention is each sequence's own.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::borrow::Borrow;
use std::ops::Range;

use super::norm::Norm;
use super::observe::{Input, Observed};
use super::weights::{Dense, FeedForward, LayerWeights, Projection, Weights};
use super::workspace::Workspace;
use crate::cache::{LayerMemory, Memory, Slot, Table};
use crate::config::{Decoder, Residual};
use crate::kernels::{CacheElement, Kernels, Operand, Output};
use crate::pool::{Ahead, Pool, Shared};

/// What to compute.
pub(crate) struct Step<'a> {
    /// `[rows]`
    pub(crate) tokens: &'a [u32],
    pub(crate) positions: &'a [u32],
    /// Where each row's keys and values go.
    pub(crate) slots: &'a [Slot],
    /// Rows of one sequence after another; together all rows.
    pub(crate) runs: &'a [Run],
    /// Which blocks each sequence has, its new tokens' included.
    pub(crate) table: &'a Table,
    /// Rows whose logits are wanted, in order.
    pub(crate) wanted: &'a [usize],
}

/// Rows of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) rows: Range<usize>,
    pub(crate) sequence: usize,
    /// Tokens that the sequence has behind them, which its positions may depend on.
    pub(crate) length: u32,
}

/// The immutable half of a computation and the threads that do it.
pub(super) struct Computer<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) pool: &'a mut Pool,
    pub(super) decoder: &'a Decoder,
    /// Sees the inputs of matrices, where somebody wants to know them, and of which layer they are.
    observed: Option<&'a mut Observed>,
    layer: usize,
}

/// Computes a step: keys and values go to `memory`, the wanted logits to `workspace`.
pub(crate) fn forward<E: CacheElement>(
    (kernels, pool): (&Kernels, &mut Pool),
    (decoder, weights): (&Decoder, &Weights),
    memory: &mut Memory<E>,
    workspace: &mut Workspace,
    step: &Step<'_>,
) {
    let computer = Computer { kernels, pool, decoder, observed: None, layer: 0 };
    compute(computer, weights, memory, workspace, step);
}

/// The same while somebody looks on.
pub(super) fn forward_observed<E: CacheElement>(
    (kernels, pool): (&Kernels, &mut Pool),
    (decoder, weights): (&Decoder, &Weights),
    memory: &mut Memory<E>,
    workspace: &mut Workspace,
    (step, observed): (&Step<'_>, &mut Observed),
) {
    let computer = Computer { kernels, pool, decoder, observed: Some(observed), layer: 0 };
    compute(computer, weights, memory, workspace, step);
}

fn compute<E: CacheElement>(
    mut computer: Computer<'_>,
    weights: &Weights,
    memory: &mut Memory<E>,
    workspace: &mut Workspace,
    step: &Step<'_>,
) {
    computer.embed(weights, workspace, step);
    for rotation in &mut workspace.rotations {
        rotation.turn(step.positions, step.runs);
    }
    let rows = step.tokens.len();
    for (i, layer) in weights.layers.iter().enumerate() {
        let mut memory = memory.layer(i);
        computer.layer = i;
        computer.attention(layer, &mut memory, workspace, step);
        let behind = match weights.layers.get(i + 1) {
            Some(next) => computer.ahead(rows, next.inputs.iter().map(|(projection, _)| projection)),
            None => computer.ahead(rows, [&weights.output]),
        };
        computer.feed_forward(layer, workspace, (rows, behind));
    }
    computer.logits(weights, workspace, step.wanted);
}

/// From so many rows on, products take longer than reading their matrices.
const FEW: usize = 8;

impl Computer<'_> {
    /// What threads that wait shall fetch; nothing where memory is not what is waited for.
    pub(super) fn ahead<'a>(&self, rows: usize, next: impl IntoIterator<Item = &'a Projection>) -> Ahead {
        match rows < FEW {
            true => Ahead::of(next.into_iter().map(|projection| projection.matrix.bytes())),
            false => Ahead::default(),
        }
    }

    fn observe(&mut self, input: Input, operand: &Operand, rows: usize) {
        if let Some(observed) = &mut self.observed {
            observed.add((self.layer, input), operand, rows);
        }
    }

    /// `stream[r] = embedding[token[r]] * scale`, and the learned position where there are such.
    fn embed(&mut self, weights: &Weights, workspace: &mut Workspace, step: &Step<'_>) {
        let (hidden, scale, kernels) = (self.decoder.hidden, self.decoder.scales.embedding, self.kernels);
        let Workspace { stream, normed, .. } = workspace;
        let (stream, free) = (Shared::new(stream), normed.share());
        self.pool.split(step.tokens.len(), 1, |rows| {
            for row in rows {
                // SAFETY: each row is one thread's.
                let to = unsafe { stream.slice(row * hidden..(row + 1) * hidden) };
                weights.embedding.read_row(step.tokens[row] as usize, to);
                if scale != 1.0 {
                    to.iter_mut().for_each(|x| *x *= scale);
                }
                let Some(positions) = &weights.positions else { continue };
                let add = |learned: &mut [f32]| {
                    positions.read_row(step.positions[row] as usize, learned);
                    to.iter_mut().zip(learned).for_each(|(x, learned)| *x += *learned);
                };
                // SAFETY: as above.
                unsafe { free.fill(kernels, row, 0..hidden, add) };
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
        let Decoder { heads, kv_heads, head_width, residual, .. } = *self.decoder;
        // q, k, v = W_q x, W_k x, W_v x of the normed stream.
        self.norm(weights.norms.before_attention.as_ref(), workspace, rows);
        self.observe(Input::Attention, &workspace.normed, rows);
        let stride = (heads + 2 * kv_heads) * head_width;
        let mixed = Shared::new(&mut workspace.mixed);
        let output = self.ahead(rows, [&weights.attention_output]);
        self.pool.announce(output);
        self.project((&workspace.normed, rows), &weights.inputs, (&mixed, stride));
        // Positions, and keys and values into the cache.
        self.rotate(weights, memory, workspace, step);
        // softmax(q k / sqrt(d)) v
        self.pool.announce(output);
        self.attend(weights.kind, memory, workspace, step);
        if residual == Residual::Parallel {
            // The feed-forward network begins with the same stream.
            self.norm(weights.norms.before_mlp.as_ref(), workspace, rows);
        }
        self.observe(Input::Answers, &workspace.attended, rows);
        // stream += W_o answers
        let Workspace { stream, branch, attended, .. } = workspace;
        let behind = weights.norms.behind_attention.as_ref();
        if let FeedForward::Dense(dense) = &weights.mlp {
            let inside = self.ahead(rows, [&dense.first].into_iter().chain(&dense.second));
            self.pool.announce(inside);
        }
        self.add((attended, rows), &weights.attention_output, behind, (stream, branch));
        if residual == Residual::Serial {
            self.norm(weights.norms.before_mlp.as_ref(), workspace, rows);
        }
    }

    /// `normed = norm(stream)`, or the stream as it is.
    fn norm(&mut self, norm: Option<&Norm>, workspace: &mut Workspace, rows: usize) {
        let Workspace { stream, normed, .. } = workspace;
        let (hidden, kernels) = (self.decoder.hidden, self.kernels);
        let shared = normed.share();
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                let from = &stream[row * hidden..(row + 1) * hidden];
                // SAFETY: each row is one thread's.
                unsafe {
                    shared.fill(kernels, row, 0..hidden, |to| match norm {
                        Some(norm) => norm.apply(kernels, from, to),
                        None => to.copy_from_slice(from),
                    });
                }
            }
        });
        normed.finish(kernels, self.pool, rows);
    }

    /// Several matrices with the same input, each to its own columns of `out`.
    pub(super) fn project(
        &mut self,
        (input, rows): (&Operand, usize),
        projections: &[(impl Borrow<Projection> + Sync, usize)],
        (out, stride): (&Shared<'_, f32>, usize),
    ) {
        let kernels = self.kernels;
        // A piece begins in no matrix within a panel.
        let grain =
            |(projection, _): &(_, usize)| Borrow::<Projection>::borrow(projection).matrix.grain(rows);
        let grain = projections.iter().map(grain).max().unwrap_or(1);
        let room = |projection: &Projection| projection.matrix.rows().next_multiple_of(grain);
        let total = projections.iter().map(|(projection, _)| room(projection.borrow())).sum();
        self.pool.split(total, grain, |range| {
            let mut before = 0;
            for (projection, column) in projections {
                let projection: &Projection = projection.borrow();
                let part = range.start.max(before)..range.end.min(before + projection.matrix.rows());
                if !part.is_empty() {
                    let part = part.start - before..part.end - before;
                    let to = Output { to: out, stride, column: *column, add: false, scale: 1.0 };
                    // SAFETY: each column is one thread's.
                    unsafe {
                        kernels.multiply((input, rows), projection.parts(), part, &to);
                    }
                }
                before += room(projection);
            }
        });
    }

    /// `stream += scale * (W input + b)`, through a norm where the family has one there.
    fn add(
        &mut self,
        (input, rows): (&mut Operand, usize),
        projection: &Projection,
        behind: Option<&Norm>,
        (stream, branch): (&mut [f32], &mut [f32]),
    ) {
        let (hidden, scale) = (self.decoder.hidden, self.decoder.scales.residual);
        let kernels = self.kernels;
        input.finish(kernels, self.pool, rows);
        let input = &*input;
        let direct = behind.is_none();
        let to = Shared::new(if direct { &mut *stream } else { &mut *branch });
        let factor = if direct { scale } else { 1.0 };
        self.pool.split(hidden, projection.matrix.grain(rows), |range| {
            let out = Output { to: &to, stride: hidden, column: 0, add: direct, scale: factor };
            // SAFETY: each column is one thread's.
            unsafe { kernels.multiply((input, rows), projection.parts(), range, &out) }
        });
        let Some(norm) = behind else { return };
        let (stream, branch) = (Shared::new(stream), Shared::new(branch));
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                let place = row * hidden..(row + 1) * hidden;
                // SAFETY: each row is one thread's.
                let (stream, branch) = unsafe { (stream.slice(place.clone()), branch.slice(place)) };
                let normed: &mut [f32] = branch;
                norm.apply_in_place(kernels, normed);
                stream.iter_mut().zip(normed).for_each(|(stream, x)| *stream += *x * scale);
            }
        });
    }

    fn feed_forward(
        &mut self,
        weights: &LayerWeights,
        workspace: &mut Workspace,
        (rows, then): (usize, Ahead),
    ) {
        match &weights.mlp {
            FeedForward::Dense(dense) => {
                self.dense(dense, weights.norms.behind_mlp.as_ref(), workspace, (rows, then));
            }
            FeedForward::Experts(experts) => self.experts(experts, workspace, rows),
        }
    }

    /// `stream += W_down (activation(W_gate x) * W_up x)` of the normed stream.
    fn dense(
        &mut self,
        weights: &Dense,
        behind: Option<&Norm>,
        workspace: &mut Workspace,
        (rows, then): (usize, Ahead),
    ) {
        let Workspace { stream, branch, normed, gate, up, gated, .. } = workspace;
        self.observe(Input::Inside, normed, rows);
        let down = self.ahead(rows, [&weights.down]);
        self.pool.announce(down);
        self.inside(weights, (normed, rows), (gate, up, gated));
        self.observe(Input::Outside, gated, rows);
        self.pool.announce(then);
        self.add((gated, rows), &weights.down, behind, (stream, branch));
    }

    /// `gated = activation(W_gate x) * W_up x`; without a gate, `activation(W_up x)`.
    pub(super) fn inside(
        &mut self,
        weights: &Dense,
        (normed, rows): (&Operand, usize),
        (first, second, gated): (&mut [f32], &mut [f32], &mut Operand),
    ) {
        let (kernels, activation) = (self.kernels, self.decoder.activation);
        let width = weights.first.matrix.rows();
        let (first, second) = (Shared::new(first), Shared::new(second));
        let shared = gated.share();
        let grain = weights
            .first
            .matrix
            .grain(rows)
            .max(weights.second.as_ref().map_or(1, |up| up.matrix.grain(rows)));
        self.pool.split(width, grain, |range| {
            for (projection, to) in [(Some(&weights.first), &first), (weights.second.as_ref(), &second)] {
                let Some(projection) = projection else { continue };
                let out = Output { to, stride: width, column: 0, add: false, scale: 1.0 };
                // SAFETY: each column is one thread's.
                unsafe { kernels.multiply((normed, rows), projection.parts(), range.clone(), &out) };
            }
            for row in 0..rows {
                let place = row * width + range.start..row * width + range.end;
                // SAFETY: each column is one thread's.
                unsafe {
                    let (first, second) = (first.slice(place.clone()), second.slice(place));
                    shared.fill(kernels, row, range.clone(), |to| {
                        to.copy_from_slice(first);
                        match weights.second {
                            Some(_) => kernels.gate(activation, to, second),
                            None => kernels.activate(activation, to),
                        }
                    });
                }
            }
        });
    }

    /// Logits of the wanted rows: their last norm, then the output matrix.
    fn logits(&mut self, weights: &Weights, workspace: &mut Workspace, wanted: &[usize]) {
        let Decoder { hidden, vocab_size, scales, .. } = *self.decoder;
        let Workspace { stream, normed, logits, .. } = workspace;
        let kernels = self.kernels;
        let shared = normed.share();
        for (to, &row) in wanted.iter().enumerate() {
            let from = &stream[row * hidden..(row + 1) * hidden];
            // SAFETY: one thread.
            unsafe {
                shared.fill(kernels, to, 0..hidden, |to| weights.norm.apply(kernels, from, to));
            }
        }
        normed.finish(kernels, self.pool, wanted.len());
        logits.resize(wanted.len() * vocab_size, 0.0);
        if let Some(first) = weights.layers.first() {
            // While the host looks at the logits.
            let inputs = first.inputs.iter().map(|(projection, _)| projection);
            let inputs = self.ahead(wanted.len(), inputs.chain([&first.attention_output]));
            self.pool.announce(inputs);
        }
        let out = Shared::new(logits);
        self.pool.split(vocab_size, weights.output.matrix.grain(wanted.len()), |range| {
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
