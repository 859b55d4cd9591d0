//! The decoder: one for all families, that reads like the papers.
//!
//! `weights` names the tensors of a checkpoint, `forward` computes a batch. Knows nothing of files, text or the host.

mod attention;
mod forward;
mod rotation;
mod weights;
mod workspace;

pub(crate) use self::forward::{Run, Step, forward};
pub(crate) use self::weights::{Packing, Weights};
pub(crate) use self::workspace::{Workspace, padded, workspace_bytes};
