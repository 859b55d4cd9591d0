//! One table of the decoder families: how each one's `config.json` becomes a [`Decoder`].

use impetus_plugin_api::PluginError;
use serde_json::{Value, json};

use super::rope::{self, Defaults};
use super::{AttentionBias, Decoder, Fields, Layer, Norms, QueryKeyNorm, Rope, Scales, check_shape};
use crate::kernels::Activation;

/// A family by its `model_type`, with what people know of it, and what makes its decoder of the common one.
struct Family {
    model_type: &'static str,
    /// For the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes it into docs/safetensors.md"))]
    models: &'static str,
    adapt: fn(Decoder, &Fields<'_>) -> Result<Decoder, PluginError>,
}

/// Every family that runs.
const FAMILIES: &[Family] = &[
    Family { model_type: "llama", models: "Llama 2 and 3, SmolLM2, TinyLlama", adapt: llama },
    Family { model_type: "mistral", models: "Mistral 7B, Nemo, Ministral", adapt: mistral },
    Family { model_type: "qwen2", models: "Qwen2, Qwen2.5", adapt: qwen2 },
    Family { model_type: "qwen3", models: "Qwen3", adapt: qwen3 },
    Family { model_type: "gemma", models: "Gemma 1", adapt: gemma },
    Family { model_type: "gemma2", models: "Gemma 2", adapt: gemma2 },
    Family { model_type: "gemma3_text", models: "Gemma 3 (text)", adapt: gemma3 },
    Family { model_type: "phi3", models: "Phi-3, Phi-4", adapt: phi3 },
    Family { model_type: "granite", models: "Granite 3", adapt: granite },
    Family { model_type: "olmo2", models: "OLMo 2", adapt: olmo2 },
    Family { model_type: "smollm3", models: "SmolLM3", adapt: smollm3 },
];

/// The decoder of a `model_type`.
///
/// # Errors
/// `UNSUPPORTED` with the list of what is supported.
pub(super) fn decoder(family: &str, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let Some(known) = FAMILIES.iter().find(|known| known.model_type == family) else {
        let all: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        return Err(PluginError::unsupported(format!(
            "architecture `{family}` is not supported by safetensors {}; supported are {}",
            env!("CARGO_PKG_VERSION"),
            all.into_iter().chain(crate::encoder::names()).collect::<Vec<_>>().join(", ")
        )));
    };
    // Read by `rounded`.
    let (_, _) = (fields.value("quantization"), fields.value("quantization_config"));
    let decoder = common(family, fields)?;
    check_shape(&decoder)?;
    (known.adapt)(decoder, fields)
}

/// What all families call by the same names.
fn common(family: &str, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let hidden = fields.need_size("hidden_size")?;
    let heads = fields.need_size("num_attention_heads")?;
    let head_width = fields.size("head_dim")?.or(hidden.checked_div(heads)).unwrap_or(0);
    let layers = fields.need_size("num_hidden_layers")?;
    Ok(Decoder {
        family: family.to_owned(),
        vocab_size: fields.need_size("vocab_size")?,
        hidden,
        intermediate: fields.need_size("intermediate_size")?,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        head_width,
        // One more than `check_shape` allows, at most.
        layers: vec![Layer { window: None, rope: Some(0) }; layers.min((1 << 12) + 1)],
        ropes: Vec::new(),
        context_length: fields.need_size("max_position_embeddings")?,
        norm_epsilon: fields.need_number("rms_norm_eps")? as f32,
        norm_offset: false,
        norms: Norms::Before,
        query_key_norm: QueryKeyNorm::None,
        activation: activation(fields)?,
        attention_bias: AttentionBias::None,
        mlp_bias: false,
        fused: false,
        scales: Scales {
            embedding: 1.0,
            residual: 1.0,
            score: (head_width as f32).powf(-0.5),
            score_cap: None,
            logits: 1.0,
            logits_cap: None,
        },
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

fn activation(fields: &Fields<'_>) -> Result<Activation, PluginError> {
    // Gemma wrote the one field and meant the other.
    let written = fields.text("hidden_act")?;
    let name = fields.text("hidden_activation")?.or(written).unwrap_or("silu");
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        // What Gemma 1's checkpoints say; its authors meant the tanh formula.
        "gelu" if written == Some("gelu") && fields.text("model_type")? == Some("gemma") => {
            Ok(Activation::GeluTanh)
        }
        other => Err(PluginError::unsupported(format!(
            "config.json: the activation `{other}` is not supported; supported are silu and gelu_pytorch_tanh"
        ))),
    }
}

fn one_rope(decoder: Decoder, fields: &Fields<'_>, theta: f64) -> Result<Decoder, PluginError> {
    Ok(Decoder { ropes: vec![rope::read(fields, decoder.head_width, theta)?], ..decoder })
}

/// Gives the layers that `layer_types` calls sliding, or else those that `slides` names, the window.
fn windows(
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

fn attention_bias(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let all = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Decoder { attention_bias: if all { AttentionBias::All } else { AttentionBias::None }, ..decoder })
}

fn llama(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    one_rope(Decoder { mlp_bias, ..decoder }, fields, 10000.0)
}

fn mistral(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    fields.need_said("sliding_window")?;
    one_rope(windows(decoder, fields, |_| true)?, fields, 10000.0)
}

fn qwen_windows(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let used = fields.flag("use_sliding_window")?.unwrap_or(false);
    let full = fields.size("max_window_layers")?.unwrap_or(28);
    if used {
        return windows(decoder, fields, |i| i >= full);
    }
    Ok(without_windows(decoder, fields))
}

/// The fields may be there all the same, and mean nothing.
fn without_windows(decoder: Decoder, fields: &Fields<'_>) -> Decoder {
    for name in ["sliding_window", "layer_types", "max_window_layers"] {
        fields.value(name);
    }
    decoder
}

fn qwen2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = Decoder { attention_bias: AttentionBias::Inputs, ..qwen_windows(decoder, fields)? };
    fields.only("use_mrope", &json!(false))?;
    one_rope(decoder, fields, 10000.0)
}

fn qwen3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(qwen_windows(decoder, fields)?, fields)?;
    one_rope(Decoder { query_key_norm: QueryKeyNorm::Head, ..decoder }, fields, 10000.0)
}

/// What all Gemmas share. Their embeddings are tied where nothing is said.
fn gemma(mut decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
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
    decoder.norms = Norms::Around;
    let width = fields.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    decoder.scales.score = width.powf(-0.5) as f32;
    decoder.scales.score_cap = fields.number("attn_logit_softcapping")?.map(|cap| cap as f32);
    decoder.scales.logits_cap = fields.number("final_logit_softcapping")?.map(|cap| cap as f32);
    fields.only("use_bidirectional_attention", &json!(false))?;
    attention_bias(gemma_base(decoder, fields)?, fields)
}

fn gemma2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    for name in ["sliding_window", "attn_logit_softcapping", "final_logit_softcapping"] {
        fields.need_said(name)?;
    }
    let decoder = windows(gemma_caps(decoder, fields)?, fields, |i| i % 2 == 0)?;
    one_rope(decoder, fields, 10000.0)
}

