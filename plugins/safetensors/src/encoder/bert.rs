//! BERT on our own kernels: embeddings, then layers of attention and a feed-forward network, each with a norm behind it.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use impetus_plugin_api::PluginError;

use super::attention::{Heads, attend};
use super::config::{Bert, Encoder, Numbering};
use super::machine::{Batch, Buffers, Machine, Projection};
use super::product::Packed;
use super::rows::Norm;
use crate::checkpoint::{Checkpoint, Matrix};
use crate::pool::Shared;

/// Everything that a BERT multiplies with.
pub(super) struct BertWeights {
    config: Bert,
    hidden: usize,
    /// `[vocab_size][hidden]`
    words: Matrix,
    /// `[positions][hidden]`
    positions: Matrix,
    /// `[hidden]`: the first token type's row.
    token_type: Option<Vec<f32>>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    attention_norm: Norm,
    inner: Projection,
    outer: Projection,
    norm: Norm,
}

/// Parts of a checkpoint that have no say in its vectors: heads for other tasks, and what is computed anyway.
const UNUSED: [&str; 8] = [
    "pooler.",
    "cls.",
    "lm_head.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
];

impl BertWeights {
    /// Finds every tensor. `progress` hears the layers that are done.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` or `UNSUPPORTED` with the tensor's name; what `progress` answers.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        encoder: &Encoder,
        config: &Bert,
        mut progress: impl FnMut(usize) -> Result<(), PluginError>,
    ) -> Result<Self, PluginError> {
        let Encoder { vocab_size, hidden, layers, .. } = *encoder;
        let has_prefix = checkpoint.entries().any(|entry| entry.name.starts_with(config.names.prefix));
        let prefix = if has_prefix { config.names.prefix } else { "" };
        let finder = Finder { checkpoint, config, hidden, prefix };
        let table =
            |name: &str, rows| checkpoint.matrix(&format!("{prefix}embeddings.{name}.weight"), rows, hidden);
        let token_type = || -> Result<Vec<f32>, PluginError> {
            let mut row = vec![0.0; hidden];
            table("token_type_embeddings", config.token_types)?.read_row(0, &mut row);
            Ok(row)
        };
        let weights = BertWeights {
            config: config.clone(),
            hidden,
            words: table("word_embeddings", vocab_size)?,
            positions: table("position_embeddings", config.positions)?,
            token_type: (config.token_types > 0).then(token_type).transpose()?,
            norm: finder.norm("embeddings.LayerNorm")?,
            layers: (0..layers)
                .map(|i| {
                    let layer = finder.layer(i)?;
                    progress(i + 1)?;
                    Ok(layer)
                })
                .collect::<Result<_, PluginError>>()?,
        };
        check_all_used(checkpoint, prefix)?;
        Ok(weights)
    }

    /// A batch's rows after the last layer: `[rows][hidden]`, the beginning of `buffers.stream`.
    pub(super) fn forward(&self, machine: &mut Machine, buffers: &mut Buffers, batch: &Batch) {
        let (rows, hidden, intermediate) = (batch.tokens.len(), self.hidden, self.config.intermediate);
        let heads = Heads { count: self.config.heads, width: hidden / self.config.heads };
        buffers.grow(rows, hidden, intermediate);
        self.embed(machine, &mut buffers.stream, batch);
        for layer in &self.layers {
            let stream = &mut buffers.stream[..rows * hidden];
            for (i, projection) in [&layer.query, &layer.key, &layer.value].into_iter().enumerate() {
                machine.project(stream, projection, (&mut buffers.mixed, 3 * hidden, i * hidden), false);
            }
            attend(machine, buffers, batch, heads);
            let stream = &mut buffers.stream[..rows * hidden];
            let attended = &buffers.attended[..rows * hidden];
            machine.project(attended, &layer.output, (stream, hidden, 0), true);
            machine.norm(stream, &layer.attention_norm);
            let inner = &mut buffers.inner[..rows * intermediate];
            machine.project(stream, &layer.inner, (inner, intermediate, 0), false);
            let (kernels, row_kernels, activation) = (machine.kernels, machine.rows, self.config.activation);
            machine.each_row(inner, intermediate, |row| row_kernels.activate(activation, row, kernels));
            machine.project(inner, &layer.outer, (stream, hidden, 0), true);
            machine.norm(stream, &layer.norm);
        }
    }

    /// The sum of each token's word, position and type, normed.
    fn embed(&self, machine: &mut Machine, stream: &mut [f32], batch: &Batch) {
        let width = self.hidden;
        let numbers: Vec<usize> =
            batch.sequences.iter().flat_map(|rows| self.numbers(&batch.tokens[rows.clone()])).collect();
        let kernels = machine.rows;
        let shared = Shared::new(stream);
        machine.pool.split(batch.tokens.len(), 8, |range| {
            let mut position = vec![0.0; width];
            for row in range {
                // SAFETY: each row is one thread's.
                let to = unsafe { shared.slice(row * width..(row + 1) * width) };
                self.words.read_row(batch.tokens[row] as usize, to);
                self.positions.read_row(numbers[row], &mut position);
                // In the reference's order: the last bits depend on it.
                if let Some(token_type) = &self.token_type {
                    to.iter_mut().zip(token_type).for_each(|(to, x)| *to += x);
                }
                to.iter_mut().zip(&position).for_each(|(to, x)| *to += x);
                kernels.norm(to, &self.norm);
            }
        });
    }

    /// Rows of the table of positions.
    fn numbers(&self, tokens: &[u32]) -> Vec<usize> {
        match self.config.numbering {
            Numbering::FromZero => (0..tokens.len()).collect(),
            Numbering::Behind(pad) => {
                let mut last = pad as usize;
                let number = |&token: &u32| {
                    if token == pad {
                        return pad as usize;
                    }
                    last += 1;
                    last
                };
                tokens.iter().map(number).collect()
            }
        }
    }
}

