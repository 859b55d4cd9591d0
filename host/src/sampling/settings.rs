//! How tokens are chosen, as a request says it, checked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How tokens are chosen. The default is the model's own distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// 0 takes the most probable token; above 1 flattens the distribution. 0 to 100.
    pub temperature: f32,
    /// Only the k most probable tokens; 0 is off.
    pub top_k: u32,
    /// Only the most probable tokens whose probabilities together reach this; 1 is off. Above 0, up to 1.
    pub top_p: f32,
    /// Only tokens with at least this share of the most probable one's probability; 0 is off. 0 to below 1.
    pub min_p: f32,
    /// Divides the logits of recent tokens (multiplies negative ones); 1 is off. Above 0.
    pub repeat_penalty: f32,
    /// Taken off the logit of each token that the answer contains; 0 is off. -2 to 2.
    pub presence_penalty: f32,
    /// Taken off as often as the answer contains the token; 0 is off. -2 to 2.
    pub frequency_penalty: f32,
    /// How many of the last tokens, prompt included, the repeat penalty looks at.
    pub penalty_window: u32,
    /// Added to single tokens' logits. -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen.
    pub banned: Vec<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            banned: Vec::new(),
        }
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The setting's name.
    pub field: &'static str,
    /// What was expected and found.
    pub message: String,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidSetting {}

impl Settings {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The first that is not, by name.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        // Each comparison is false for a not-a-number, which is so refused.
        let checks = [
            ("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "between 0 and 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..1.0).contains(&self.min_p), "at least 0 and below 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(),
                "above 0",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-2.0..=2.0).contains(&self.presence_penalty),
                "between -2 and 2",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-2.0..=2.0).contains(&self.frequency_penalty),
                "between -2 and 2",
            ),
        ];
        if let Some((field, found, _, expected)) = checks.into_iter().find(|&(_, _, valid, _)| !valid) {
            return Err(InvalidSetting { field, message: format!("{field} must be {expected}; found {found}") });
        }
        match self.logit_bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            None => Ok(()),
            Some((token, bias)) => Err(InvalidSetting {
                field: "logit_bias",
                message: format!("the bias of token {token} must be between -100 and 100; found {bias}"),
            }),
        }
    }
}
