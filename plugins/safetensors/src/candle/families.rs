//! The families that run through candle: how each one's `config.json` becomes candle's configuration.
//!
//! candle's networks have much of their configuration built in; what is built in is demanded here.

use candle_transformers::models::deepseek2::DeepSeekV2Config;
use candle_transformers::models::{
    lfm2 as candle_lfm2, mamba as candle_mamba, mamba2 as candle_mamba2,
    recurrent_gemma as candle_recurrent_gemma,
};
use impetus_plugin_api::PluginError;
use serde_json::json;

use super::read::{deepseek_v2, lfm2, mamba, mamba2, recurrent_gemma};
use crate::config::{Description, Fields};

/// What the rest of the plugin knows of such a model.
pub(crate) struct Outline {
    pub(super) vocab_size: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    /// Tokens of a sequence at most.
    pub(super) longest: usize,
    /// Whether a state holds its last position alone.
    pub(super) recurrent: bool,
    /// Whether the embedding is the output matrix too.
    pub(super) tied: bool,
    /// What tensors' names may begin with.
    pub(super) prefix: &'static str,
    /// A tensor that candle calls otherwise.
    pub(super) renamed: Option<(&'static str, &'static str)>,
}

/// candle's configurations.
pub(crate) enum Config {
    Mamba(candle_mamba::Config),
    Mamba2(candle_mamba2::Config),
    Lfm2(candle_lfm2::Config),
    RecurrentGemma(candle_recurrent_gemma::Config),
    DeepSeekV2(Box<DeepSeekV2Config>),
}

/// A family by its `model_type`, with what people know of it.
struct Family {
    model_type: &'static str,
    /// For the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes it into docs/safetensors.md"))]
    models: &'static str,
    read: fn(&Fields<'_>) -> Result<(Outline, Config), PluginError>,
}

/// Every family that runs so.
const FAMILIES: &[Family] = &[
    Family { model_type: "mamba", models: "Mamba", read: mamba },
    Family { model_type: "mamba2", models: "Mamba 2 of one group, with tied embeddings", read: mamba2 },
    Family { model_type: "lfm2", models: "LFM2", read: lfm2 },
    Family { model_type: "recurrent_gemma", models: "RecurrentGemma", read: recurrent_gemma },
    Family {
        model_type: "deepseek_v2",
        models: "DeepSeek V2 without a scaled rope and groups of experts",
        read: deepseek_v2,
    },
];

/// Whether a `model_type` runs through candle.
pub(crate) fn is_ours(family: &str) -> bool {
    FAMILIES.iter().any(|known| known.model_type == family)
}

/// Every `model_type` that does.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

impl Outline {
    /// # Errors
    /// `UNSUPPORTED` with the field that candle does not compute as it says, `CORRUPT_MODEL` for one that is missing.
    pub(crate) fn read(description: &Description) -> Result<(Outline, Config), PluginError> {
        if description.rounded()? {
            return Err(PluginError::unsupported("quantised weights do not run through candle here"));
        }
        let fields = Fields::new(&description.config);
        let _ = (fields.value("quantization"), fields.value("quantization_config"));
        // What the authors' own program takes for itself; nothing in it is nothing.
        fields.only("ssm_cfg", &json!({}))?;
        let family = FAMILIES.iter().find(|family| family.model_type == description.family());
        let family =
            family.ok_or_else(|| PluginError::internal("a family that is not candle's: this is a bug"))?;
        let read = (family.read)(&fields)?;
        fields.check_all_read_but(HARMLESS)?;
        Ok(read)
    }
}

/// Fields that change only how weights were made, beside those that no model's do.
const HARMLESS: &[&str] = &[
    "block_dim",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_xavier_init",
    "chunk_size",
    "conv_dim",
    "conv_dim_out",
    "conv_use_xavier_init",
    "final_w_init_variance_scale",
    "fused_add_norm",
    "num_heads",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "seq_aux",
    "aux_loss_alpha",
    "ep_size",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_scale",
    "use_associative_scan",
    "use_mambapy",
    "w_init_variance_scale",
];

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
        let (before, rest) = text.split_once("<!-- candle -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- candle end -->").unwrap();
        let expected = format!("{before}<!-- candle -->\n{table}<!-- candle end -->{after}");
        if std::env::var_os("IMPETUS_UPDATE").is_some() {
            std::fs::write(&path, expected).unwrap();
        } else {
            let cure = "IMPETUS_UPDATE=1 cargo test --release -p impetus-plugin-safetensors documentation";
            assert!(text == expected, "docs/safetensors.md is out of date: run `{cure}`");
        }
    }
}
