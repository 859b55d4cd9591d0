//! Fields that only llama-server has.

use serde_json::Value;

use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found};

/// The most names of fields of an answer.
const MAX_FIELDS: usize = 64;

/// Fields of which only the value that asks for nothing can be honoured, that value, and what there is instead.
const NEUTRAL: [(&str, &str, &str); 11] = [
    ("id_slot", "-1", "the scheduler finds the place"),
    (
        "post_sampling_probs",
        "false",
        "the probabilities that are told are the model's own, before any sampling",
    ),
    ("timings_per_token", "false", "the last event tells the times"),
    ("return_progress", "false", "`/metrics` tells what is computed"),
    ("n_keep", "0", "a context that is full ends the answer, nothing is shifted"),
    ("n_discard", "0", "a context that is full ends the answer, nothing is shifted"),
    ("n_cache_reuse", "0", "what the context holds is used again as far as the prompt begins like it"),
    ("n_indent", "0", "lines of code are not counted; a `grammar` can"),
    ("min_keep", "0", "filters keep what their definitions say"),
    ("t_max_predict_ms", "0", "`deadline_ms` ends an answer after a time"),
    ("lora", "[]", "there are no adapters"),
];

/// `n_predict`: -1 is as many as fit, 0 none.
pub(super) fn tokens(fields: &mut Fields) -> Result<Option<Option<u32>>> {
    match fields.integer("n_predict")? {
        None => Ok(None),
        Some(-1) => Ok(Some(None)),
        Some(tokens) => u32::try_from(tokens).map(|tokens| Some(Some(tokens))).map_err(|_| {
            let message =
                format!("`n_predict` must be a number of tokens, or -1 for as many as fit; found {tokens}");
            Error::invalid("n_predict", message).into()
        }),
    }
}

/// Which fields of an answer are wanted; empty: all.
pub(super) fn response_fields(fields: &mut Fields) -> Result<Vec<String>> {
    const NAME: &str = "response_fields";
    let wanted = fields.list(NAME)?.unwrap_or_default();
    if wanted.len() > MAX_FIELDS {
        let message = format!("`{NAME}` may have up to {MAX_FIELDS} names; found {}", wanted.len());
        return Err(Error::invalid(NAME, message).into());
    }
    let name = |(path, value): (String, Value)| match value {
        Value::String(name) => Ok(name),
        other => Err(Failure::wrong_shape(&path, "a string", found(&other))),
    };
    wanted.into_iter().map(name).collect()
}

/// Refuses what asks for something that is not there.
pub(super) fn refuse_what_asks_for_something(fields: &mut Fields) -> Result<()> {
    for (name, only, instead) in NEUTRAL {
        let Some(value) = fields.value(name) else { continue };
        let found = value.to_string();
        if found != only {
            let message = format!("`{name}` can only be {only} here: {instead}; found {found}");
            return Err(Error::unsupported(name, message).into());
        }
    }
    Ok(())
}
