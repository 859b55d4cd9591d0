//! The decoder: one for all families, that reads like the papers.
//!
//! `weights` are the tensors of a checkpoint, which `tensors` finds; `forward` computes a batch. Knows nothing of files, text or the host.

mod attention;
mod experts;
mod forward;
mod norm;
mod observe;
mod rotation;
mod tensors;
mod weights;
mod workspace;

pub(crate) use self::forward::{Run, Step, forward};
pub(crate) use self::observe::Observed;
pub(crate) use self::weights::{Packing, Weights};
pub(crate) use self::workspace::{Workspace, padded, workspace_bytes};
