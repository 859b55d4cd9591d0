//! Guesses how a sequence goes on from what it said before: prompt lookup. Pure.
//!
//! Answers that edit or quote their prompt repeat long stretches of it. Where the last tokens stood before, what followed
//! them there is a draft; the model verifies it in one step, so the answer is what it would be without. Saxena 2023,
//! <https://github.com/apoorvumang/prompt-lookup-decoding>; speculative sampling with a draft that is certain of itself,
//! Leviathan et al. 2023, <https://arxiv.org/abs/2211.17192>: a token is drawn from the model's own distribution, and the
//! draft decides only whether the next one is known already.

use std::collections::HashMap;

use crate::plugins::model::Token;

/// How many last tokens must have stood together before.
const GRAM: usize = 3;

/// Weight of the newest token in the estimate of how often drafts are right.
const NEWEST: f64 = 0.2;

/// A sequence's tokens, and where each three of them stood last.
#[derive(Debug)]
pub(super) struct Lookup {
    tokens: Vec<Token>,
    /// Behind the last occurrence of these three tokens, the one at the very end left out.
    places: HashMap<[Token; GRAM], usize>,
    /// Where the draft for the next token begins.
    next: Option<usize>,
    /// How often the first token of a draft was right, as a moving average.
    right: f64,
}

impl Lookup {
    pub(super) fn new(prompt: &[Token]) -> Self {
        let mut lookup = Lookup {
            tokens: Vec::with_capacity(prompt.len() + 64),
            places: HashMap::with_capacity(prompt.len()),
            next: None,
            right: 0.5,
        };
        prompt.iter().for_each(|&token| lookup.append(token));
        lookup
    }

    /// The sequence goes on with this token. Whether a draft of it would have been right is counted, made or not.
    pub(super) fn push(&mut self, token: Token) {
        if let Some(next) = self.next {
            let hit = f64::from(u8::from(self.tokens[next] == token));
            self.right += NEWEST * (hit - self.right);
        }
        self.append(token);
    }

    /// What followed these tokens before, up to `most` tokens.
    pub(super) fn draft(&self, most: usize) -> &[Token] {
        let Some(next) = self.next else { return &[] };
        &self.tokens[next..self.tokens.len().min(next + most)]
    }

    /// The share of drafted tokens that were right lately.
    pub(super) fn right(&self) -> f64 {
        self.right
    }

    fn append(&mut self, token: Token) {
        self.tokens.push(token);
        let end = self.tokens.len();
        self.next = self.tokens.last_chunk::<GRAM>().and_then(|gram| self.places.insert(*gram, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(byte.into())).collect()
    }

    #[test]
    fn what_followed_the_last_three_tokens_is_the_draft() {
        let lookup = Lookup::new(&tokens("the cat sat, the c"));
        assert_eq!(lookup.draft(4), tokens("at s"));
        assert_eq!(lookup.draft(100), tokens("at sat, the c"));
        assert_eq!(Lookup::new(&tokens("nothing said twice")).draft(4), []);
        assert_eq!(Lookup::new(&tokens("ab")).draft(4), []);
        assert_eq!(Lookup::new(&tokens("aaaa")).draft(4), tokens("a"));
    }

    #[test]
    fn the_last_occurrence_counts() {
        assert_eq!(Lookup::new(&tokens("abc1 abc2 abc")).draft(1), tokens("2"));
    }

    #[test]
    fn how_often_it_is_right_is_learnt_without_a_draft_being_made() {
        let mut lookup = Lookup::new(&tokens("one two three four five six seven. one"));
        for token in tokens(" two three four five six seven.") {
            lookup.push(token);
        }
        assert!(lookup.right() > 0.95, "{}", lookup.right());
        let mut lookup = Lookup::new(&[]);
        for other in 1000..1040 {
            tokens("abc").into_iter().for_each(|token| lookup.push(token));
            lookup.push(Token(other));
        }
        assert!(lookup.right() < 0.05, "{}", lookup.right());
    }
}
