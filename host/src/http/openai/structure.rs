//! What a request asks its answer to be: OpenAI's `response_format`, and the names that clients of llama-server and vLLM
//! know. Reads shapes; whether a schema can be kept to is found out by the engine.

use serde_json::Value;

use crate::engine::message::Structure;
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found};
use crate::sampling::constraint::Grammar;

/// Takes every field that asks for a structure, of which one may.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Structure>> {
    let asked = [response_format(fields)?, llama_server(fields)?, vllm(fields)?, vllm_before_0_12(fields)?];
    let mut asked = asked.into_iter().flatten();
    match (asked.next(), asked.next()) {
        (Some(one), Some(other)) => Err(two(&one, &other)),
        (one, _) => Ok(one),
    }
}

fn response_format(fields: &mut Fields) -> Result<Option<Structure>> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    let structure = match format.required_text("type")?.as_str() {
        "text" => None,
        // llama-server's and others' way to send a schema before there was another.
        "json_object" => match format.value("schema") {
            None => Some(structure("response_format", Grammar::JsonObject)),
            Some(schema) => Some(structure("response_format.schema", schema_of(schema)?)),
        },
        "json_schema" => Some(json_schema(&mut format)?),
        other => {
            let message = format!(
                "`response_format.type` can be `text`, `json_object` or `json_schema`; found `{other}`"
            );
            return Err(Error::unsupported("response_format.type", message).into());
        }
    };
    format.finish()?;
    Ok(structure)
}

/// `text.format` of a response: the same, flat.
pub(super) fn of_response(text: &mut Fields) -> Result<Option<Structure>> {
    let path = text.path("format");
    let Some(mut format) = text.object("format")? else { return Ok(None) };
    let structure = match format.required_text("type")?.as_str() {
        "text" => None,
        "json_object" => Some(structure(path, Grammar::JsonObject)),
        "json_schema" => Some(named_schema(&mut format)?),
        other => {
            let path = format.path("type");
            let message = format!("`{path}` can be `text`, `json_object` or `json_schema`; found `{other}`");
            return Err(Error::unsupported(path, message).into());
        }
    };
    format.finish()?;
    Ok(structure)
}

fn json_schema(format: &mut Fields) -> Result<Structure> {
    let Some(mut inner) = format.object("json_schema")? else { return Err(format.missing("json_schema")) };
    let structure = named_schema(&mut inner)?;
    inner.finish()?;
    Ok(structure)
}

/// Name and description are for the reader, and `strict` asks for what is done in any case: every schema is enforced.
fn named_schema(fields: &mut Fields) -> Result<Structure> {
    fields.text("name")?;
    fields.text("description")?;
    fields.flag("strict")?;
    let Some(schema) = fields.value("schema") else { return Err(fields.missing("schema")) };
    Ok(structure(fields.path("schema"), schema_of(schema)?))
}

/// `json_schema` and `grammar`.
fn llama_server(fields: &mut Fields) -> Result<Option<Structure>> {
    let schema = json(fields, "json_schema")?;
    one_of(schema, text(fields, "grammar", Grammar::of_text)?)
}

/// `structured_outputs`.
fn vllm(fields: &mut Fields) -> Result<Option<Structure>> {
    let Some(mut inner) = fields.object("structured_outputs")? else { return Ok(None) };
    let object = inner.flag("json_object")?.unwrap_or(false);
    let object = object.then(|| structure(inner.path("json_object"), Grammar::JsonObject));
    let mut asked = object;
    asked = one_of(asked, json(&mut inner, "json")?)?;
    asked = one_of(asked, text(&mut inner, "regex", Grammar::Regex)?)?;
    asked = one_of(asked, choice(&mut inner, "choice")?)?;
    asked = one_of(asked, text(&mut inner, "grammar", Grammar::of_text)?)?;
    inner.finish()?;
    Ok(asked)
}

/// `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar`.
fn vllm_before_0_12(fields: &mut Fields) -> Result<Option<Structure>> {
    let mut asked = json(fields, "guided_json")?;
    asked = one_of(asked, text(fields, "guided_regex", Grammar::Regex)?)?;
    asked = one_of(asked, choice(fields, "guided_choice")?)?;
    one_of(asked, text(fields, "guided_grammar", Grammar::of_text)?)
}

fn json(fields: &mut Fields, name: &str) -> Result<Option<Structure>> {
    let path = fields.path(name);
    fields.value(name).map(|schema| Ok(structure(path, schema_of(schema)?))).transpose()
}

fn text(fields: &mut Fields, name: &str, grammar: fn(String) -> Grammar) -> Result<Option<Structure>> {
    let path = fields.path(name);
    let text = fields.text(name)?;
    // An empty grammar is how llama-server's page says that there is none.
    Ok(text.filter(|text| !text.is_empty()).map(|text| structure(path, grammar(text))))
}

