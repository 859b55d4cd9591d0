//! What a decoder multiplies with. Matrices stay where they are, unless they are rounded or packed; vectors are widened
//! to floats.

use std::sync::Arc;

use impetus_plugin_api::PluginError;

use super::norm::Norm;
use super::observe::Observed;
use super::tensors::Tensors;
use crate::checkpoint::{Checkpoint, Rounding, Slab, Weight};
use crate::config::{Decoder, Layer};
use crate::kernels::{Forms, Kernels};

/// Matrices below this size are moved together; larger ones have large pages by themselves.
const SMALL: usize = 16 << 20;
/// Bytes of memory that they are moved to at a time: as much is needed twice.
const SLAB: usize = 128 << 20;

/// Everything that a decoder multiplies with.
pub(crate) struct Weights {
    /// `[vocab_size][hidden]`
    pub(super) embedding: Weight,
    /// Learned positions: `[context_length][hidden]`.
    pub(super) positions: Option<Weight>,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Norm,
    /// `[vocab_size][hidden]`; the embedding again where they are tied.
    pub(super) output: Projection,
}

/// One layer.
pub(super) struct LayerWeights {
    pub(super) kind: Layer,
    pub(super) norms: LayerNorms,
    /// What makes queries, keys and values, and the column among these at which each begins.
    pub(super) inputs: Vec<(Projection, usize)>,
    pub(super) attention_output: Projection,
    pub(super) mlp: FeedForward,
}

/// A layer's feed-forward network.
pub(super) enum FeedForward {
    Dense(Dense),
    Experts(ExpertWeights),
}

/// One network that all rows go through.
pub(super) struct Dense {
    /// What the activation is taken of: the gate, or without one what goes up.
    pub(super) first: Projection,
    /// What is gated.
    pub(super) second: Option<Projection>,
    pub(super) down: Projection,
}

/// Many, and the matrix that gives each row's scores for them.
pub(super) struct ExpertWeights {
    /// `[experts][hidden]`
    pub(super) router: Projection,
    pub(super) experts: Vec<Expert>,
    pub(super) shared: Option<SharedExpert>,
}

/// The expert that every row goes through, as far as its gate lets it.
pub(super) struct SharedExpert {
    pub(super) network: Dense,
    /// `[1][hidden]`
    pub(super) gate: Projection,
}

