//! Log probabilities in their two shapes: chat's list of objects, and the old four lists.

use super::answer::PromptScores;
use super::types::{ByName, ChatAlternative, ChatLogprobs, ChatToken, TextLogprobs};
use crate::engine::message::{Alternative, TokenLogprob};

/// JSON has no infinity; this stands for a probability of nothing, as the original has it.
const LEAST: f32 = -9999.0;

/// The chat shape.
pub(super) fn chat(tokens: &[TokenLogprob]) -> ChatLogprobs {
    let token = |token: &TokenLogprob| ChatToken {
        chosen: alternative(&token.chosen),
        top_logprobs: token.top.iter().map(alternative).collect(),
    };
    ChatLogprobs { content: tokens.iter().map(token).collect(), refusal: None }
}

fn alternative(token: &Alternative) -> ChatAlternative {
    ChatAlternative {
        token: String::from_utf8_lossy(&token.bytes).into_owned(),
        logprob: finite(token.logprob),
        bytes: token.bytes.clone(),
    }
}

/// The old shape. Counts characters from the first token of a choice on, across the pieces of a stream.
#[derive(Debug, Default, Clone)]
pub(super) struct TextShape {
    /// Characters begun so far.
    characters: usize,
}

impl TextShape {
    /// The next tokens of the choice.
    pub(super) fn push(&mut self, tokens: &[TokenLogprob]) -> TextLogprobs {
        let mut lists = TextLogprobs::default();
        self.add(&mut lists, tokens);
        lists
    }

    /// The tokens of its prompt, of which nothing makes the first one probable.
    pub(super) fn prompt(&mut self, scores: &PromptScores) -> TextLogprobs {
        let mut lists = TextLogprobs::default();
        self.add_name(&mut lists, &scores.first);
        lists.token_logprobs.push(None);
        lists.top_logprobs.push(None);
        self.add(&mut lists, &scores.tokens);
        lists
    }

    fn add(&mut self, lists: &mut TextLogprobs, tokens: &[TokenLogprob]) {
        for token in tokens {
            self.add_name(lists, &token.chosen.bytes);
            lists.token_logprobs.push(Some(finite(token.chosen.logprob)));
            lists.top_logprobs.push(Some(by_name(token)));
        }
    }

    fn add_name(&mut self, lists: &mut TextLogprobs, bytes: &[u8]) {
        // A token that begins within a character belongs where that character began.
        let within = bytes.first().is_some_and(|&byte| is_continuation(byte));
        lists.text_offset.push(self.characters.saturating_sub(usize::from(within)));
        self.characters += bytes.iter().filter(|&&byte| !is_continuation(byte)).count();
        lists.tokens.push(name(bytes));
    }
}

/// The most probable tokens, and the chosen one where it is none of them.
fn by_name(token: &TokenLogprob) -> ByName {
    let mut named: Vec<(String, f32)> = Vec::with_capacity(token.top.len() + 1);
    for alternative in token.top.iter().chain([&token.chosen]) {
        let name = name(&alternative.bytes);
        if !named.iter().any(|(other, _)| *other == name) {
            named.push((name, finite(alternative.logprob)));
        }
    }
    ByName(named)
}

/// A token's text; where its bytes are no text, the bytes, so that two tokens never share a name by accident.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(chosen: (&[u8], f32), top: &[(&[u8], f32)]) -> TokenLogprob {
        let of = |&(bytes, logprob): &(&[u8], f32)| Alternative { token: 0, bytes: bytes.to_vec(), logprob };
        TokenLogprob { chosen: of(&chosen), top: top.iter().map(of).collect() }
    }

    #[test]
    fn the_chat_shape_has_bytes_and_both_keys() {
        let shape = chat(&[token((b" hi", -0.5), &[(b" hi", -0.5), (b"\xf0\x9f", f32::NEG_INFINITY)])]);
        let expected = json!({"refusal": null, "content": [{
            "token": " hi", "logprob": -0.5, "bytes": [32, 104, 105],
            "top_logprobs": [
                {"token": " hi", "logprob": -0.5, "bytes": [32, 104, 105]},
                {"token": "\u{fffd}", "logprob": -9999.0, "bytes": [240, 159]},
            ],
        }]});
        assert_eq!(serde_json::to_value(shape).unwrap(), expected);
    }

    #[test]
    fn the_old_shape_has_four_lists_of_one_length() {
        let mut shape = TextShape::default();
        let first = shape.push(&[token((b"a", -1.0), &[(b"b", -0.5)]), token((b"\xc3", -2.0), &[])]);
        assert_eq!(
            serde_json::to_value(first).unwrap(),
            json!({
                "tokens": ["a", "bytes:\\xc3"], "token_logprobs": [-1.0, -2.0],
                "top_logprobs": [{"b": -0.5, "a": -1.0}, {"bytes:\\xc3": -2.0}], "text_offset": [0, 1],
            })
        );
        let prompt = PromptScores { first: b"x".to_vec(), tokens: vec![token((b"a", -1.0), &[])] };
        assert_eq!(
            serde_json::to_value(TextShape::default().prompt(&prompt)).unwrap(),
            json!({
                "tokens": ["x", "a"], "token_logprobs": [null, -1.0], "top_logprobs": [null, {"a": -1.0}],
                "text_offset": [0, 1],
            })
        );
        let second = shape.push(&[token((b"\xa4", -3.0), &[]), token((b"z", -4.0), &[])]);
        assert_eq!(second.text_offset, [1, 2]);
    }
}
