//! Encoders: a whole sequence becomes one vector.
//!
//! `config` and `families` read what a checkpoint is, `pooling` how its rows become a vector. BERT and its kin run on our own kernels
//! (`bert`); families with rotary positions run through candle (`through_candle`). `model` and `state` are what the
//! contract sees.

mod attention;
mod bert;
mod config;
mod families;
mod machine;
mod model;
mod pooling;
mod product;
mod rows;
mod state;
mod through_candle;

#[cfg(test)]
mod golden_tests;

pub(crate) use self::config::Encoder;
pub(crate) use self::families::{is_encoder, names};
pub(crate) use self::model::EncoderModel;
pub(crate) use self::state::EncoderState;
