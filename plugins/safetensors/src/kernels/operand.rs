//! The input of products, in each form that a matrix may want, while threads write it and after.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::Kernels;
use crate::pool::Shared;

/// Activations that are about to be multiplied: `[rows][width]`, in each form that a matrix may want.
#[derive(Debug, Default)]
pub(crate) struct Operand {
    pub(super) width: usize,
    pub(super) floats: Vec<f32>,
    /// The same as brain floats; empty where no matrix wants them.
    pub(super) narrow: Vec<u16>,
}

impl Operand {
    /// Room for so many rows. `narrow`: some matrix wants brain floats.
    pub(crate) fn new(rows: usize, width: usize, narrow: bool) -> Self {
        Operand {
            width,
            floats: vec![0.0; rows * width],
            narrow: vec![0; if narrow { rows * width } else { 0 }],
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.floats.len() * 4 + self.narrow.len() * 2
    }

    /// To be written from several threads, each its own rows or columns.
    pub(crate) fn share(&mut self) -> SharedOperand<'_> {
        SharedOperand {
            width: self.width,
            floats: Shared::new(&mut self.floats),
            narrow: Shared::new(&mut self.narrow),
        }
    }
}

/// An [`Operand`] while threads write it.
pub(crate) struct SharedOperand<'a> {
    width: usize,
    floats: Shared<'a, f32>,
    narrow: Shared<'a, u16>,
}

impl SharedOperand<'_> {
    /// Lets `write` fill the columns of a row, then makes its other forms.
    ///
    /// # Safety
    /// No other thread has these columns of this row.
    pub(crate) unsafe fn fill(
        &self,
        kernels: &Kernels,
        row: usize,
        columns: Range<usize>,
        write: impl FnOnce(&mut [f32]),
    ) {
        assert!(columns.end <= self.width, "columns are in the row: this is a bug");
        let place = row * self.width + columns.start..row * self.width + columns.end;
        // SAFETY: ours alone, as the caller promises.
        let floats = unsafe { self.floats.slice(place.clone()) };
        write(floats);
        if !self.narrow.is_empty() {
            // SAFETY: as above.
            let narrow = unsafe { self.narrow.slice(place) };
            kernels.narrow(floats, narrow);
        }
    }
}
