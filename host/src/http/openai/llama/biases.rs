//! `logit_bias`, whose tokens may be named by their texts.

use serde_json::Value;

use super::super::prompts::token_id;
use super::super::sampling::refused;
use crate::engine::message::Question;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found, number};
use crate::models::Loaded;
use crate::sampling::Settings;

const NAME: &str = "logit_bias";

/// What is added to the logits of a token, or of all tokens of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bias {
    whose: Whose,
    /// `None`: they never come.
    bias: Option<f32>,
}

#[derive(Debug, Clone, PartialEq)]
enum Whose {
    Token(u32),
    Text(String),
}

/// Takes the field: a list of pairs, or an object whose keys are tokens or texts.
pub(super) fn take(fields: &mut Fields) -> Result<Vec<Bias>> {
    match fields.value(NAME) {
        None => Ok(Vec::new()),
        Some(Value::Array(pairs)) => elements(NAME, pairs).into_iter().map(pair).collect(),
        Some(Value::Object(values)) => {
            let one = |(key, value): (String, Value)| {
                let path = format!("{NAME}.{key}");
                let whose = key.parse().map_or(Whose::Text(key), Whose::Token);
                Ok(Bias { whose, bias: bias(&path, &value)? })
            };
            values.into_iter().map(one).collect()
        }
        Some(other) => Err(Failure::wrong_shape(NAME, "a list of pairs, or an object", found(&other))),
    }
}

fn pair((path, value): (String, Value)) -> Result<Bias> {
    let expected = "a pair of a token or text and a number or false";
    let Value::Array(pair) = value else { return Err(Failure::wrong_shape(&path, expected, found(&value))) };
    let [whose, value] = &pair[..] else {
        return Err(Failure::wrong_shape(&path, expected, &format!("a list of {}", pair.len())));
    };
    let whose = match whose {
        Value::String(text) => Whose::Text(text.clone()),
        other => Whose::Token(token_id(&format!("{path}[0]"), other)?),
    };
    Ok(Bias { whose, bias: bias(&format!("{path}[1]"), value)? })
}

fn bias(path: &str, value: &Value) -> Result<Option<f32>> {
    match value {
        Value::Bool(false) => Ok(None),
        value => number(path, value).map(Some),
    }
}

/// Puts them into the settings.
///
/// # Errors
/// A bias beyond the range; the model's, where its tokens are asked for.
pub(super) async fn apply(biases: Vec<Bias>, settings: &mut Settings, model: &Loaded) -> Result<()> {
    for Bias { whose, bias } in biases {
        let tokens = match whose {
            Whose::Token(token) => vec![token],
            Whose::Text(text) => {
                model.tokens(Question::Tokens { text, add_special: false, parse_special: true }).await?
            }
        };
        match bias {
            Some(bias) => settings.logit_bias.extend(tokens.into_iter().map(|token| (token, bias))),
            None => settings.banned.extend(tokens),
        }
    }
    settings.validate().map_err(|invalid| refused(&invalid, invalid.field))
}
