//! What a model that generates says of itself and its vocabulary, whatever computes it.

use impetus_plugin_api::{PluginError, Token, TokenizeOptions};
use serde_json::{Map, Value, json};

use crate::config::Description;
use crate::tokenizer::Text;

/// A checkpoint's description and tokeniser.
pub(crate) struct Words {
    text: Text,
    description: Description,
    summary: Value,
    end_tokens: Vec<u32>,
}

impl Words {
    pub(crate) fn new(description: Description, text: Text, summary: Value) -> Self {
        let end_tokens = end_tokens(&description, &text);
        Words { text, description, summary, end_tokens }
    }

    /// As [`sdk::Model::metadata_json`](impetus_plugin_api::sdk::Model::metadata_json) says.
    pub(crate) fn metadata(&self) -> Value {
        let control = self.text.control().iter().map(|(id, text)| json!({"id": id, "text": text}));
        let mut metadata = self.summary.clone();
        metadata["chat_template"] = self.description.chat_template.clone().into();
        metadata["chat_templates"] = self.description.named_templates.clone().into();
        metadata["special_tokens"] = self.special_tokens().into();
        metadata["control_tokens"] = control.collect();
        metadata["generation_defaults"] = self.description.generation.clone().into();
        metadata
    }

    /// Names and texts of the special tokens that `tokenizer_config.json` has.
    fn special_tokens(&self) -> Map<String, Value> {
        let named = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let text = |name: &str| self.description.special_token(name);
        named.into_iter().filter_map(|name| Some((name.to_owned(), text(name)?.into()))).collect()
    }

    pub(crate) fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        let ids = self.text.encode(text, options.add_special, options.parse_special)?;
        Ok(ids.into_iter().map(Token).collect())
    }

    pub(crate) fn token_bytes(&self, token: Token) -> Vec<u8> {
        self.text.bytes(token.0).to_vec()
    }

    pub(crate) fn is_end(&self, token: Token) -> bool {
        self.end_tokens.contains(&token.0)
    }
}

/// What ends an answer: the configurations' tokens and the tokeniser's own end.
fn end_tokens(description: &Description, text: &Text) -> Vec<u32> {
    let mut ids = description.end_tokens();
    ids.extend(description.special_token("eos").and_then(|eos| text.id(eos)));
    ids.sort_unstable();
    ids.dedup();
    ids
}
