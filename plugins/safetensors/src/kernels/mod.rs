//! The arithmetic of a decoder on a CPU: one source over [`simd`], compiled for each instruction set, chosen at run time.
//!
//! [`Kernels`] is the safe door: it checks shapes, then calls the instance of the level. Nothing here knows of models,
//! sequences or threads.

#![expect(
    unsafe_code,
    reason = "instances for instruction sets are chosen at run time, and work on raw memory"
)]

mod affine;
mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "x86_64")]
mod bf16_amx;
#[cfg(target_arch = "aarch64")]
mod bf16_neon;
mod fit;
mod instances;
mod level;
mod multiply;
mod operand;
mod rows;
pub(crate) mod simd;
mod strips;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::affine::Affine;
pub(crate) use self::attention::{Attend, KeyBlock, MAX_ROWS, QueryRow};
pub(crate) use self::fit::{Group, Line};
pub(crate) use self::instances::Kernels;
pub(crate) use self::level::Level;
use self::multiply::{Multiply, Sink};
pub(crate) use self::operand::{Forms, Operand, SharedOperand};
pub(crate) use self::simd::{Bf16, Element, F16, F32, LANES};
use crate::checkpoint::{Dtype, Matrix, PANEL, Panels, Weight};
use crate::pool::Shared;

/// The function between a feed-forward network's two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x / (1 + exp(-x))`, also called swish (Elfwing et al. 2017, arXiv:1702.03118).
    Silu,
    /// The Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// The same by its tanh formula.
    GeluTanh,
}

/// Where products go: columns of a `[rows][stride]` buffer.
pub(crate) struct Output<'a> {
    /// The buffer.
    pub(crate) to: &'a Shared<'a, f32>,
    /// Floats from a row to the next.
    pub(crate) stride: usize,
    /// The column of the matrix's first row.
    pub(crate) column: usize,
    /// Whether to add to what is there.
    pub(crate) add: bool,
    /// What products (and bias) are multiplied by.
    pub(crate) scale: f32,
}

