//! Log probabilities for reports: of the model's own distribution, before temperature and filters, as OpenAI gives them.

/// What the model thought of a token and of the best ones at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbs {
    /// Natural logarithm of the token's probability.
    pub logprob: f32,
    /// The most probable tokens with theirs, best first; of equals the smaller id first.
    pub top: Vec<(u32, f32)>,
}

/// The log-softmax of a row, `[vocab_size]`, at `token` and at its `top` largest entries. Not-a-numbers count as minus
/// infinity, which is also the answer for a token beyond the row.
pub fn log_probabilities(logits: &[f32], token: u32, top: usize) -> LogProbs {
    let largest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| if logit.is_nan() { 0.0 } else { f64::from((logit - largest).exp()) };
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let log_total = f64::from(largest) + total.ln();
    let logprob = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { (f64::from(logit) - log_total) as f32 };

    let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    for (id, &logit) in logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan()) {
        if best.len() == top && best.last().is_none_or(|&(_, least)| logit <= least) {
            continue;
        }
        let at = best.partition_point(|&(_, other)| other >= logit);
        best.insert(at, (id as u32, logit));
        best.truncate(top);
    }
    LogProbs {
        logprob: logits.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| logprob(logit)),
        top: best.into_iter().map(|(id, logit)| (id, logprob(logit))).collect(),
    }
}
