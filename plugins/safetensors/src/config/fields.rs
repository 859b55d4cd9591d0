//! The fields of a `config.json`, each read by its name; what nobody read and is not known to be harmless is found.

use std::cell::RefCell;
use std::collections::BTreeSet;

use impetus_plugin_api::PluginError;
use serde_json::{Map, Value};

/// A JSON object that remembers which of its fields were read.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

/// Fields that do not change what a decoder computes: names, training, generation defaults, other programs' notes.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "dtype",
    "embd_pdrop",
    "embedding_dropout",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "max_length",
    "model_type",
    "n_ctx",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>) -> Self {
        Fields { object, read: RefCell::default() }
    }

    /// The value of a field, unless it is missing or null.
    pub(crate) fn value(&self, name: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A size.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn size(&self, name: &'static str) -> Result<Option<usize>, PluginError> {
        self.typed(name, "a whole number", |value| value.as_u64().and_then(|size| usize::try_from(size).ok()))
    }

    /// A size that must be there.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` when it is not.
    pub(crate) fn need_size(&self, name: &'static str) -> Result<usize, PluginError> {
        self.size(name)?
            .ok_or_else(|| PluginError::corrupt_model(format!("config.json: `{name}` is missing")))
    }

    /// # Errors
    /// `CORRUPT_MODEL` where a field is not there, not even as null: its default would be a guess.
    pub(crate) fn need_said(&self, name: &'static str) -> Result<(), PluginError> {
        match self.object.contains_key(name) {
            true => Ok(()),
            false => Err(PluginError::corrupt_model(format!("config.json: `{name}` is missing"))),
        }
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` when it is not.
    pub(crate) fn need_number(&self, name: &'static str) -> Result<f64, PluginError> {
        self.number(name)?
            .ok_or_else(|| PluginError::corrupt_model(format!("config.json: `{name}` is missing")))
    }

    /// A number.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<f64>, PluginError> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// A flag.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, PluginError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A text.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&'a str>, PluginError> {
        self.typed(name, "a text", Value::as_str)
    }

    /// An object; an empty one says nothing.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<&'a Map<String, Value>>, PluginError> {
        Ok(self.typed(name, "an object", Value::as_object)?.filter(|object| !object.is_empty()))
    }

    /// A list.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` for another type.
    pub(crate) fn list(&self, name: &'static str) -> Result<Option<&'a [Value]>, PluginError> {
        self.typed(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A field that this program only understands with one value (or none).
    ///
    /// # Errors
    /// `UNSUPPORTED` for any other value.
    pub(crate) fn only(&self, name: &'static str, allowed: &Value) -> Result<(), PluginError> {
        // The same number may be written with a point or without.
        let same = |value: &Value| {
            let number = value.as_f64();
            value == allowed || (number.is_some() && number == allowed.as_f64())
        };
        match self.value(name) {
            Some(value) if !same(value) => Err(PluginError::unsupported(format!(
                "config.json: `{name}` is {value}; supported is {allowed}"
            ))),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// `UNSUPPORTED` with a field that was not read.
    pub(crate) fn check_all_read(&self) -> Result<(), PluginError> {
        self.check_all_read_but(&[])
    }

    /// The same where these fields do no harm either.
    ///
    /// # Errors
    /// `UNSUPPORTED` with a field that was not read.
    pub(crate) fn check_all_read_but(&self, harmless: &[&str]) -> Result<(), PluginError> {
        let read = self.read.borrow();
        let unread = |name: &&String| {
            let name = name.as_str();
            !read.contains(name) && !HARMLESS.contains(&name) && !harmless.contains(&name)
        };
        match self.object.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).find(unread) {
            Some(name) => Err(PluginError::unsupported(format!(
                "config.json: the field `{name}` is not understood by safetensors {}, and may change the result",
                env!("CARGO_PKG_VERSION")
            ))),
            None => Ok(()),
        }
    }

    fn typed<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PluginError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            PluginError::corrupt_model(format!("config.json: `{name}` must be {expected}; found {value}"))
        })
    }
}
