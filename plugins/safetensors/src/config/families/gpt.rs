//! Families with layer norms: GPT-2 and its heirs.

use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

use super::shared::{attention_bias, one_rope, rope_defaults, windows};
use crate::config::check_shape;
use crate::config::names;
use crate::config::rope::{self, Defaults};
use crate::config::{AttentionBias, Decoder, Fields, NormKind, Pairing, QueryKeyNorm, Residual, Scales};

/// Learned positions instead of rotated ones; every projection has a bias.
pub(super) fn gpt2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let mut decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        attention_bias: AttentionBias::All,
        mlp_bias: true,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..decoder
    };
    decoder.layers.iter_mut().for_each(|layer| layer.rope = None);
    if !fields.flag("scale_attn_weights")?.unwrap_or(true) {
        decoder.scales.score = 1.0;
    }
    for name in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        fields.only(name, &json!(false))?;
    }
    // The order in which half floats would be scaled: here scores are floats.
    fields.flag("reorder_and_upcast_attn")?;
    Ok(decoder)
}

/// GPT-2 with one head of keys (Shazeer 2019, arXiv:1911.02150), or with each head's matrices together.
pub(super) fn gpt_bigcode(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    // Where sums are floats, as they always are here; and how another program runs it.
    for name in [
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
        "inference_runner",
        "max_batch_size",
        "max_sequence_length",
        "pad_key_length",
        "pre_allocate_kv_cache",
        "validate_runner_input",
    ] {
        fields.value(name);
    }
    let decoder = gpt2(decoder, fields)?;
    Ok(match fields.flag("multi_query")?.unwrap_or(true) {
        true => Decoder { kv_heads: 1, ..decoder },
        false => Decoder { kv_heads: decoder.heads, names: &names::GPT_BIGCODE_HEADS, ..decoder },
    })
}

/// Falcon (Almazrouei et al. 2023, arXiv:2311.16867), of both generations.
pub(super) fn falcon(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    for name in ["alibi", "apply_residual_connection_post_layernorm"] {
        fields.only(name, &json!(false))?;
    }
    let flag = |name, default| Ok::<bool, PluginError>(fields.flag(name)?.unwrap_or(default));
    let (new, shared) = (flag("new_decoder_architecture", false)?, flag("multi_query", true)?);
    let (parallel, biased) = (flag("parallel_attn", true)?, flag("bias", false)?);
    let said = fields.size("num_kv_heads")?.unwrap_or(decoder.heads);
    let norms = fields.size("num_ln_in_parallel_attn")?.unwrap_or(if new { 2 } else { 1 });
    let (residual, names) = match (parallel, new, norms) {
        (false, false, _) => (Residual::Serial, if shared { &names::FALCON } else { &names::FALCON_HEADS }),
        (true, false, 1) => {
            (Residual::ParallelOneNorm, if shared { &names::FALCON } else { &names::FALCON_HEADS })
        }
        (true, true, 1) => (Residual::ParallelOneNorm, &names::FALCON_HEADS),
        (true, true, 2) => (Residual::Parallel, &names::FALCON_NORMS),
        _ => {
            return Err(PluginError::unsupported(format!(
                "config.json: `parallel_attn` {parallel}, `new_decoder_architecture` {new} and \
                 `num_ln_in_parallel_attn` {norms} are no Falcon that `transformers` runs"
            )));
        }
    };
    let decoder = Decoder {
        names,
        residual,
        norm: NormKind::Layer { biased: true },
        kv_heads: if new {
            said
        } else if shared {
            1
        } else {
            decoder.heads
        },
        attention_bias: if biased { AttentionBias::All } else { AttentionBias::None },
        mlp_bias: biased,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..decoder
    };
    check_shape(&decoder)?;
    one_rope(decoder, fields, 10000.0)
}

/// GPT-J: parallel branches behind one norm; projections of attention have no bias, all others do.
pub(super) fn gptj(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    for name in ["rotary", "scale_attn_weights"] {
        fields.only(name, &json!(true))?;
    }
    let width = fields.size("rotary_dim")?.unwrap_or(64) as f64;
    let decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        residual: Residual::ParallelOneNorm,
        mlp_bias: true,
        output_bias: true,
        ..decoder
    };
    let defaults = Defaults {
        // Half a dimension more, lest rounding takes one away.
        partial: Some((width + 0.5) / decoder.head_width as f64),
        pairing: Pairing::Neighbours,
        ..rope_defaults(&decoder, 10000.0)
    };
    Ok(Decoder { ropes: vec![rope::of_object(None, defaults)?], ..decoder })
}

/// Phi-1 and Phi-2: parallel branches behind one norm, a bias everywhere.
pub(super) fn phi(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let normed = fields.flag("qk_layernorm")?.unwrap_or(false);
    let decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        residual: Residual::ParallelOneNorm,
        attention_bias: AttentionBias::All,
        mlp_bias: true,
        output_bias: true,
        query_key_norm: if normed { QueryKeyNorm::Head } else { QueryKeyNorm::None },
        ..decoder
    };
    let defaults = Defaults { partial: Some(0.5), ..rope_defaults(&decoder, 10000.0) };
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

