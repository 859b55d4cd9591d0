//! What a checkpoint says of its encoder, as one checked description. A field that changes the result and that nobody
//! here read is a refusal by its name.

use std::path::Path;

use impetus_plugin_api::PluginError;
use serde_json::Value;

use super::families::{self, HARMLESS, Names, Read};
use super::pooling::Pooling;
use super::rows::Activation;
use super::through_candle;
use crate::config::{Description, Fields, object};

/// An encoder: everything about it but its weights.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub(crate) vocab_size: usize,
    /// Width of a row, and numbers of a vector.
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    /// The longest sequence that it takes, in tokens.
    pub(crate) longest: usize,
    pub(crate) network: Network,
    pub(crate) pooling: Pooling,
}

/// What computes it.
#[derive(Debug, Clone)]
pub(crate) enum Network {
    Bert(Bert),
    ModernBert(through_candle::ModernBertConfig),
    NomicBert(through_candle::NomicBertConfig),
}

/// BERT (Devlin et al. 2018, arXiv:1810.04805) and those that differ from it in names and positions.
#[derive(Debug, Clone)]
pub(crate) struct Bert {
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f32,
    /// Rows of the table of positions.
    pub(crate) positions: usize,
    pub(crate) numbering: Numbering,
    /// Rows of the table of token types, of which the first is added to every token; 0: none.
    pub(crate) token_types: usize,
    pub(crate) names: &'static Names,
}

/// Which row of the table of positions a token gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Its place in the sequence.
    FromZero,
    /// RoBERTa's: behind this token's id, which has the row of its own number and does not count.
    Behind(u32),
}

impl Encoder {
    /// The encoder that a folder describes.
    ///
    /// # Errors
    /// `UNSUPPORTED` with the name of the family, field or module that is not understood, `CORRUPT_MODEL` for what is
    /// missing or of the wrong type.
    pub(crate) fn read(folder: &Path, description: &Description) -> Result<Self, PluginError> {
        let family = description.family();
        let Some(read) = families::reader(family) else {
            return Err(PluginError::unsupported(format!("`{family}` is no encoder that runs")));
        };
        if description.rounded()? {
            return Err(PluginError::unsupported("encoders with quantised weights are not supported"));
        }
        let fields = Fields::new(&description.config);
        // Read by `rounded`; `rounded` refuses all that it does not know.
        let (_, _) = (fields.value("quantization"), fields.value("quantization_config"));
        for name in ["is_decoder", "add_cross_attention"] {
            fields.only(name, &false.into())?;
        }
        let matryoshka = super::pooling::matryoshka(&fields);
        let Read { vocab_size, hidden, layers, longest, network } = read(&fields)?;
        fields.check_all_read_but(HARMLESS)?;
        let (pooling, told) = Pooling::read(folder, matryoshka)?;
        let told = told.map_or_else(|| of_tokenizer(folder), |told| Ok(Some(told)))?;
        let longest = told.map_or(longest, |told| told.min(longest));
        let encoder = Encoder { vocab_size, hidden, layers, longest, network, pooling };
        encoder.check_shape()?;
        Ok(encoder)
    }

    /// Figures that the kernels divide by or index with.
    fn check_shape(&self) -> Result<(), PluginError> {
        let mut figures = vec![
            ("vocabulary", self.vocab_size, 1 << 24),
            ("width", self.hidden, 1 << 16),
            ("number of layers", self.layers, 1 << 10),
            ("longest sequence", self.longest, 1 << 20),
        ];
        if let Network::Bert(bert) = &self.network {
            figures.extend([
                ("inner width", bert.intermediate, 1 << 20),
                ("number of heads", bert.heads, 1 << 10),
            ]);
            if bert.heads == 0 || !self.hidden.is_multiple_of(bert.heads) {
                let message = format!("config.json: a width of {} has no {} heads", self.hidden, bert.heads);
                return Err(PluginError::corrupt_model(message));
            }
        }
        match figures.into_iter().find(|&(_, figure, most)| !(1..=most).contains(&figure)) {
            None => Ok(()),
            Some((name, figure, most)) => Err(PluginError::corrupt_model(format!(
                "config.json: the {name} is {figure}; 1 to {most} make sense"
            ))),
        }
    }
}

/// `model_max_length` of the tokeniser's configuration, where there is one.
fn of_tokenizer(folder: &Path) -> Result<Option<usize>, PluginError> {
    let config = object(folder, "tokenizer_config.json")?.unwrap_or_default();
    // Without one it is written as 1e30.
    let longest = config.get("model_max_length").and_then(Value::as_u64);
    Ok(longest.and_then(|longest| usize::try_from(longest).ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_the_result_and_is_not_understood_is_refused() {
        let config = |change: &[(&str, Value)]| {
            let mut config = json!({
                "model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
                "intermediate_size": 16, "max_position_embeddings": 32, "vocab_size": 9, "type_vocab_size": 2,
                "layer_norm_eps": 1e-12, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            });
            change.iter().for_each(|(name, value)| config[*name] = value.clone());
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
            let description = Description::read(folder.path()).unwrap();
            Encoder::read(folder.path(), &description).map_err(|error| error.message.into_string())
        };
        config(&[]).unwrap();
        let check = |name: &str, value: Value, words: &str| {
            let error = config(&[(name, value)]).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
        };
        check("position_embedding_type", json!("relative_key"), "position_embedding_type");
        check("hidden_act", json!("silu"), "`silu`");
        check("is_decoder", json!(true), "is_decoder");
        check("num_attention_heads", json!(3), "no 3 heads");
        check("some_new_thing", json!(1), "`some_new_thing` is not understood");
        check("layer_norm_eps", Value::Null, "`layer_norm_eps` is missing");
        check("quantization_config", json!({"quant_method": "gptq"}), "gptq");
        check("model_type", json!("roberta"), "`pad_token_id` is missing");
    }
}