fn gemma3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
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
        let full = rope::read(fields, decoder.head_width, 1_000_000.0)?;
        let sliding = Rope { theta: local, scaling: super::Scaling::None, ..full.clone() };
        return Ok(vec![full, sliding]);
    };
    let positions = decoder.context_length as f64;
    let one = |name: &str, theta: f64| {
        let defaults = Defaults { head_width: decoder.head_width, theta, partial: None, positions };
        rope::of_object(by_type.get(name).and_then(Value::as_object), defaults)
    };
    let (_, _) = (fields.value("rope_theta"), fields.value("rope_scaling"));
    Ok(vec![one("full_attention", 1_000_000.0)?, one("sliding_attention", local)?])
}

fn phi3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = Decoder { fused: true, ..windows(decoder, fields, |_| true)? };
    one_rope(decoder, fields, 10000.0)
}

fn granite(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
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

fn olmo2(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let decoder = attention_bias(decoder, fields)?;
    let decoder = Decoder { norms: Norms::Behind, query_key_norm: QueryKeyNorm::Whole, ..decoder };
    one_rope(decoder, fields, 10000.0)
}

fn smollm3(decoder: Decoder, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let mut decoder = one_rope(attention_bias(decoder, fields)?, fields, 2_000_000.0)?;
    decoder.mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    decoder.tied = fields.flag("tie_word_embeddings")?.unwrap_or(true);
    let interval = fields.size("no_rope_layer_interval")?.unwrap_or(4).max(1);
    // 1 where a layer has positions.
    let listed = fields.value("no_rope_layers").and_then(Value::as_array);
    for (i, layer) in decoder.layers.iter_mut().enumerate() {
        let rotated = match listed.and_then(|listed| listed.get(i)).and_then(Value::as_u64) {
            Some(flag) => flag != 0,
            None => !(i + 1).is_multiple_of(interval),
        };
        layer.rope = Some(0).filter(|_| rotated);
    }
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(without_windows(decoder, fields));
    }
    let rotated: Vec<bool> = decoder.layers.iter().map(|layer| layer.rope.is_some()).collect();
    windows(decoder, fields, |i| !rotated[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_what_runs() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/safetensors.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: String = FAMILIES
            .iter()
            .map(|family| format!("| `{}` | {} |\n", family.model_type, family.models))
            .collect();
        let table = format!("| `model_type` | models |\n|---|---|\n{rows}");
        let (before, rest) = text.split_once("<!-- families -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let expected = format!("{before}<!-- families -->\n{table}<!-- end -->{after}");
        if std::env::var_os("IMPETUS_UPDATE").is_some() {
            std::fs::write(&path, expected).unwrap();
        } else {
            let cure = "IMPETUS_UPDATE=1 cargo test --release -p impetus-plugin-safetensors documentation";
            assert!(text == expected, "docs/safetensors.md is out of date: run `{cure}`");
        }
    }
}
