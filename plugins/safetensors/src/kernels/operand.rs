//! The input of products, in each form that a matrix may want, while threads write it and after.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::Kernels;
use crate::pool::{Pool, Shared};

/// Forms of activations beside floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    /// Brain floats.
    pub(crate) narrow: bool,
    /// Codes, in groups of so many columns.
    pub(crate) group: Option<usize>,
}

impl Forms {
    /// What serves both: groups are powers of two, so that the smaller divides the larger.
    pub(crate) fn and(self, other: Forms) -> Forms {
        let group = [self.group, other.group].into_iter().flatten().min();
        Forms { narrow: self.narrow || other.narrow, group }
    }
}

/// Activations that are about to be multiplied: `[rows][width]`, in each form that a matrix may want.
#[derive(Debug, Default)]
pub(crate) struct Operand {
    pub(super) width: usize,
    pub(super) floats: Vec<f32>,
    /// The same as brain floats; empty where no matrix wants them.
    pub(super) narrow: Vec<u16>,
    /// Columns of a group of codes; 0 where no matrix wants them.
    pub(super) group: usize,
    /// Likewise `[rows][width]`.
    pub(super) codes: Vec<i8>,
    /// `[rows][width / group]`
    pub(super) factors: Vec<f32>,
    pub(super) sums: Vec<f32>,
}

impl Operand {
    /// Room for so many rows in the forms that some matrix wants.
    pub(crate) fn new(rows: usize, width: usize, forms: Forms) -> Self {
        // Rounded matrices have columns of whole groups: an operand without them is for others.
        let group = forms.group.filter(|&group| width.is_multiple_of(group)).unwrap_or(0);
        let groups = (rows * width).checked_div(group).unwrap_or(0);
        Operand {
            width,
            floats: vec![0.0; rows * width],
            narrow: vec![0; if forms.narrow { rows * width } else { 0 }],
            group,
            codes: vec![0; groups * group],
            factors: vec![0.0; groups],
            sums: vec![0.0; groups],
        }
    }

    /// A row as floats.
    ///
    /// # Panics
    /// When there is no such row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.floats[row * self.width..(row + 1) * self.width]
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.floats.len() * 4 + self.narrow.len() * 2 + self.codes.len() + self.factors.len() * 8
    }

    /// To be written from several threads, each its own rows or columns.
    pub(crate) fn share(&mut self) -> SharedOperand<'_> {
        SharedOperand {
            width: self.width,
            floats: Shared::new(&mut self.floats),
            narrow: Shared::new(&mut self.narrow),
        }
    }

    /// Makes the form that needs whole rows, once they are filled.
    pub(crate) fn finish(&mut self, kernels: &Kernels, pool: &mut Pool, rows: usize) {
        let Operand { width, group, .. } = *self;
        if group == 0 {
            return;
        }
        let floats = &self.floats;
        let codes = Shared::new(&mut self.codes);
        let (factors, sums) = (Shared::new(&mut self.factors), Shared::new(&mut self.sums));
        pool.split(rows, 1, |rows| {
            for row in rows {
                let (place, groups) = (row * width..(row + 1) * width, width / group);
                let totals = row * groups..(row + 1) * groups;
                // SAFETY: each row is one thread's.
                unsafe {
                    let totals = (factors.slice(totals.clone()), sums.slice(totals));
                    kernels.round(&floats[place.clone()], group, codes.slice(place), totals);
                }
            }
        });
    }
}

/// An [`Operand`] while threads write it.
pub(crate) struct SharedOperand<'a> {
    width: usize,
    floats: Shared<'a, f32>,
    narrow: Shared<'a, u16>,
}

impl SharedOperand<'_> {
    /// Lets `write` fill the columns of a row, then makes the form that needs no whole row.
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
