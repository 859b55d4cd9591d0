//! A request's tools: which functions a model may call, and whether it may or must. Reads shapes; what answers are kept to
//! for it is the business of `calls`.

use serde_json::{Value, json};

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
    /// Which of them ask that their arguments are kept to their schemas.
    pub(super) strict: Vec<bool>,
    /// Where the request has each function, as `tools[0].function`.
    pub(super) places: Vec<String>,
    /// Whether one answer may have more than one call.
    pub(super) many_calls: bool,
    pub(super) choice: Choice,
}

/// Whether tools may or must be called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// The model chooses.
    #[default]
    Auto,
    /// At least one must be called.
    Required,
    /// The one at this place must be called, once.
    Named(usize),
}

/// How a request writes a function, and which one is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"type": "function", "function": {"name": …}}`, as chat completions do.
    Nested,
    /// `{"type": "function", "name": …}`, as responses do.
    Flat,
}

impl Tools {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
    pub(super) fn take(fields: &mut Fields, form: Form) -> Result<Self> {
        let tools = fields.list("tools")?.unwrap_or_default();
        let mut taken = Tools::default();
        for (path, tool) in tools {
            let (object, tool, is_strict) = one(&path, tool, form)?;
            taken.objects.push(object);
            taken.known.push(tool);
            taken.strict.push(is_strict);
            taken.places.push(match form {
                Form::Nested => format!("{path}.function"),
                Form::Flat => path,
            });
        }
        let many_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        Ok(match choice(fields, &taken.known, form)? {
            Some(choice) => Tools { many_calls, choice, ..taken },
            None => Tools { many_calls, ..Tools::default() },
        })
    }

    /// Whether there is nothing to call.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// A tool as the template gets it, what is to be known of it, and whether it is strict.
fn one(path: &str, tool: Value, form: Form) -> Result<(Value, Tool, bool)> {
    let object = tool.clone();
    let mut fields = Fields::of(path, tool)?;
    let kind = fields.required_text("type")?;
    if kind != "function" {
        let path = fields.path("type");
        let message =
            format!("`{path}` can only be `function`: only functions can be called; found `{kind}`");
        return Err(Error::unsupported(path, message).into());
    }
    let (mut function, around) = within(fields, form)?;
    let name = function.required_text("name")?;
    if name.is_empty() {
        let path = function.path("name");
        return Err(Error::invalid(path.as_str(), format!("`{path}` is empty: nobody could call it")).into());
    }
    function.text("description")?;
    let is_strict = function.flag("strict")?.unwrap_or(false);
    let parameters = match function.value("parameters") {
        None => Value::Null,
        Some(parameters @ Value::Object(_)) => parameters,
        Some(other) => {
            let path = function.path("parameters");
            return Err(Failure::wrong_shape(&path, "an object: a JSON schema", found(&other)));
        }
    };
    function.finish()?;
    around.map(Fields::finish).transpose()?;
    Ok((for_template(object, form), Tool { name, parameters }, is_strict))
}

/// The fields of the function, and those around it, where there are some.
fn within(mut fields: Fields, form: Form) -> Result<(Fields, Option<Fields>)> {
    match form {
        Form::Nested => {
            let function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
            Ok((function, Some(fields)))
        }
        Form::Flat => Ok((fields, None)),
    }
}

/// A client's tool in the nested form that templates know. What says nothing to the model is no part of its prompt.
fn for_template(mut object: Value, form: Form) -> Value {
    if form == Form::Flat {
        if let Value::Object(function) = &mut object {
            function.shift_remove("type");
        }
        object = json!({"type": "function", "function": object});
    }
    if let Some(Value::Object(function)) = object.get_mut("function") {
        function.shift_remove("strict");
        function.retain(|_, value| !value.is_null());
    }
    object
}

/// `tool_choice`: whether tools may be called; nothing where none may.
fn choice(fields: &mut Fields, tools: &[Tool], form: Form) -> Result<Option<Choice>> {
    let chosen = match fields.value("tool_choice") {
        None => return Ok(Some(Choice::Auto)),
        Some(chosen) => chosen,
    };
    match chosen.as_str() {
        Some("auto") => Ok(Some(Choice::Auto)),
        Some("none") => Ok(None),
        Some("required") if tools.is_empty() => {
            let message = "`tool_choice` is `required`, but there is nothing in `tools` to be called";
            Err(Error::invalid("tool_choice", message).into())
        }
        Some("required") => Ok(Some(Choice::Required)),
        Some(_) => {
            let message = format!(
                "`tool_choice` can be `auto`, `none`, `required` or a function by its name; found {chosen}"
            );
            Err(Error::unsupported("tool_choice", message).into())
        }
        None => named(Fields::of("tool_choice", chosen)?, tools, form).map(Some),
    }
}

/// A function by its name.
fn named(mut fields: Fields, tools: &[Tool], form: Form) -> Result<Choice> {
    let kind = fields.required_text("type")?;
    if kind != "function" {
        let message = format!("`tool_choice.type` can only be `function`; found `{kind}`");
        return Err(Error::unsupported("tool_choice.type", message).into());
    }
    let (mut function, around) = within(fields, form)?;
    let (name, param) = (function.required_text("name")?, function.path("name"));
    function.finish()?;
    around.map(Fields::finish).transpose()?;
    tools.iter().position(|tool| tool.name == name).map(Choice::Named).ok_or_else(|| {
        let message = format!("`{param}` is `{name}`, which is none of `tools`");
        Error::invalid(param, message).into()
    })
}

#[cfg(test)]
mod tests {
    use super::super::params::tests::told;
    use super::*;

