//! What a decoder's activations are like, seen with random tokens: in which columns an error of a matrix counts.
//!
//! A few columns of the residual stream are far larger than all others, whatever the text is, so that tokens of no meaning
//! show them. How they are used is the rounding's.

use impetus_plugin_api::PluginError;

use super::forward::{Run, Step, forward_observed};
use super::weights::Weights;
use super::workspace::{Workspace, padded};
use crate::cache::{BLOCK, Memory, Shape, Table};
use crate::config::Decoder;
use crate::kernels::{F32, Kernels, Operand};
use crate::pool::Pool;

/// Sequences that are looked at, and tokens of each at most.
const SEQUENCES: usize = 2;
const TOKENS: usize = 256;
/// What the smallest error counts, beside the mean.
const LEAST: f32 = 1e-4;

/// Whose input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Queries', keys' and values'.
    Attention,
    /// The matrix's behind attention.
    Answers,
    /// The feed-forward network's.
    Inside,
    /// The matrix's behind it.
    Outside,
}

/// Sums of squares of a layer's inputs, by column; empty where there was nothing to see.
type Layer = [Vec<f32>; 4];

/// The inputs of every layer.
pub(crate) struct Observed {
    layers: Vec<Layer>,
}

impl Observed {
    /// Lets a decoder with its weights as they are compute random tokens.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` with the figure.
    pub(crate) fn of(
        (kernels, threads): (&Kernels, usize),
        (decoder, weights): (&Decoder, &Weights),
    ) -> Result<Self, PluginError> {
        let length = TOKENS.min(decoder.context_length);
        let rows = SEQUENCES * length;
        let blocks = SEQUENCES * length.div_ceil(BLOCK as usize);
        let shape = Shape {
            layers: decoder.layers.len(),
            kv_heads: decoder.kv_heads,
            head_width: padded(decoder.head_width),
            blocks,
        };
        let mut memory = Memory::<F32>::new(shape)?;
        let mut workspace = Workspace::new(decoder, rows, weights.forms(kernels));
        let mut table = Table::new(SEQUENCES, blocks);
        let positions: Vec<u32> = (0..rows).map(|row| (row % length) as u32).collect();
        let full = |_| PluginError::internal("blocks were counted wrongly: this is a bug");
        let slots = (0..rows)
            .map(|row| Ok(table.push(row / length, positions[row]).map_err(full)?.slot))
            .collect::<Result<Vec<_>, PluginError>>()?;
        let run = |sequence: usize| Run {
            rows: sequence * length..(sequence + 1) * length,
            sequence,
            length: length as u32,
        };
        let runs: Vec<Run> = (0..SEQUENCES).map(run).collect();
        let tokens: Vec<u32> = random(decoder.vocab_size as u32).take(rows).collect();
        let step = Step {
            tokens: &tokens,
            positions: &positions,
            slots: &slots,
            runs: &runs,
            table: &table,
            wanted: &[],
        };
        let mut observed = Observed { layers: vec![Layer::default(); decoder.layers.len()] };
        let computer = (kernels, &mut Pool::new(threads));
        forward_observed(computer, (decoder, weights), &mut memory, &mut workspace, (&step, &mut observed));
        Ok(observed)
    }

    /// Adds rows of an input.
    pub(super) fn add(&mut self, (layer, input): (usize, Input), operand: &Operand, rows: usize) {
        let sums = &mut self.layers[layer][input as usize];
        sums.resize(operand.row(0).len(), 0.0);
        for row in 0..rows {
            sums.iter_mut().zip(operand.row(row)).for_each(|(sum, x)| *sum += x * x);
        }
    }

    /// What a squared error counts in each column of an input's matrices: its mean square beside the mean of all.
    pub(super) fn weights(&self, layer: usize, input: Input) -> Option<Vec<f32>> {
        let sums = &self.layers[layer][input as usize];
        let mean = sums.iter().sum::<f32>() / sums.len() as f32;
        (mean.is_finite() && mean > 0.0).then(|| sums.iter().map(|sum| sum / mean + LEAST).collect())
    }
}

/// Tokens in no order, the same ones each time.
fn random(vocab_size: u32) -> impl Iterator<Item = u32> {
    let mut state = 0x9e37_79b9u32;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % vocab_size
    })
}
