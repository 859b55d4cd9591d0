//! Makes tokens that were already said less probable (or more, where a penalty is negative).

use std::collections::{HashMap, VecDeque};

use super::Settings;

/// What was said, as far as the settings need to know.
#[derive(Debug)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    window: usize,
    /// The last tokens of prompt and answer, at most `window`.
    recent: VecDeque<u32>,
    /// How often each is among them.
    recent_counts: HashMap<u32, u32>,
    /// How often the answer contains each token.
    answer_counts: HashMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(settings: &Settings) -> Self {
        let repeats = settings.repeat_penalty != 1.0;
        Penalties {
            repeat: settings.repeat_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            window: if repeats { settings.penalty_window as usize } else { 0 },
            recent: VecDeque::new(),
            recent_counts: HashMap::new(),
            answer_counts: HashMap::new(),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.window == 0 && self.presence == 0.0 && self.frequency == 0.0
    }

    pub(super) fn observe_prompt(&mut self, tokens: &[u32]) {
        let start = tokens.len().saturating_sub(self.window);
        tokens[start..].iter().for_each(|&token| self.remember(token));
    }

    pub(super) fn observe(&mut self, token: u32) {
        if self.presence != 0.0 || self.frequency != 0.0 {
            *self.answer_counts.entry(token).or_default() += 1;
        }
        self.remember(token);
    }

    /// Changes the logits of the tokens that were said. Ids beyond the row are passed over.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for &token in self.recent_counts.keys() {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / self.repeat } else { *logit * self.repeat };
            }
        }
        for (&token, &count) in &self.answer_counts {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit -= self.presence + self.frequency * count as f32;
            }
        }
    }

    fn remember(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.recent.len() == self.window
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.recent_counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.recent_counts.remove(&oldest);
            }
        }
        self.recent.push_back(token);
        *self.recent_counts.entry(token).or_default() += 1;
    }
}
