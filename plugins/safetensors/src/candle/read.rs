//! Reads the `config.json` of each family that runs through candle: what candle has built in is demanded.

use candle_transformers::models::{
    lfm2 as candle_lfm2, mamba as candle_mamba, mamba2 as candle_mamba2,
    recurrent_gemma as candle_recurrent_gemma,
};
use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

use super::families::{Config, Outline};
use crate::config::Fields;

/// What both generations of Mamba have built in.
fn state_space(fields: &Fields<'_>) -> Result<Outline, PluginError> {
    let (hidden, layers) = (fields.need_size("hidden_size")?, fields.need_size("num_hidden_layers")?);
    only(
        fields,
        json!({
            "conv_kernel": 4, "expand": 2, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu",
            "layer_norm_epsilon": 1e-5, "d_model": hidden, "n_layer": layers, "d_inner": hidden.saturating_mul(2),
            "intermediate_size": hidden.saturating_mul(2), "rms_norm": true, "norm_before_gate": false,
        }),
    )?;
    Ok(Outline {
        vocab_size: fields.need_size("vocab_size")?,
        hidden,
        layers,
        // A state has no length: as long as contexts are here.
        longest: 1 << 20,
        recurrent: true,
        tied: true,
        prefix: "backbone.",
        renamed: None,
    })
}

pub(super) fn mamba(fields: &Fields<'_>) -> Result<(Outline, Config), PluginError> {
    let outline = state_space(fields)?;
    need_tied(fields, true)?;
    only(fields, json!({"state_size": 16}))?;
    if fields.text("time_step_rank").ok().flatten() != Some("auto") {
        only(fields, json!({"time_step_rank": outline.hidden.div_ceil(16)}))?;
    }
    let _ = fields.value("pad_vocab_size_multiple");
    let config = candle_mamba::Config {
        d_model: outline.hidden,
        n_layer: outline.layers,
        vocab_size: outline.vocab_size,
        // The vocabulary is padded already.
        pad_vocab_size_multiple: 1,
    };
    Ok((
        Outline { renamed: Some(("embeddings.weight", "embedding.weight")), ..outline },
        Config::Mamba(config),
    ))
}

pub(super) fn mamba2(fields: &Fields<'_>) -> Result<(Outline, Config), PluginError> {
    let outline = state_space(fields)?;
    need_tied(fields, false)?;
    let _ = (fields.value("pad_vocab_size_multiple"), fields.value("time_step_rank"));
    // candle's gated norm is over the whole width.
    fields.need_said("n_groups")?;
    fields.only("n_groups", &json!(1))?;
    let unlimited = json!([0.0, {"__float__": "Infinity"}]);
    fields.only("time_step_limit", &unlimited)?;
    let config = candle_mamba2::Config {
        d_model: outline.hidden,
        n_layer: outline.layers,
        vocab_size: outline.vocab_size,
        d_state: fields.need_size("state_size")?,
        expand: 2,
        headdim: fields.need_size("head_dim")?,
        ngroups: 1,
        pad_vocab_size_multiple: 1,
    };
    if config.headdim == 0 || !(2 * outline.hidden).is_multiple_of(config.headdim) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: a width of {} is not of whole heads of {}",
            2 * outline.hidden,
            config.headdim
        )));
    }
    Ok((outline, Config::Mamba2(config)))
}

/// The base of a rope that is not scaled, in both dialects.
fn theta(fields: &Fields<'_>) -> Result<f64, PluginError> {
    fields.only("rope_scaling", &Value::Null)?;
    let Some(rope) = fields.value("rope_parameters") else { return fields.need_number("rope_theta") };
    let _ = fields.value("rope_theta");
    match rope["rope_type"].as_str() {
        None | Some("default") => rope["rope_theta"].as_f64().ok_or_else(|| {
            PluginError::corrupt_model("config.json: `rope_theta` is missing in `rope_parameters`")
        }),
        Some(kind) => Err(PluginError::unsupported(format!(
            "config.json: the rope type `{kind}` is not supported for this family"
        ))),
    }
}

pub(super) fn lfm2(fields: &Fields<'_>) -> Result<(Outline, Config), PluginError> {
    only(fields, json!({"conv_bias": false, "block_use_swiglu": true, "use_pos_enc": true}))?;
    let (hidden, layers) = (fields.need_size("hidden_size")?, fields.need_size("num_hidden_layers")?);
    let longest = fields.need_size("max_position_embeddings")?;
    let tied = match fields.flag("tie_embedding")? {
        Some(tied) => tied,
        None => fields.flag("tie_word_embeddings")?.unwrap_or(true),
    };
    let config = candle_lfm2::Config {
        vocab_size: fields.need_size("vocab_size")?,
        hidden_size: hidden,
        intermediate_size: lfm2_intermediate(fields)?,
        num_hidden_layers: layers,
        num_attention_heads: fields.need_size("num_attention_heads")?,
        num_key_value_heads: fields.need_size("num_key_value_heads")?,
        norm_eps: fields.need_number("norm_eps")?,
        rope_theta: theta(fields)? as f32,
        max_position_embeddings: longest,
        conv_l_cache: fields.need_size("conv_L_cache")?,
        conv_bias: false,
        layer_types: lfm2_layers(fields, layers)?,
        tie_embedding: tied,
        bos_token_id: None,
        eos_token_id: None,
        use_flash_attn: false,
    };
    check_heads(hidden, config.num_attention_heads, config.num_key_value_heads)?;
    let outline = Outline {
        vocab_size: config.vocab_size,
        hidden,
        layers,
        longest,
        recurrent: true,
        tied,
        prefix: "model.",
        renamed: None,
    };
    Ok((outline, Config::Lfm2(config)))
}

