//! DRY: a token that would go on with a repetition is made less probable, the more the longer the repetition is already.
//! Knows tokens; the texts over which no repetition goes are found by [`Breakers`], which knows bytes.
//!
//! llama.cpp tokenises those texts and looks for these very tokens. Here a repetition ends where the text of the tokens
//! ends in a breaker, however it was split into tokens.

use super::settings::Dry;

/// The tokens so far, and which tokens would go on with a repetition of them.
#[derive(Debug)]
pub(super) struct Repeats {
    settings: Dry,
    tokens: Vec<u32>,
    /// Tokens since a breaker ended.
    unbroken: usize,
    /// For each distance back: how many tokens before it, itself included, are those before the end.
    lengths: Vec<u32>,
    /// Tokens that would go on with a repetition, each with the length of the longest one, by id.
    found: Vec<(u32, u32)>,
}

impl Repeats {
    pub(super) fn new(settings: Dry) -> Self {
        Repeats { settings, tokens: Vec::new(), unbroken: 0, lengths: Vec::new(), found: Vec::new() }
    }

    /// This token comes next, in the prompt or the answer.
    pub(super) fn observe(&mut self, token: u32) {
        self.tokens.push(token);
        self.unbroken += 1;
    }

    /// A breaker ends with the last token.
    pub(super) fn end(&mut self) {
        self.unbroken = 0;
    }

    /// Looks for tokens that would go on with a repetition; whether there are any.
    pub(super) fn find(&mut self) -> bool {
        self.found.clear();
        let window = self.settings.window.map_or(usize::MAX, |window| window as usize).min(self.tokens.len());
        let allowed = self.settings.allowed_length as usize;
        let limit = self.unbroken.min(window);
        if window <= allowed || limit < allowed {
            return false;
        }
        let seen = &self.tokens[self.tokens.len() - window..];
        lengths_of_repeats(seen, &mut self.lengths);
        let back = |distance: usize| seen[window - 1 - distance];
        for distance in 1..window {
            let length = (self.lengths[distance] as usize).min(limit);
            if length >= allowed {
                self.found.push((back(distance - 1), length as u32));
            }
        }
        // The longest of each token comes first and stays.
        self.found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.found.dedup_by_key(|(token, _)| *token);
        !self.found.is_empty()
    }

    /// Takes from the logits of what was found. Tokens beyond them are passed over.
    pub(super) fn apply(&self, adjusted: &mut [f32]) {
        let Dry { multiplier, base, allowed_length, .. } = self.settings;
        // As far as the power of the base stays finite: 88.7 is a little under the logarithm of the largest number.
        let most = if base > 1.000_001 { (88.7 / base.ln()) as i32 } else { i32::MAX };
        for (token, length) in &self.found {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                let exponent = i32::try_from(length - allowed_length).unwrap_or(i32::MAX).min(most);
                *logit -= multiplier * base.powi(exponent);
            }
        }
    }
}

/// Writes for each distance back from the end how long the sequence that ends there is also the end of all: the
/// Z-function of the reversed tokens, in time proportional to their number (Gusfield, Algorithms on Strings, 1.4).
fn lengths_of_repeats(tokens: &[u32], lengths: &mut Vec<u32>) {
    let count = tokens.len();
    let back = |distance: usize| tokens[count - 1 - distance];
    lengths.clear();
    lengths.resize(count, 0);
    // The stretch found last that reaches furthest: it is equal to the first `right - left` tokens from the end.
    let (mut left, mut right) = (0, 0);
    for at in 1..count {
        let mut length = if at < right { (lengths[at - left] as usize).min(right - at) } else { 0 };
        while at + length < count && back(length) == back(at + length) {
            length += 1;
        }
        lengths[at] = length as u32;
        if at + length > right {
            (left, right) = (at, at + length);
        }
    }
}

/// Finds texts in the bytes of tokens as these come, however the text is split.
#[derive(Debug)]
pub struct Breakers {
    texts: Vec<Vec<u8>>,
    /// The last bytes, one fewer than the longest text has.
    tail: Vec<u8>,
}

impl Breakers {
    /// Looks for these; an empty one is never found.
    pub fn new(texts: &[String]) -> Self {
        let texts =
            texts.iter().filter(|text| !text.is_empty()).map(|text| text.as_bytes().to_vec()).collect();
        Breakers { texts, tail: Vec::new() }
    }

    /// The next token's bytes; whether one of the texts ends within them.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let before = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let ends_here = |text: &Vec<u8>| {
            // An occurrence that ends earlier was told with an earlier token.
            let first = (before + 1).saturating_sub(text.len());
            self.tail[first..].windows(text.len()).any(|window| window == text)
        };
        let found = self.texts.iter().any(ends_here);
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        self.tail.drain(..self.tail.len().saturating_sub(longest.saturating_sub(1)));
        found
    }
}

#[cfg(test)]
#[path = "dry_tests.rs"]
mod tests;
