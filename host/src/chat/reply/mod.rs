//! What a model wrote becomes content, reasoning and calls of tools: pure text in, deltas out, piece by piece.
//!
//! The result depends on the text alone, never on how it was cut into pieces. A call that turns out broken is content;
//! nothing is lost. Which words mark a call is known for each family of models, read off the chat template: its [`Manner`].

mod call;
mod canon;
mod cursor;
mod families;
mod family;
mod gemma;
mod harmony;
mod kept;
mod kept_tags;
#[cfg(test)]
pub(super) mod kept_tests;
mod marked;
#[cfg(test)]
mod more_tests;
mod object;
mod python;
mod reader;
mod scan;
mod tagged;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk_tests;

use serde_json::Value;

pub(super) use self::family::Family;
pub use self::kept::{Asked, Callable, Otherwise, Unkept};
pub use self::reader::{Lookout, Manner, Offer, Reader};

/// A function that a request offers to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments; null where it takes any.
    pub parameters: Value,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Of the content.
    Content(String),
    /// Of the reasoning before it.
    Reasoning(String),
    /// A call begins.
    Call {
        /// The tool.
        name: String,
    },
    /// Of the arguments of the last call: JSON text.
    Arguments(String),
    /// The last call is none: what was told of it was a part of the content.
    Broken {
        /// All of its text.
        text: String,
        /// Its end, which was not told yet.
        rest: String,
    },
}

/// An answer put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// What is said.
    pub content: String,
    /// What was thought before.
    pub reasoning: String,
    /// Which tools are to be called.
    pub calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

impl Reply {
    /// Adds a piece.
    pub fn add(&mut self, delta: Delta) {
        match delta {
            Delta::Content(text) => self.content += &text,
            Delta::Reasoning(text) => self.reasoning += &text,
            Delta::Call { name } => self.calls.push(Call { name, arguments: String::new() }),
            Delta::Arguments(text) => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments += &text;
                }
            }
            Delta::Broken { text, .. } => {
                self.calls.pop();
                self.content += &text;
            }
        }
    }
}
