//! Texts to measure with: words drawn at random, so that no two prompts share more than they are meant to.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::engine::random_seed;

/// Frequent English nouns: about one token each for any tokeniser.
const WORDS: &str = "time year people way day man thing woman life child world school state family student group country \
    problem hand part place case week company system program question work government number night point home water \
    room mother area money story fact month lot right study book eye job word business issue side kind head house \
    service friend father power hour game line end member law car city community name president team minute idea body \
    information back parent face others level office door health person art war history party result change morning \
    reason research girl guy moment air teacher force education";

/// A source of random words.
pub(super) struct Words {
    random: ChaCha8Rng,
    all: Vec<&'static str>,
}

impl Words {
    /// Same seed, same words.
    pub(super) fn new(seed: u64) -> Self {
        Words { random: ChaCha8Rng::seed_from_u64(seed), all: WORDS.split_whitespace().collect() }
    }

    /// Others each time.
    pub(super) fn anew() -> Self {
        Words::new(random_seed())
    }

    /// The next `count` words, with spaces between them.
    pub(super) fn text(&mut self, count: usize) -> String {
        let mut word = || {
            let place = self.below(self.all.len());
            self.all[place]
        };
        let words: Vec<&str> = (0..count).map(|_| word()).collect();
        words.join(" ")
    }

    /// A number from 0 to under `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        // The bias of a 64-bit remainder over so few values cannot be measured.
        (self.random.next_u64() % end.max(1) as u64) as usize
    }

    /// A number from 0 to under 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of mean 0 and standard deviation 1, normally distributed (Box & Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Seconds until the next of events that come independently of each other, so many in a second (a Poisson process).
    pub(super) fn pause(&mut self, rate: f64) -> f64 {
        -(1.0 - self.share()).ln() / rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let text = |seed| Words::new(seed).text(20);
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        assert_eq!(text(3).split(' ').count(), 20);
        assert_ne!(Words::anew().text(20), Words::anew().text(20));
    }
}
