//! From a model's token bytes to text that may be shown: whole UTF-8 first, then the search for stop strings. Pure:
//! bytes and strings in, strings out; which tokens are control tokens is decided before.
//!
//! The way of a token's bytes: [`Detokenizer::push`], then [`StopMatcher::push`] with what came out, and what comes out
//! of that is sent. At the end of an answer both have a `finish`, in the same order.

mod detokenizer;
mod stop;

pub use detokenizer::Detokenizer;
pub use stop::{StopMatcher, Stopped};
