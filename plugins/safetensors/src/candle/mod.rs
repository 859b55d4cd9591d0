//! Decoders that our own does not compute, through candle: in float32, one sequence after another.
//!
//! States are candle's: they can be dropped, neither cut nor copied, and what a model computes beyond a prompt's first
//! piece it computes token by token. `families` says which these are and what of each candle really computes; anything
//! else of a configuration is refused.

mod context;
mod families;
mod lane;
mod model;
mod read;
mod tensors;

#[cfg(test)]
mod golden_tests;

pub(crate) use self::context::CandleContext;
pub(crate) use self::families::{Outline, is_ours, names};
pub(crate) use self::model::CandleModel;
pub(crate) use self::tensors::Tensors;
