//! Llama and those that differ from it in a few points.

use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

use super::shared::{
    attention_bias, clip, one_rope, rope_defaults, ropes_by_window, windows, without_windows,
};
use crate::config::rope::{self, Defaults};
use crate::config::{AttentionBias, Decoder, Fields, NormKind, Pairing, QueryKeyNorm, Scales};

pub(super) fn llama(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    one_rope(Decoder { mlp_bias, ..decoder }, fields, 10000.0)
}

pub(super) fn mistral(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    one_rope(windows(decoder, fields, |_| true)?, fields, 10000.0)
}

fn qwen_windows(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let used = fields.flag("use_sliding_window")?.unwrap_or(false);
    let full = fields.size("max_window_layers")?.unwrap_or(28);
    if used {
        fields.need_said("sliding_window")?;
        return windows(decoder, fields, |i| i >= full);
    }
    without_windows(decoder, fields)
}

pub(super) fn qwen2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = Decoder { attention_bias: AttentionBias::Inputs, ..qwen_windows(decoder, fields)? };
    fields.only("use_mrope", &json!(false))?;
    one_rope(decoder, fields, 10000.0)
}

pub(super) fn qwen3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    qwen3_attention(qwen_windows(decoder, fields)?, fields)
}

/// Heads of queries and keys are normalised.
pub(super) fn qwen3_attention(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    one_rope(Decoder { query_key_norm: QueryKeyNorm::Head, ..decoder }, fields, 10000.0)
}

pub(super) fn phi3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    // What Microsoft's own program can do, and no Phi does.
    for (name, allowed) in [
        ("attention_bias", json!(false)),
        ("mlp_bias", json!(false)),
        ("lm_head_bias", json!(false)),
        ("full_attn_mod", json!(1)),
        ("interpolate_factor", json!(1)),
    ] {
        fields.only(name, &allowed)?;
    }
    let decoder = windows(decoder, fields, |_| true)?;
    // Phi-3 alone says where `longrope` begins beside its figures, and has a length where it is not said.
    let original = fields.number("original_max_position_embeddings")?.unwrap_or(4096.0);
    let defaults = Defaults { original: Some(original), ..rope_defaults(&decoder, 10000.0) };
    Ok(Decoder { ropes: vec![rope::read_phi3(fields, defaults)?], ..decoder })
}

pub(super) fn granite(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let number = |name| Ok::<f32, PluginError>(fields.number(name)?.unwrap_or(1.0) as f32);
    let scales = Scales {
        embedding: number("embedding_multiplier")?,
        residual: number("residual_multiplier")?,
        score: number("attention_multiplier")?,
        logits: 1.0 / number("logits_scaling")?,
        ..decoder.scales
    };
    llama(Decoder { scales, ..decoder }, fields)
}

pub(super) fn olmo2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    let decoder = Decoder { query_key_norm: QueryKeyNorm::Whole, ..decoder };
    one_rope(decoder, fields, 10000.0)
}

pub(super) fn smollm3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let mut decoder = one_rope(attention_bias(decoder, fields)?, fields, 2_000_000.0)?;
    decoder.mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    decoder.tied = fields.flag("tie_word_embeddings")?.unwrap_or(true);
    let interval = fields.size("no_rope_layer_interval")?.unwrap_or(4).max(1);
    // 1 where a layer has positions.
    let listed = fields.list("no_rope_layers")?;
    let layers = decoder.layers.len();
    for (i, layer) in decoder.layers.iter_mut().enumerate() {
        let rotated = match listed.map(|listed| listed.get(i).and_then(Value::as_u64)) {
            Some(Some(flag @ 0..=1)) => flag == 1,
            Some(_) => {
                return Err(PluginError::corrupt_model(format!(
                    "config.json: `no_rope_layers` must say 0 or 1 for each of {layers} layers"
                )));
            }
            None => !(i + 1).is_multiple_of(interval),
        };
        layer.rope = Some(0).filter(|_| rotated);
    }
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return without_windows(decoder, fields);
    }
    let rotated: Vec<bool> = decoder.layers.iter().map(|layer| layer.rope.is_some()).collect();
    windows(decoder, fields, |i| !rotated[i])
}

