//! What a round asks for: when conversations begin and how long their texts are. Drawn from the round's seed alone, so that two
//! servers get the same in the same round. The words themselves are drawn for each server: what one computed helps no other.

use crate::bench::options::ServeOptions;
use crate::bench::prompts::Words;

/// One conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    /// Seconds after the round's beginning, where conversations begin by themselves.
    pub(super) due: Option<f64>,
    /// Words of each message, and tokens of the answer to it.
    pub(super) turns: Vec<(u32, u32)>,
}

/// So many conversations.
pub(super) fn plan(seed: u64, options: &ServeOptions, count: u32) -> Vec<Conversation> {
    let mut random = Words::new(seed);
    let mut due = 0.0;
    let mut conversation = || {
        let due = options.rate.map(|rate| {
            due += random.pause(rate);
            due
        });
        let mut turn = || (options.prompt_words.draw(&mut random), options.max_tokens.draw(&mut random));
        let turns = (0..options.turns).map(|_| turn()).collect();
        Conversation { due, turns }
    };
    (0..count).map(|_| conversation()).collect()
}

/// The order in which servers are measured in a round: the first comes first in every other one, so that none is always the
/// one that follows.
pub(super) fn order(round: u32, targets: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_asks_every_server_for_the_same() {
        let lengths = |text: &str| text.parse().unwrap();
        let options = ServeOptions {
            rate: Some(10.0),
            turns: 2,
            prompt_words: lengths("5-500"),
            max_tokens: lengths("normal:100,30"),
            ..ServeOptions::default()
        };
        let one = plan(7, &options, 50);
        assert_eq!(one, plan(7, &options, 50));
        assert_ne!(one, plan(8, &options, 50));
        assert!(one.iter().all(|conversation| conversation.turns.len() == 2));
        let due: Vec<f64> = one.iter().filter_map(|conversation| conversation.due).collect();
        assert!(due.len() == 50 && due.is_sorted());
        let closed = plan(7, &ServeOptions { rate: None, ..options }, 3);
        assert!(closed.iter().all(|conversation| conversation.due.is_none()));
    }

    #[test]
    fn servers_take_turns_in_coming_first() {
        assert_eq!((order(0, 2), order(1, 2), order(2, 2)), (vec![0, 1], vec![1, 0], vec![0, 1]));
        assert_eq!(order(1, 1), [0]);
    }
}
