//! A prompt in which texts and tokens may take turns, and the lists of such.

use serde_json::Value;

use super::super::prompts::token_id;
use crate::engine::message::{Prompt, Question};
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found};
use crate::models::Loaded;

const NAME: &str = "prompt";

/// Texts and tokens in turn; never none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mixed(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Tokens(Vec<u32>),
}

/// Takes the prompts, and whether they were in a list of prompts.
pub(super) fn take(fields: &mut Fields) -> Result<(Vec<Mixed>, bool)> {
    match fields.value(NAME) {
        None => Err(fields.missing(NAME)),
        // A list with a token in it is one prompt.
        Some(Value::Array(values)) if !values.iter().any(Value::is_number) => {
            if values.is_empty() {
                return Err(Error::invalid(NAME, "`prompt` is an empty list: there is nothing in it").into());
            }
            let prompts: Result<_> = elements(NAME, values).into_iter().map(one).collect();
            Ok((prompts?, true))
        }
        Some(value) => Ok((vec![one((NAME.to_owned(), value))?], false)),
    }
}

fn one((path, value): (String, Value)) -> Result<Mixed> {
    match value {
        Value::String(text) => Ok(Mixed(vec![Part::Text(text)])),
        Value::Array(values) if values.is_empty() => {
            Err(Error::invalid(path.as_str(), format!("`{path}` is empty: there is nothing in it")).into())
        }
        Value::Array(values) => {
            let mut parts = Vec::new();
            for (path, value) in elements(&path, values) {
                match (value, parts.last_mut()) {
                    (Value::String(text), _) => parts.push(Part::Text(text)),
                    (value, Some(Part::Tokens(tokens))) => tokens.push(token_id(&path, &value)?),
                    (value, _) => parts.push(Part::Tokens(vec![token_id(&path, &value)?])),
                }
            }
            Ok(Mixed(parts))
        }
        object @ Value::Object(_) => of_object(Fields::of(&path, object)?),
        other => Err(Failure::wrong_shape(
            &path,
            "a string, a list of tokens and strings, or an object with `prompt_string`",
            found(&other),
        )),
    }
}

fn of_object(mut fields: Fields) -> Result<Mixed> {
    let text = fields.required_text("prompt_string")?;
    if !fields.list("multimodal_data")?.unwrap_or_default().is_empty() {
        let path = fields.path("multimodal_data");
        let message = format!("`{path}` is not supported: no model here sees images or hears");
        return Err(Error::unsupported(path, message).into());
    }
    fields.finish()?;
    Ok(Mixed(vec![Part::Text(text)]))
}

impl Mixed {
    /// The prompt as the engine takes it. What the model wants before a text of its own stands before a first text alone.
    ///
    /// # Errors
    /// The model's, where its tokens are asked for.
    pub(super) async fn resolve(self, model: &Loaded) -> Result<Prompt> {
        let mut parts = self.0;
        if parts.len() == 1 {
            return Ok(match parts.remove(0) {
                Part::Text(text) => Prompt::Text(text),
                Part::Tokens(tokens) => Prompt::Tokens(tokens),
            });
        }
        let mut all = Vec::new();
        for (place, part) in parts.into_iter().enumerate() {
            match part {
                Part::Tokens(tokens) => all.extend(tokens),
                Part::Text(text) => {
                    let question = Question::Tokens { text, add_special: place == 0, parse_special: true };
                    all.extend(model.tokens(question).await?);
                }
            }
        }
        Ok(Prompt::Tokens(all))
    }

    /// It as text; what is no token of the model, the engine refuses.
    pub(super) async fn text(&self, model: &Loaded) -> String {
        let mut all = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => all.push_str(text),
                Part::Tokens(tokens) => {
                    let bytes = model.token_bytes(tokens.clone()).await.unwrap_or_default().concat();
                    all.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        }
        all
    }
}
