//! One table of the decoder families: how each one's `config.json` becomes a [`Decoder`].

mod experts;
mod gemma;
mod gpt;
mod llama;
mod shared;

use impetus_plugin_api::PluginError;

use super::names::{self, Names};
use super::{AttentionBias, Decoder, Fields, Layer, NormKind, QueryKeyNorm, Residual, Scales, check_shape};
use crate::kernels::Activation;

/// A family by its `model_type`, with what people know of it, and what makes its decoder of the common one.
struct Family {
    model_type: &'static str,
    /// For the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes it into docs/safetensors.md"))]
    models: &'static str,
    /// What it calls its figures.
    figures: &'static Figures,
    /// What it calls its tensors.
    names: &'static Names,
    adapt: fn(Decoder, &Fields<'_>) -> Result<Decoder, PluginError>,
}

/// What a family calls the figures that all have.
struct Figures {
    hidden: &'static str,
    /// With how many times the width of the stream it is where nothing is said.
    intermediate: (&'static str, Option<usize>),
    heads: &'static str,
    layers: &'static str,
    /// Its name, and how many there are where nothing is said.
    positions: (&'static str, Option<usize>),
    /// None where it is in no configuration: a hundred thousandth.
    epsilon: Option<&'static str>,
    /// The name of its activation, and which one it is where nothing is said.
    activation: (&'static str, Activation),
}

const LLAMA: Figures = Figures {
    hidden: "hidden_size",
    intermediate: ("intermediate_size", None),
    heads: "num_attention_heads",
    layers: "num_hidden_layers",
    positions: ("max_position_embeddings", None),
    epsilon: Some("rms_norm_eps"),
    activation: ("hidden_act", Activation::Silu),
};
const LAYER_NORM: Figures = Figures { epsilon: Some("layer_norm_eps"), ..LLAMA };
const OLMO: Figures = Figures { epsilon: None, ..LLAMA };
const STARCODER2: Figures =
    Figures { epsilon: Some("norm_epsilon"), activation: ("hidden_act", Activation::GeluTanh), ..LLAMA };
const GPT_NEOX: Figures = Figures { activation: ("hidden_act", Activation::Gelu), ..LAYER_NORM };
const PHI: Figures = Figures { activation: ("hidden_act", Activation::GeluTanh), ..LAYER_NORM };
const FALCON: Figures = Figures {
    intermediate: ("ffn_hidden_size", Some(4)),
    // Not in the configurations of the first ones.
    positions: ("max_position_embeddings", Some(2048)),
    epsilon: Some("layer_norm_epsilon"),
    activation: ("activation", Activation::Gelu),
    ..LLAMA
};
const GPT2: Figures = Figures {
    hidden: "n_embd",
    intermediate: ("n_inner", Some(4)),
    heads: "n_head",
    layers: "n_layer",
    positions: ("n_positions", None),
    epsilon: Some("layer_norm_epsilon"),
    activation: ("activation_function", Activation::GeluTanh),
};

/// A row of the table.
const fn family(
    (model_type, models): (&'static str, &'static str),
    (figures, names): (&'static Figures, &'static Names),
    adapt: fn(Decoder, &Fields<'_>) -> Result<Decoder, PluginError>,
) -> Family {
    Family { model_type, models, figures, names, adapt }
}

/// Every family that runs.
const FAMILIES: &[Family] = &[
    family(("llama", "Llama 2 and 3, SmolLM2, TinyLlama"), (&LLAMA, &names::LLAMA), llama::llama),
    family(("mistral", "Mistral 7B, Nemo, Ministral"), (&LLAMA, &names::LLAMA), llama::mistral),
    family(("mixtral", "Mixtral"), (&LLAMA, &names::MIXTRAL), experts::mixtral),
    family(("qwen2", "Qwen2, Qwen2.5"), (&LLAMA, &names::LLAMA), llama::qwen2),
    family(("qwen2_moe", "Qwen1.5 and Qwen2 with experts"), (&LLAMA, &names::LLAMA), experts::qwen2),
    family(("qwen3", "Qwen3"), (&LLAMA, &names::LLAMA), llama::qwen3),
    family(("qwen3_moe", "Qwen3 with experts"), (&LLAMA, &names::LLAMA), experts::qwen3),
    family(("gemma", "Gemma 1"), (&LLAMA, &names::LLAMA), gemma::gemma),
    family(("gemma2", "Gemma 2"), (&LLAMA, &names::GEMMA2), gemma::gemma2),
    family(("gemma3_text", "Gemma 3 (text)"), (&LLAMA, &names::GEMMA2), gemma::gemma3),
    family(("phi3", "Phi-3, Phi-4"), (&LLAMA, &names::PHI3), llama::phi3),
    family(("granite", "Granite 3"), (&LLAMA, &names::LLAMA), llama::granite),
    family(("granitemoe", "Granite 3 with experts"), (&LLAMA, &names::GRANITE_MOE), experts::granite),
    family(("olmoe", "OLMoE"), (&LLAMA, &names::LLAMA), experts::olmoe),
    family(("olmo", "OLMo 1"), (&OLMO, &names::LLAMA), llama::olmo),
    family(("olmo2", "OLMo 2"), (&LLAMA, &names::OLMO2), llama::olmo2),
    family(("olmo3", "OLMo 3"), (&LLAMA, &names::OLMO2), llama::olmo3),
    family(("exaone4", "EXAONE 4"), (&LLAMA, &names::OLMO2), llama::exaone4),
    family(("seed_oss", "Seed-OSS"), (&LLAMA, &names::LLAMA), llama::seed_oss),
    family(("ernie4_5", "ERNIE 4.5"), (&LLAMA, &names::LLAMA), llama::ernie4_5),
    family(("helium", "Helium"), (&LLAMA, &names::LLAMA), llama::helium),
    family(("smollm3", "SmolLM3"), (&LLAMA, &names::LLAMA), llama::smollm3),
    family(("glm", "GLM-4 9B Chat"), (&LLAMA, &names::GLM), llama::glm),
    family(("glm4", "GLM-4 0414"), (&LLAMA, &names::GLM4), llama::glm),
    family(("cohere", "Command R, Aya"), (&LAYER_NORM, &names::LLAMA), gpt::cohere),
    family(("cohere2", "Command R7B, Command A"), (&LAYER_NORM, &names::LLAMA), gpt::cohere2),
    family(("starcoder2", "StarCoder2"), (&STARCODER2, &names::STARCODER2), gpt::starcoder2),
    family(("stablelm", "StableLM 2, StableLM Zephyr"), (&LAYER_NORM, &names::STABLELM), gpt::stablelm),
    family(("falcon", "Falcon"), (&FALCON, &names::FALCON), gpt::falcon),
    family(("gpt_neox", "Pythia, GPT-NeoX, RedPajama"), (&GPT_NEOX, &names::GPT_NEOX), gpt::gpt_neox),
    family(("gpt2", "GPT-2, DistilGPT2"), (&GPT2, &names::GPT2), gpt::gpt2),
    family(("gpt_bigcode", "StarCoder, SantaCoder"), (&GPT2, &names::GPT_BIGCODE), gpt::gpt_bigcode),
    family(("gptj", "GPT-J"), (&GPT2, &names::GPTJ), gpt::gptj),
    family(("phi", "Phi-1, Phi-1.5, Phi-2"), (&PHI, &names::PHI), gpt::phi),
];

/// Every `model_type` that runs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

/// The decoder of a `model_type`.
///
/// # Errors
/// `UNSUPPORTED` with the list of what is supported.
pub(super) fn decoder(family: &str, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let Some(known) = FAMILIES.iter().find(|known| known.model_type == family) else {
        return Err(PluginError::unsupported(format!(
            "architecture `{family}` is not supported by safetensors {}; supported are {}",
            env!("CARGO_PKG_VERSION"),
            names()
                .chain(crate::candle::names())
                .chain(crate::encoder::names())
                .collect::<Vec<_>>()
                .join(", ")
        )));
    };
    // Read by `rounded`.
    let (_, _) = (fields.value("quantization"), fields.value("quantization_config"));
    let decoder = common(known, fields)?;
    check_shape(&decoder)?;
    (known.adapt)(decoder, fields)
}

/// What all families have, by their own names for it.
fn common(family: &Family, fields: &Fields<'_>) -> Result<Decoder, PluginError> {
    let Figures { epsilon, activation, positions: (positions, most), .. } = *family.figures;
    fields.only("rope_interleaved", &false.into())?;
    let hidden = fields.need_size(family.figures.hidden)?;
    let heads = fields.need_size(family.figures.heads)?;
    let head_width = fields.size("head_dim")?.or(hidden.checked_div(heads)).unwrap_or(0);
    let layers = fields.need_size(family.figures.layers)?;
    let (name, times) = family.figures.intermediate;
    let intermediate = match (fields.size(name)?, times) {
        (None, Some(times)) => hidden.saturating_mul(times),
        _ => fields.need_size(name)?,
    };
    Ok(Decoder {
        family: family.model_type.to_owned(),
        names: family.names,
        vocab_size: fields.need_size("vocab_size")?,
        hidden,
        intermediate,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        head_width,
        // One more than `check_shape` allows, at most.
        layers: vec![Layer { window: None, rope: Some(0), experts: false }; layers.min((1 << 12) + 1)],
        ropes: Vec::new(),
        context_length: match (fields.size(positions)?, most) {
            (None, Some(most)) => most,
            _ => fields.need_size(positions)?,
        },
        norm: NormKind::Rms,
        norm_epsilon: match epsilon {
            Some(name) => fields.need_number(name)? as f32,
            None => 1e-5,
        },
        norm_offset: false,
        residual: Residual::Serial,
        query_key_norm: QueryKeyNorm::None,
        activation: shared::activation(fields, activation)?,
        attention_bias: AttentionBias::None,
        mlp_bias: false,
        experts: None,
        output_bias: false,
        scales: Scales {
            embedding: 1.0,
            clip: None,
            residual: 1.0,
            score: (head_width as f32).powf(-0.5),
            score_cap: None,
            logits: 1.0,
            logits_cap: None,
        },
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
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
