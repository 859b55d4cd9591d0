//! One table of the encoder families: how each one's `config.json` becomes a network, and what it calls its tensors.

use impetus_plugin_api::PluginError;
use serde_json::json;

use super::config::{Bert, Network, Numbering};
use super::rows::Activation;
use super::through_candle;
use crate::config::Fields;

/// What a family calls its tensors.
#[derive(Debug)]
pub(crate) struct Names {
    /// What all names may begin with, where the checkpoint has a head as well.
    pub(crate) prefix: &'static str,
    pub(crate) layer: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) inner: &'static str,
    pub(crate) outer: &'static str,
    pub(crate) norm: &'static str,
}

const fn bert_names(prefix: &'static str) -> Names {
    Names {
        prefix,
        layer: "encoder.layer.",
        query: "attention.self.query",
        key: "attention.self.key",
        value: "attention.self.value",
        output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        inner: "intermediate.dense",
        outer: "output.dense",
        norm: "output.LayerNorm",
    }
}

static BERT: Names = bert_names("bert.");
static ROBERTA: Names = bert_names("roberta.");
static DISTILBERT: Names = Names {
    prefix: "distilbert.",
    layer: "transformer.layer.",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    inner: "ffn.lin1",
    outer: "ffn.lin2",
    norm: "output_layer_norm",
};

/// A family by its `model_type`, with what people know of it.
struct Family {
    model_type: &'static str,
    /// For the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes it into docs/safetensors.md"))]
    models: &'static str,
    read: Reader,
}

/// Reads a family's `config.json`.
pub(super) type Reader = fn(&Fields<'_>) -> Result<Read, PluginError>;

/// Every family that runs.
const FAMILIES: &[Family] = &[
    Family { model_type: "bert", models: "BERT, MiniLM, BGE, E5, GTE, Arctic Embed", read: bert },
    Family { model_type: "roberta", models: "RoBERTa, all-distilroberta", read: roberta },
    Family { model_type: "xlm-roberta", models: "XLM-R, multilingual E5, BGE-M3 (dense)", read: roberta },
    Family { model_type: "camembert", models: "CamemBERT", read: roberta },
    Family { model_type: "distilbert", models: "DistilBERT", read: distilbert },
    Family {
        model_type: "modernbert",
        models: "ModernBERT, GTE ModernBERT (through candle)",
        read: modernbert,
    },
    Family {
        model_type: "nomic_bert",
        models: "Nomic Embed Text 1 and 1.5 (through candle)",
        read: nomic_bert,
    },
];

/// What `config.json` alone says.
pub(super) struct Read {
    pub(super) vocab_size: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) longest: usize,
    pub(super) network: Network,
}

/// Whether a `model_type` is an encoder that runs.
pub(crate) fn is_encoder(family: &str) -> bool {
    FAMILIES.iter().any(|known| known.model_type == family)
}

/// What reads a `model_type`, if it is an encoder that runs.
pub(super) fn reader(family: &str) -> Option<Reader> {
    FAMILIES.iter().find(|known| known.model_type == family).map(|known| known.read)
}

/// Every `model_type` that runs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

/// Fields that do not change what an encoder computes, beside those that no model's do.
pub(super) const HARMLESS: &[&str] = &[
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_activation",
    "classifier_bias",
    "classifier_dropout",
    "classifier_pooling",
    "cls_token_id",
    "decoder_bias",
    "dense_seq_output",
    "deterministic_flash_attn",
    "directionality",
    "dropout",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_cutoff_factor",
    "max_trained_positions",
    "mlp_dropout",
    "output_past",
    "pad_vocab_size_multiple",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "qa_dropout",
    "reference_compile",
    "repad_logits_with_grad",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "tie_weights_",
    "tie_word_embeddings",
    "use_flash_attn",
    "use_xentropy",
];

fn activation(fields: &Fields<'_>, name: &'static str) -> Result<Activation, PluginError> {
    match fields.text(name)? {
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => Err(PluginError::unsupported(format!(
            "config.json: the activation `{other}` is not supported; supported are gelu, gelu_pytorch_tanh and relu"
        ))),
        None => Err(PluginError::corrupt_model(format!("config.json: `{name}` is missing"))),
    }
}

fn bert(fields: &Fields<'_>) -> Result<Read, PluginError> {
    fields.only("position_embedding_type", &"absolute".into())?;
    // The token that fills batches up: there is none in ours.
    let _ = fields.value("pad_token_id");
    let positions = fields.need_size("max_position_embeddings")?;
    let network = Bert {
        intermediate: fields.need_size("intermediate_size")?,
        heads: fields.need_size("num_attention_heads")?,
        activation: activation(fields, "hidden_act")?,
        epsilon: fields.need_number("layer_norm_eps")? as f32,
        positions,
        numbering: Numbering::FromZero,
        token_types: fields.need_size("type_vocab_size")?,
        names: &BERT,
    };
    Ok(Read {
        vocab_size: fields.need_size("vocab_size")?,
        hidden: fields.need_size("hidden_size")?,
        layers: fields.need_size("num_hidden_layers")?,
        longest: positions,
        network: Network::Bert(network),
    })
}