    fn take(body: Value) -> Result<Tools> {
        let mut fields = Fields::of("", body).unwrap();
        let tools = Tools::take(&mut fields, Form::Nested)?;
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
        assert_eq!((tools.strict, tools.choice), (vec![false, false], Choice::Auto));
        let two = [tool(json!({"name": "f"})), tool(json!({"name": "g", "strict": true}))];
        for (choice, expected) in [
            (json!("required"), Choice::Required),
            (json!({"type": "function", "function": {"name": "g"}}), Choice::Named(1)),
        ] {
            let tools = take(json!({"tools": two, "tool_choice": choice})).unwrap();
            assert_eq!((tools.choice, tools.strict), (expected, vec![false, true]));
        }
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
    fn a_flat_function_is_the_same_to_the_template() {
        let parameters = json!({"type": "object"});
        let flat = json!({"type": "function", "name": "f", "description": "d", "parameters": parameters, "strict": true});
        let mut fields =
            Fields::of("", json!({"tools": [flat], "tool_choice": {"type": "function", "name": "f"}}))
                .unwrap();
        let tools = Tools::take(&mut fields, Form::Flat).unwrap();
        fields.finish().unwrap();
        let nested = tool(json!({"name": "f", "description": "d", "parameters": parameters}));
        assert_eq!(tools.objects, std::slice::from_ref(&nested));
        assert_eq!(
            (tools.choice, tools.strict, tools.places),
            (Choice::Named(0), vec![true], vec!["tools[0]".to_owned()])
        );
        for (body, param) in [
            (json!({"tools": [nested]}), "tools[0].name"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice.name"),
        ] {
            let refused = Tools::take(&mut Fields::of("", body.clone()).unwrap(), Form::Flat);
            assert_eq!(told(refused).1, param, "{body}");
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
        check(json!({"tools": [tool(json!({"name": "f", "x": 1}))]}), 400, "tools[0].function.x");
        check(json!({"tool_choice": "required"}), 400, "tool_choice");
        check(json!({"tool_choice": "any"}), 400, "tool_choice");
        check(json!({"tool_choice": 1}), 422, "tool_choice");
        check(json!({"tool_choice": {"type": "allowed_tools"}}), 400, "tool_choice.type");
        check(json!({"tool_choice": {"type": "function"}}), 400, "tool_choice.function");
        let named = json!({"type": "function", "function": {"name": "f"}});
        check(json!({"tool_choice": named}), 400, "tool_choice.function.name");
        let other = json!({"tools": [tool(json!({"name": "g"}))], "tool_choice": named});
        check(other, 400, "tool_choice.function.name");
        check(json!({"parallel_tool_calls": 1}), 422, "parallel_tool_calls");
    }
}
