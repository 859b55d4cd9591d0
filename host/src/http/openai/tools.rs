//! A request's tools: which functions a model may call, and whether it may.

use serde_json::Value;

use crate::chat::Tool;
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found};

/// The tools that are offered to the model; none where the request has none, or wants none called.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tools {
    /// For the reader of the answer.
    pub(super) known: Vec<Tool>,
    /// For the template: the client's own objects.
    pub(super) objects: Vec<Value>,
    /// Whether one answer may have more than one call.
    pub(super) many_calls: bool,
}

impl Tools {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
    pub(super) fn take(fields: &mut Fields) -> Result<Self> {
        let tools = fields.list("tools")?.unwrap_or_default();
        let tools = tools.into_iter().map(|(path, tool)| one(&path, tool));
        let (objects, known): (Vec<Value>, Vec<Tool>) =
            tools.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let many_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let tools = Tools { known, objects, many_calls };
        Ok(if may_call(fields, &tools)? { tools } else { Tools { many_calls, ..Tools::default() } })
    }

    /// Whether there is nothing to call.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// A tool as the template gets it, and what is to be known of it.
fn one(path: &str, tool: Value) -> Result<(Value, Tool)> {
    let mut object = tool.clone();
    let mut fields = Fields::of(path, tool)?;
    let kind = fields.required_text("type")?;
    if kind != "function" {
        let path = fields.path("type");
        let message =
            format!("`{path}` can only be `function`: only functions can be called; found `{kind}`");
        return Err(Error::unsupported(path, message).into());
    }
    let mut function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
    let name = function.required_text("name")?;
    if name.is_empty() {
        let path = function.path("name");
        return Err(Error::invalid(path.as_str(), format!("`{path}` is empty: nobody could call it")).into());
    }
    function.text("description")?;
    if function.flag("strict")?.unwrap_or(false) {
        let path = function.path("strict");
        let message =
            format!("`{path}` is not supported by this version: arguments are not constrained to the schema");
        return Err(Error::unsupported(path, message).into());
    }
    let parameters = match function.value("parameters") {
        None => Value::Null,
        Some(parameters @ Value::Object(_)) => parameters,
        Some(other) => {
            let path = function.path("parameters");
            return Err(Failure::wrong_shape(&path, "an object: a JSON schema", found(&other)));
        }
    };
    function.finish()?;
    fields.finish()?;
    // What says nothing to the model is no part of its prompt.
    if let Some(Value::Object(function)) = object.get_mut("function") {
        function.remove("strict");
        function.retain(|_, value| !value.is_null());
    }
    Ok((object, Tool { name, parameters }))
}

/// `tool_choice`: whether tools may be called. That one must be needs an answer constrained to it.
fn may_call(fields: &mut Fields, tools: &Tools) -> Result<bool> {
    match fields.value("tool_choice") {
        None => Ok(true),
        Some(Value::String(choice)) if choice == "auto" => Ok(true),
        Some(Value::String(choice)) if choice == "none" => Ok(false),
        Some(other) => {
            let choice = if tools.is_empty() { "without `tools`, " } else { "" };
            let message = format!(
                "{choice}`tool_choice` can be `auto` or `none`: this version cannot make a model call a tool; found {other}"
            );
            Err(Error::unsupported("tool_choice", message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::params::tests::told;
    use super::*;

    fn take(body: Value) -> Result<Tools> {
        let mut fields = Fields::of("", body).unwrap();
        let tools = Tools::take(&mut fields)?;
        fields.finish()?;
        Ok(tools)
    }

    fn tool(function: Value) -> Value {
        json!({"type": "function", "function": function})
    }

    #[test]
    fn tools_are_taken_and_handed_on() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let full = json!({"name": "f", "description": "d", "parameters": schema});
        let sent = json!({"name": "f", "description": "d", "parameters": schema, "strict": false});
        let tools =
            take(json!({"tools": [tool(sent), tool(json!({"name": "g"}))], "tool_choice": "auto"})).unwrap();
        assert_eq!(tools.objects, [tool(full), tool(json!({"name": "g"}))]);
        let known =
            |name: &str, parameters: &Value| Tool { name: name.to_owned(), parameters: parameters.clone() };
        assert_eq!(tools.known, [known("f", &schema), known("g", &Value::Null)]);
        assert!(tools.many_calls);
        let one = json!({"tools": [tool(json!({"name": "g"}))], "parallel_tool_calls": false});
        assert!(!take(one).unwrap().many_calls);
        for none in [
            json!({}),
            json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true}),
            json!({"tools": null, "tool_choice": null}),
            json!({"tools": [tool(json!({"name": "g"}))], "tool_choice": "none"}),
        ] {
            assert!(take(none.clone()).unwrap().is_empty(), "{none}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let check = |body: Value, status: u16, param: &str| {
            let (found_status, found_param, message) = told(take(body.clone()));
            assert_eq!((found_status, found_param.as_str()), (status, param), "{body}: {message}");
        };
        check(json!({"tools": {}}), 422, "tools");
        check(json!({"tools": ["f"]}), 422, "tools[0]");
        check(json!({"tools": [{"function": {"name": "f"}}]}), 400, "tools[0].type");
        check(json!({"tools": [{"type": "web_search"}]}), 400, "tools[0].type");
        check(json!({"tools": [{"type": "function"}]}), 400, "tools[0].function");
        check(json!({"tools": [tool(json!({}))]}), 400, "tools[0].function.name");
        check(json!({"tools": [tool(json!({"name": ""}))]}), 400, "tools[0].function.name");
        check(
            json!({"tools": [tool(json!({"name": "f", "parameters": []}))]}),
            422,
            "tools[0].function.parameters",
        );
        check(
            json!({"tools": [tool(json!({"name": "f", "strict": true}))]}),
            400,
            "tools[0].function.strict",
        );
        check(json!({"tools": [tool(json!({"name": "f", "x": 1}))]}), 400, "tools[0].function.x");
        check(json!({"tool_choice": "required"}), 400, "tool_choice");
        check(json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), 400, "tool_choice");
        check(json!({"parallel_tool_calls": 1}), 422, "parallel_tool_calls");
    }
}