pub(super) struct Expert {
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// A layer's norms; those that the family does not have are `None`.
pub(super) struct LayerNorms {
    pub(super) before_attention: Option<Norm>,
    pub(super) behind_attention: Option<Norm>,
    pub(super) before_mlp: Option<Norm>,
    pub(super) behind_mlp: Option<Norm>,
    pub(super) query: Option<HeadNorms>,
    pub(super) key: Option<HeadNorms>,
}

/// Norms of all heads of queries, or of keys.
pub(super) enum HeadNorms {
    /// Together.
    Whole(Norm),
    /// Each by itself: one norm for all of them, or one for each.
    Each(Vec<Norm>),
}

/// A matrix `[out][in]` and a bias `[out]`.
pub(super) struct Projection {
    pub(super) matrix: Weight,
    pub(super) bias: Option<Vec<f32>>,
}

impl Projection {
    /// As the kernels take it.
    pub(super) fn parts(&self) -> (&Weight, Option<&[f32]>) {
        (&self.matrix, self.bias.as_deref())
    }
}

impl Weights {
    /// Finds every tensor of the decoder. `progress` hears the layers that are done.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` or `UNSUPPORTED` with the tensor's name; `OUT_OF_MEMORY`; what `progress` answers.
    pub(crate) fn load(
        (checkpoint, packing): (&Checkpoint, Packing<'_>),
        decoder: &Decoder,
        mut progress: impl FnMut(usize) -> Result<(), PluginError>,
    ) -> Result<Self, PluginError> {
        let Decoder { vocab_size, hidden, names, .. } = *decoder;
        let root = Tensors::root(checkpoint, packing, decoder);
        let mut layers = Vec::with_capacity(decoder.layers.len());
        for (i, &layer) in decoder.layers.iter().enumerate() {
            layers.push(root.layer_of(i).layer(layer)?);
            progress(i + 1)?;
        }
        // Rows that are looked up stay as they are; only what is multiplied with is rounded.
        let kept = root.with(Packing { rounding: None, ..packing });
        let last = root.with(packing.fine());
        let embedding = kept.weight(names.embedding, (vocab_size, hidden))?;
        let shape = (decoder.context_length, hidden);
        let positions = names.positions.map(|name| kept.weight(name, shape)).transpose()?;
        let output = match (decoder.tied, packing.rounding) {
            (true, None) => Projection { matrix: embedding.clone(), bias: None },
            (true, Some(_)) => {
                Projection { matrix: last.weight(names.embedding, (vocab_size, hidden))?, bias: None }
            }
            (false, _) => last.output()?,
        };
        let norm = root.norm(names.last_norm, hidden)?;
        root.check_all_used()?;
        let mut weights = Weights { embedding, positions, layers, norm, output };
        weights.settle()?;
        Ok(weights)
    }

    /// Moves packed matrices that are smaller than large pages together into memory that has them.
    fn settle(&mut self) -> Result<(), PluginError> {
        let mut small = Vec::new();
        for projection in self.layers.iter_mut().flat_map(LayerWeights::projections_mut) {
            match &projection.matrix {
                Weight::Grouped(panels) if panels.bytes().len() < SMALL => {
                    small.push((Arc::clone(panels), &mut projection.matrix));
                }
                Weight::Grouped(_) | Weight::Plain(_) => {}
            }
        }
        while !small.is_empty() {
            let mut length = 0;
            let fits = small.iter().take_while(|(panels, _)| {
                length += Slab::room(panels);
                length <= SLAB
            });
            let batch: Vec<_> = small.drain(..fits.count().max(1)).collect();
            let mut slab = Slab::new(batch.iter().map(|(panels, _)| Slab::room(panels)).sum())?;
            let starts: Vec<usize> = batch.iter().map(|(panels, _)| slab.push(panels)).collect();
            let slab = slab.close()?;
            for ((panels, matrix), start) in batch.into_iter().zip(starts) {
                *matrix = Weight::Grouped(Arc::new(panels.moved(&slab, start)));
            }
        }
        Ok(())
    }

    /// The forms of activations that some matrix wants.
    pub(crate) fn forms(&self, kernels: &Kernels) -> Forms {
        self.layers
            .iter()
            .flat_map(LayerWeights::projections)
            .chain([&self.output])
            .fold(Forms::default(), |forms, projection| forms.and(kernels.wants(&projection.matrix)))
    }
}

impl LayerWeights {
    /// Everything that activations are multiplied with.
    fn projections(&self) -> impl Iterator<Item = &Projection> {
        let (dense, experts) = match &self.mlp {
            FeedForward::Dense(dense) => (Some(dense), None),
            FeedForward::Experts(experts) => (None, Some(experts)),
        };
        let shared = experts.and_then(|experts| experts.shared.as_ref());
        let dense = dense
            .into_iter()
            .chain(shared.map(|shared| &shared.network))
            .flat_map(|dense| [Some(&dense.first), dense.second.as_ref(), Some(&dense.down)])
            .flatten();
        let experts = experts.into_iter().flat_map(|all| {
            let of_each = all.experts.iter().flat_map(|expert| [&expert.gate, &expert.up, &expert.down]);
            of_each.chain([&all.router]).chain(all.shared.as_ref().map(|shared| &shared.gate))
        });
        let inputs = self.inputs.iter().map(|(projection, _)| projection);
        inputs.chain([&self.attention_output]).chain(dense).chain(experts)
    }
}

#[cfg(test)]
impl Weights {
    /// Every packed matrix as floats: what is left of a difference is not the activations' rounding.
    pub(crate) fn widen(&mut self) {
        let of_layers = self.layers.iter_mut().flat_map(LayerWeights::projections_mut);
        for projection in of_layers.chain([&mut self.output]) {
            let (rows, columns) = (projection.matrix.rows(), projection.matrix.columns());
            let mut floats = vec![0.0; rows * columns];
            for (row, to) in floats.chunks_exact_mut(columns).enumerate() {
                projection.matrix.read_row(row, to);
            }
            let matrix =
                crate::checkpoint::Matrix::made(crate::checkpoint::Dtype::F32, rows, columns, &floats);
            projection.matrix = Weight::Plain(matrix);
        }
    }

    pub(crate) fn embedding(&self, token: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.embedding.columns()];
        self.embedding.read_row(token, &mut row);
        row
    }
}

impl Dense {
    fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        [&mut self.first, &mut self.down].into_iter().chain(&mut self.second)
    }
}

impl LayerWeights {
    fn projections_mut(&mut self) -> Vec<&mut Projection> {
        let mut all: Vec<&mut Projection> =
            self.inputs.iter_mut().map(|(projection, _)| projection).collect();
        all.push(&mut self.attention_output);
        match &mut self.mlp {
            FeedForward::Dense(dense) => all.extend(dense.projections_mut()),
            FeedForward::Experts(ExpertWeights { router, experts, shared }) => {
                all.push(router);
                all.extend(experts.iter_mut().flat_map(|Expert { gate, up, down }| [gate, up, down]));
                if let Some(SharedExpert { network, gate }) = shared {
                    all.push(gate);
                    all.extend(network.projections_mut());
                }
            }
        }
        all
    }
}

/// How matrices are packed while they are loaded.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'a> {
    /// What numbers are rounded to; none: they stay as they are.
    pub(crate) rounding: Option<Rounding>,
    /// Where errors count, if that is known.
    pub(crate) observed: Option<&'a Observed>,
    /// Threads that pack.
    pub(crate) threads: usize,
}

impl Packing<'_> {
    /// Eight bits where other matrices have four, for those in which four would cost the most (docs/safetensors.md has the
    /// figures): the output matrix, which decides between tokens; keys and values, which are small and seen by every later
    /// token; and what a feed-forward network adds to the stream.
    pub(super) fn fine(self) -> Self {
        let rounding = self.rounding.map(Rounding::fine);
        Packing { rounding, ..self }
    }
}
