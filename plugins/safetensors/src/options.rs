//! The `[plugin.safetensors.options]` table of plugins.toml, checked: what is unknown or out of range is refused by
//! name.

use std::fmt;

use impetus_plugin_api::PluginError;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::checkpoint::{CodeBits, Dtype, Rounding};
use crate::kernels::Level;

/// How models are run. What is not given is decided by the model and the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Compute threads; the host's thread budget by default.
    pub(crate) threads: Option<u32>,
    /// Cells of the KV cache, shared by all sequences; the model's own context, up to 16384, by default.
    pub(crate) context_tokens: Option<u32>,
    /// Rows of one decode; 512 by default.
    pub(crate) batch_tokens: Option<u32>,
    /// Type of the cached keys and values; that of the weights by default.
    pub(crate) cache_type: Option<CacheType>,
    /// What weights are rounded to on load; they stay as they are by default, and where they are rounded already.
    pub(crate) quantize: Option<Quantize>,
    /// Whether weights that stay as they are are copied to large pages; they are used in the mapped file by default.
    pub(crate) large_pages: Option<bool>,
    /// Instruction set; the best of this machine by default.
    pub(crate) kernels: Option<Level>,
}

/// Types that keys and values can be cached in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CacheType {
    F32,
    F16,
    Bf16,
}

/// What weights are rounded to on load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantize {
    Int8,
    Int4,
}

impl Quantize {
    /// How matrices are rounded.
    pub(crate) fn rounding(self) -> Rounding {
        match self {
            Quantize::Int8 => Rounding { bits: CodeBits::Eight, group: 64 },
            Quantize::Int4 => Rounding { bits: CodeBits::Four, group: 32 },
        }
    }
}

impl fmt::Display for Quantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quantize::Int8 => "int8",
            Quantize::Int4 => "int4",
        })
    }
}

impl CacheType {
    /// What fits weights of a type.
    pub(crate) fn of(weights: Dtype) -> Self {
        match weights {
            Dtype::F32 => CacheType::F32,
            Dtype::F16 => CacheType::F16,
            Dtype::Bf16 => CacheType::Bf16,
        }
    }

    /// Bytes of one number.
    pub(crate) fn size(self) -> usize {
        match self {
            CacheType::F32 => 4,
            CacheType::F16 | CacheType::Bf16 => 2,
        }
    }
}

/// The context's size where neither the options nor the host say one: more than most chats, less than most memories.
const DEFAULT_CONTEXT_TOKENS: u32 = 16384;
/// Rows of one decode likewise.
const DEFAULT_BATCH_TOKENS: u32 = 512;

impl Options {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the option's name and what is allowed.
    pub(crate) fn parse(json: &str) -> Result<Options, PluginError> {
        let options: Options = serde_json::from_str(json).map_err(|error| {
            // Without the place in a JSON text that the user never saw: they wrote TOML.
            let text = error.to_string();
            let words = text.split(" at line ").next().unwrap_or_default();
            PluginError::invalid_argument(format!("safetensors options: {words}"))
        })?;
        let counts = [
            ("threads", options.threads, 512),
            ("context_tokens", options.context_tokens, 1 << 24),
            ("batch_tokens", options.batch_tokens, 1 << 14),
        ];
        for (name, value, most) in counts {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                let message =
                    format!("safetensors options: {name} must be between 1 and {most}; found {value}");
                return Err(PluginError::invalid_argument(message));
            }
        }
        if let Some(level) = options.kernels.filter(|level| !level.runs_here()) {
            let message = format!("safetensors options: kernels: this machine has no {level}");
            return Err(PluginError::invalid_argument(message));
        }
        Ok(options)
    }

    /// What the plugin was told, and over it what it was told of one model: two JSON objects.
    ///
    /// # Errors
    /// As [`Options::parse`].
    pub(crate) fn of_model(plugin: &str, model: &str) -> Result<Options, PluginError> {
        let object = |json: &str| {
            serde_json::from_str::<Map<String, Value>>(json).map_err(|error| {
                PluginError::invalid_argument(format!("safetensors options are no JSON object: {error}"))
            })
        };
        let mut all = object(plugin)?;
        all.extend(object(model)?);
        Options::parse(&Value::Object(all).to_string())
    }

    /// Cells of the cache for a model that was trained with this context.
    pub(crate) fn context_tokens(&self, trained: usize) -> u32 {
        let trained = u32::try_from(trained).unwrap_or(u32::MAX);
        self.context_tokens.unwrap_or(trained.clamp(1, DEFAULT_CONTEXT_TOKENS))
    }

    /// Rows of one decode.
    pub(crate) fn batch_tokens(&self) -> u32 {
        self.batch_tokens.unwrap_or(DEFAULT_BATCH_TOKENS)
    }

    /// The instruction set.
    pub(crate) fn level(&self) -> Level {
        self.kernels.unwrap_or_else(Level::best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_are_read() {
        let options = Options::parse(
            r#"{"threads":2,"context_tokens":64,"batch_tokens":32,"cache_type":"f16","quantize":"int8","large_pages":true,"kernels":"portable"}"#,
        )
        .unwrap();
        assert_eq!((options.threads, options.cache_type), (Some(2), Some(CacheType::F16)));
        assert_eq!((options.quantize, options.large_pages), (Some(Quantize::Int8), Some(true)));
        assert_eq!((options.context_tokens(8), options.batch_tokens()), (64, 32));
        assert_eq!(options.level(), Level::Portable);
        assert_eq!(Options::parse("{}").unwrap().context_tokens(1 << 20), 16384);
    }

    #[test]
    fn what_a_model_is_told_goes_before_what_the_plugin_is_told() {
        let plugin = r#"{"threads":2,"quantize":"int4"}"#;
        let options = Options::of_model(plugin, r#"{"quantize":"int8"}"#).unwrap();
        assert_eq!((options.threads, options.quantize), (Some(2), Some(Quantize::Int8)));
        assert_eq!(Options::of_model(plugin, "{}").unwrap(), Options::parse(plugin).unwrap());
        let error = Options::of_model(plugin, r#"{"quantise":"int8"}"#).unwrap_err();
        assert!(error.message.contains("quantise"), "{}", error.message);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, expected) in [
            (r#"{"thread":2}"#, "thread"),
            (r#"{"threads":0}"#, "threads must be between 1 and 512"),
            (r#"{"cache_type":"q8_0"}"#, "q8_0"),
            (r#"{"quantize":"int5"}"#, "int5"),
        ] {
            let error = Options::parse(json).unwrap_err();
            assert!(error.message.contains(expected), "{json}: {}", error.message);
            assert!(!error.message.contains("line"), "{}", error.message);
        }
    }
}
