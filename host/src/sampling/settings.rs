//! What a request may ask of the sampler, and which values make sense. Knows no defaults of models or of an API beyond
//! its own `Default`, and no vocabulary except where one is handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the next token is chosen. `Default` is OpenAI's: temperature 1 and everything else off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Divides the logits before the draw, 0 to 5; 0 takes the best token without a draw.
    pub temperature: f32,
    /// Which tokens take part in the draw.
    pub selection: Selection,
    /// Divides a positive logit, multiplies any other, of each token in the penalty window; over 0 to 100, 1 is off.
    /// Keskar et al. 2019 (CTRL), <https://arxiv.org/abs/1909.05858>, section 4.1, which only divides: that would make
    /// tokens with a negative logit likelier.
    pub repeat_penalty: f32,
    /// Taken once from the logit of each token that the answer has, -2 to 2. OpenAI API reference: the answer alone
    /// counts, all of it, and not the prompt (llama.cpp counts both, within its window).
    pub presence_penalty: f32,
    /// Taken from a token's logit for each time that the answer has it, -2 to 2. As above.
    pub frequency_penalty: f32,
    /// How many last tokens, prompt and answer together, the repeat penalty looks at; 0 turns it off.
    pub penalty_window: u32,
    /// Makes tokens that would go on with a repetition less probable, the more the longer it is.
    pub dry: Option<Dry>,
    /// Added to these tokens' logits, each -100 to 100; a token named twice gets both.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen, such as end tokens under `ignore_eos`.
    pub banned: Vec<u32>,
}

/// Which tokens take part in the draw: filters one after another, or mirostat, which chooses its own border.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Selection {
    /// Those that pass every filter.
    Filters(Filters),
    /// Those that mirostat lets in.
    Mirostat(Mirostat),
}

/// The filters, in the order in which they apply. `Default` is all of them off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// Keep tokens whose logit is at most so many standard deviations of all logits under the best, 0 to 1000; 0 keeps
    /// all. Tang et al. 2024, <https://arxiv.org/abs/2411.07641>.
    pub top_n_sigma: f32,
    /// Keep this many of the best tokens; 0 keeps all. Fan et al. 2018, <https://arxiv.org/abs/1805.04833>.
    pub top_k: u32,
    /// Keep the fewest tokens whose surprise is nearest to the expected one that together have at least this
    /// probability, over 0 to 1; 1 keeps all. Meister et al. 2022, <https://arxiv.org/abs/2202.00666>.
    pub typical_p: f32,
    /// Keep the fewest best tokens that together have at least this probability, over 0 to 1; 1 keeps all.
    /// Nucleus sampling, Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>.
    pub top_p: f32,
    /// Keep tokens with at least this share of the best token's probability, 0 to under 1; 0 keeps all.
    /// Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>.
    pub min_p: f32,
    /// Now and then leave out the most probable tokens.
    pub xtc: Option<Xtc>,
    /// The temperature follows from how certain the model is.
    pub dynamic: Option<DynamicTemperature>,
}

/// Exclude top choices: of the tokens with at least `threshold` probability, all but the least probable go.
/// Weidmann 2024, <https://github.com/oobabooga/text-generation-webui/pull/6335>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Xtc {
    /// How often this happens, 0 to 1.
    pub probability: f32,
    /// From which probability on a token is a top choice, 0 to 1. Above 0.5 there are never two, so nothing happens.
    pub threshold: f32,
}

/// A temperature between `temperature - range` (not below 0) and `temperature + range`, by the entropy of the tokens that
/// passed the filters. Kalomaze 2023, <https://github.com/ggml-org/llama.cpp/pull/4972>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DynamicTemperature {
    /// 0 to 5.
    pub range: f32,
    /// The power of the entropy (as a share of the largest possible) that the temperature follows, 0 to 100.
    pub exponent: f32,
}

/// Keeps the surprise of the text near a target. Basu et al. 2020, <https://arxiv.org/abs/2007.14966>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mirostat {
    /// Which of the two algorithms.
    pub version: MirostatVersion,
    /// The surprise to come to, in bits, over 0 to 100.
    pub tau: f32,
    /// How fast, 0 to 1.
    pub eta: f32,
}

/// The paper's algorithm, or its simplification by the same authors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirostatVersion {
    /// Estimates how steeply probabilities fall from the best 100 tokens, and keeps the k best that follow from it.
    One,
    /// Keeps the tokens that surprise no more than allowed.
    Two,
}

/// Don't repeat yourself: a token that would extend a repetition of `length` tokens to one more loses
/// `multiplier · base ^ (length - allowed_length)`, where `length` is at least `allowed_length`.
/// Weidmann 2024, <https://github.com/oobabooga/text-generation-webui/pull/5677>.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dry {
    /// Over 0 to 100.
    pub multiplier: f32,
    /// 1 to 100.
    pub base: f32,
    /// The longest repetition, in tokens, that costs nothing further.
    pub allowed_length: u32,
    /// How many last tokens, prompt and answer together, it looks at; without it all.
    pub window: Option<u32>,
    /// No repetition goes over one of these texts.
    pub breakers: Vec<String>,
}

/// A setting with a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The field, by the name that the HTTP API has for it.
    pub field: &'static str,
    /// What was expected and what was there, the field's name included.
    pub message: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            temperature: 1.0,
            selection: Selection::Filters(Filters::default()),
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            dry: None,
            logit_bias: Vec::new(),
            banned: Vec::new(),
        }
    }
}