fn roberta(fields: &Fields<'_>) -> Result<Read, PluginError> {
    let read = bert(fields)?;
    let pad = fields.need_size("pad_token_id")?;
    let Network::Bert(network) = read.network else { return Ok(read) };
    let numbering = Numbering::Behind(u32::try_from(pad).unwrap_or(u32::MAX));
    Ok(Read {
        // Rows up to the padding token's own are no token's.
        longest: network.positions.saturating_sub(pad + 1),
        network: Network::Bert(Bert { numbering, names: &ROBERTA, ..network }),
        ..read
    })
}

fn distilbert(fields: &Fields<'_>) -> Result<Read, PluginError> {
    let _ = fields.value("pad_token_id");
    let positions = fields.need_size("max_position_embeddings")?;
    let network = Bert {
        intermediate: fields.need_size("hidden_dim")?,
        heads: fields.need_size("n_heads")?,
        activation: activation(fields, "activation")?,
        // The reference has it in its code.
        epsilon: 1e-12,
        positions,
        numbering: Numbering::FromZero,
        token_types: 0,
        names: &DISTILBERT,
    };
    Ok(Read {
        vocab_size: fields.need_size("vocab_size")?,
        hidden: fields.need_size("dim")?,
        layers: fields.need_size("n_layers")?,
        longest: positions,
        network: Network::Bert(network),
    })
}

fn modernbert(fields: &Fields<'_>) -> Result<Read, PluginError> {
    for name in ["attention_bias", "mlp_bias", "norm_bias"] {
        fields.only(name, &false.into())?;
    }
    fields.only("hidden_activation", &"gelu".into())?;
    let layers = fields.need_size("num_hidden_layers")?;
    let (every, global, local) = through_candle::modernbert_layers(fields, layers)?;
    let config = through_candle::ModernBertConfig {
        vocab_size: fields.need_size("vocab_size")?,
        hidden_size: fields.need_size("hidden_size")?,
        num_hidden_layers: layers,
        num_attention_heads: fields.need_size("num_attention_heads")?,
        intermediate_size: fields.need_size("intermediate_size")?,
        max_position_embeddings: fields.need_size("max_position_embeddings")?,
        layer_norm_eps: fields.need_number("norm_eps")?,
        pad_token_id: fields.size("pad_token_id")?.and_then(|id| u32::try_from(id).ok()).unwrap_or(0),
        global_attn_every_n_layers: every,
        global_rope_theta: global,
        local_attention: fields.need_size("local_attention")?,
        local_rope_theta: local,
        classifier_config: None,
    };
    // The reference's older name for `norm_eps`, kept beside it.
    fields.only("layer_norm_eps", &json!(config.layer_norm_eps))?;
    fields.only("position_embedding_type", &"absolute".into())?;
    check_heads(config.hidden_size, config.num_attention_heads)?;
    Ok(Read {
        vocab_size: config.vocab_size,
        hidden: config.hidden_size,
        layers,
        longest: config.max_position_embeddings,
        network: Network::ModernBert(config),
    })
}

fn nomic_bert(fields: &Fields<'_>) -> Result<Read, PluginError> {
    let config = through_candle::nomic_config(fields)?;
    check_heads(config.n_embd, config.n_head)?;
    Ok(Read {
        vocab_size: config.vocab_size,
        hidden: config.n_embd,
        layers: config.n_layer,
        longest: config.n_positions,
        network: Network::NomicBert(config),
    })
}

fn check_heads(hidden: usize, heads: usize) -> Result<(), PluginError> {
    if heads > 0 && hidden.is_multiple_of(2 * heads) {
        return Ok(());
    }
    Err(PluginError::corrupt_model(format!("config.json: a width of {hidden} has no {heads} heads of pairs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_encoder() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/safetensors.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- encoders -->\n", "<!-- encoders end -->");
        let (before, rest) = text.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let rows: String = FAMILIES
            .iter()
            .map(|family| format!("| `{}` | {} |\n", family.model_type, family.models))
            .collect();
        let expected = format!("{before}{begin}| `model_type` | models |\n|---|---|\n{rows}{end}{after}");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(&path, expected).unwrap();
            return;
        }
        let cure = "WRITE_DOCS=1 cargo test --release -p impetus-plugin-safetensors documentation";
        assert!(text == expected, "docs/safetensors.md is out of date: run `{cure}`");
    }
}