/// What `intermediate_size` becomes where the checkpoint lets it be adjusted.
fn lfm2_intermediate(fields: &Fields<'_>) -> Result<usize, PluginError> {
    let written = fields.size("intermediate_size")?;
    let size = match fields.size("block_ff_dim")?.or(written) {
        Some(size) => size,
        None => fields.need_size("intermediate_size")?,
    };
    let factor = fields.number("block_ffn_dim_multiplier")?;
    let multiple = fields.size("block_multiple_of")?.unwrap_or(256).max(1);
    if !fields.flag("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(size);
    }
    let size = (2.0 * size as f64 / 3.0) as usize;
    Ok(factor.map_or(size, |factor| ((factor * size as f64) as usize).next_multiple_of(multiple)))
}

/// Which layers are attention's, in both dialects.
fn lfm2_layers(fields: &Fields<'_>, layers: usize) -> Result<Vec<candle_lfm2::LayerType>, PluginError> {
    let wrong = || PluginError::corrupt_model("config.json: `layer_types` does not name each layer");
    if let Some(types) = fields.value("layer_types") {
        let _ = fields.value("full_attn_idxs");
        let types: Vec<candle_lfm2::LayerType> =
            serde_json::from_value(types.clone()).map_err(|_| wrong())?;
        return if types.len() == layers { Ok(types) } else { Err(wrong()) };
    }
    let full = fields.value("full_attn_idxs").and_then(Value::as_array).ok_or_else(wrong)?;
    let is_full = |layer: usize| full.iter().any(|index| index.as_u64() == Some(layer as u64));
    let kind = |layer| {
        if is_full(layer) { candle_lfm2::LayerType::FullAttention } else { candle_lfm2::LayerType::Conv }
    };
    Ok((0..layers).map(kind).collect())
}

pub(super) fn recurrent_gemma(fields: &Fields<'_>) -> Result<(Outline, Config), PluginError> {
    need_tied(fields, true)?;
    let hidden = fields.need_size("hidden_size")?;
    let heads = fields.need_size("num_attention_heads")?;
    let kv_heads = fields.size("num_key_value_heads")?.unwrap_or(heads);
    check_heads(hidden, heads, kv_heads)?;
    let head_dim = hidden / heads;
    fields.only("head_dim", &json!(head_dim))?;
    let rope = fields.value("rope_parameters");
    let partial = rope.and_then(|rope| rope["partial_rotary_factor"].as_f64());
    match partial.or(fields.number("partial_rotary_factor")?) {
        None | Some(0.5) => {}
        Some(partial) => {
            return Err(PluginError::unsupported(format!(
                "config.json: `partial_rotary_factor` is {partial}; supported is 0.5"
            )));
        }
    }
    let types = ["block_types", "_block_types"].into_iter().find_map(|name| fields.value(name));
    let window = fields.need_size("attention_window_size")?;
    let config = json!({
        "num_hidden_layers": fields.need_size("num_hidden_layers")?,
        "vocab_size": fields.need_size("vocab_size")?,
        "hidden_size": hidden,
        "intermediate_size": fields.need_size("intermediate_size")?,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "lru_width": fields.size("lru_width")?,
        "attention_window_size": window,
        "conv1d_width": fields.need_size("conv1d_width")?,
        "logits_soft_cap": fields.need_number("logits_soft_cap")?,
        "hidden_activation": fields.text("hidden_activation")?.unwrap_or("gelu_pytorch_tanh"),
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": fields.need_number("rms_norm_eps")?,
        "rope_theta": theta(fields)?,
        "block_types": types,
        "attention_bias": fields.flag("attention_bias")?.unwrap_or(false),
        "max_seq_len": window,
    });
    let config: candle_recurrent_gemma::Config = understood(config)?;
    if config.block_types.is_empty() {
        return Err(PluginError::corrupt_model("config.json: `block_types` is empty"));
    }
    let outline = Outline {
        vocab_size: config.vocab_size,
        hidden,
        layers: config.num_hidden_layers,
        // candle's attention knows no window: up to its width there is none.
        longest: window,
        recurrent: true,
        tied: true,
        prefix: "model.",
        renamed: None,
    };
    Ok((outline, Config::RecurrentGemma(config)))
}