/// GPT-NeoX (Black et al. 2022, arXiv:2204.06745): both branches of a layer begin from the same stream.
pub(super) fn gpt_neox(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let parallel = fields.flag("use_parallel_residual")?.unwrap_or(true);
    let biased = fields.flag("attention_bias")?.unwrap_or(true);
    let decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        residual: if parallel { Residual::Parallel } else { Residual::Serial },
        attention_bias: if biased { AttentionBias::All } else { AttentionBias::None },
        mlp_bias: true,
        ..decoder
    };
    let theta = fields.number("rotary_emb_base")?.unwrap_or(10000.0);
    let partial = fields.number("rotary_pct")?.unwrap_or(0.25);
    let defaults = Defaults { partial: Some(partial), ..rope_defaults(&decoder, theta) };
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

/// StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173).
pub(super) fn starcoder2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let biased = fields.flag("use_bias")?.unwrap_or(true);
    for (name, allowed) in [
        ("norm_type", json!("layer_norm")),
        ("mlp_type", json!("default")),
        ("scale_attn_weights", json!(true)),
    ] {
        fields.only(name, &allowed)?;
    }
    // A second name for the epsilon, which nobody reads; and where sums are floats, as they always are here.
    for name in ["layer_norm_epsilon", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"] {
        fields.value(name);
    }
    // A second name for the activation, which `transformers` does not read.
    if fields.value("activation_function").is_some() {
        fields.need_said("hidden_act")?;
    }
    let decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        attention_bias: if biased { AttentionBias::All } else { AttentionBias::None },
        mlp_bias: biased,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..decoder
    };
    one_rope(windows(decoder, fields, |_| true)?, fields, 10000.0)
}

/// StableLM: with parallel branches, these share one norm.
pub(super) fn stablelm(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let parallel = fields.flag("use_parallel_residual")?.unwrap_or(false);
    let biased = fields.flag("use_qkv_bias")?.unwrap_or(false);
    let normed = fields.flag("qk_layernorm")?.unwrap_or(false);
    let decoder = Decoder {
        norm: NormKind::Layer { biased: true },
        residual: if parallel { Residual::ParallelOneNorm } else { Residual::Serial },
        attention_bias: if biased { AttentionBias::Inputs } else { AttentionBias::None },
        query_key_norm: if normed { QueryKeyNorm::Each } else { QueryKeyNorm::None },
        ..decoder
    };
    let defaults = Defaults { partial: Some(0.25), ..rope_defaults(&decoder, 10000.0) };
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

/// What both Cohere families share.
fn cohere_base(decoder: Decoder, fields: &Fields<'_>, theta: f64) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    let decoder = Decoder {
        norm: NormKind::Layer { biased: false },
        residual: Residual::ParallelOneNorm,
        scales: Scales { logits: fields.number("logit_scale")?.unwrap_or(0.0625) as f32, ..decoder.scales },
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..decoder
    };
    let defaults = Defaults { pairing: Pairing::Neighbours, ..rope_defaults(&decoder, theta) };
    // What tokenisers cut at.
    fields.value("model_max_length");
    Ok(Decoder { ropes: vec![rope::read(fields, defaults)?], ..decoder })
}

pub(super) fn cohere(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let normed = fields.flag("use_qk_norm")?.unwrap_or(false);
    let query_key_norm = if normed { QueryKeyNorm::Each } else { QueryKeyNorm::None };
    cohere_base(Decoder { query_key_norm, ..decoder }, fields, 500_000.0)
}

/// Three layers with a window and rotated positions, then one that sees everything and has none.
pub(super) fn cohere2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    // What the first configurations said of the one form that there is.
    for (name, allowed) in [
        ("order_of_interleaved_layers", json!("local_attn_first")),
        ("position_embedding_type", json!("rope_gptj")),
        ("rotary_pct", json!(1.0)),
        ("use_embedding_sharing", json!(true)),
        ("use_gated_activation", json!(true)),
        ("use_parallel_block", json!(true)),
        ("use_parallel_embedding", json!(false)),
        ("use_qk_norm", json!(false)),
    ] {
        fields.only(name, &allowed)?;
    }
    let named = fields.size("sliding_window_pattern")?.or(fields.size("_sliding_window_pattern")?);
    let pattern = named.or(fields.size("layer_switch")?).unwrap_or(4).max(1);
    let width = decoder.hidden / decoder.heads;
    if fields.value("head_dim").and_then(Value::as_u64).is_some_and(|said| said != width as u64) {
        return Err(PluginError::unsupported(format!(
            "config.json: `head_dim` is {}; cohere2's heads are `hidden_size / num_attention_heads` = {width} wide",
            decoder.head_width
        )));
    }
    let decoder = cohere_base(decoder, fields, 10000.0)?;
    let mut decoder = windows(decoder, fields, |i| !(i + 1).is_multiple_of(pattern))?;
    for layer in &mut decoder.layers {
        layer.rope = layer.rope.filter(|_| layer.window.is_some());
    }
    Ok(decoder)
}
