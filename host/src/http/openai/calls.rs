//! What answers are kept to where tools must be called, or their arguments must be instances of their schemas.
//!
//! Chooses the form; whether its schemas can be kept to is found out by the engine.

use serde_json::json;

use super::tools::{Choice, Tools};
use crate::chat::{Asked, Callable, Lookout, Manner, Offer, Otherwise, Tool, Unkept};
use crate::engine::message::{Offered, Structure};
use crate::error::Error;
use crate::sampling::constraint::{Grammar, Schema};

/// What becomes of a request's tools in its answers.
#[derive(Debug)]
pub(super) struct Kept {
    /// What the whole answer is kept to.
    pub(super) structure: Option<Structure>,
    /// What its calls are kept to, where it is free but for them.
    pub(super) offered: Option<Offered>,
    /// Where calls are looked for in it.
    pub(super) lookout: Lookout,
}

/// What an answer is kept to. `structure` is what it must be where it calls nothing.
///
/// # Errors
/// [`Error::unsupported`] where the model's family cannot be kept to it.
pub(super) fn keep(
    tools: &Tools,
    structure: Option<Structure>,
    manner: &Manner,
    prompt_end: &str,
) -> Result<Kept, Error> {
    let Some((field, otherwise)) = wanted(tools, structure.as_ref())? else {
        let offered = offered(tools, manner, prompt_end);
        return Ok(Kept { structure, offered, lookout: Lookout::Anywhere });
    };
    let lookout = match otherwise {
        Otherwise::Nothing | Otherwise::Text => Lookout::Own,
        Otherwise::Json(_) => Lookout::Beginning,
    };
    let must = otherwise == Otherwise::Nothing;
    refuse_namesakes(tools)?;
    let pattern =
        manner.kept(prompt_end, &asked(tools, otherwise)).map_err(|unkept| refused(&field, unkept))?;
    // An answer that must be a call is nothing else; what it would be must make sense all the same.
    let beside = structure.filter(|_| must).map(|structure| (structure.field, structure.grammar));
    let structure = Structure { field, grammar: Grammar::Pattern(pattern), after: None, beside };
    Ok(Kept { structure: Some(structure), offered: None, lookout })
}

/// Where the model may call, but nothing was promised of it: what is said is free, and a call is kept to its family's form
/// from its mark on, as far as that is known.
fn offered(tools: &Tools, manner: &Manner, prompt_end: &str) -> Option<Offered> {
    if tools.is_empty() || refuse_namesakes(tools).is_err() {
        return None;
    }
    let Offer { mark, behind, thinking, is_thinking } =
        manner.offered(prompt_end, &asked(tools, Otherwise::Text))?;
    Some(Offered {
        mark: mark.to_owned(),
        thinking: thinking.map(|(open, close)| (open.to_owned(), close.to_owned())),
        is_thinking,
        grammar: Grammar::Pattern(behind),
    })
}

fn asked(tools: &Tools, otherwise: Otherwise) -> Asked {
    let must = otherwise == Otherwise::Nothing;
    let callable = |(index, tool): (usize, &Tool)| Callable {
        tool: tool.clone(),
        is_strict: must || tools.strict[index],
        field: tools.places[index].clone(),
    };
    let is_chosen = |(index, _): &(usize, &_)| match tools.choice {
        Choice::Auto | Choice::Required => true,
        Choice::Named(chosen) => chosen == *index,
    };
    let callables = tools.known.iter().enumerate().filter(is_chosen).map(callable).collect();
    let many = tools.many_calls && !matches!(tools.choice, Choice::Named(_));
    Asked { tools: callables, many, otherwise }
}

/// A call says whose arguments it has by the name alone.
fn refuse_namesakes(tools: &Tools) -> Result<(), Error> {
    let is_second =
        |(index, tool): &(usize, &Tool)| tools.known[..*index].iter().any(|other| other.name == tool.name);
    match tools.known.iter().enumerate().find(is_second) {
        None => Ok(()),
        Some((index, tool)) => {
            let param = format!("{}.name", tools.places[index]);
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
    let strict = tools.strict.iter().position(|is_strict| *is_strict);
    let instead = structure.map(instead).transpose()?;
    Ok(match (tools.choice, instead) {
        (Choice::Required | Choice::Named(_), _) => Some(("tool_choice".to_owned(), Otherwise::Nothing)),
        (Choice::Auto, Some(schema)) => Some((schema.field.clone(), Otherwise::Json(schema))),
        (Choice::Auto, None) => {
            strict.map(|index| (format!("{}.strict", tools.places[index]), Otherwise::Text))
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
