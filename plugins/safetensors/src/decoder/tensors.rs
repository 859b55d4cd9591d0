//! Finds a decoder's tensors in a checkpoint, by the family's names.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use impetus_plugin_api::PluginError;

use super::norm::Norm;
use super::observe::Input;
use super::weights::{
    Dense, Expert, ExpertWeights, FeedForward, HeadNorms, LayerNorms, LayerWeights, Packing, Projection,
    SharedExpert,
};
use crate::checkpoint::{Checkpoint, TIED, Weight};
use crate::config::{
    AttentionBias, Decoder, Experts, InputNames, Layer, MlpNames, NormKind, QueryKeyNorm, Residual,
};

/// Tensors below one prefix.
#[derive(Clone)]
pub(super) struct Tensors<'a> {
    checkpoint: &'a Checkpoint,
    packing: Packing<'a>,
    /// What errors count by column, in matrices that take this input.
    weights: Option<Rc<[f32]>>,
    layer: usize,
    decoder: &'a Decoder,
    prefix: String,
}

impl<'a> Tensors<'a> {
    /// The decoder's own, wherever the checkpoint has them.
    pub(super) fn root(checkpoint: &'a Checkpoint, packing: Packing<'a>, decoder: &'a Decoder) -> Self {
        let names = decoder.names;
        let below = |root: &str| checkpoint.has(&format!("{root}{}.weight", names.embedding));
        let bare = !below(names.root) && below("");
        let prefix = if bare { String::new() } else { names.root.to_owned() };
        Tensors { checkpoint, packing, decoder, prefix, weights: None, layer: 0 }
    }

    /// The same, packed otherwise.
    pub(super) fn with(&self, packing: Packing<'a>) -> Self {
        Tensors { packing, ..self.clone() }
    }

    /// The same for what decides too much to be rounded as all else.
    fn fine(&self) -> Self {
        self.with(self.packing.fine())
    }

    /// A layer's.
    pub(super) fn layer_of(&self, number: usize) -> Self {
        let prefix = format!("{}{}{number}.", self.prefix, self.decoder.names.layers);
        Tensors { prefix, layer: number, ..self.clone() }
    }

    /// For matrices that take an input.
    fn of(&self, input: Input) -> Self {
        let weights = self.packing.observed.and_then(|observed| observed.weights(self.layer, input));
        Tensors { weights: weights.map(Rc::from), ..self.clone() }
    }

    fn below(&self, name: &str) -> Self {
        Tensors { prefix: self.name(name), ..self.clone() }
    }

    pub(super) fn layer(&self, kind: Layer) -> Result<LayerWeights, PluginError> {
        let Decoder { hidden, heads, head_width, names, attention_bias, .. } = *self.decoder;
        let shape = (hidden, heads * head_width);
        let biased = attention_bias == AttentionBias::All;
        Ok(LayerWeights {
            kind,
            norms: self.norms()?,
            inputs: self.of(Input::Attention).inputs()?,
            attention_output: self.of(Input::Answers).projection(names.attention_output, shape, biased)?,
            mlp: match self.decoder.experts.filter(|_| kind.experts) {
                Some(experts) => FeedForward::Experts(self.experts(experts)?),
                None => FeedForward::Dense(self.dense()?),
            },
        })
    }

    /// Queries, keys and values stand behind each other in a row, whatever their order in the checkpoint.
    fn inputs(&self) -> Result<Vec<(Projection, usize)>, PluginError> {
        let Decoder { hidden, heads, kv_heads, head_width, names, attention_bias, .. } = *self.decoder;
        let (queries, keys) = (heads * head_width, kv_heads * head_width);
        let all = queries + 2 * keys;
        let biased = attention_bias != AttentionBias::None;
        match &names.inputs {
            InputNames::Separate([query, key, value]) => Ok(vec![
                (self.projection(query, (queries, hidden), biased)?, 0),
                (self.fine().projection(key, (keys, hidden), biased)?, queries),
                (self.fine().projection(value, (keys, hidden), biased)?, queries + keys),
            ]),
            InputNames::Stacked(name) => {
                let part = |tensors: &Self, rows: Range<usize>| {
                    let column = rows.start;
                    Ok((tensors.part(name, (all, hidden), rows, biased)?, column))
                };
                Ok(vec![
                    part(self, 0..queries)?,
                    part(&self.fine(), queries..queries + keys)?,
                    part(&self.fine(), queries + keys..all)?,
                ])
            }
            InputNames::ByHead(name) => {
                let group = heads / kv_heads * head_width;
                let mut parts = Vec::with_capacity(3 * kv_heads);
                for head in 0..kv_heads {
                    let first = head * (group + 2 * head_width);
                    let key = first + group;
                    let value = key + head_width;
                    for (tensors, rows, column) in [
                        (self, first..key, head * group),
                        (&self.fine(), key..value, queries + head * head_width),
                        (&self.fine(), value..value + head_width, queries + keys + head * head_width),
                    ] {
                        parts.push((tensors.part(name, (all, hidden), rows, biased)?, column));
                    }
                }
                Ok(parts)
            }
        }
    }

