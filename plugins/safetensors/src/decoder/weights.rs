//! A decoder's tensors by their names in a checkpoint. Matrices stay where they are; vectors are widened to floats.

use impetus_plugin_api::PluginError;

use crate::checkpoint::{Checkpoint, Matrix};
use crate::config::{AttentionBias, Decoder, Layer, Norms, QueryKeyNorm};
use crate::kernels::Kernels;

/// Everything that a decoder multiplies with.
pub(crate) struct Weights {
    /// `[vocab_size][hidden]`
    pub(super) embedding: Matrix,
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
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

impl Projection {
    /// As the kernels take it.
    pub(super) fn parts(&self) -> (&Matrix, Option<&[f32]>) {
        (&self.matrix, self.bias.as_deref())
    }
}

impl Weights {
    /// Finds every tensor of the decoder. `progress` hears the layers that are done.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` or `UNSUPPORTED` with the tensor's name; what `progress` answers.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        decoder: &Decoder,
        mut progress: impl FnMut(usize) -> Result<(), PluginError>,
    ) -> Result<Self, PluginError> {
        let Decoder { vocab_size, hidden, .. } = *decoder;
        let mut layers = Vec::with_capacity(decoder.layers.len());
        for i in 0..decoder.layers.len() {
            let prefix = format!("model.layers.{i}.");
            layers.push(Names { checkpoint, decoder, prefix }.layer(decoder.layers[i])?);
            progress(i + 1)?;
        }
        let embedding = checkpoint.matrix("model.embed_tokens.weight", vocab_size, hidden)?;
        let output = if decoder.tied {
            embedding.clone()
        } else {
            checkpoint.matrix("lm_head.weight", vocab_size, hidden)?
        };
        let root = Names { checkpoint, decoder, prefix: "model.".to_owned() };
        let norm = root.norm("norm.weight", hidden)?;
        check_all_used(checkpoint, decoder)?;
        Ok(Weights { embedding, layers, norm, output: Projection { matrix: output, bias: None } })
    }

    /// Whether any matrix wants its activations as brain floats.
    pub(crate) fn want_narrow(&self, kernels: &Kernels) -> bool {
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
        of_layers.chain([&self.output]).any(|projection| kernels.wants_narrow(&projection.matrix))
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
            let all = self.checkpoint.matrix(
                &self.name("self_attn.qkv_proj.weight"),
                queries + 2 * keys,
                hidden,
            )?;
            let part = |rows| Projection { matrix: all.part(rows), bias: None };
            query = part(0..queries);
            key = part(queries..queries + keys);
            value = part(queries + keys..queries + 2 * keys);
            let both =
                self.checkpoint.matrix(&self.name("mlp.gate_up_proj.weight"), 2 * intermediate, hidden)?;
            gate = Projection { matrix: both.part(0..intermediate), bias: None };
            up = Projection { matrix: both.part(intermediate..2 * intermediate), bias: None };
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
        let matrix = self.checkpoint.matrix(&self.name(&format!("{name}.weight")), shape.0, shape.1)?;
        let bias = || self.checkpoint.vector(&self.name(&format!("{name}.bias")), shape.0);
        Ok(Projection { matrix, bias: biased.then(bias).transpose()? })
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
