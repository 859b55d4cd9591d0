//! A matrix to multiply with, in whichever form it is.

use std::sync::Arc;

use super::{Matrix, PANEL, Panels};

/// `[rows][columns]`. Shared, never changed.
#[derive(Clone)]
pub(crate) enum Weight {
    /// Numbers where they lie.
    Plain(Matrix),
    /// Codes of few bits, packed.
    Grouped(Arc<Panels>),
}

impl Weight {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Weight::Plain(matrix) => matrix.rows(),
            Weight::Grouped(panels) => panels.layout().rows,
        }
    }

    pub(crate) fn columns(&self) -> usize {
        match self {
            Weight::Plain(matrix) => matrix.columns(),
            Weight::Grouped(panels) => panels.layout().columns,
        }
    }

    /// Rows that a thread takes at least, and a multiple of which its part begins with, for so many rows of activations.
    pub(crate) fn grain(&self, rows: usize) -> usize {
        match self {
            // Kernels take two panels at once, where the work is long enough to be shared in pieces of these.
            _ if rows >= PANEL => 2 * PANEL,
            Weight::Plain(_) => 4,
            Weight::Grouped(_) => PANEL,
        }
    }

    /// Where it lies, all of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Weight::Plain(matrix) => matrix.bytes(),
            Weight::Grouped(panels) => panels.bytes(),
        }
    }

    /// A row as floats.
    ///
    /// # Panics
    /// When there is no such row, or `to` has another length.
    pub(crate) fn read_row(&self, row: usize, to: &mut [f32]) {
        match self {
            Weight::Plain(matrix) => matrix.read_row(row, to),
            Weight::Grouped(panels) => panels.read_row(row, to),
        }
    }
}
