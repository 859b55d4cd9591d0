//! Every field that a request to a model may have: where, what it is, and what a model must be able to do for it. The one
//! source for the check of capabilities, for `/openapi.json` and for docs/capabilities.md.
//!
//! Reading the fields is the business of `params`, `messages`, `structure` and the endpoints; a test sends each field in a
//! wrong shape and expects it to be known there.

mod schemas;
mod table;

use serde_json::Value;

pub(crate) use self::table::KNOWN;
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::models::capability::{CHAT, GENERATE};

/// A request that a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    /// `/completion`, as llama-server has it.
    Llama,
    Responses,
    Embeddings,
}

/// A field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) on: &'static [Endpoint],
    /// The capability that the model must have.
    pub(crate) needs: &'static str,
    /// What it does, for people.
    pub(crate) text: &'static str,
    /// What it is, as a JSON schema.
    pub(crate) schema: fn() -> Value,
}

/// Refuses what the request to this endpoint asks for and the model cannot do.
///
/// # Errors
/// The first field of `asked` that needs a capability which the model has not.
pub(super) fn check(model: &Loaded, endpoint: Endpoint, asked: &[String]) -> Result<()> {
    let lacking = |name: &String| {
        let known = KNOWN.iter().find(|known| known.name == *name && known.on.contains(&endpoint))?;
        (!model.can(known.needs)).then_some(known)
    };
    let Some(Known { name, needs, .. }) = asked.iter().find_map(lacking) else { return Ok(()) };
    if *needs == CHAT && model.can(GENERATE) {
        // Whether it has no template or a broken one.
        model.chat_template(false).map_err(|error| Error { param: Some((*name).to_owned()), ..error })?;
    }
    let message = format!(
        "`{name}` needs the capability `{needs}`, which model `{}` does not have; it has: {}",
        model.id,
        model.capabilities.join(", ")
    );
    Err(Error::unsupported(*name, message))
}

#[cfg(test)]
mod tests;
