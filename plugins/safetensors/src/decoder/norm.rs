//! A norm's weights, and which norm they are of.

use crate::config::NormKind;
use crate::kernels::Kernels;

/// A norm over as many numbers as there are weights.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) kind: NormKind,
    pub(super) epsilon: f32,
}

impl Norm {
    /// `to = norm(from)`
    pub(super) fn apply(&self, kernels: &Kernels, from: &[f32], to: &mut [f32]) {
        match self.kind {
            NormKind::Rms => kernels.rms_norm(from, &self.weight, self.epsilon, to),
            NormKind::Layer { .. } | NormKind::Bare => {
                kernels.layer_norm(from, (&self.weight, self.bias.as_deref()), self.epsilon, to);
            }
        }
    }

    /// `row = norm(row)`
    pub(super) fn apply_in_place(&self, kernels: &Kernels, row: &mut [f32]) {
        match self.kind {
            NormKind::Rms => kernels.rms_norm_in_place(row, &self.weight, self.epsilon),
            NormKind::Layer { .. } | NormKind::Bare => {
                kernels.layer_norm_in_place(row, (&self.weight, self.bias.as_deref()), self.epsilon);
            }
        }
    }
}
