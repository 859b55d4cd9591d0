//! The `[plugin.gguf.options]` table of plugins.toml, checked: what is unknown or out of range is refused by name.

use impetus_plugin_api::PluginError;
use llama_cpp_sys_2 as sys;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How models are loaded and run. What is not given is decided by the model and the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Threads for one token at a time; the host's thread budget by default.
    pub(crate) threads: Option<u32>,
    /// Threads for prompts; as `threads` by default.
    pub(crate) batch_threads: Option<u32>,
    /// Cells of the KV cache, shared by all sequences; the model's own context, up to 16384, by default.
    pub(crate) context_tokens: Option<u32>,
    /// Cells of each of eight caches in which short sequences are computed apart from others; 1024, 512 or 256 by default,
    /// as far as that is little memory; 0: none.
    pub(crate) lane_tokens: Option<u32>,
    /// Rows of one decode; 512 by default.
    pub(crate) batch_tokens: Option<u32>,
    /// Rows that are computed together within one; 512 by default.
    pub(crate) micro_batch_tokens: Option<u32>,
    /// Type of the cached keys; f16 by default.
    pub(crate) cache_type_k: CacheType,
    /// Type of the cached values; f16 by default. A quantised one needs flash attention.
    pub(crate) cache_type_v: CacheType,
    /// Flash attention.
    pub(crate) flash_attention: FlashAttention,
    /// Layers that go to a GPU; 0 by default. This build has none unless it was compiled for one.
    pub(crate) gpu_layers: u32,
    /// Map the file instead of reading it; on by default.
    pub(crate) mmap: Option<bool>,
    /// Keep the weights from being swapped out.
    pub(crate) mlock: bool,
}

/// Element types that llama.cpp can cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CacheType {
    F32,
    #[default]
    F16,
    Bf16,
    Q8_0,
    Q5_1,
    Q5_0,
    Q4_1,
    Q4_0,
}

/// When to use flash attention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlashAttention {
    /// llama.cpp decides.
    #[default]
    Auto,
    On,
    Off,
}

impl CacheType {
    pub(crate) fn native(self) -> sys::ggml_type {
        match self {
            CacheType::F32 => sys::GGML_TYPE_F32,
            CacheType::F16 => sys::GGML_TYPE_F16,
            CacheType::Bf16 => sys::GGML_TYPE_BF16,
            CacheType::Q8_0 => sys::GGML_TYPE_Q8_0,
            CacheType::Q5_1 => sys::GGML_TYPE_Q5_1,
            CacheType::Q5_0 => sys::GGML_TYPE_Q5_0,
            CacheType::Q4_1 => sys::GGML_TYPE_Q4_1,
            CacheType::Q4_0 => sys::GGML_TYPE_Q4_0,
        }
    }

    /// Bits of one cached number, the share of its block's scale included.
    pub(crate) fn bits(self) -> f64 {
        match self {
            CacheType::F32 => 32.0,
            CacheType::F16 | CacheType::Bf16 => 16.0,
            CacheType::Q8_0 => 8.5,
            CacheType::Q5_1 => 6.0,
            CacheType::Q5_0 => 5.5,
            CacheType::Q4_1 => 5.0,
            CacheType::Q4_0 => 4.5,
        }
    }

    fn is_quantised(self) -> bool {
        !matches!(self, CacheType::F32 | CacheType::F16 | CacheType::Bf16)
    }
}

/// The context's size where neither the options nor the host say one: more than most chats, less than most memories.
const DEFAULT_CONTEXT_TOKENS: u32 = 16384;

impl Options {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the option's name and what is allowed.
    pub(crate) fn parse(json: &str) -> Result<Options, PluginError> {
        let options: Options = serde_json::from_str(json).map_err(|error| {
            PluginError::invalid_argument(format!("gguf options: {}", without_place(&error)))
        })?;
        options.check()?;
        Ok(options)
    }

