//! What answers are kept to where tools must be called, or their arguments must be instances of their schemas.
//!
//! Chooses the form; whether its schemas can be kept to is found out by the engine.

use serde_json::json;

use super::tools::{Choice, Tools};
use crate::chat::{Asked, Callable, Lookout, Manner, Otherwise, Tool, Unkept};
use crate::engine::message::Structure;
use crate::error::Error;
use crate::sampling::constraint::{Grammar, Schema};

/// What an answer is kept to, and where calls are looked for in it. `structure` is what the answer must be where it calls
/// nothing.
///
/// # Errors
/// [`Error::unsupported`] where the model's family cannot be kept to it.
pub(super) fn keep(
    tools: &Tools,
    structure: Option<Structure>,
    manner: &Manner,
    prompt_end: &str,
) -> Result<(Option<Structure>, Lookout), Error> {
    let Some((field, otherwise)) = wanted(tools, structure.as_ref())? else {
        return Ok((structure, Lookout::Anywhere));
    };
    let lookout = match otherwise {
        Otherwise::Nothing | Otherwise::Text => Lookout::Own,
        Otherwise::Json(_) => Lookout::Beginning,
    };
    let must = otherwise == Otherwise::Nothing;
    let callable = |(index, tool): (usize, &Tool)| Callable {
        tool: tool.clone(),
        is_strict: must || tools.strict[index],
        field: format!("tools[{index}].function"),
    };
    let is_chosen = |(index, _): &(usize, &_)| match tools.choice {
        Choice::Auto | Choice::Required => true,
        Choice::Named(chosen) => chosen == *index,
    };
    refuse_namesakes(tools)?;
    let callables = tools.known.iter().enumerate().filter(is_chosen).map(callable).collect();
    let many = tools.many_calls && !matches!(tools.choice, Choice::Named(_));
    let asked = Asked { tools: callables, many, otherwise };
    let pattern = manner.kept(prompt_end, &asked).map_err(|unkept| refused(&field, unkept))?;
    Ok((Some(Structure { field, grammar: Grammar::Pattern(pattern), after: None }), lookout))
}

/// A call says whose arguments it has by the name alone.
fn refuse_namesakes(tools: &Tools) -> Result<(), Error> {
    let is_second =
        |(index, tool): &(usize, &Tool)| tools.known[..*index].iter().any(|other| other.name == tool.name);
    match tools.known.iter().enumerate().find(is_second) {
        None => Ok(()),
        Some((index, tool)) => {
            let param = format!("tools[{index}].function.name");
            let message = format!(
                "`{param}` is `{}`, as an earlier function's: calls could not be told apart",
                tool.name
            );
            Err(Error::invalid(param, message))
        }
    }
}

/// Which field asks for calls that are kept to something, and what the answer may be instead; nothing where none does.
fn wanted(tools: &Tools, structure: Option<&Structure>) -> Result<Option<(String, Otherwise)>, Error> {
    if tools.is_empty() {
        return Ok(None);
    }
    // What the answer must be is never asked of an answer that must be a call.
    let instead = structure.map(instead).transpose()?;
    let strict = tools.strict.iter().position(|is_strict| *is_strict);
    Ok(match (tools.choice, instead) {
        (Choice::Required | Choice::Named(_), _) => Some(("tool_choice".to_owned(), Otherwise::Nothing)),
        (Choice::Auto, Some(schema)) => Some((schema.field.clone(), Otherwise::Json(schema))),
        (Choice::Auto, None) => {
            strict.map(|index| (format!("tools[{index}].function.strict"), Otherwise::Text))
        }
    })
}

/// The schema of an answer that calls nothing.
fn instead(structure: &Structure) -> Result<Schema, Error> {
    let field = structure.field.clone();
    match &structure.grammar {
        Grammar::JsonObject => Ok(Schema { field, schema: json!({"type": "object"}) }),
        Grammar::JsonSchema(schema) => Ok(Schema { field, schema: schema.clone() }),
        Grammar::Regex(_)
        | Grammar::Choice(_)
        | Grammar::Lark(_)
        | Grammar::Gbnf(_)
        | Grammar::Pattern(_) => {
            let message = format!(
                "`{field}` is not supported together with `tools`, as `response_format` is; leave one of them out"
            );
            Err(Error::unsupported(field, message))
        }
    }
}

fn refused(field: &str, unkept: Unkept) -> Error {
    match unkept {
        Unkept::Family(name) => {
            let message = format!(
                "`{field}` cannot be kept to: no grammar is made of the form in which models of this family (`{name}`) \
                 write calls; leave it out, and check the calls"
            );
            Error::unsupported(field, message)
        }
        Unkept::Otherwise(name) => {
            let message = format!(
                "`{field}` cannot be kept to together with `tools`: models of this family (`{name}`) write calls that \
                 cannot be told from other JSON; leave one of them out"
            );
            Error::unsupported(field, message)
        }
        Unkept::Tool(field, message) => Error::unsupported(field, message),
    }
}
