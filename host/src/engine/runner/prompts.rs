//! Where the loop has to do with prompts: texts become tokens, and what is too long is refused.

use super::Runner;
use crate::engine::message::{Prompt, Segment};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Model, Token, TokenizeOptions};

impl Runner {
    pub(super) fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>> {
        match prompt {
            Prompt::Chat(segments) => chat_tokens(&self.model, segments),
            Prompt::Text(text) => {
                self.model.tokenize(text, TokenizeOptions { add_special: true, parse_special: true })
            }
            Prompt::Tokens(tokens) => {
                let size = self.model.vocab_size();
                match tokens.iter().find(|&&token| token >= size) {
                    None => Ok(tokens.iter().copied().map(Token).collect()),
                    Some(token) => Err(Error::invalid(
                        "prompt",
                        format!("token {token} is beyond this model's vocabulary of {size} tokens"),
                    )),
                }
            }
        }
    }
}

/// A chat's tokens: the template's own text with control tokens, what users wrote about them without.
///
/// # Errors
/// What the plugin refuses.
pub(in crate::engine) fn chat_tokens(model: &Model, segments: &[Segment]) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for segment in segments {
        let (text, parse_special) = match segment {
            Segment::Template(text) => (text, true),
            Segment::Literal(text) => (text, false),
        };
        tokens.extend(model.tokenize(text, TokenizeOptions { add_special: false, parse_special })?);
    }
    Ok(tokens)
}

pub(super) fn check_length(prompt: usize, longest: usize) -> Result<()> {
    if prompt == 0 {
        return Err(Error::invalid("prompt", "the prompt is empty: there is nothing to go on from"));
    }
    if prompt < longest {
        return Ok(());
    }
    Err(Error::new(
        Kind::ContextLengthExceeded,
        format!(
            "this model's context is {longest} tokens here, and the prompt has {prompt}: it leaves no room for an \
             answer; shorten the prompt"
        ),
    ))
}
