//! The Gemmas: norms stored less one, scaled embeddings, caps on scores and logits.

use impetus_plugin_api::PluginError;
use serde_json::json;

use super::shared::{attention_bias, one_rope, ropes_by_window, windows};
use crate::config::{Decoder, Fields, QueryKeyNorm};
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
    // A second name of the first configurations, which nobody reads.
    if let Some(window) = fields.value("sliding_window") {
        fields.only("sliding_window_size", window)?;
    }
    let decoder = windows(gemma_caps(decoder, fields)?, fields, |i| i % 2 == 0)?;
    one_rope(decoder, fields, 10000.0)
}

pub(super) fn gemma3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    let pattern =
        fields.size("sliding_window_pattern")?.or(fields.size("_sliding_window_pattern")?).unwrap_or(6);
    let mut decoder = windows(gemma_caps(decoder, fields)?, fields, |i| (i + 1) % pattern.max(1) != 0)?;
    decoder.query_key_norm = QueryKeyNorm::Head;
    let local = fields.number("rope_local_base_freq")?.unwrap_or(10000.0);
    ropes_by_window(decoder, fields, (1_000_000.0, local))
}
