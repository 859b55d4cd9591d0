//! A decoder's tensors by their names in a checkpoint. Matrices stay where they are, unless they are rounded or packed;
//! vectors are widened to floats.

use std::ops::Range;
use std::sync::Arc;

use impetus_plugin_api::PluginError;

use crate::checkpoint::{Checkpoint, CodeBits, Rounding, Weight};
use crate::config::{AttentionBias, Decoder, Layer, Norms, QueryKeyNorm};
use crate::kernels::{Forms, Kernels};

/// Everything that a decoder multiplies with.
pub(crate) struct Weights {
    /// `[vocab_size][hidden]`
    pub(super) embedding: Weight,
    pub(super) layers: Vec<LayerWeights>,
    /// `[hidden]`
    pub(super) norm: Vec<f32>,
    /// `[vocab_size][hidden]`; the embedding again where they are tied.
    pub(super) output: Projection,
}

/// One layer. Norms that the family does not have are `None`.
pub(super) struct LayerWeights {
    pub(super) kind: Layer,
    pub(super) norms: LayerNorms,
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) attention_output: Projection,
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// Weights of a layer's norms.
pub(super) struct LayerNorms {
    pub(super) before_attention: Option<Vec<f32>>,
    pub(super) behind_attention: Option<Vec<f32>>,
    pub(super) before_mlp: Option<Vec<f32>>,
    pub(super) behind_mlp: Option<Vec<f32>>,
    pub(super) query: Option<Vec<f32>>,
    pub(super) key: Option<Vec<f32>>,
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
        (checkpoint, packing): (&Checkpoint, Packing),
        decoder: &Decoder,
        mut progress: impl FnMut(usize) -> Result<(), PluginError>,
    ) -> Result<Self, PluginError> {
        let Decoder { vocab_size, hidden, .. } = *decoder;
        let mut layers = Vec::with_capacity(decoder.layers.len());
        for i in 0..decoder.layers.len() {
            let prefix = format!("model.layers.{i}.");
            layers.push(Names { checkpoint, packing, decoder, prefix }.layer(decoder.layers[i])?);
            progress(i + 1)?;
        }
        let root = Names { checkpoint, packing, decoder, prefix: "model.".to_owned() };
        // Rows that are looked up stay as they are; only what is multiplied with is rounded.
        let kept = Names { packing: Packing { rounding: None, ..packing }, prefix: String::new(), ..root };
        let last = Names { packing: packing.of_output(), prefix: String::new(), ..root };
        let embedding = kept.weight("model.embed_tokens", (vocab_size, hidden))?;
        let output = match (decoder.tied, packing.rounding) {
            (true, None) => embedding.clone(),
            (true, Some(_)) => last.weight("model.embed_tokens", (vocab_size, hidden))?,
            (false, _) => last.weight("lm_head", (vocab_size, hidden))?,
        };
        let norm = root.norm("norm.weight", hidden)?;
        check_all_used(checkpoint, decoder)?;
        Ok(Weights { embedding, layers, norm, output: Projection { matrix: output, bias: None } })
    }

    /// The forms of activations that some matrix wants.
    pub(crate) fn forms(&self, kernels: &Kernels) -> Forms {
        let of_layers = self.layers.iter().flat_map(|layer| {
            [
                &layer.query,
                &layer.key,
                &layer.value,
                &layer.attention_output,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        });
        of_layers
            .chain([&self.output])
            .fold(Forms::default(), |forms, projection| forms.and(kernels.wants(&projection.matrix)))
    }
}

#[cfg(test)]
impl Weights {
    /// Every packed matrix as floats: what is left of a difference is not the activations' rounding.
    pub(crate) fn widen(&mut self) {
        let of_layers = self.layers.iter_mut().flat_map(|layer| {
            [
                &mut layer.query,
                &mut layer.key,
                &mut layer.value,
                &mut layer.attention_output,
                &mut layer.gate,
                &mut layer.up,
                &mut layer.down,
            ]
        });
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

/// How matrices are packed while they are loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    /// What numbers are rounded to; none: they stay as they are.
    pub(crate) rounding: Option<Rounding>,
    /// Threads that pack.
    pub(crate) threads: usize,
}

impl Packing {
    /// The output matrix decides between tokens: it keeps eight bits, as in llama.cpp's files of four.
    fn of_output(self) -> Packing {
        let rounding = self.rounding.map(|rounding| Rounding { bits: CodeBits::Eight, ..rounding });
        Packing { rounding, ..self }
    }
}

/// # Errors
/// `UNSUPPORTED` with a tensor that the decoder has no use for: the checkpoint is more than its configuration says.
fn check_all_used(checkpoint: &Checkpoint, decoder: &Decoder) -> Result<(), PluginError> {
    // Computed from the configuration, or the same numbers as the embedding.
    let known =
        |name: &str| name.ends_with("rotary_emb.inv_freq") || (decoder.tied && name == "lm_head.weight");
    match checkpoint.unused().find(|name| !known(name)) {
        Some(name) => Err(PluginError::unsupported(format!(
            "tensor `{name}` has no place in a `{}` decoder as config.json describes it",
            decoder.family
        ))),
        None => Ok(()),
    }
}

/// Tensors below one prefix.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    packing: Packing,
    decoder: &'a Decoder,
    prefix: String,
}

