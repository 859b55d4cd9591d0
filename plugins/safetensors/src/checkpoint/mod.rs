//! A checkpoint's weights: the files of a folder, mapped; their headers checked before anything is used.
//!
//! Knows files and tensors, not what they are for.

mod header;
mod matrix;
mod shards;

pub(crate) use self::matrix::{Dtype, Matrix};
pub(crate) use self::shards::Checkpoint;
