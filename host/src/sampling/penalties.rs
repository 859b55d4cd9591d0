//! What was said counts against saying it again: the repeat penalty over a window of prompt and answer, presence and
//! frequency over the whole answer. Keeps the counts and changes the logits of the tokens concerned, no others.

use std::collections::VecDeque;

use super::Settings;

/// The tokens so far, as much of them as the settings ask for.
#[derive(Debug)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    window: usize,
    /// The last tokens of prompt and answer, at most `window`.
    recent: VecDeque<u32>,
    /// Each token of the answer with how often it came, by id.
    counts: Vec<(u32, u32)>,
}

impl Penalties {
    pub(super) fn new(settings: &Settings) -> Self {
        let window = if settings.repeat_penalty == 1.0 { 0 } else { settings.penalty_window as usize };
        Penalties {
            repeat: settings.repeat_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            window,
            recent: VecDeque::new(),
            counts: Vec::new(),
        }
    }

    /// Whether [`Penalties::apply`] would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.counts.is_empty()
    }

    /// These tokens come next in the prompt.
    pub(super) fn observe_prompt(&mut self, tokens: &[u32]) {
        let first = tokens.len().saturating_sub(self.window);
        for token in &tokens[first..] {
            self.remember(*token);
        }
    }

    /// This token comes next in the answer.
    pub(super) fn observe_answer(&mut self, token: u32) {
        self.remember(token);
        if self.presence == 0.0 && self.frequency == 0.0 {
            return;
        }
        match self.counts.binary_search_by_key(&token, |(token, _)| *token) {
            Ok(place) => self.counts[place].1 += 1,
            Err(place) => self.counts.insert(place, (token, 1)),
        }
    }

    /// Makes the `adjusted` logits, a copy of `logits`, those after the penalties. Tokens beyond them are passed over.
    pub(super) fn apply(&self, logits: &[f32], adjusted: &mut [f32]) {
        // From the model's own logit each time: a token that is in the window twice is penalised once.
        for token in &self.recent {
            let place = *token as usize;
            if let (Some(adjusted), Some(logit)) = (adjusted.get_mut(place), logits.get(place)) {
                *adjusted = if *logit > 0.0 { logit / self.repeat } else { logit * self.repeat };
            }
        }
        for (token, count) in &self.counts {
            if let Some(adjusted) = adjusted.get_mut(*token as usize) {
                *adjusted -= self.presence + self.frequency * *count as f32;
            }
        }
    }

    fn remember(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.recent.len() == self.window {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [2.0, -2.0, 0.0, 1.0, 4.0];

    fn check(settings: Settings, prompt: &[u32], answer: &[u32], expected: [f32; 5]) {
        let mut penalties = Penalties::new(&settings);
        penalties.observe_prompt(prompt);
        for token in answer {
            penalties.observe_answer(*token);
        }
        let mut adjusted = LOGITS;
        penalties.apply(&LOGITS, &mut adjusted);
        assert_eq!(adjusted, expected, "prompt {prompt:?}, answer {answer:?}, {settings:?}");
        assert_eq!(penalties.is_empty(), expected == LOGITS);
    }

    fn repeat(repeat_penalty: f32, penalty_window: u32) -> Settings {
        Settings { repeat_penalty, penalty_window, ..Settings::default() }
    }

    fn counted(presence_penalty: f32, frequency_penalty: f32) -> Settings {
        Settings { presence_penalty, frequency_penalty, ..Settings::default() }
    }

    #[test]
    fn repeat_divides_or_multiplies_once_within_the_window() {
        check(repeat(2.0, 64), &[], &[], LOGITS);
        check(repeat(2.0, 64), &[0], &[1], [1.0, -4.0, 0.0, 1.0, 4.0]);
        check(repeat(2.0, 64), &[0, 0, 0], &[0], [1.0, -2.0, 0.0, 1.0, 4.0]);
        check(repeat(2.0, 2), &[0, 1, 3], &[4], [2.0, -2.0, 0.0, 0.5, 2.0]);
        check(repeat(2.0, 1), &[0, 1], &[], [2.0, -4.0, 0.0, 1.0, 4.0]);
        check(repeat(0.5, 64), &[4], &[], [2.0, -2.0, 0.0, 1.0, 8.0]);
        check(repeat(2.0, 0), &[0, 1], &[4], LOGITS);
        check(repeat(1.0, 64), &[0, 1], &[4], LOGITS);
    }

    #[test]
    fn presence_and_frequency_count_the_answer_only() {
        check(counted(0.5, 0.25), &[4, 4, 4], &[], LOGITS);
        check(counted(0.5, 0.0), &[4], &[0, 0, 1], [1.5, -2.5, 0.0, 1.0, 4.0]);
        check(counted(0.0, 0.25), &[4], &[0, 0, 1], [1.5, -2.25, 0.0, 1.0, 4.0]);
        check(counted(0.5, 0.25), &[4], &[3, 0, 3, 3], [1.25, -2.0, 0.0, -0.25, 4.0]);
        check(counted(-1.0, 0.0), &[], &[2], [2.0, -2.0, 1.0, 1.0, 4.0]);
        // The window is the repeat penalty's alone.
        let settings = Settings { penalty_window: 1, ..counted(1.0, 0.0) };
        check(settings, &[], &[0, 1, 2], [1.0, -3.0, -1.0, 1.0, 4.0]);
    }

    #[test]
    fn repeat_comes_before_the_others() {
        let settings = Settings { repeat_penalty: 2.0, ..counted(0.5, 0.25) };
        check(settings, &[0], &[4], [1.0, -2.0, 0.0, 1.0, 1.25]);
    }

    #[test]
    fn tokens_beyond_the_logits_are_passed_over() {
        let settings = Settings { repeat_penalty: 2.0, ..counted(0.5, 0.0) };
        check(settings, &[5, u32::MAX], &[0], [0.5, -2.0, 0.0, 1.0, 4.0]);
        check(repeat(2.0, u32::MAX), &[3], &[], [2.0, -2.0, 0.0, 0.5, 4.0]);
    }
}