pub(super) fn deepseek_v2(fields: &Fields<'_>) -> Result<(Outline, Config), PluginError> {
    only(fields, json!({"mlp_bias": false, "hidden_act": "silu", "scoring_func": "softmax"}))?;
    let tied = fields.flag("tie_word_embeddings")?.unwrap_or(false);
    let heads = fields.need_size("num_attention_heads")?;
    fields.only("num_key_value_heads", &json!(heads))?;
    fields.only("moe_layer_freq", &json!(1))?;
    // candle's choice among groups of experts fails.
    fields.only("topk_method", &json!("greedy"))?;
    // As `qk_rope_head_dim` and its sum with the other say.
    let _ = (fields.value("head_dim"), fields.value("qk_head_dim"));
    let longest = fields.need_size("max_position_embeddings")?;
    let config = json!({
        "vocab_size": fields.need_size("vocab_size")?,
        "hidden_size": fields.need_size("hidden_size")?,
        "intermediate_size": fields.need_size("intermediate_size")?,
        "moe_intermediate_size": fields.need_size("moe_intermediate_size")?,
        "num_hidden_layers": fields.need_size("num_hidden_layers")?,
        "num_attention_heads": heads,
        "n_shared_experts": fields.size("n_shared_experts")?,
        "n_routed_experts": fields.size("n_routed_experts")?,
        "routed_scaling_factor": fields.need_number("routed_scaling_factor")?,
        "topk_method": "greedy",
        "num_experts_per_tok": fields.size("num_experts_per_tok")?,
        "moe_layer_freq": 1,
        "first_k_dense_replace": fields.need_size("first_k_dense_replace")?,
        "norm_topk_prob": fields.flag("norm_topk_prob")?.unwrap_or(false),
        "scoring_func": "softmax",
        "hidden_act": "silu",
        "max_position_embeddings": longest,
        "rms_norm_eps": fields.need_number("rms_norm_eps")?,
        "tie_word_embeddings": tied,
        "rope_theta": theta(fields)?,
        "rope_scaling": null,
        "attention_bias": fields.flag("attention_bias")?.unwrap_or(false),
        "q_lora_rank": fields.size("q_lora_rank")?,
        "qk_rope_head_dim": fields.need_size("qk_rope_head_dim")?,
        "kv_lora_rank": fields.need_size("kv_lora_rank")?,
        "v_head_dim": fields.need_size("v_head_dim")?,
        "qk_nope_head_dim": fields.need_size("qk_nope_head_dim")?,
        "n_group": fields.size("n_group")?.unwrap_or(1),
        "topk_group": fields.size("topk_group")?.unwrap_or(1),
    });
    let figure =
        |name: &str| config[name].as_u64().and_then(|figure| usize::try_from(figure).ok()).unwrap_or(0);
    let outline = Outline {
        vocab_size: figure("vocab_size"),
        hidden: figure("hidden_size"),
        layers: figure("num_hidden_layers"),
        longest,
        recurrent: false,
        tied,
        prefix: "model.",
        renamed: None,
    };
    Ok((outline, Config::DeepSeekV2(Box::new(understood(config)?))))
}

/// # Errors
/// `UNSUPPORTED` for a field with another value than the only one that candle computes.
fn only(fields: &Fields<'_>, allowed: Value) -> Result<(), PluginError> {
    for name in ONLY {
        if let Some(allowed) = allowed.get(name) {
            fields.only(name, allowed)?;
        }
    }
    Ok(())
}

/// What [`only`] is asked about.
const ONLY: [&str; 21] = [
    "attention_bias",
    "block_use_swiglu",
    "conv_bias",
    "conv_kernel",
    "d_inner",
    "d_model",
    "expand",
    "hidden_act",
    "intermediate_size",
    "layer_norm_epsilon",
    "mlp_bias",
    "n_layer",
    "norm_before_gate",
    "partial_rotary_factor",
    "rms_norm",
    "scoring_func",
    "state_size",
    "time_step_rank",
    "use_bias",
    "use_conv_bias",
    "use_pos_enc",
];

/// # Errors
/// `UNSUPPORTED` where the output matrix is not the embedding.
fn need_tied(fields: &Fields<'_>, default: bool) -> Result<(), PluginError> {
    match fields.flag("tie_word_embeddings")?.unwrap_or(default) {
        true => Ok(()),
        false => Err(PluginError::unsupported(
            "config.json: `tie_word_embeddings` is false; candle's network of this family takes the embedding as its \
             output matrix",
        )),
    }
}

/// # Errors
/// `UNSUPPORTED` in candle's words.
fn understood<T: serde::de::DeserializeOwned>(config: Value) -> Result<T, PluginError> {
    serde_json::from_value(config)
        .map_err(|error| PluginError::unsupported(format!("config.json: candle does not read it: {error}")))
}

fn check_heads(hidden: usize, heads: usize, kv_heads: usize) -> Result<(), PluginError> {
    if heads == 0 || kv_heads == 0 || !hidden.is_multiple_of(heads) || !heads.is_multiple_of(kv_heads) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: {heads} heads cannot share a width of {hidden} and {kv_heads} heads of keys evenly"
        )));
    }
    Ok(())
}