    fn dense(&self) -> Result<Dense, PluginError> {
        let Decoder { hidden, intermediate, names, mlp_bias, .. } = *self.decoder;
        let (inside, outside) = ((intermediate, hidden), (hidden, intermediate));
        let (inner, fine) = (self.of(Input::Inside), self.of(Input::Outside).fine());
        Ok(match names.mlp {
            MlpNames::Gated { gate, up, down } => Dense {
                first: inner.projection(gate, inside, mlp_bias)?,
                second: Some(inner.projection(up, inside, mlp_bias)?),
                down: fine.projection(down, outside, mlp_bias)?,
            },
            MlpNames::Fused { both, down } => {
                let part = |rows| inner.part(both, (2 * intermediate, hidden), rows, mlp_bias);
                Dense {
                    first: part(0..intermediate)?,
                    second: Some(part(intermediate..2 * intermediate)?),
                    down: fine.projection(down, outside, mlp_bias)?,
                }
            }
            MlpNames::Plain { up, down } => Dense {
                first: inner.projection(up, inside, mlp_bias)?,
                second: None,
                down: fine.projection(down, outside, mlp_bias)?,
            },
        })
    }

    fn experts(&self, experts: Experts) -> Result<ExpertWeights, PluginError> {
        let Experts { count, intermediate, .. } = experts;
        let (hidden, names) = (self.decoder.hidden, &self.decoder.names.experts);
        // Its small differences decide: it stays as it is.
        let kept = self.with(Packing { rounding: None, ..self.packing });
        let router = kept.projection(names.router, (count, hidden), false)?;
        let one = |expert: usize| self.expert(expert, (count, intermediate));
        let experts_of = (0..count).map(one).collect::<Result<_, PluginError>>()?;
        let shared = experts.shared.map(|width| {
            let below = self.below(names.shared);
            let [gate, up, down] = names.parts;
            let network = Dense {
                first: below.projection(gate, (width, hidden), false)?,
                second: Some(below.projection(up, (width, hidden), false)?),
                down: below.fine().projection(down, (hidden, width), false)?,
            };
            Ok::<_, PluginError>(SharedExpert {
                network,
                gate: kept.projection(names.shared_gate, (1, hidden), false)?,
            })
        });
        Ok(ExpertWeights { router, experts: experts_of, shared: shared.transpose()? })
    }

    /// One of a layer's experts, wherever the checkpoint has them: each by itself, or all in one tensor.
    fn expert(&self, number: usize, (count, width): (usize, usize)) -> Result<Expert, PluginError> {
        let (hidden, names) = (self.decoder.hidden, &self.decoder.names.experts);
        let has = |name: &str| self.checkpoint.has(&format!("{}.weight", self.name(name)));
        let bare = |matrix| Projection { matrix, bias: None };
        let one = |tensors: &Self, name: &str, shape: [usize; 2], rows: Range<usize>| {
            tensors.one_of(name, (count, shape), (number, rows)).map(bare)
        };
        let fine = self.fine();
        if let Some([both, down]) = names.fused.filter(|[both, _]| has(both)) {
            return Ok(Expert {
                gate: one(self, both, [2 * width, hidden], 0..width)?,
                up: one(self, both, [2 * width, hidden], width..2 * width)?,
                down: one(&fine, down, [hidden, width], 0..hidden)?,
            });
        }
        if has(names.stacked[0]) {
            let [gate, up, down] = names.stacked;
            return Ok(Expert {
                gate: one(self, gate, [width, hidden], 0..width)?,
                up: one(self, up, [width, hidden], 0..width)?,
                down: one(&fine, down, [hidden, width], 0..hidden)?,
            });
        }
        let below = self.below(&format!("{}{number}.", names.each));
        let [gate, up, down] = names.parts;
        Ok(Expert {
            gate: bare(below.weight(gate, (width, hidden))?),
            up: bare(below.weight(up, (width, hidden))?),
            down: bare(below.fine().weight(down, (hidden, width))?),
        })
    }

