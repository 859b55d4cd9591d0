//! Buffers of a context, made once: no step allocates.

use super::experts::Routing;
use super::rotation::Rotation;
use crate::config::Decoder;
use crate::kernels::{Forms, LANES, Operand};

/// Everything between a batch's tokens and its logits. `[rows]` is the most that a batch has.
pub(crate) struct Workspace {
    /// The residual stream: `[rows][hidden]`.
    pub(super) stream: Vec<f32>,
    /// What a layer's branch adds, before its norm: `[rows][hidden]`; empty where no family norm is behind.
    pub(super) branch: Vec<f32>,
    /// `[rows][hidden]`
    pub(super) normed: Operand,
    /// Queries, keys and values: `[rows][(heads + 2 kv_heads) head_width]`.
    pub(super) mixed: Vec<f32>,
    /// Rotated and scaled: `[rows][heads][padded head_width]`.
    pub(super) queries: Vec<f32>,
    /// Likewise.
    pub(super) answers: Vec<f32>,
    /// `[rows][heads head_width]`
    pub(super) attended: Operand,
    /// `[rows][intermediate]`
    pub(super) gate: Vec<f32>,
    /// `[rows][intermediate]`
    pub(super) up: Vec<f32>,
    /// `[rows][intermediate]`
    pub(super) gated: Operand,
    /// For layers of experts.
    pub(super) routing: Option<Routing>,
    /// One for each of the decoder's ropes.
    pub(super) rotations: Vec<Rotation>,
    /// `[wanted][vocab_size]`; grows to what was wanted at most.
    pub(super) logits: Vec<f32>,
}

/// About the bytes of a [`Workspace`], before there is one: with room for a row's logits, and for the largest form of
/// operands beside floats.
pub(crate) fn workspace_bytes(decoder: &Decoder, rows: usize) -> usize {
    let Decoder { hidden, intermediate, heads, kv_heads, head_width, vocab_size, .. } = *decoder;
    let floats = 3 * hidden + (4 * heads + 2 * kv_heads) * padded(head_width) + 3 * intermediate;
    let narrow = hidden + heads * head_width + intermediate;
    rows * (4 * floats + 2 * narrow) + Routing::estimate(decoder, rows) + 4 * vocab_size
}

/// The width of a head in the cache.
pub(crate) fn padded(head_width: usize) -> usize {
    head_width.next_multiple_of(LANES)
}

impl Workspace {
    pub(crate) fn new(decoder: &Decoder, rows: usize, forms: Forms) -> Self {
        let Decoder { hidden, intermediate, heads, kv_heads, head_width, .. } = *decoder;
        let floats = |width: usize| vec![0.0; rows * width];
        let norms = &decoder.names.norms;
        let behind = norms.behind_attention.is_some() || norms.behind_mlp.is_some();
        Workspace {
            stream: floats(hidden),
            branch: floats(if behind { hidden } else { 0 }),
            normed: Operand::new(rows, hidden, forms),
            mixed: floats((heads + 2 * kv_heads) * head_width),
            queries: floats(heads * padded(head_width)),
            answers: floats(heads * padded(head_width)),
            attended: Operand::new(rows, heads * head_width, forms),
            gate: floats(intermediate),
            up: floats(intermediate),
            gated: Operand::new(rows, intermediate, forms),
            routing: decoder.experts.map(|experts| Routing::new(decoder, experts, rows, forms)),
            rotations: decoder.ropes.iter().map(|rope| Rotation::new(rope, rows)).collect(),
            logits: Vec::new(),
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let floats =
            [&self.stream, &self.branch, &self.mixed, &self.queries, &self.answers, &self.gate, &self.up];
        floats.into_iter().map(|buffer| buffer.len() * 4).sum::<usize>()
            + [&self.normed, &self.attended, &self.gated].into_iter().map(Operand::bytes).sum::<usize>()
            + self.routing.as_ref().map_or(0, Routing::bytes)
            + self.logits.capacity() * 4
    }

    /// The logits of the last batch's wanted row of this number: `[vocab_size]`.
    pub(crate) fn logits(&self, wanted: usize, vocab_size: usize) -> Option<&[f32]> {
        self.logits.get(wanted * vocab_size..(wanted + 1) * vocab_size)
    }
}