/// GLM-4, of both generations: they differ in their norms, which their names tell apart.
pub(super) fn glm(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let head_width = fields.need_size("head_dim")?;
    let biased = fields.flag("attention_bias")?.unwrap_or(true);
    let attention_bias = if biased { AttentionBias::Inputs } else { AttentionBias::None };
    let decoder = Decoder { head_width, attention_bias, ..decoder };
    let defaults =
        Defaults { partial: Some(0.5), pairing: Pairing::Neighbours, ..rope_defaults(&decoder, 10000.0) };
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

/// OLMo (Groeneveld et al. 2024, arXiv:2402.00838): norms without weights.
pub(super) fn olmo(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = clip(attention_bias(decoder, fields)?, fields)?;
    one_rope(Decoder { norm: NormKind::Bare, ..decoder }, fields, 10000.0)
}

/// OLMo 3: three layers with a window, then one that sees everything, whose positions alone are scaled.
pub(super) fn olmo3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    let decoder = windows(attention_bias(decoder, fields)?, fields, |i| !(i + 1).is_multiple_of(4))?;
    // Where each kind has no object of its own, `transformers` has this theta for windows.
    let decoder = ropes_by_window(decoder, fields, (500_000.0, 500_000.0))?;
    Ok(Decoder { query_key_norm: QueryKeyNorm::Whole, ..decoder })
}

/// EXAONE 4: where some layers have a window, the others have no positions.
pub(super) fn exaone4(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    let windowed = fields.value("sliding_window").is_some();
    // Letters where the layers are listed beside it.
    let pattern = match fields.value("layer_types") {
        Some(_) => fields.value("sliding_window_pattern").and_then(Value::as_u64).unwrap_or(4) as usize,
        None => fields.size("sliding_window_pattern")?.unwrap_or(4),
    };
    let decoder = windows(decoder, fields, |i| !(i + 1).is_multiple_of(pattern.max(1)))?;
    let mut decoder = one_rope(decoder, fields, 10000.0)?;
    for layer in &mut decoder.layers {
        layer.rope = layer.rope.filter(|_| !windowed || layer.window.is_some());
    }
    Ok(Decoder { query_key_norm: QueryKeyNorm::Head, ..decoder })
}

pub(super) fn seed_oss(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_size("head_dim")?;
    let inputs = fields.flag("attention_bias")?.unwrap_or(true);
    let attention_bias = match (inputs, fields.flag("attention_out_bias")?.unwrap_or(false)) {
        (false, false) => AttentionBias::None,
        (true, false) => AttentionBias::Inputs,
        (true, true) => AttentionBias::All,
        (false, true) => {
            return Err(PluginError::unsupported(
                "config.json: `attention_out_bias` without `attention_bias` is not supported",
            ));
        }
    };
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    one_rope(Decoder { attention_bias, mlp_bias, ..decoder }, fields, 10000.0)
}

pub(super) fn ernie4_5(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_size("head_dim")?;
    let biased = fields.flag("use_bias")?.unwrap_or(false);
    let decoder = Decoder {
        attention_bias: if biased { AttentionBias::All } else { AttentionBias::None },
        mlp_bias: biased,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..decoder
    };
    neighbours(decoder, fields, 500_000.0)
}

pub(super) fn helium(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_size("head_dim")?;
    let biased = fields.flag("attention_bias")?.unwrap_or(false);
    let decoder = Decoder {
        attention_bias: if biased { AttentionBias::Inputs } else { AttentionBias::None },
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        ..decoder
    };
    neighbours(decoder, fields, 100_000.0)
}

/// One rope in which neighbours turn together.
fn neighbours(decoder: Decoder, fields: &Fields<'_>, theta: f64) -> Result<Decoder, PluginError> {
    let defaults = Defaults { pairing: Pairing::Neighbours, ..rope_defaults(&decoder, theta) };
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}
