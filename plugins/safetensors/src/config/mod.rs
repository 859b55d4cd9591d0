//! What `config.json` says, as one checked description of a decoder.
//!
//! No silent approximation: a field that changes the result and that nobody here read is a refusal by its name. Knows
//! neither tensors nor kernels.

mod families;
mod fields;
mod names;
#[cfg(test)]
mod published_tests;
mod rope;
mod rounded;
#[cfg(test)]
mod tests;

use std::path::Path;

use impetus_plugin_api::{ErrorCode, PluginError};
use serde_json::{Map, Value};

#[cfg(test)]
pub(crate) use self::families::names;
pub(crate) use self::fields::Fields;
pub(crate) use self::names::{InputNames, MlpNames, Names};
pub(crate) use self::rope::{Pairing, Rope, Scaling};
use crate::kernels::Activation;

/// A decoder: everything about it but its weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoder {
    /// `model_type`, such as `llama`.
    pub(crate) family: String,
    /// What its tensors are called.
    pub(crate) names: &'static Names,
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden: usize,
    /// Width inside the feed-forward network.
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` queries.
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) layers: Vec<Layer>,
    /// Kinds of rotary positions; layers name theirs by index.
    pub(crate) ropes: Vec<Rope>,
    /// The longest sequence that it was trained for, in tokens.
    pub(crate) context_length: usize,
    pub(crate) norm: NormKind,
    pub(crate) norm_epsilon: f32,
    /// Norm weights are stored less one.
    pub(crate) norm_offset: bool,
    pub(crate) residual: Residual,
    pub(crate) query_key_norm: QueryKeyNorm,
    pub(crate) activation: Activation,
    /// Whether queries, keys and values (and the output of attention) have a bias.
    pub(crate) attention_bias: AttentionBias,
    pub(crate) mlp_bias: bool,
    /// Those of the layers that have experts.
    pub(crate) experts: Option<Experts>,
    pub(crate) scales: Scales,
    pub(crate) output_bias: bool,
    /// The embedding is the output matrix too.
    pub(crate) tied: bool,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// How many keys a query sees, itself included.
    pub(crate) window: Option<u32>,
    /// Which of the decoder's ropes; none: no positions at all (NoPE).
    pub(crate) rope: Option<usize>,
    /// Whether its feed-forward network is of experts.
    pub(crate) experts: bool,
}

/// How numbers are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// By their root mean square (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// By their mean and variance (Ba et al. 2016, arXiv:1607.06450).
    Layer { biased: bool },
    /// The same without weights.
    Bare,
}

/// What the feed-forward network begins with, and when attention's answer is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residual {
    /// With the stream to which attention's answer was added.
    Serial,
    /// With the stream that attention began with, through a norm of its own.
    Parallel,
    /// With what attention began with.
    ParallelOneNorm,
}

/// Networks of which a router picks a few for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    /// How many a token goes through.
    pub(crate) used: usize,
    /// Width inside one.
    pub(crate) intermediate: usize,
    /// Whether the weights of those that are used sum to one.
    pub(crate) normalised: bool,
    /// Width inside the one that every token goes through.
    pub(crate) shared: Option<usize>,
}

/// Whether queries and keys are normalised before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryKeyNorm {
    None,
    /// Each head by itself, all with the same weights.
    Head,
    /// Each head by itself, with weights of its own.
    Each,
    /// All heads together.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionBias {
    None,
    /// Queries, keys and values alone.
    Inputs,
    /// The output as well.
    All,
}

/// Constant factors and caps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scales {
    pub(crate) embedding: f32,
    /// Queries, keys and values are kept between this and its negative.
    pub(crate) clip: Option<f32>,
    /// What is added to the residual stream is multiplied by this.
    pub(crate) residual: f32,
    /// Scores are multiplied by this.
    pub(crate) score: f32,
    pub(crate) score_cap: Option<f32>,
    pub(crate) logits: f32,
    pub(crate) logits_cap: Option<f32>,
}

/// The JSON files of a checkpoint that say what it is. Weights are not looked at.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) config: Map<String, Value>,
    /// `generation_config.json`, empty where there is none.
    pub(crate) generation: Map<String, Value>,
    /// `tokenizer_config.json`, empty where there is none.
    tokenizer: Map<String, Value>,
    /// The Jinja text of the chat template.
    pub(crate) chat_template: Option<String>,
    /// Those that are for one purpose, such as `tool_use`, by name.
    pub(crate) named_templates: Map<String, Value>,
    /// As the model card (README.md) has it.
    pub(crate) license: Option<String>,
}

impl Description {
    /// Reads a folder.
    ///
    /// # Errors
    /// `NOT_FOUND` without config.json, `CORRUPT_MODEL` for a file that is no JSON object.
    pub(crate) fn read(folder: &Path) -> Result<Self, PluginError> {
        let config = object(folder, "config.json")?.ok_or_else(|| {
            PluginError::new(
                ErrorCode::NOT_FOUND,
                "config.json is missing beside the weights: without it they are numbers without a model; fetch the \
                 whole folder of the checkpoint",
            )
        })?;
        let tokenizer = object(folder, "tokenizer_config.json")?.unwrap_or_default();
        let (told, mut named_templates) = templates_of(&tokenizer);
        let file = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        // Where there are files, `transformers` goes by these.
        if file.is_some() {
            named_templates.clear();
        }
        named_templates.extend(template_files(folder));
        Ok(Description {
            config,
            generation: object(folder, "generation_config.json")?.unwrap_or_default(),
            tokenizer,
            chat_template: file.or(told),
            named_templates,
            license: std::fs::read_to_string(folder.join("README.md"))
                .ok()
                .and_then(|card| license_of(&card)),
        })
    }

    /// `model_type`.
    pub(crate) fn family(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or("unknown")
    }

    /// The decoder that the configuration describes.
    ///
    /// # Errors
    /// `UNSUPPORTED` with the name of the family or field that is not understood, `CORRUPT_MODEL` for a field that is
    /// missing or of the wrong type.
    pub(crate) fn decoder(&self) -> Result<Decoder, PluginError> {
        self.rounded()?;
        let fields = Fields::new(&self.config);
        let decoder = families::decoder(self.family(), &fields)?;
        fields.check_all_read()?;
        Ok(decoder)
    }

    /// Whether MLX rounded the weights.
    ///
    /// # Errors
    /// `UNSUPPORTED` with the method of others.
    pub(crate) fn rounded(&self) -> Result<bool, PluginError> {
        rounded::by_mlx(&self.config)
    }

    /// The text of a special token (`eos`, `bos` …): given as a text, or as an object with one.
    pub(crate) fn special_token(&self, name: &str) -> Option<&str> {
        let value = self.tokenizer.get(&format!("{name}_token"))?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// Ids of the tokens that end an answer, from both configurations.
    pub(crate) fn end_tokens(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = [&self.generation, &self.config]
            .into_iter()
            .filter_map(|object| object.get("eos_token_id"))
            .flat_map(|value| match value {
                Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
                one => one.as_u64().into_iter().collect::<Vec<_>>(),
            })
            .filter_map(|id| u32::try_from(id).ok())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// A JSON file of a folder; `None` where there is none.
///
/// # Errors
/// `CORRUPT_MODEL` for a file that is no JSON object.
pub(crate) fn object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>, PluginError> {
    let text = match std::fs::read(folder.join(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PluginError::corrupt_model(format!("{name} cannot be read: {error}"))),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| PluginError::corrupt_model(format!("{name} is no JSON object: {error}")))
}

/// One template, or several with names: the one called `default`, and the others. Without that name none counts for all
/// chats, unless there is no other.
fn templates_of(tokenizer: &Map<String, Value>) -> (Option<String>, Map<String, Value>) {
    match tokenizer.get("chat_template") {
        Some(Value::String(text)) => (Some(text.clone()), Map::new()),
        Some(Value::Array(listed)) => {
            let one = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["template"].clone()));
            let mut named: Map<String, Value> =
                listed.iter().filter_map(one).filter(|(_, text)| text.is_string()).collect();
            let only = if named.len() == 1 { named.values().next().cloned() } else { None };
            let default = named.remove("default").or(only);
            (default.and_then(|text| text.as_str().map(str::to_owned)), named)
        }
        _ => (None, Map::new()),
    }
}

/// `additional_chat_templates/NAME.jinja`
fn template_files(folder: &Path) -> Map<String, Value> {
    let files = std::fs::read_dir(folder.join("additional_chat_templates")).into_iter().flatten();
    let named = files.filter_map(|file| {
        let path = file.ok()?.path();
        let name = path.file_name()?.to_str()?.strip_suffix(".jinja")?.to_owned();
        Some((name, std::fs::read_to_string(&path).ok()?.into()))
    });
    named.collect()
}

/// `license: apache-2.0` of the lines between two `---` at a model card's beginning.
fn license_of(card: &str) -> Option<String> {
    let (front, _) = card.strip_prefix("---\n")?.split_once("\n---")?;
    let value = front.lines().find_map(|line| line.strip_prefix("license:"))?.trim();
    (!value.is_empty()).then(|| value.trim_matches(['"', '\'']).to_owned())
}

/// Figures that the kernels divide by or index with.
fn check_shape(decoder: &Decoder) -> Result<(), PluginError> {
    let figures = [
        ("vocab_size", decoder.vocab_size, 1 << 24),
        ("hidden_size", decoder.hidden, 1 << 20),
        ("intermediate_size", decoder.intermediate, 1 << 22),
        ("num_attention_heads", decoder.heads, 1 << 12),
        ("num_key_value_heads", decoder.kv_heads, 1 << 12),
        ("head_dim", decoder.head_width, 1 << 12),
        ("num_hidden_layers", decoder.layers.len(), 1 << 12),
    ];
    for (name, figure, most) in figures {
        if !(1..=most).contains(&figure) {
            return Err(PluginError::corrupt_model(format!(
                "config.json: {name} is {figure}; 1 to {most} make sense"
            )));
        }
    }
    if !decoder.heads.is_multiple_of(decoder.kv_heads) {
        return Err(PluginError::corrupt_model(format!(
            "config.json: {} attention heads cannot share {} heads of keys evenly",
            decoder.heads, decoder.kv_heads
        )));
    }
    Ok(())
}
