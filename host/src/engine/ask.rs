//! What can be asked of a model beside its loop, from any thread: it is shared and immutable.

use super::chat_tokens;
use super::message::{Question, Told};
use crate::error::{Error, Result};
use crate::plugins::model::{Model, Token, TokenizeOptions};

/// Answers by the plugin.
///
/// # Errors
/// What the plugin refuses, and a token beyond the vocabulary.
pub fn answer(model: &Model, question: Question) -> Result<Told> {
    let ids = |tokens: Vec<Token>| Told::Tokens(tokens.into_iter().map(|token| token.0).collect());
    match question {
        Question::Tokens { text, add_special, parse_special } => {
            model.tokenize(&text, TokenizeOptions { add_special, parse_special }).map(ids)
        }
        Question::ChatTokens(segments) => chat_tokens(model, &segments).map(ids),
        Question::Bytes(tokens) => {
            let size = model.vocab_size();
            if let Some(token) = tokens.iter().find(|&&token| token >= size) {
                let message = format!("token {token} is beyond this model's vocabulary of {size} tokens");
                return Err(Error::invalid("tokens", message));
            }
            let bytes = tokens.into_iter().map(|token| model.token_bytes(Token(token)));
            bytes.collect::<Result<_>>().map(Told::Bytes)
        }
    }
}