impl Names<'_> {
    fn layer(&self, kind: Layer) -> Result<LayerWeights, PluginError> {
        let Decoder { hidden, intermediate, heads, kv_heads, head_width, .. } = *self.decoder;
        let (queries, keys) = (heads * head_width, kv_heads * head_width);
        let (inputs, output) = match self.decoder.attention_bias {
            AttentionBias::None => (false, false),
            AttentionBias::Inputs => (true, false),
            AttentionBias::All => (true, true),
        };
        let (query, key, value, gate, up);
        if self.decoder.fused {
            let all = queries + 2 * keys;
            let part = |rows| self.part("self_attn.qkv_proj", (all, hidden), rows);
            query = part(0..queries)?;
            key = part(queries..queries + keys)?;
            value = part(queries + keys..all)?;
            let part = |rows| self.part("mlp.gate_up_proj", (2 * intermediate, hidden), rows);
            gate = part(0..intermediate)?;
            up = part(intermediate..2 * intermediate)?;
        } else {
            query = self.projection("self_attn.q_proj", (queries, hidden), inputs)?;
            key = self.projection("self_attn.k_proj", (keys, hidden), inputs)?;
            value = self.projection("self_attn.v_proj", (keys, hidden), inputs)?;
            gate = self.projection("mlp.gate_proj", (intermediate, hidden), self.decoder.mlp_bias)?;
            up = self.projection("mlp.up_proj", (intermediate, hidden), self.decoder.mlp_bias)?;
        }
        Ok(LayerWeights {
            kind,
            norms: self.norms()?,
            query,
            key,
            value,
            attention_output: self.projection("self_attn.o_proj", (hidden, queries), output)?,
            gate,
            up,
            down: self.projection("mlp.down_proj", (hidden, intermediate), self.decoder.mlp_bias)?,
        })
    }

    /// The names do not say where a norm stands: `post_attention_layernorm` is Llama's norm before the feed-forward
    /// network, and Gemma's behind attention.
    fn norms(&self) -> Result<LayerNorms, PluginError> {
        let Decoder { hidden, heads, kv_heads, head_width, norms, query_key_norm, .. } = *self.decoder;
        let norm = |there: bool, name: &str, length| there.then(|| self.norm(name, length)).transpose();
        let (before, behind) = match norms {
            Norms::Before => (true, false),
            Norms::Behind => (false, true),
            Norms::Around => (true, true),
        };
        let before_mlp = match norms {
            Norms::Before => "post_attention_layernorm.weight",
            Norms::Behind | Norms::Around => "pre_feedforward_layernorm.weight",
        };
        let (queries, keys) = match query_key_norm {
            QueryKeyNorm::Whole => (heads * head_width, kv_heads * head_width),
            QueryKeyNorm::None | QueryKeyNorm::Head => (head_width, head_width),
        };
        let normed = query_key_norm != QueryKeyNorm::None;
        Ok(LayerNorms {
            before_attention: norm(before, "input_layernorm.weight", hidden)?,
            behind_attention: norm(behind, "post_attention_layernorm.weight", hidden)?,
            before_mlp: norm(before, before_mlp, hidden)?,
            behind_mlp: norm(behind, "post_feedforward_layernorm.weight", hidden)?,
            query: norm(normed, "self_attn.q_norm.weight", queries)?,
            key: norm(normed, "self_attn.k_norm.weight", keys)?,
        })
    }

    fn projection(&self, name: &str, shape: (usize, usize), biased: bool) -> Result<Projection, PluginError> {
        let matrix = self.weight(name, shape)?;
        let bias = || self.checkpoint.vector(&self.name(&format!("{name}.bias")), shape.0);
        Ok(Projection { matrix, bias: biased.then(bias).transpose()? })
    }

    /// Some rows of a matrix that a checkpoint has as one.
    fn part(&self, name: &str, shape: (usize, usize), rows: Range<usize>) -> Result<Projection, PluginError> {
        Ok(Projection { matrix: self.rows(name, shape, rows)?, bias: None })
    }

    fn weight(&self, name: &str, shape: (usize, usize)) -> Result<Weight, PluginError> {
        self.rows(name, shape, 0..shape.0)
    }

    /// A matrix as the checkpoint has it, or packed.
    fn rows(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        range: Range<usize>,
    ) -> Result<Weight, PluginError> {
        let module = self.name(name);
        let named = |error: PluginError| PluginError {
            message: format!("matrix `{module}`: {}", error.message).into(),
            ..error
        };
        if let Some(rounded) = self.checkpoint.rounded(&module, rows, columns)? {
            let panels =
                self.checkpoint.pack(&module, rounded, range, self.packing.threads).map_err(named)?;
            return Ok(Weight::Grouped(Arc::new(panels)));
        }
        let matrix = self.checkpoint.matrix(&format!("{module}.weight"), rows, columns)?.part(range);
        let Some(rounding) = self.packing.rounding else { return Ok(Weight::Plain(matrix)) };
        let panels = rounding.round(&matrix, self.packing.threads).map_err(named)?;
        Ok(panels.map_or(Weight::Plain(matrix), |panels| Weight::Grouped(Arc::new(panels))))
    }

    fn norm(&self, name: &str, length: usize) -> Result<Vec<f32>, PluginError> {
        let mut weights = self.checkpoint.vector(&self.name(name), length)?;
        if self.decoder.norm_offset {
            weights.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weights)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
