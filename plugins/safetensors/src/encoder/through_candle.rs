//! Encoders with rotary positions through candle: in float32 on the CPU, on a pool of as many threads as the host gives.
//!
//! Sequences of one length are computed together, and no others: nothing is padded, so that a sequence's vector does not
//! depend on its company.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::var_builder::VarBuilder;
use candle_transformers::models::modernbert::ModernBert;
use candle_transformers::models::nomic_bert::NomicBertModel;
use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

pub(super) use candle_transformers::models::modernbert::Config as ModernBertConfig;
pub(super) use candle_transformers::models::nomic_bert::Config as NomicBertConfig;

use super::config::Network;
use crate::candle::Tensors;
use crate::checkpoint::Checkpoint;
use crate::config::Fields;

/// A model of candle's.
pub(super) enum CandleModel {
    ModernBert(Box<ModernBert>),
    NomicBert(Box<NomicBertModel>),
}

impl CandleModel {
    /// Copies every tensor of the checkpoint as float32. `None` for a network that candle does not run here.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` or `UNSUPPORTED` with the tensor's name.
    pub(super) fn load(checkpoint: &Checkpoint, network: &Network) -> Result<Option<Self>, PluginError> {
        let tensors = Tensors::read(checkpoint, PREFIX)?;
        let used = tensors.used();
        let builder = VarBuilder::from_backend(Box::new(tensors), DType::F32, Device::Cpu);
        let corrupt = |error: candle_core::Error| PluginError::corrupt_model(error.to_string());
        let model = match network {
            Network::Bert(_) => return Ok(None),
            Network::ModernBert(config) => {
                check_norms(checkpoint, config.num_hidden_layers)?;
                CandleModel::ModernBert(Box::new(ModernBert::load(builder, config).map_err(corrupt)?))
            }
            Network::NomicBert(config) => {
                CandleModel::NomicBert(Box::new(NomicBertModel::load(builder, config).map_err(corrupt)?))
            }
        };
        used.check_all(|name| HEADS.iter().any(|head| name.starts_with(head)))?;
        Ok(Some(model))
    }

    /// Each sequence's rows after the last layer, `[tokens][hidden]`, in the order of the sequences.
    ///
    /// # Errors
    /// `INTERNAL` with candle's words.
    pub(super) fn rows(
        &self,
        pool: &rayon::ThreadPool,
        sequences: &[&[u32]],
    ) -> Result<Vec<Vec<f32>>, PluginError> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, tokens) in sequences.iter().enumerate() {
            by_length.entry(tokens.len()).or_default().push(place);
        }
        let mut rows = vec![Vec::new(); sequences.len()];
        for (length, places) in by_length {
            let tokens: Vec<u32> =
                places.iter().flat_map(|&place| sequences[place].iter().copied()).collect();
            let all = pool.install(|| self.forward(tokens, (places.len(), length)));
            let all = all.map_err(|error| PluginError::internal(format!("candle failed: {error}")))?;
            for (place, found) in places.into_iter().zip(all) {
                rows[place] = found;
            }
        }
        Ok(rows)
    }

    fn forward(&self, tokens: Vec<u32>, shape: (usize, usize)) -> candle_core::Result<Vec<Vec<f32>>> {
        let tokens = Tensor::from_vec(tokens, shape, &Device::Cpu)?;
        let seen = tokens.ones_like()?;
        let rows = match self {
            CandleModel::ModernBert(model) => model.forward(&tokens, &seen)?,
            CandleModel::NomicBert(model) => model.forward(&tokens, None, Some(&seen))?,
        };
        rows.flatten_from(1)?.to_vec2()
    }
}

/// What all names of a checkpoint may begin with, where it has a head as well.
const PREFIX: &str = "model.";
/// Tensors of heads, which an encoder does without.
const HEADS: [&str; 4] = ["head.", "decoder.", "cls.", "pooler."];

/// candle takes a norm that is not there for none: the first layer alone has none.
fn check_norms(checkpoint: &Checkpoint, layers: usize) -> Result<(), PluginError> {
    for layer in 1..layers {
        let ending = format!("layers.{layer}.attn_norm.weight");
        if !checkpoint.entries().any(|entry| entry.name.ends_with(&ending)) {
            return Err(PluginError::corrupt_model(format!("tensor `{ending}` is missing")));
        }
    }
    Ok(())
}

