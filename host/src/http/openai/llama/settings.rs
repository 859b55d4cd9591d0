//! What an answer was made by, as it is told with the answer.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::params::{Delivery, Parameters};
use crate::sampling::{Filters, Mirostat, MirostatVersion, Selection};

/// How tokens were chosen. What is off has the value that says so.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct GenerationSettings {
    pub(super) n_ctx: u32,
    /// -1: as many as fit.
    n_predict: i64,
    /// Another name of `n_predict`.
    max_tokens: i64,
    pub(super) seed: u64,
    temperature: f32,
    dynatemp_range: f32,
    dynatemp_exponent: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    top_n_sigma: f32,
    typical_p: f32,
    xtc_probability: f32,
    xtc_threshold: f32,
    repeat_last_n: i64,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    dry_multiplier: f32,
    dry_base: f32,
    dry_allowed_length: u32,
    dry_penalty_last_n: i64,
    dry_sequence_breakers: Vec<String>,
    mirostat: u8,
    mirostat_tau: f32,
    mirostat_eta: f32,
    logit_bias: Vec<(u32, f32)>,
    stop: Vec<String>,
    ignore_eos: bool,
    stream: bool,
    n_probs: u32,
}

/// -1 is all.
fn window(tokens: Option<u32>) -> i64 {
    tokens.filter(|&tokens| tokens < u32::MAX).map_or(-1, i64::from)
}

impl GenerationSettings {
    pub(super) fn of(parameters: &Parameters, seed: u64, n_probs: u32, n_ctx: u32) -> Self {
        let sampling = &parameters.sampling;
        let (filters, mirostat) = match &sampling.selection {
            Selection::Filters(filters) => (filters.clone(), None),
            Selection::Mirostat(mirostat) => (Filters::default(), Some(*mirostat)),
        };
        let version = mirostat.map_or(0, |Mirostat { version, .. }| match version {
            MirostatVersion::One => 1,
            MirostatVersion::Two => 2,
        });
        let n_predict = parameters.max_tokens.map_or(-1, i64::from);
        let dry = sampling.dry.as_ref();
        GenerationSettings {
            n_ctx,
            n_predict,
            max_tokens: n_predict,
            seed,
            temperature: sampling.temperature,
            dynatemp_range: filters.dynamic.map_or(0.0, |dynamic| dynamic.range),
            dynatemp_exponent: filters.dynamic.map_or(1.0, |dynamic| dynamic.exponent),
            top_k: filters.top_k,
            top_p: filters.top_p,
            min_p: filters.min_p,
            top_n_sigma: filters.top_n_sigma,
            typical_p: filters.typical_p,
            xtc_probability: filters.xtc.map_or(0.0, |xtc| xtc.probability),
            xtc_threshold: filters.xtc.map_or(0.1, |xtc| xtc.threshold),
            repeat_last_n: window(Some(sampling.penalty_window)),
            repeat_penalty: sampling.repeat_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            dry_multiplier: dry.map_or(0.0, |dry| dry.multiplier),
            dry_base: dry.map_or(1.75, |dry| dry.base),
            dry_allowed_length: dry.map_or(2, |dry| dry.allowed_length),
            dry_penalty_last_n: window(dry.and_then(|dry| dry.window)),
            dry_sequence_breakers: dry.map(|dry| dry.breakers.clone()).unwrap_or_default(),
            mirostat: version,
            mirostat_tau: mirostat.map_or(5.0, |mirostat| mirostat.tau),
            mirostat_eta: mirostat.map_or(0.1, |mirostat| mirostat.eta),
            logit_bias: sampling.logit_bias.clone(),
            stop: parameters.stop.clone(),
            ignore_eos: parameters.ignore_eos,
            stream: parameters.delivery != Delivery::Whole,
            n_probs,
        }
    }

    /// One of the stop strings.
    pub(super) fn stop_string(&self, index: u32) -> String {
        self.stop.get(index as usize).cloned().unwrap_or_default()
    }
}
