//! Families whose feed-forward networks are experts, of which a router picks a few for each token.

use impetus_plugin_api::PluginError;
use serde_json::Value;

use super::llama;
use super::shared::{clip, one_rope, windows, without_windows};
use crate::config::{AttentionBias, Decoder, Experts, Fields};

/// Mixtral (Jiang et al. 2024, arXiv:2401.04088).
pub(super) fn mixtral(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let experts = Experts {
        count: fields.need_size("num_local_experts")?,
        used: fields.need_size("num_experts_per_tok")?,
        intermediate: decoder.intermediate,
        normalised: true,
        shared: None,
    };
    let decoder = with_experts(decoder, experts, |_| true)?;
    fields.need_said("sliding_window")?;
    one_rope(windows(decoder, fields, |_| true)?, fields, 1_000_000.0)
}

/// Qwen2 with experts in some of its layers, and one that all tokens go through.
pub(super) fn qwen2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let shared = Some(fields.need_size("shared_expert_intermediate_size")?);
    let decoder = qwen_experts(decoder, fields, shared)?;
    let full = fields.size("max_window_layers")?.unwrap_or(28);
    let decoder = match fields.flag("use_sliding_window")?.unwrap_or(false) {
        true => {
            fields.need_said("sliding_window")?;
            windows(decoder, fields, |i| i.is_multiple_of(2) && i < full)?
        }
        false => without_windows(decoder, fields)?,
    };
    let biased = fields.flag("qkv_bias")?.unwrap_or(true);
    let attention_bias = if biased { AttentionBias::Inputs } else { AttentionBias::None };
    one_rope(Decoder { attention_bias, ..decoder }, fields, 10000.0)
}

/// Qwen3 with experts in some of its layers.
pub(super) fn qwen3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = qwen_experts(decoder, fields, None)?;
    // Unlike in Qwen3, a window is all layers'.
    fields.size("max_window_layers")?;
    let decoder = match fields.flag("use_sliding_window")?.unwrap_or(false) {
        true => {
            fields.need_said("sliding_window")?;
            windows(decoder, fields, |_| true)?
        }
        false => without_windows(decoder, fields)?,
    };
    llama::qwen3_attention(decoder, fields)
}

fn qwen_experts(
    decoder: Decoder,
    fields: &Fields<'_>,
    shared: Option<usize>,
) -> Result<Decoder, PluginError> {
    let experts = Experts {
        count: count(fields)?,
        used: fields.need_size("num_experts_per_tok")?,
        intermediate: fields.need_size("moe_intermediate_size")?,
        normalised: fields.flag("norm_topk_prob")?.unwrap_or(false),
        shared,
    };
    let step = fields.size("decoder_sparse_step")?.unwrap_or(1).max(1);
    let number = |layer: &Value| {
        let wrong = || PluginError::corrupt_model("config.json: `mlp_only_layers` must be numbers of layers");
        layer.as_u64().ok_or_else(wrong)
    };
    let dense = fields.list("mlp_only_layers")?.unwrap_or_default();
    let dense: Vec<u64> = dense.iter().map(number).collect::<Result<_, _>>()?;
    with_experts(decoder, experts, |i| !dense.contains(&(i as u64)) && (i + 1).is_multiple_of(step))
}

/// Granite with experts.
pub(super) fn granite(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let experts = Experts {
        count: fields.need_size("num_local_experts")?,
        used: fields.need_size("num_experts_per_tok")?,
        intermediate: decoder.intermediate,
        // It takes the softmax of those that are used alone, which is the same.
        normalised: true,
        shared: None,
    };
    llama::granite(with_experts(decoder, experts, |_| true)?, fields)
}

/// OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): all heads together are normalised.
pub(super) fn olmoe(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let experts = Experts {
        count: count(fields)?,
        used: fields.need_size("num_experts_per_tok")?,
        intermediate: decoder.intermediate,
        normalised: fields.flag("norm_topk_prob")?.unwrap_or(false),
        shared: None,
    };
    llama::olmo2(clip(with_experts(decoder, experts, |_| true)?, fields)?, fields)
}

/// How many there are: newer configurations have a newer name for it.
fn count(fields: &Fields<'_>) -> Result<usize, PluginError> {
    match (fields.size("num_local_experts")?, fields.size("num_experts")?) {
        (Some(count), _) => Ok(count),
        (None, _) => fields.need_size("num_experts"),
    }
}

/// # Errors
/// `CORRUPT_MODEL` for figures that make no sense.
fn with_experts(
    mut decoder: Decoder,
    experts: Experts,
    sparse: impl Fn(usize) -> bool,
) -> Result<Decoder, PluginError> {
    let Experts { count, used, intermediate, shared, .. } = experts;
    let wide = |width: usize| (1..=1 << 22).contains(&width);
    let sound = (1..=1 << 12).contains(&count) && (1..=count).contains(&used);
    if !sound || !wide(intermediate) || shared.is_some_and(|width| !wide(width)) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: {used} of {count} experts of {intermediate} make no sense"
        )));
    }
    for (i, layer) in decoder.layers.iter_mut().enumerate() {
        layer.experts = sparse(i);
    }
    Ok(Decoder { experts: Some(experts), ..decoder })
}
