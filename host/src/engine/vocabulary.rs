//! What an engine must know of each token at every step, asked from the plugin once.

use crate::error::Result;
use crate::plugins::model::{Model, Token};

/// Bytes and role of every token of a model.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    /// All tokens' bytes, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<u32>,
    /// Tokens that are no part of an answer's text.
    hidden: Vec<bool>,
    end_of_generation: Vec<u32>,
    control: Vec<u32>,
}

impl Vocabulary {
    /// Asks the plugin about every token.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub(super) fn of(model: &Model) -> Result<Self> {
        let size = model.vocab_size();
        let mut vocabulary = Vocabulary { hidden: vec![false; size as usize], ..Vocabulary::default() };
        for id in 0..size {
            vocabulary.bytes.extend(model.token_bytes(Token(id))?);
            vocabulary.ends.push(vocabulary.bytes.len() as u32);
            if model.is_end_of_generation(Token(id)) {
                vocabulary.end_of_generation.push(id);
                vocabulary.hidden[id as usize] = true;
            }
        }
        for control in &model.metadata().control_tokens {
            if let Some(hidden) = vocabulary.hidden.get_mut(control.id as usize) {
                *hidden = true;
                vocabulary.control.push(control.id);
            }
        }
        Ok(vocabulary)
    }

    /// A token's own bytes. Empty for an id beyond the vocabulary.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        let at = token as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&end| end as usize);
        let end = self.ends.get(at).map_or(start, |&end| end as usize);
        &self.bytes[start.min(end)..end]
    }

    /// What a token adds to an answer: nothing for those that steer the model, unless they are to be shown.
    pub(super) fn text_bytes(&self, token: u32, shown: &[u32]) -> &[u8] {
        let is_hidden = self.hidden.get(token as usize).copied().unwrap_or(true);
        if is_hidden && !shown.contains(&token) { &[] } else { self.bytes(token) }
    }

    /// The control tokens with these texts.
    pub(super) fn control_tokens(&self, texts: &[String]) -> Vec<u32> {
        let is_named = |token: &u32| texts.iter().any(|text| text.as_bytes() == self.bytes(*token));
        self.control.iter().copied().filter(is_named).collect()
    }

    /// The control tokens that end no answer, with their texts.
    pub(super) fn control(&self) -> Vec<(u32, Vec<u8>)> {
        let inner = self.control.iter().filter(|token| !self.ends(**token));
        inner.map(|&token| (token, self.bytes(token).to_vec())).collect()
    }

    /// What each token adds to an answer's text, by id.
    pub(super) fn texts(&self) -> Vec<Vec<u8>> {
        (0..self.ends.len() as u32).map(|token| self.text_bytes(token, &[]).to_vec()).collect()
    }

    /// Whether the model ends its answer with this token.
    pub(super) fn ends(&self, token: u32) -> bool {
        self.end_of_generation.contains(&token)
    }

    /// Every token that ends an answer.
    pub(super) fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }
}