/// One of some texts, as it is.
fn choice(fields: &mut Fields, name: &str) -> Result<Option<Structure>> {
    let path = fields.path(name);
    let Some(choices) = fields.list(name)? else { return Ok(None) };
    let text = |(path, choice): (String, Value)| match choice {
        Value::String(text) if text.is_empty() => {
            Err(Error::invalid(path.as_str(), format!("`{path}` is empty: an answer has a text")).into())
        }
        Value::String(text) => Ok(text),
        other => Err(Failure::wrong_shape(&path, "a string", found(&other))),
    };
    let choices: Vec<String> = choices.into_iter().map(text).collect::<Result<_>>()?;
    if choices.is_empty() {
        return Err(
            Error::invalid(path.as_str(), format!("`{path}` is empty: there is nothing to choose")).into()
        );
    }
    Ok(Some(structure(path, Grammar::Choice(choices))))
}

/// A schema; some clients send it as the text of one.
fn schema_of(schema: Value) -> Result<Grammar> {
    Ok(Grammar::JsonSchema(match schema {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        schema => schema,
    }))
}

fn structure(field: impl Into<String>, grammar: Grammar) -> Structure {
    Structure { field: field.into(), grammar, after: None, beside: None }
}

/// The one of two that is there.
pub(super) fn one_of(one: Option<Structure>, other: Option<Structure>) -> Result<Option<Structure>> {
    match (one, other) {
        (Some(one), Some(other)) => Err(two(&one, &other)),
        (one, other) => Ok(one.or(other)),
    }
}

fn two(one: &Structure, other: &Structure) -> Failure {
    let message = format!("`{}` and `{}` both say what the answer must be: send one", one.field, other.field);
    Error::invalid(other.field.as_str(), message).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(body: Value) -> Result<Option<Structure>> {
        let mut fields = Fields::of("", body)?;
        let structure = take(&mut fields)?;
        fields.finish()?;
        Ok(structure)
    }

    #[test]
    fn each_name_asks_for_its_grammar() {
        let schema = json!({"type": "null"});
        let of_schema = || Grammar::JsonSchema(schema.clone());
        let regex = || Grammar::Regex("a+".to_owned());
        let choice = || Grammar::Choice(vec!["a".to_owned(), "b".to_owned()]);
        let lark = || Grammar::Lark("start: \"a\"".to_owned());
        for (body, field, grammar) in [
            (json!({"response_format": {"type": "json_object"}}), "response_format", Grammar::JsonObject),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                "response_format.schema",
                of_schema(),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                "response_format.json_schema.schema",
                of_schema(),
            ),
            (json!({"json_schema": schema}), "json_schema", of_schema()),
            (json!({"grammar": "start: \"a\""}), "grammar", lark()),
            (json!({"grammar": "root ::= \"a\""}), "grammar", Grammar::Gbnf("root ::= \"a\"".to_owned())),
            (json!({"guided_json": "{\"type\": \"null\"}"}), "guided_json", of_schema()),
            (json!({"guided_regex": "a+"}), "guided_regex", regex()),
            (json!({"guided_choice": ["a", "b"]}), "guided_choice", choice()),
            (json!({"guided_grammar": "start: \"a\""}), "guided_grammar", lark()),
            (json!({"structured_outputs": {"json": schema}}), "structured_outputs.json", of_schema()),
            (json!({"structured_outputs": {"regex": "a+"}}), "structured_outputs.regex", regex()),
            (json!({"structured_outputs": {"choice": ["a", "b"]}}), "structured_outputs.choice", choice()),
            (
                json!({"structured_outputs": {"json_object": true}}),
                "structured_outputs.json_object",
                Grammar::JsonObject,
            ),
        ] {
            let found = taken(body.clone()).unwrap_or_else(|failure| panic!("{body}: {failure:?}"));
            assert_eq!(found, Some(structure(field, grammar)), "{body}");
        }
        for body in [json!({}), json!({"response_format": {"type": "text"}}), json!({"grammar": ""})] {
            assert_eq!(taken(body.clone()).unwrap(), None, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        for (body, param) in [
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"response_format": {"type": "json_object"}, "guided_regex": "a"}), "guided_regex"),
            (json!({"structured_outputs": {"regex": "a", "choice": ["a"]}}), "structured_outputs.choice"),
            (json!({"structured_outputs": {"structural_tag": "a"}}), "structured_outputs.structural_tag"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": [""]}), "guided_choice[0]"),
        ] {
            let refusal = serde_json::to_value(taken(body.clone()).unwrap_err().body()).unwrap();
            assert_eq!(refusal["error"]["param"], param, "{body}: {refusal}");
        }
    }
}
