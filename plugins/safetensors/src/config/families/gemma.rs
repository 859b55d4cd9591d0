//! The Gemmas: norms stored less one, scaled embeddings, caps on scores and logits.

use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

use super::shared::{attention_bias, one_rope, rope_defaults, windows};
use crate::config::rope;
use crate::config::{Decoder, Fields, QueryKeyNorm, Rope, Scaling};
use crate::kernels::Activation;

/// What all Gemmas share. Their embeddings are tied where nothing is said.
pub(super) fn gemma(mut decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    decoder = gemma_base(attention_bias(decoder, fields)?, fields)?;
    fields.only("use_bidirectional_attention", &json!(false))?;
    one_rope(decoder, fields, 10000.0)
}

fn gemma_base(mut decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    decoder.norm_offset = true;
    decoder.tied = fields.flag("tie_word_embeddings")?.unwrap_or(true);
    decoder.scales.embedding = (decoder.hidden as f32).sqrt();
    if fields.value("hidden_act").is_none() && fields.value("hidden_activation").is_none() {
        decoder.activation = Activation::GeluTanh;
    }
    Ok(decoder)
}

fn gemma_caps(mut decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let width = fields.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    decoder.scales.score = width.powf(-0.5) as f32;
    decoder.scales.score_cap = fields.number("attn_logit_softcapping")?.map(|cap| cap as f32);
    decoder.scales.logits_cap = fields.number("final_logit_softcapping")?.map(|cap| cap as f32);
    fields.only("use_bidirectional_attention", &json!(false))?;
    attention_bias(gemma_base(decoder, fields)?, fields)
}

pub(super) fn gemma2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    for name in ["sliding_window", "attn_logit_softcapping", "final_logit_softcapping"] {
        fields.need_said(name)?;
    }
    let decoder = windows(gemma_caps(decoder, fields)?, fields, |i| i % 2 == 0)?;
    one_rope(decoder, fields, 10000.0)
}

pub(super) fn gemma3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let pattern =
        fields.size("sliding_window_pattern")?.or(fields.size("_sliding_window_pattern")?).unwrap_or(6);
    let mut decoder = windows(gemma_caps(decoder, fields)?, fields, |i| (i + 1) % pattern.max(1) != 0)?;
    decoder.query_key_norm = QueryKeyNorm::Head;
    decoder.ropes = gemma3_ropes(&decoder, fields)?;
    for layer in &mut decoder.layers {
        layer.rope = Some(usize::from(layer.window.is_some()));
    }
    Ok(decoder)
}

/// The full layers' rope, then the sliding ones'.
fn gemma3_ropes(decoder: &Decoder, fields: &Fields<'_>) -> Result<Vec<Rope>, PluginError> {
    let local = fields.number("rope_local_base_freq")?.unwrap_or(10000.0);
    let by_type = fields.value("rope_parameters").filter(|value| value.get("full_attention").is_some());
    let Some(by_type) = by_type else {
        let full = rope::read(fields, rope_defaults(decoder, 1_000_000.0))?;
        let sliding = Rope { theta: local, scaling: Scaling::None, ..full.clone() };
        return Ok(vec![full, sliding]);
    };
    let one = |name: &str, theta: f64| {
        rope::of_object(by_type.get(name).and_then(Value::as_object), rope_defaults(decoder, theta))
    };
    let (_, _) = (fields.value("rope_theta"), fields.value("rope_scaling"));
    Ok(vec![one("full_attention", 1_000_000.0)?, one("sliding_attention", local)?])
}
