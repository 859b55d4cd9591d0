//! Which sequences are embedded next. Pure: no clock, no channel, no plugin.
//!
//! Requests take turns, one sequence at a time, so that a long list holds up no short one; a batch is filled across
//! them within a token budget. Sequences are never cut.

use std::collections::VecDeque;

use super::message::RequestId;
use crate::plugins::model::Token;

/// Requests with sequences that were not embedded yet.
#[derive(Debug, Default)]
pub(super) struct Texts {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: RequestId,
    sequences: VecDeque<(u32, Vec<Token>)>,
}

/// A sequence whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) id: RequestId,
    /// Its place in the request.
    pub(super) index: u32,
    pub(super) tokens: Vec<Token>,
    /// Whether it is the request's last.
    pub(super) last: bool,
}

impl Texts {
    /// Lets a request's sequences, at least one, wait for their turns.
    pub(super) fn add(&mut self, id: RequestId, sequences: Vec<Vec<Token>>) {
        let sequences = (0..).zip(sequences).collect();
        self.waiting.push_back(Waiting { id, sequences });
    }

    /// Lets a request go, with all that still waits of it.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Requests of which something waits.
    pub(super) fn requests(&self) -> usize {
        self.waiting.len()
    }

    /// The next batch: as many sequences as `tokens` and `sequences` allow, at least one where one waits.
    pub(super) fn next(&mut self, tokens: usize, sequences: usize) -> Vec<Turn> {
        let (mut batch, mut held) = (Vec::new(), 0);
        while let Some(mut first) = self.waiting.pop_front() {
            let length = first.sequences.front().map_or(0, |(_, tokens)| tokens.len());
            if !batch.is_empty() && (held + length > tokens || batch.len() >= sequences) {
                self.waiting.push_front(first);
                break;
            }
            if let Some((index, tokens)) = first.sequences.pop_front() {
                held += length;
                batch.push(Turn { id: first.id, index, tokens, last: first.sequences.is_empty() });
            }
            if !first.sequences.is_empty() {
                self.waiting.push_back(first);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lengths: &[(u64, &[usize])]) -> Texts {
        let mut texts = Texts::default();
        for &(id, lengths) in lengths {
            texts.add(RequestId(id), lengths.iter().map(|&length| vec![Token(7); length]).collect());
        }
        texts
    }

    /// Request, index, whether it is the last.
    fn turns(batch: &[Turn]) -> Vec<(u64, u32, bool)> {
        batch.iter().map(|turn| (turn.id.0, turn.index, turn.last)).collect()
    }

    #[test]
    fn requests_take_turns_within_the_budget() {
        let mut texts = texts(&[(1, &[3, 3, 3, 3]), (2, &[2]), (3, &[4, 1])]);
        assert_eq!(turns(&texts.next(9, 8)), [(1, 0, false), (2, 0, true), (3, 0, false)]);
        assert_eq!(texts.requests(), 2);
        assert_eq!(turns(&texts.next(9, 8)), [(1, 1, false), (3, 1, true), (1, 2, false)]);
        assert_eq!(turns(&texts.next(9, 8)), [(1, 3, true)]);
        assert_eq!(turns(&texts.next(9, 8)), []);
    }

    #[test]
    fn a_sequence_beyond_the_budget_goes_alone_and_batches_have_so_many_at_most() {
        let mut texts = texts(&[(1, &[20]), (2, &[1, 1, 1])]);
        assert_eq!(turns(&texts.next(9, 8)), [(1, 0, true)]);
        assert_eq!(turns(&texts.next(9, 2)), [(2, 0, false), (2, 1, false)]);
    }

    #[test]
    fn what_was_given_up_is_not_embedded() {
        let mut texts = texts(&[(1, &[1, 1]), (2, &[1])]);
        texts.next(1, 1);
        texts.remove(RequestId(1));
        assert_eq!(turns(&texts.next(9, 9)), [(2, 0, true)]);
    }
}
