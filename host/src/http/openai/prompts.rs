//! The four shapes of a completion's `prompt`, and of what is to be embedded: a text, texts, tokens, lists of tokens.

use serde_json::Value;

use crate::engine::message::Prompt;
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found, integer};

/// Takes the field of this name: at least one.
pub(super) fn take(fields: &mut Fields, name: &str) -> Result<Vec<Prompt>> {
    match fields.value(name) {
        None => Err(fields.missing(name)),
        Some(Value::String(text)) => Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(values)) => of_list(name, values),
        Some(other) => Err(expected(name, &other)),
    }
}

fn of_list(name: &str, values: Vec<Value>) -> Result<Vec<Prompt>> {
    match values.first() {
        None => {
            Err(Error::invalid(name, format!("`{name}` is an empty list: there is nothing in it")).into())
        }
        Some(Value::String(_)) => elements(name, values).into_iter().map(text).collect(),
        Some(Value::Number(_)) => Ok(vec![tokens(name, values)?]),
        Some(Value::Array(_)) => elements(name, values).into_iter().map(token_list).collect(),
        Some(other) => Err(expected(&format!("{name}[0]"), other)),
    }
}

fn text((path, value): (String, Value)) -> Result<Prompt> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        other => Err(Failure::wrong_shape(&path, "a string, as the first one is", found(&other))),
    }
}

fn token_list((path, value): (String, Value)) -> Result<Prompt> {
    match value {
        Value::Array(values) => tokens(&path, values),
        other => Err(Failure::wrong_shape(&path, "a list of tokens, as the first one is", found(&other))),
    }
}

fn tokens(path: &str, values: Vec<Value>) -> Result<Prompt> {
    if values.is_empty() {
        return Err(Error::invalid(path, format!("`{path}` has no tokens: there is nothing in it")).into());
    }
    let token = |(path, value): (String, Value)| token_id(&path, &value);
    elements(path, values).into_iter().map(token).collect::<Result<_>>().map(Prompt::Tokens)
}

/// A number that may be a token of a model.
pub(super) fn token_id(path: &str, value: &Value) -> Result<u32> {
    let token = integer(path, value)?;
    u32::try_from(token)
        .map_err(|_| Error::invalid(path, format!("`{path}` must be a token id; found {token}")).into())
}

fn expected(path: &str, value: &Value) -> Failure {
    Failure::wrong_shape(
        path,
        "a string, a list of strings, a list of tokens or a list of such lists",
        found(value),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::params::tests::told;
    use super::*;

    fn prompts(prompt: Value) -> Result<Vec<Prompt>> {
        take(&mut Fields::of("", json!({"prompt": prompt})).unwrap(), "prompt")
    }

    #[test]
    fn all_four_shapes_are_taken() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(prompts(json!("a")).unwrap(), [text("a")]);
        assert_eq!(prompts(json!(["a", ""])).unwrap(), [text("a"), text("")]);
        assert_eq!(prompts(json!([1, 2])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(
            prompts(json!([[1], [2, 3]])).unwrap(),
            [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]
        );
    }

    #[test]
    fn other_shapes_are_refused_with_their_place() {
        let check = |prompt: Value, status: u16, param: &str| {
            let (found_status, found_param, _) = told(prompts(prompt.clone()));
            assert_eq!((found_status, found_param.as_str()), (status, param), "{prompt}");
        };
        check(json!(null), 400, "prompt");
        check(json!([]), 400, "prompt");
        check(json!([[]]), 400, "prompt[0]");
        check(json!([[1], []]), 400, "prompt[1]");
        check(json!([-1]), 400, "prompt[0]");
        check(json!([[1], [2, 4_294_967_296_u64]]), 400, "prompt[1][1]");
        check(json!(7), 422, "prompt");
        check(json!([true]), 422, "prompt[0]");
        check(json!(["a", 1]), 422, "prompt[1]");
        check(json!([1, "a"]), 422, "prompt[1]");
        check(json!([[1], "a"]), 422, "prompt[1]");
        check(json!([1.5]), 422, "prompt[0]");
    }
}
