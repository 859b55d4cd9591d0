//! What several families read in the same way.

use impetus_plugin_api::PluginError;
use serde_json::Value;

use crate::config::rope::{self, Defaults};
use crate::config::{AttentionBias, Decoder, Fields, Pairing, Rope, Scaling};
use crate::kernels::Activation;

/// The activation by the family's name for it, or what it is where nothing is said.
pub(super) fn activation(
    fields: &Fields<'_>,
    (field, default): (&'static str, Activation),
) -> Result<Activation, PluginError> {
    // Gemma wrote the one field and meant the other.
    let written = fields.text(field)?;
    let Some(name) = fields.text("hidden_activation")?.or(written) else { return Ok(default) };
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        // What Gemma 1's checkpoints say; its authors meant the tanh formula.
        "gelu" if written == Some("gelu") && fields.text("model_type")? == Some("gemma") => {
            Ok(Activation::GeluTanh)
        }
        "gelu" => Ok(Activation::Gelu),
        other => Err(PluginError::unsupported(format!(
            "config.json: the activation `{other}` is not supported; supported are silu, gelu and gelu_pytorch_tanh"
        ))),
    }
}

/// One rope for all layers, by halves; `theta` where nothing is said.
pub(super) fn one_rope(decoder: Decoder, fields: &Fields<'_>, theta: f64) -> Result<Decoder, PluginError> {
    let defaults = rope_defaults(&decoder, theta);
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

/// What stands where the configuration says nothing of positions.
pub(super) fn rope_defaults(decoder: &Decoder, theta: f64) -> Defaults {
    Defaults {
        head_width: decoder.head_width,
        theta,
        partial: None,
        positions: decoder.context_length as f64,
        original: None,
        pairing: Pairing::Halves,
    }
}

/// Gives the layers that `layer_types` calls sliding, or else those that `slides` names, the window.
pub(super) fn windows(
    mut decoder: Decoder,
    fields: &Fields<'_>,
    slides: impl Fn(usize) -> bool,
) -> Result<Decoder, PluginError> {
    let window = fields.size("sliding_window")?.and_then(|window| u32::try_from(window).ok());
    let types = fields.value("layer_types").and_then(Value::as_array);
    if let Some(types) = types.filter(|types| types.len() != decoder.layers.len()) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: `layer_types` has {} entries for {} layers",
            types.len(),
            decoder.layers.len()
        )));
    }
    for (i, layer) in decoder.layers.iter_mut().enumerate() {
        let sliding = match types.map(|types| types[i].as_str()) {
            None => slides(i),
            Some(Some("sliding_attention")) => true,
            Some(Some("full_attention")) => false,
            Some(other) => {
                return Err(PluginError::unsupported(format!(
                    "config.json: layer type `{}` is not supported; supported are full_attention and sliding_attention",
                    other.unwrap_or("?")
                )));
            }
        };
        layer.window = window.filter(|_| sliding);
    }
    Ok(decoder)
}

/// The fields may be there all the same, and mean nothing.
pub(super) fn without_windows(decoder: Decoder, fields: &Fields<'_>) -> Decoder {
    for name in ["sliding_window", "layer_types", "max_window_layers"] {
        fields.value(name);
    }
    decoder
}

/// `attention_bias`: all projections of attention have one, or none.
pub(super) fn attention_bias(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let all = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Decoder { attention_bias: if all { AttentionBias::All } else { AttentionBias::None }, ..decoder })
}

/// One rope for layers that see everything, one that is never scaled for those with a window; their thetas where nothing
/// is said.
pub(super) fn ropes_by_window(
    mut decoder: Decoder,
    fields: &Fields<'_>,
    (theta, local): (f64, f64),
) -> Result<Decoder, PluginError> {
    let by_type = fields.value("rope_parameters").filter(|value| value.get("full_attention").is_some());
    decoder.ropes = if let Some(by_type) = by_type {
        let one = |name: &str, theta: f64| {
            rope::of_object(by_type.get(name).and_then(Value::as_object), rope_defaults(&decoder, theta))
        };
        let (_, _) = (fields.value("rope_theta"), fields.value("rope_scaling"));
        vec![one("full_attention", theta)?, one("sliding_attention", local)?]
    } else {
        let full = rope::read(fields, rope_defaults(&decoder, theta))?;
        let sliding = Rope { theta: local, scaling: Scaling::None, ..full.clone() };
        vec![full, sliding]
    };
    for layer in &mut decoder.layers {
        layer.rope = Some(usize::from(layer.window.is_some()));
    }
    Ok(decoder)
}

/// `clip_qkv`
pub(super) fn clip(mut decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let clip = fields.number("clip_qkv")?;
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip <= 0.0) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: `clip_qkv` is {clip}; it must be positive"
        )));
    }
    decoder.scales.clip = clip.map(|clip| clip as f32);
    Ok(decoder)
}