impl Kernels {
    /// Those for a step. A few rows of a lone sequence are summed in the order of a single one: its tokens are the same,
    /// to the last bit of their logits, whether they come one by one or are guessed and tried together.
    pub(crate) fn for_step(&'static self, rows: usize, sequences: usize) -> &'static Kernels {
        self.of_one_sequence.filter(|_| sequences == 1 && rows < multiply::MANY).unwrap_or(self)
    }

    /// The form beside floats that a matrix wants its activations in.
    pub(crate) fn wants(&self, weight: &Weight) -> Forms {
        match weight {
            Weight::Plain(matrix) => {
                Forms { narrow: self.narrow_activations && matrix.dtype() == Dtype::Bf16, group: None }
            }
            Weight::Grouped(panels) => Forms { narrow: false, group: Some(panels.layout().group) },
        }
    }

    /// `out[r][column + n] = scale * (a[r] · weight[n] + bias[n])` for the first `rows` rows of `a` and the matrix's
    /// rows `range`, which begins at a multiple of [`PANEL`], and ends at one or at the last row.
    ///
    /// # Panics
    /// When shapes do not fit.
    ///
    /// # Safety
    /// No other thread has these columns of the output.
    pub(crate) unsafe fn multiply(
        &self,
        (a, rows): (&Operand, usize),
        (weight, bias): (&Weight, Option<&[f32]>),
        range: Range<usize>,
        out: &Output<'_>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { self.multiply_rows((a, 0..rows), (weight, bias), range, out) }
    }

    /// The same for some rows of `a`, to the same rows of the output.
    ///
    /// # Panics
    /// When shapes do not fit.
    ///
    /// # Safety
    /// No other thread has these columns of these rows of the output.
    pub(crate) unsafe fn multiply_rows(
        &self,
        (a, rows): (&Operand, Range<usize>),
        (weight, bias): (&Weight, Option<&[f32]>),
        range: Range<usize>,
        out: &Output<'_>,
    ) {
        assert_eq!(weight.columns(), a.width, "a matrix fits its activations: this is a bug");
        assert!(
            range.end <= weight.rows() && rows.end * a.width <= a.floats.len(),
            "rows exist: this is a bug"
        );
        assert!(
            out.column + range.end <= out.stride && rows.end * out.stride <= out.to.len(),
            "the output has room: this is a bug"
        );
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows()), "a bias fits its matrix: this is a bug");
        if range.is_empty() || rows.is_empty() {
            return;
        }
        let sink = Sink {
            bias: bias.map(|bias| bias[range.clone()].as_ptr()),
            out: out.to.at(rows.start * out.stride + out.column + range.start),
            stride: out.stride,
            add: out.add,
            scale: out.scale,
        };
        // SAFETY: the columns are ours alone, and the sink has as many as the range.
        unsafe {
            match weight {
                Weight::Plain(matrix) => self.multiply_plain((a, rows), matrix, range, sink),
                Weight::Grouped(panels) => self.multiply_grouped((a, rows), panels, range, sink),
            }
        }
    }

    unsafe fn multiply_plain(
        &self,
        (a, rows): (&Operand, Range<usize>),
        matrix: &Matrix,
        range: Range<usize>,
        sink: Sink,
    ) {
        let narrow = self.narrow_activations && matrix.dtype() == Dtype::Bf16;
        assert!(!narrow || a.narrow.len() >= rows.end * a.width, "narrow forms exist: this is a bug");
        let job = Multiply {
            a: a.floats[rows.start * a.width..].as_ptr(),
            a_narrow: a.narrow.as_ptr().wrapping_add(rows.start * a.width),
            rows: rows.len(),
            width: a.width,
            weights: matrix.row(range.start),
            count: range.len(),
            sink,
        };
        let run = match matrix.dtype() {
            Dtype::F32 => self.multiply_f32,
            Dtype::F16 => self.multiply_f16,
            Dtype::Bf16 => self.multiply_bf16,
        };
        // SAFETY: the level runs here, the shapes were checked, the sink is the caller's.
        unsafe { run(&job) }
    }

    unsafe fn multiply_grouped(
        &self,
        (a, rows): (&Operand, Range<usize>),
        panels: &Panels,
        range: Range<usize>,
        sink: Sink,
    ) {
        let layout = panels.layout();
        let group = a.group;
        assert!(
            group > 0 && layout.group.is_multiple_of(group) && a.codes.len() >= rows.end * a.width,
            "codes of activations exist: this is a bug"
        );
        assert!(
            range.start.is_multiple_of(PANEL)
                && (range.end.is_multiple_of(PANEL) || range.end == layout.rows),
            "ranges are of whole panels: this is a bug"
        );
        let groups = a.width / group;
        let job = Affine {
            codes: a.codes[rows.start * a.width..].as_ptr(),
            factors: a.factors[rows.start * groups..].as_ptr(),
            sums: a.sums[rows.start * groups..].as_ptr(),
            group,
            rows: rows.len(),
            panels: panels.panels(range.start / PANEL..range.end.div_ceil(PANEL)),
            count: range.len(),
            layout,
            sink,
        };
        let run = match layout.scales {
            Dtype::F32 => self.affine_f32,
            Dtype::F16 => self.affine_f16,
            Dtype::Bf16 => self.affine_bf16,
        };
        // SAFETY: the level runs here, the shapes were checked, the sink is the caller's.
        unsafe { run(&job) }
    }

    /// `out = row / sqrt(mean(row²) + epsilon) * weight` (Zhang & Sennrich 2019, arXiv:1910.07467).
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn rms_norm(&self, row: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        assert!(row.len() == weight.len() && row.len() == out.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths are one.
        unsafe { (self.rms_norm)(row, weight, epsilon, out) }
    }

    /// The same over its own input.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn rms_norm_in_place(&self, row: &mut [f32], weight: &[f32], epsilon: f32) {
        assert_eq!(row.len(), weight.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths are one.
        unsafe { (self.rms_norm_in_place)(row, weight, epsilon) }
    }

    /// `out = (row - mean(row)) / sqrt(variance(row) + epsilon) * weight + bias` (Ba et al. 2016, arXiv:1607.06450).
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn layer_norm(
        &self,
        row: &[f32],
        (weight, bias): (&[f32], Option<&[f32]>),
        epsilon: f32,
        out: &mut [f32],
    ) {
        let fits = row.len() == weight.len() && bias.is_none_or(|bias| bias.len() == row.len());
        assert!(fits && row.len() == out.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths are one.
        unsafe { (self.layer_norm)(row.as_ptr(), (weight, bias), epsilon, out.as_mut_ptr()) }
    }

    /// The same over its own input.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn layer_norm_in_place(
        &self,
        row: &mut [f32],
        (weight, bias): (&[f32], Option<&[f32]>),
        epsilon: f32,
    ) {
        let fits = row.len() == weight.len() && bias.is_none_or(|bias| bias.len() == row.len());
        assert!(fits, "one length: this is a bug");
        let at = row.as_mut_ptr();
        // SAFETY: the level runs here, the lengths are one; each number is read before it is written.
        unsafe { (self.layer_norm)(at, (weight, bias), epsilon, at) }
    }

    /// `row = activation(row)`
    pub(crate) fn activate(&self, activation: Activation, row: &mut [f32]) {
        // SAFETY: the level runs here.
        unsafe { (self.activate)(activation, row) }
    }

    /// `gate = activation(gate) * up`
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths are one.
        unsafe { (self.gate)(activation, gate, up) }
    }

    /// Rounds a row of whole groups to codes, with each group's factor and the sum of its codes.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub(crate) fn round(
        &self,
        row: &[f32],
        group: usize,
        codes: &mut [i8],
        (factors, sums): (&mut [f32], &mut [f32]),
    ) {
        assert!(group > 0 && group.is_multiple_of(LANES), "groups are of whole vectors: this is a bug");
        assert!(
            row.len() == codes.len() && row.len() == factors.len() * group && factors.len() == sums.len(),
            "whole groups: this is a bug"
        );
        // SAFETY: the level runs here, the lengths fit.
        unsafe { (self.round)(row, group, codes, (factors, sums)) }
    }

    /// The line whose codes come nearest to a group's numbers.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub(crate) fn fit(&self, group: &Group<'_>) -> Line {
        assert!(group.numbers.len().is_multiple_of(LANES), "groups are of whole vectors: this is a bug");
        assert_eq!(group.numbers.len(), group.weights.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths fit.
        unsafe { (self.fit)(group) }
    }

    /// The least and the largest of a group's numbers.
    pub(crate) fn span(&self, numbers: &[f32]) -> (f32, f32) {
        assert!(numbers.len().is_multiple_of(LANES), "groups are of whole vectors: this is a bug");
        // SAFETY: the level runs here, the length fits.
        unsafe { (self.span)(numbers) }
    }

    /// The code of each number that comes nearest to it on a line.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub(crate) fn code(&self, group: &Group<'_>, line: Line, codes: &mut [u8]) {
        assert!(group.numbers.len().is_multiple_of(LANES), "groups are of whole vectors: this is a bug");
        assert_eq!(group.numbers.len(), codes.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths fit.
        unsafe { (self.code)(group, line, codes) }
    }

    /// Rounds to brain floats.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn narrow(&self, from: &[f32], to: &mut [u16]) {
        assert_eq!(from.len(), to.len(), "one length: this is a bug");
        // SAFETY: the level runs here.
        unsafe { (self.narrow)(from, to) }
    }
}

/// Elements that there are attention instances for.
pub(crate) trait CacheElement: Element {
    /// Runs the level's instance.
    ///
    /// # Safety
    /// As [`Attend`] says.
    unsafe fn attend(kernels: &Kernels, job: &Attend<'_, Self>);
}

macro_rules! cache_element {
    ($element:ty, $field:ident) => {
        impl CacheElement for $element {
            unsafe fn attend(kernels: &Kernels, job: &Attend<'_, Self>) {
                // SAFETY: the level runs here; the rest as the caller promises.
                unsafe { (kernels.$field)(job) }
            }
        }
    };
}

cache_element!(F32, attend_f32);
cache_element!(F16, attend_f16);
cache_element!(Bf16, attend_bf16);