    fn norms(&self) -> Result<LayerNorms, PluginError> {
        let Decoder { hidden, heads, kv_heads, names, residual, .. } = *self.decoder;
        let norms = &names.norms;
        let norm = |name: Option<&str>| name.map(|name| self.norm(name, hidden)).transpose();
        Ok(LayerNorms {
            before_attention: norm(norms.before_attention)?,
            behind_attention: norm(norms.behind_attention)?,
            before_mlp: norm(norms.before_mlp.filter(|_| residual != Residual::ParallelOneNorm))?,
            behind_mlp: norm(norms.behind_mlp)?,
            query: self.head_norms(norms.query, heads)?,
            key: self.head_norms(norms.key, kv_heads)?,
        })
    }

    fn head_norms(&self, name: &str, heads: usize) -> Result<Option<HeadNorms>, PluginError> {
        let width = self.decoder.head_width;
        Ok(match self.decoder.query_key_norm {
            QueryKeyNorm::None => None,
            QueryKeyNorm::Head => Some(HeadNorms::Each(vec![self.norm(name, width)?])),
            QueryKeyNorm::Whole => Some(HeadNorms::Whole(self.norm(name, heads * width)?)),
            QueryKeyNorm::Each => {
                let bare = |weight| self.norm_of(weight, None);
                let whole = format!("{}.weight", self.name(name));
                let norms = if self.checkpoint.has(&whole) {
                    let all = self.checkpoint.matrix(&whole, heads, width)?.to_floats();
                    all.chunks_exact(width).map(|weight| bare(weight.to_vec())).collect()
                } else {
                    let one = |head| {
                        let name = self.name(&format!("{name}.{head}.weight"));
                        self.checkpoint.vector(&name, width).map(bare)
                    };
                    (0..heads).map(one).collect::<Result<_, PluginError>>()?
                };
                Some(HeadNorms::Each(norms))
            }
        })
    }