impl Default for Filters {
    fn default() -> Self {
        Filters {
            top_n_sigma: 0.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            xtc: None,
            dynamic: None,
        }
    }
}

impl Filters {
    /// Whether any token may be left out, XTC's throw of the dice aside.
    pub(super) fn leave_out(&self) -> bool {
        self.narrow() || self.top_p < 1.0 || self.min_p > 0.0
    }

    /// Whether one of the filters before top-p is on.
    pub(super) fn narrow(&self) -> bool {
        self.top_n_sigma > 0.0 || self.top_k > 0 || self.typical_p < 1.0
    }

    fn validate(&self) -> Result<(), InvalidSetting> {
        within("top_n_sigma", self.top_n_sigma, 0.0, 1000.0)?;
        share("typical_p", self.typical_p)?;
        share("top_p", self.top_p)?;
        expect((0.0..1.0).contains(&self.min_p), "min_p", self.min_p, || {
            "a number from 0 to under 1".to_owned()
        })?;
        self.xtc.as_ref().map_or(Ok(()), Xtc::validate)?;
        self.dynamic.as_ref().map_or(Ok(()), DynamicTemperature::validate)
    }
}

impl Xtc {
    /// As [`Settings::validate`].
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        within("xtc_probability", self.probability, 0.0, 1.0)?;
        within("xtc_threshold", self.threshold, 0.0, 1.0)
    }
}

impl DynamicTemperature {
    /// As [`Settings::validate`].
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        within("dynatemp_range", self.range, 0.0, 5.0)?;
        within("dynatemp_exponent", self.exponent, 0.0, 100.0)
    }
}

impl Mirostat {
    /// As [`Settings::validate`].
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        expect(self.tau > 0.0 && self.tau <= 100.0, "mirostat_tau", self.tau, || {
            "a number over 0 and at most 100".to_owned()
        })?;
        within("mirostat_eta", self.eta, 0.0, 1.0)
    }
}

impl Dry {
    /// As [`Settings::validate`].
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        expect(self.multiplier > 0.0 && self.multiplier <= 100.0, "dry_multiplier", self.multiplier, || {
            "a number over 0 and at most 100, or 0 for off".to_owned()
        })?;
        within("dry_base", self.base, 1.0, 100.0)
    }
}

impl Settings {
    /// The filters, where they and not mirostat select.
    pub fn filters(&self) -> Option<&Filters> {
        match &self.selection {
            Selection::Filters(filters) => Some(filters),
            Selection::Mirostat(_) => None,
        }
    }

    /// Checks each number against the range in its field's description.
    ///
    /// OpenAI ends temperature at 2. Five is allowed here because min-p keeps high temperatures sensible; beyond it
    /// what passed the filters is as good as uniform.
    ///
    /// # Errors
    /// Names the first field, in the order of declaration, that is out of range or not a finite number.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        within("temperature", self.temperature, 0.0, 5.0)?;
        match &self.selection {
            Selection::Filters(filters) => filters.validate()?,
            Selection::Mirostat(mirostat) => mirostat.validate()?,
        }
        let repeat = self.repeat_penalty;
        expect(repeat > 0.0 && repeat <= 100.0, "repeat_penalty", repeat, || {
            "a number over 0 and at most 100, where 1 is off".to_owned()
        })?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        self.dry.as_ref().map_or(Ok(()), Dry::validate)?;
        for (token, bias) in &self.logit_bias {
            let good = (-100.0..=100.0).contains(bias);
            expect(good, "logit_bias", *bias, || format!("a number from -100 to 100 for token {token}"))?;
        }
        Ok(())
    }

    /// Checks that each token named in `logit_bias` and `banned` is one of a vocabulary of `tokens` tokens. The sampler
    /// itself passes over others, for it learns the vocabulary's size only from the logits.
    ///
    /// # Errors
    /// Names the field and the first token that is not in the vocabulary.
    pub fn validate_tokens(&self, tokens: u32) -> Result<(), InvalidSetting> {
        let biased = self.logit_bias.iter().map(|(token, _)| ("logit_bias", *token));
        let banned = self.banned.iter().map(|token| ("banned", *token));
        match biased.chain(banned).find(|(_, token)| *token >= tokens) {
            None => Ok(()),
            Some((field, token)) => Err(InvalidSetting {
                field,
                message: format!(
                    "{field} names token {token}, but this model has only {tokens} tokens, from 0 on"
                ),
            }),
        }
    }
}

fn within(field: &'static str, value: f32, low: f32, high: f32) -> Result<(), InvalidSetting> {
    expect((low..=high).contains(&value), field, value, || format!("a number from {low} to {high}"))
}

fn share(field: &'static str, value: f32) -> Result<(), InvalidSetting> {
    expect(value > 0.0 && value <= 1.0, field, value, || "a number over 0 and at most 1".to_owned())
}

/// NaN is in no range, so that every comparison above refuses it.
fn expect(
    good: bool,
    field: &'static str,
    got: f32,
    expected: impl FnOnce() -> String,
) -> Result<(), InvalidSetting> {
    if good {
        return Ok(());
    }
    Err(InvalidSetting { field, message: format!("{field} must be {}, got {got}", expected()) })
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidSetting {}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
