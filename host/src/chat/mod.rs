//! Pure text: a chat's messages become a prompt by the model's own Jinja template, and what the model writes becomes
//! content, reasoning and calls of tools.
//!
//! Knows no tokens but by their text, no wire format, no plugin.

mod adapt;
mod dialect;
mod environment;
#[cfg(test)]
mod golden_tests;
mod infill;
mod json;
mod literals;
mod message;
mod reply;
#[cfg(test)]
mod round_trip_tests;
mod template;
#[cfg(test)]
mod tests;

pub use self::infill::Infill;
pub use self::message::Message;
pub use self::reply::{
    Asked, Call, Callable, Delta, Lookout, Manner, Offer, Otherwise, Reader, Reply, Tool, Unkept,
};
pub use self::template::{ChatTemplate, Prompt, RenderOptions, Segment, SpecialTokens, TemplateError};