    /// What the plugin was told, and over it what it was told of one model: two JSON objects.
    ///
    /// # Errors
    /// As [`Options::parse`].
    pub(crate) fn of_model(plugin: &str, model: &str) -> Result<Options, PluginError> {
        let object = |json: &str| {
            serde_json::from_str::<Map<String, Value>>(json).map_err(|error| {
                PluginError::invalid_argument(format!("gguf options are no JSON object: {error}"))
            })
        };
        let mut all = object(plugin)?;
        all.extend(object(model)?);
        Options::parse(&Value::Object(all).to_string())
    }

    fn check(&self) -> Result<(), PluginError> {
        let counts = [
            ("threads", self.threads, 512),
            ("batch_threads", self.batch_threads, 512),
            ("context_tokens", self.context_tokens, 1 << 24),
            ("batch_tokens", self.batch_tokens, 1 << 16),
            ("micro_batch_tokens", self.micro_batch_tokens, 1 << 16),
        ];
        for (name, value, most) in counts {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                let message = format!("gguf options: {name} must be between 1 and {most}; found {value}");
                return Err(PluginError::invalid_argument(message));
            }
        }
        if let Some(tokens) = self.lane_tokens.filter(|tokens| *tokens > 1 << 20) {
            let message =
                format!("gguf options: lane_tokens must be between 0 and {}; found {tokens}", 1 << 20);
            return Err(PluginError::invalid_argument(message));
        }
        if self.cache_type_v.is_quantised() && self.flash_attention == FlashAttention::Off {
            return Err(PluginError::invalid_argument(
                "gguf options: a quantised cache_type_v needs flash_attention = \"auto\" or \"on\"",
            ));
        }
        Ok(())
    }

    /// Cells of the cache for a model that was trained with this context.
    pub(crate) fn context_tokens(&self, trained: u32) -> u32 {
        self.context_tokens.unwrap_or(match trained {
            0 => DEFAULT_CONTEXT_TOKENS,
            trained => trained.min(DEFAULT_CONTEXT_TOKENS),
        })
    }

    /// Rows of one decode.
    pub(crate) fn batch_tokens(&self) -> u32 {
        self.batch_tokens.unwrap_or(512)
    }

    /// Rows that are computed together.
    pub(crate) fn micro_batch_tokens(&self) -> u32 {
        self.micro_batch_tokens.unwrap_or(512).min(self.batch_tokens())
    }
}

/// serde's words without the place in a JSON text that the user never saw: they wrote TOML.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_is_the_defaults() {
        let options = Options::parse("{}").unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(options.context_tokens(8192), 8192);
        assert_eq!(options.context_tokens(131_072), 16384);
        assert_eq!(options.context_tokens(0), 16384);
    }

    #[test]
    fn all_options_are_read() {
        let options = Options::parse(
            r#"{"threads":2,"batch_threads":3,"context_tokens":64,"lane_tokens":0,"batch_tokens":32,"micro_batch_tokens":64,
                "cache_type_k":"q8_0","cache_type_v":"bf16","flash_attention":"on","gpu_layers":4,"mmap":false,
                "mlock":true}"#,
        )
        .unwrap();
        assert_eq!((options.threads, options.cache_type_k), (Some(2), CacheType::Q8_0));
        assert_eq!((options.micro_batch_tokens(), options.lane_tokens), (32, Some(0)));
        assert_eq!((options.mmap, options.mlock, options.gpu_layers), (Some(false), true, 4));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, expected) in [
            (r#"{"thread":2}"#, "thread"),
            (r#"{"threads":0}"#, "threads must be between 1 and 512"),
            (r#"{"threads":-1}"#, "-1"),
            (r#"{"cache_type_k":"q3"}"#, "q3"),
            (r#"{"flash_attention":true}"#, "gguf options"),
            (r#"{"cache_type_v":"q8_0","flash_attention":"off"}"#, "flash_attention"),
        ] {
            let error = Options::parse(json).unwrap_err();
            assert!(error.message.contains(expected), "{json}: {}", error.message);
            assert!(!error.message.contains("line"), "{}", error.message);
        }
    }
}
