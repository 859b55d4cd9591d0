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
    let window = fields.size("sliding_window")?;
    if window == Some(0) {
        return Err(PluginError::corrupt_model(
            "config.json: `sliding_window` is 0: no token would see one; it must be positive, or null for none",
        ));
    }
    let listed = sliding_layers(fields, decoder.layers.len())?;
    if window.is_none() && listed.iter().flatten().any(|&sliding| sliding) {
        return Err(PluginError::corrupt_model(
            "config.json: `layer_types` has `sliding_attention`, but `sliding_window` does not say how far it sees",
        ));
    }
    // A window beyond what positions can count is none.
    let window = window.and_then(|window| u32::try_from(window).ok());
    for (i, layer) in decoder.layers.iter_mut().enumerate() {
        let sliding = listed.as_ref().map_or_else(|| slides(i), |listed| listed[i]);
        layer.window = window.filter(|_| sliding);
    }
    Ok(decoder)
}

/// `layer_types`, where it is there: whether each layer has a window.
fn sliding_layers(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>, PluginError> {
    let Some(types) = fields.list("layer_types")? else { return Ok(None) };
    if types.len() != layers {
        return Err(PluginError::corrupt_model(format!(
            "config.json: `layer_types` has {} entries for {layers} layers",
            types.len()
        )));
    }
    let sliding = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(PluginError::unsupported(format!(
            "config.json: layer type {kind} is not supported; supported are full_attention and sliding_attention"
        ))),
    };
    types.iter().map(sliding).collect::<Result<_, _>>().map(Some)
}

/// Where windows are switched off: their figures may be there all the same and mean nothing, but no layer may be said
/// to have one.
///
/// # Errors
/// `UNSUPPORTED` for `layer_types` with anything but layers that see everything.
pub(super) fn without_windows(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    for name in ["sliding_window", "max_window_layers"] {
        fields.size(name)?;
    }
    let listed = sliding_layers(fields, decoder.layers.len())?;
    if listed.iter().flatten().any(|&sliding| sliding) {
        return Err(PluginError::unsupported(
            "config.json: `layer_types` has `sliding_attention` while `use_sliding_window` is not true",
        ));
    }
    Ok(decoder)
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
    let by_type = fields.object("rope_parameters")?.filter(|object| object.contains_key("full_attention"));
    decoder.ropes = if let Some(by_type) = by_type {
        // `transformers` would change the one by the other.
        fields.only("rope_scaling", &Value::Null)?;
        if let Some(other) =
            by_type.keys().find(|kind| !matches!(kind.as_str(), "full_attention" | "sliding_attention"))
        {
            return Err(PluginError::unsupported(format!(
                "config.json: `rope_parameters` of `{other}` are not supported; supported are full_attention and \
                 sliding_attention"
            )));
        }
        let one = |name: &str, theta: f64| match by_type.get(name).map(Value::as_object) {
            Some(Some(object)) => rope::of_object(Some(object), rope_defaults(&decoder, theta)),
            _ => Err(PluginError::corrupt_model(format!(
                "config.json: `rope_parameters` must have an object `{name}`"
            ))),
        };
        let theta = fields.number("rope_theta")?.unwrap_or(theta);
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
