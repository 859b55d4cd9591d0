//! A checkpoint's weights: the files of a folder, mapped; their headers checked before anything is used.
//!
//! Knows files and tensors and how their numbers are stored, not what they are for.

mod header;
mod matrix;
mod mlx;
mod panels;
mod rounding;
mod shards;
#[cfg(test)]
mod shards_tests;
mod weight;

pub(crate) use self::header::Entry;
pub(crate) use self::matrix::{Dtype, Matrix};
pub(crate) use self::mlx::Rounded;
pub(crate) use self::panels::{CodeBits, Layout, PANEL, Panels, Slab};
pub(crate) use self::rounding::Rounding;
pub(crate) use self::shards::{Checkpoint, Place, TIED};
pub(crate) use self::weight::Weight;