/// Tensors of one checkpoint by the family's names.
struct Finder<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Bert,
    hidden: usize,
    prefix: &'a str,
}

impl Finder<'_> {
    fn layer(&self, number: usize) -> Result<Layer, PluginError> {
        let (hidden, intermediate, names) = (self.hidden, self.config.intermediate, self.config.names);
        let name = |part: &str| format!("{}{number}.{part}", names.layer);
        let square = |part| self.projection(&name(part), hidden, hidden);
        Ok(Layer {
            query: square(names.query)?,
            key: square(names.key)?,
            value: square(names.value)?,
            output: square(names.output)?,
            attention_norm: self.norm(&name(names.attention_norm))?,
            inner: self.projection(&name(names.inner), intermediate, hidden)?,
            outer: self.projection(&name(names.outer), hidden, intermediate)?,
            norm: self.norm(&name(names.norm))?,
        })
    }

    fn projection(&self, name: &str, outputs: usize, inputs: usize) -> Result<Projection, PluginError> {
        let name = format!("{}{name}", self.prefix);
        Ok(Projection {
            matrix: Packed::of(&self.checkpoint.matrix(&format!("{name}.weight"), outputs, inputs)?),
            bias: self.checkpoint.vector(&format!("{name}.bias"), outputs)?,
        })
    }

    fn norm(&self, name: &str) -> Result<Norm, PluginError> {
        let vector =
            |part: &str| self.checkpoint.vector(&format!("{}{name}.{part}", self.prefix), self.hidden);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")?, epsilon: self.config.epsilon })
    }
}

/// # Errors
/// `UNSUPPORTED` with a tensor that has no use here: the checkpoint is more than its configuration says.
fn check_all_used(checkpoint: &Checkpoint, prefix: &str) -> Result<(), PluginError> {
    let known = |name: &str| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        UNUSED.iter().any(|unused| name.starts_with(unused))
    };
    match checkpoint.unused().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(PluginError::unsupported(format!(
            "tensor `{name}` has no place in an encoder as config.json describes it"
        ))),
    }
}
