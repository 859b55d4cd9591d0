//! The arithmetic of a decoder on a CPU: one source over [`simd`], compiled for each instruction set, chosen at run time.
//!
//! [`Kernels`] is the safe door: it checks shapes, then calls the instance of the level. Nothing here knows of models,
//! sequences or threads.

#![expect(
    unsafe_code,
    reason = "instances for instruction sets are chosen at run time, and work on raw memory"
)]

mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod level;
mod multiply;
mod operand;
mod rows;
mod simd;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use self::attention::{Attend, KeyBlock, MAX_ROWS, QueryRow};
pub(crate) use self::level::Level;
use self::multiply::Multiply;
pub(crate) use self::operand::{Operand, SharedOperand};
pub(crate) use self::simd::{Bf16, Element, F16, F32, LANES};
use crate::checkpoint::{Dtype, Matrix};
use crate::pool::Shared;

/// The instances of one level.
pub(crate) struct Kernels {
    /// Whether brain float weights want their activations as brain floats too.
    narrow_activations: bool,
    multiply_f32: unsafe fn(&Multiply),
    multiply_f16: unsafe fn(&Multiply),
    multiply_bf16: unsafe fn(&Multiply),
    attend_f32: unsafe fn(&Attend<'_, F32>),
    attend_f16: unsafe fn(&Attend<'_, F16>),
    attend_bf16: unsafe fn(&Attend<'_, Bf16>),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    rms_norm_in_place: unsafe fn(&mut [f32], &[f32], f32),
    gate: unsafe fn(Activation, &mut [f32], &[f32]),
    narrow: unsafe fn(&[f32], &mut [u16]),
}

/// The function between a feed-forward network's two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x / (1 + exp(-x))`, also called swish (Elfwing et al. 2017, arXiv:1702.03118).
    Silu,
    /// The Gaussian error linear unit by its tanh formula (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    GeluTanh,
}

/// Compiles the instances of one level.
macro_rules! instances {
    ($level:ident, $simd:ty, $($feature:literal)?) => {
        mod $level {
            use super::{Activation, Attend, Bf16, F16, F32, Kernels, Multiply, attention, multiply, rows, simd};

            $(#[target_feature(enable = $feature)])?
            unsafe fn multiply_f32(job: &Multiply) {
                // SAFETY: passed on to our caller.
                unsafe { multiply::run::<$simd, F32>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn multiply_f16(job: &Multiply) {
                // SAFETY: passed on to our caller.
                unsafe { multiply::run::<$simd, F16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn multiply_bf16(job: &Multiply) {
                // SAFETY: passed on to our caller.
                unsafe { multiply::run::<$simd, Bf16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend_f32(job: &Attend<'_, F32>) {
                // SAFETY: passed on to our caller.
                unsafe { attention::run::<$simd, F32>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend_f16(job: &Attend<'_, F16>) {
                // SAFETY: passed on to our caller.
                unsafe { attention::run::<$simd, F16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend_bf16(job: &Attend<'_, Bf16>) {
                // SAFETY: passed on to our caller.
                unsafe { attention::run::<$simd, Bf16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn rms_norm(row: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
                // SAFETY: passed on to our caller.
                unsafe { rows::rms_norm::<$simd>(row, weight, epsilon, out) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn rms_norm_in_place(row: &mut [f32], weight: &[f32], epsilon: f32) {
                // SAFETY: passed on to our caller.
                unsafe { rows::rms_norm_in_place::<$simd>(row, weight, epsilon) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
                // SAFETY: passed on to our caller.
                unsafe { rows::gate::<$simd>(activation, gate, up) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn narrow(from: &[f32], to: &mut [u16]) {
                rows::narrow(from, to)
            }

            pub(super) static KERNELS: Kernels = Kernels {
                narrow_activations: false,
                multiply_f32,
                multiply_f16,
                multiply_bf16,
                attend_f32,
                attend_f16,
                attend_bf16,
                rms_norm,
                rms_norm_in_place,
                gate,
                narrow,
            };
        }
    };
}

instances!(portable, simd::portable::Portable,);
#[cfg(target_arch = "x86_64")]
instances!(avx2, simd::avx2::Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
instances!(avx512, simd::avx512::Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels =
    Kernels { narrow_activations: true, multiply_bf16: bf16::run, ..copy_of(&avx512::KERNELS) };

/// The same instances again: `Kernels` is not `Copy`, so that nobody carries it about.
#[cfg(target_arch = "x86_64")]
const fn copy_of(kernels: &'static Kernels) -> Kernels {
    Kernels { ..*kernels }
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
    /// The instances of a level that runs here; of the best one that does otherwise.
    pub(crate) fn of(level: Level) -> &'static Kernels {
        let level = if level.runs_here() { level } else { Level::best() };
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::KERNELS,
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512Bf16 | Level::Avx512 | Level::Avx2 => &portable::KERNELS,
            Level::Portable => &portable::KERNELS,
        }
    }

    /// Whether a matrix wants its activations as brain floats.
    pub(crate) fn wants_narrow(&self, matrix: &Matrix) -> bool {
        self.narrow_activations && matrix.dtype() == Dtype::Bf16
    }

    /// `out[r][column + n] = scale * (a[r] · matrix[n] + bias[n])` for the first `rows` rows of `a` and the matrix's
    /// rows `range`.
    ///
    /// # Panics
    /// When shapes do not fit.
    ///
    /// # Safety
    /// No other thread has these columns of the output.
    pub(crate) unsafe fn multiply(
        &self,
        (a, rows): (&Operand, usize),
        (matrix, bias): (&Matrix, Option<&[f32]>),
        range: Range<usize>,
        out: &Output<'_>,
    ) {
        let width = a.width;
        assert_eq!(matrix.columns(), width, "a matrix fits its activations: this is a bug");
        assert!(range.end <= matrix.rows() && rows * width <= a.floats.len(), "rows exist: this is a bug");
        assert!(
            out.column + range.end <= out.stride && rows * out.stride <= out.to.len(),
            "the output has room: this is a bug"
        );
        assert!(bias.is_none_or(|bias| bias.len() == matrix.rows()), "a bias fits its matrix: this is a bug");
        assert!(
            !self.wants_narrow(matrix) || a.narrow.len() >= rows * width,
            "narrow forms exist: this is a bug"
        );
        if range.is_empty() || rows == 0 {
            return;
        }
        let job = Multiply {
            a: a.floats.as_ptr(),
            a_narrow: a.narrow.as_ptr(),
            rows,
            width,
            weights: matrix.row(range.start),
            count: range.len(),
            bias: bias.map(|bias| bias[range.clone()].as_ptr()),
            out: out.to.at(out.column + range.start),
            stride: out.stride,
            add: out.add,
            scale: out.scale,
        };
        let run = match matrix.dtype() {
            Dtype::F32 => self.multiply_f32,
            Dtype::F16 => self.multiply_f16,
            Dtype::Bf16 => self.multiply_bf16,
        };
        // SAFETY: the level runs here, the shapes were checked, the columns are ours alone.
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

    /// `gate = activation(gate) * up`
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "one length: this is a bug");
        // SAFETY: the level runs here, the lengths are one.
        unsafe { (self.gate)(activation, gate, up) }
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