    pub(super) fn norm(&self, name: &str, length: usize) -> Result<Norm, PluginError> {
        if self.decoder.norm == NormKind::Bare {
            return Ok(self.norm_of(vec![1.0; length], None));
        }
        let mut weight = self.checkpoint.vector(&self.name(&format!("{name}.weight")), length)?;
        if self.decoder.norm_offset {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        let biased = self.decoder.norm == NormKind::Layer { biased: true };
        let bias = || self.checkpoint.vector(&self.name(&format!("{name}.bias")), length);
        Ok(self.norm_of(weight, biased.then(bias).transpose()?))
    }

    fn norm_of(&self, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Norm {
        Norm { weight, bias, kind: self.decoder.norm, epsilon: self.decoder.norm_epsilon }
    }

    /// The output matrix, which stands beside the decoder, and which some families rename.
    pub(super) fn output(&self) -> Result<Projection, PluginError> {
        let Decoder { vocab_size, hidden, names, .. } = *self.decoder;
        let beside = Tensors { prefix: String::new(), ..self.clone() };
        let old = self.checkpoint.has(&format!("{}.weight", names.output));
        let name = if old { names.output } else { "lm_head" };
        let bias = || self.checkpoint.vector(&format!("{name}.bias"), vocab_size);
        Ok(Projection {
            matrix: beside.weight(name, (vocab_size, hidden))?,
            bias: self.decoder.output_bias.then(bias).transpose()?,
        })
    }

    fn projection(&self, name: &str, shape: (usize, usize), biased: bool) -> Result<Projection, PluginError> {
        self.part(name, shape, 0..shape.0, biased)
    }

    /// Some rows of a matrix that a checkpoint has as one.
    fn part(
        &self,
        name: &str,
        shape: (usize, usize),
        rows: Range<usize>,
        biased: bool,
    ) -> Result<Projection, PluginError> {
        let way = if self.decoder.names.transposed { Way::In } else { Way::Out };
        let matrix = self.rows(name, shape, rows.clone(), way)?;
        let bias = || {
            let bias = self.checkpoint.vector(&self.name(&format!("{name}.bias")), shape.0)?;
            Ok::<_, PluginError>(bias[rows].to_vec())
        };
        Ok(Projection { matrix, bias: biased.then(bias).transpose()? })
    }

    pub(super) fn weight(&self, name: &str, shape: (usize, usize)) -> Result<Weight, PluginError> {
        self.rows(name, shape, 0..shape.0, Way::Out)
    }

    /// A matrix as the checkpoint has it, or packed.
    fn rows(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        range: Range<usize>,
        way: Way,
    ) -> Result<Weight, PluginError> {
        let module = self.name(name);
        if let Some(rounded) = self.checkpoint.rounded(&module, &[rows], columns)? {
            return self.repacked(&module, rounded, range);
        }
        let name = format!("{module}.weight");
        let matrix = match way {
            Way::Out => self.checkpoint.matrix(&name, rows, columns)?.part(range),
            Way::In => self.checkpoint.matrix(&name, columns, rows)?.transposed(range),
        };
        self.packed(&module, matrix)
    }

    /// Some rows of one of several matrices in one tensor.
    fn one_of(
        &self,
        name: &str,
        (count, [rows, columns]): (usize, [usize; 2]),
        (number, range): (usize, Range<usize>),
    ) -> Result<Weight, PluginError> {
        let module = self.name(name);
        let range = number * rows + range.start..number * rows + range.end;
        if let Some(rounded) = self.checkpoint.rounded(&module, &[count, rows], columns)? {
            return self.repacked(&module, rounded, range);
        }
        let matrix = self.checkpoint.matrices(&format!("{module}.weight"), [count, rows, columns])?;
        self.packed(&module, matrix.part(range))
    }

    /// Rows of a matrix that MLX rounded.
    fn repacked(
        &self,
        module: &str,
        rounded: crate::checkpoint::Rounded,
        range: Range<usize>,
    ) -> Result<Weight, PluginError> {
        let panels = self.checkpoint.pack(module, rounded, range, self.packing.threads);
        Ok(Weight::Grouped(Arc::new(panels.map_err(|error| named(module, error))?)))
    }

    /// Rounded where that is wished and can be.
    fn packed(&self, module: &str, matrix: crate::checkpoint::Matrix) -> Result<Weight, PluginError> {
        let Some(rounding) = self.packing.rounding else { return Ok(Weight::Plain(matrix)) };
        let weights = self.weights.as_deref().filter(|weights| weights.len() == matrix.columns());
        let panels =
            rounding.round((&matrix, weights), self.packing.threads).map_err(|error| named(module, error))?;
        Ok(panels.map_or(Weight::Plain(matrix), |panels| Weight::Grouped(Arc::new(panels))))
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// # Errors
    /// `UNSUPPORTED` with a tensor that the decoder has no use for: the checkpoint is more than its configuration says.
    pub(super) fn check_all_used(&self) -> Result<(), PluginError> {
        if self.decoder.tied {
            self.checkpoint.check_tied(&format!("{}.weight", self.name(self.decoder.names.embedding)))?;
        }
        // Computed from the configuration, or the same numbers as the embedding.
        let known = |name: &str| {
            let masks = [".attention.bias", ".attention.masked_bias", ".attn.bias", ".attn.masked_bias"];
            name.ends_with("rotary_emb.inv_freq")
                || masks.iter().any(|mask| name.ends_with(mask))
                || (self.decoder.tied && name == TIED)
        };
        match self.checkpoint.unused().find(|name| !known(name)) {
            Some(name) => Err(PluginError::unsupported(format!(
                "tensor `{name}` has no place in a `{}` decoder as config.json describes it",
                self.decoder.family
            ))),
            None => Ok(()),
        }
    }
}

/// Which way a matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `[out][in]`
    Out,
    /// `[in][out]`
    In,
}

fn named(module: &str, error: PluginError) -> PluginError {
    PluginError { message: format!("matrix `{module}`: {}", error.message).into(), ..error }
}