/// Which layers of a ModernBERT see everything, and the bases of its rotations, global and local, in both dialects.
///
/// # Errors
/// `UNSUPPORTED` for an order of layers or a rotation that candle does not have.
pub(super) fn modernbert_layers(
    fields: &Fields<'_>,
    layers: usize,
) -> Result<(usize, f64, f64), PluginError> {
    let (global, local) = match fields.value("rope_parameters") {
        Some(ropes) => (theta(&ropes["full_attention"])?, theta(&ropes["sliding_attention"])?),
        None => (fields.need_number("global_rope_theta")?, fields.need_number("local_rope_theta")?),
    };
    fields.only("rope_scaling", &Value::Null)?;
    let Some(types) = fields.value("layer_types").and_then(Value::as_array) else {
        let every = fields.need_size("global_attn_every_n_layers")?;
        return if every > 0 { Ok((every, global, local)) } else { Err(order()) };
    };
    let _ = fields.value("global_attn_every_n_layers");
    let is_global = |place: usize| types.get(place).is_some_and(|kind| kind == "full_attention");
    // The second layer that sees everything says how many there are from one to the next.
    let every = (1..layers).find(|&place| is_global(place)).unwrap_or(layers.max(1));
    let as_said = (0..layers).all(|place| is_global(place) == place.is_multiple_of(every));
    if as_said && types.len() == layers { Ok((every, global, local)) } else { Err(order()) }
}

fn order() -> PluginError {
    PluginError::unsupported(
        "config.json: layers that see everything must come at even distances, beginning with the first",
    )
}

/// The base of a plain rotation.
fn theta(rope: &Value) -> Result<f64, PluginError> {
    if rope.get("rope_type").is_some_and(|kind| kind != "default") {
        let kind = &rope["rope_type"];
        return Err(PluginError::unsupported(format!(
            "config.json: the rope type {kind} is not supported here"
        )));
    }
    rope["rope_theta"].as_f64().ok_or_else(|| {
        PluginError::corrupt_model("config.json: `rope_theta` is missing in `rope_parameters`")
    })
}

/// Nomic's own dialect, which has the names of GPT-2, and that of transformers.
///
/// # Errors
/// `UNSUPPORTED` for what candle's has not, `CORRUPT_MODEL` for what is missing.
pub(super) fn nomic_config(fields: &Fields<'_>) -> Result<NomicBertConfig, PluginError> {
    let common = NomicBertConfig { model_type: None, ..NomicBertConfig::default() };
    let _ = fields.value("pad_token_id");
    if fields.value("n_embd").is_none() {
        fields.only("hidden_act", &"silu".into())?;
        let (hidden, heads) = (fields.need_size("hidden_size")?, fields.need_size("num_attention_heads")?);
        fields.only("head_dim", &json!(hidden.checked_div(heads)))?;
        return Ok(NomicBertConfig {
            vocab_size: fields.need_size("vocab_size")?,
            n_embd: hidden,
            n_head: heads,
            n_layer: fields.need_size("num_hidden_layers")?,
            n_inner: fields.need_size("intermediate_size")?,
            n_positions: fields.need_size("max_position_embeddings")?,
            type_vocab_size: fields.need_size("type_vocab_size")?,
            layer_norm_epsilon: fields.need_number("layer_norm_eps")?,
            rotary_emb_base: theta(fields.value("rope_parameters").unwrap_or(&Value::Null))?,
            ..common
        });
    }
    for (name, only) in NOMIC_ONLY {
        // Absent, it would be what the authors' program has for it, which is mostly not what candle computes.
        fields.need_said(name)?;
        fields.only(name, &serde_json::from_str(only).unwrap_or_default())?;
    }
    Ok(NomicBertConfig {
        vocab_size: fields.need_size("vocab_size")?,
        n_embd: fields.need_size("n_embd")?,
        n_head: fields.need_size("n_head")?,
        n_layer: fields.need_size("n_layer")?,
        n_inner: fields.need_size("n_inner")?,
        n_positions: fields.need_size("n_positions")?,
        type_vocab_size: fields.need_size("type_vocab_size")?,
        layer_norm_epsilon: fields.need_number("layer_norm_epsilon")?,
        rotary_emb_base: fields.need_number("rotary_emb_base")?,
        ..common
    })
}

/// Fields of Nomic's own dialect with the only values (as JSON) that candle computes.
const NOMIC_ONLY: [(&str, &str); 16] = [
    ("activation_function", "\"swiglu\""),
    ("causal", "false"),
    ("mlp_fc1_bias", "false"),
    ("mlp_fc2_bias", "false"),
    ("parallel_block", "false"),
    ("parallel_block_tied_norm", "false"),
    ("prenorm", "false"),
    ("qkv_proj_bias", "false"),
    ("reorder_and_upcast_attn", "false"),
    ("rotary_emb_fraction", "1.0"),
    ("rotary_emb_interleaved", "false"),
    ("rotary_emb_scale_base", "null"),
    ("rotary_scaling_factor", "null"),
    ("scale_attn_by_inverse_layer_idx", "false"),
    ("scale_attn_weights", "true"),
    ("use_rms_norm", "false"),
];
