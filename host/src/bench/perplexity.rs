//! How well a model foretells a text: beside every figure of speed stands one of quality.
//!
//! As llama.cpp's `llama-perplexity` defines it: the text is cut into windows of as many tokens, each begins anew (with the
//! token that texts begin with, where the model has one), and the tokens of its second half count. Works on a context of
//! its own, without engine or sampling.

use std::sync::Arc;

use serde::Serialize;

use super::recorder::Recorder;
use super::report::{Figure, Named, Unit};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Context, Model, Position, Rows, SeqId, Token, TokenizeOptions, call_error};

/// What a text cost a model.
#[derive(Debug, Clone, Serialize)]
pub struct Perplexity {
    /// e to the power of the mean negative log probability of a token.
    pub perplexity: f64,
    /// The standard error of `perplexity`, from the scatter of the tokens.
    pub standard_error: f64,
    /// Tokens that count.
    pub tokens: usize,
    /// Tokens of a window.
    pub window: u32,
    /// Mean negative log probability of each window's tokens, in order.
    pub windows: Vec<f64>,
}

/// Measures the perplexity as a part of a report: each window is a step, and a stop ends it with the windows that it had.
///
/// # Errors
/// As [`perplexity`].
pub fn record(model: &Arc<Model>, (text, window): (&str, u32), recorder: &mut Recorder) -> Result<()> {
    let mut goes_on = |done: usize, all: usize| {
        if done == 0 {
            recorder.plan(all)
        } else {
            recorder.step()
        }
        done == all || recorder.begin(format!("perplexity: window {} of {all}", done + 1))
    };
    let found = perplexity(model, text, window, &mut goes_on)?;
    figures(&found).into_iter().for_each(|figure| recorder.add(figure));
    Ok(())
}

/// What was found as figures of a report: each window's cost, and the perplexity that follows from these. Their names have
/// the window's size: with another one they are other figures.
fn figures(found: &Perplexity) -> [Figure; 2] {
    let window = found.window;
    let label = format!("cost of a token, windows of {window}");
    let name = format!("quality.cost.{window}");
    let cost = Named::new(&name, label, Unit::NatsPerToken).how(
        "mean negative log probability of the tokens of each window's second half; a sample for each window, and windows \
         differ as their texts do",
    );
    let label = format!("perplexity, windows of {window}");
    let how = format!(
        "e to the mean of the costs, over {} tokens; standard error {:.4}; as llama-perplexity defines it",
        found.tokens, found.standard_error
    );
    let perplexity = Named::new(format!("quality.perplexity.{window}"), label, Unit::Perplexity).how(how);
    [
        cost.measured(found.windows.iter().copied().collect()),
        perplexity.derived([found.perplexity].into_iter().collect(), &[&name]),
    ]
}

/// Whether a text of so many tokens can be measured in a context of so many.
///
/// # Errors
/// [`Kind::InvalidRequest`] with what is too little.
pub(super) fn check(tokens: usize, window: u32, context_tokens: u32) -> Result<()> {
    if tokens < window as usize {
        let message = format!("the text is {tokens} tokens, and a window {window}: give a longer text");
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    if window > context_tokens {
        let message = format!("the model's context is {context_tokens} tokens here, and a window {window}");
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    Ok(())
}

/// Measures; `each` hears, before the first window and after every one, how many are finished and how many there are, and
/// says whether to go on.
///
/// # Errors
/// [`Kind::InvalidRequest`] for a text shorter than a window, or a window that the context has no room for; what the plugin
/// fails of.
pub fn perplexity(
    model: &Arc<Model>,
    text: &str,
    window: u32,
    mut each: impl FnMut(usize, usize) -> bool,
) -> Result<Perplexity> {
    let plain = TokenizeOptions { add_special: false, parse_special: false };
    let tokens = model.tokenize(text, plain)?;
    // What stands before every text: the tokens that an empty one has.
    let start = model.tokenize("", TokenizeOptions { add_special: true, parse_special: false })?;
    let start = start.first().filter(|token| !model.is_end_of_generation(**token)).copied();
    let count = tokens.len() / window as usize;
    let mut context = model.new_context(1)?;
    check(tokens.len(), window, context.limits().sequence_tokens)?;
    let (mut costs, mut windows) = (Vec::new(), Vec::with_capacity(count));
    for (i, part) in tokens.chunks_exact(window as usize).enumerate() {
        // At least one: without a window there is no perplexity.
        if !each(i, count) && i > 0 {
            break;
        }
        let mut part = part.to_vec();
        if let Some(start) = start {
            part[0] = start;
        }
        let found = window_costs(&mut context, &part)?;
        windows.push(found.iter().sum::<f64>() / found.len() as f64);
        costs.extend(found);
    }
    if windows.len() == count {
        each(count, count);
    }
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    let square = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / costs.len() as f64;
    let perplexity = mean.exp();
    let standard_error = perplexity * (square / costs.len() as f64).sqrt();
    Ok(Perplexity { perplexity, standard_error, tokens: costs.len(), window, windows })
}

/// Negative log probabilities of the tokens of a window's second half.
fn window_costs(context: &mut Context, tokens: &[Token]) -> Result<Vec<f64>> {
    let sequence = SeqId(0);
    context.cut(sequence, 0).map_err(call_error)?;
    let step = context.limits().batch_tokens.max(1) as usize;
    // The logits behind a token foretell the next.
    let wanted = tokens.len() / 2 - 1..tokens.len() - 1;
    let mut costs = Vec::with_capacity(wanted.len());
    let mut rows = Rows::default();
    for first in (0..tokens.len()).step_by(step) {
        rows.clear();
        for (i, &token) in tokens.iter().enumerate().skip(first).take(step) {
            rows.tokens.push(token);
            rows.positions.push(Position(i as u32));
            rows.sequences.push(sequence);
            rows.wants_logits.push(wanted.contains(&i));
        }
        context.decode(&rows).map_err(call_error)?;
        for row in (0..rows.len()).filter(|row| rows.wants_logits[*row]) {
            let logits = context.logits(row).map_err(call_error)?;
            costs.push(cost(logits, tokens[first + row + 1]));
        }
    }
    Ok(costs)
}

/// The negative log probability of a token.
fn cost(logits: &[f32], token: Token) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[token.0 as usize] - largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_token_is_its_negative_log_probability() {
        let logits = [1.0f32, 3.0, 2.0];
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        for (token, logit) in logits.into_iter().enumerate() {
            let expected = -(f64::from(logit).exp() / sum).ln();
            assert!((cost(&logits, Token(token as u32)) - expected).abs() < 1e-12);
        }
        assert!((cost(&[5.0; 10], Token(3)) - 10f64.ln()).abs() < 1e-12);
    }
}
