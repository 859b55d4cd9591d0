//! The kernels, compiled for each instruction set: which function a level runs.

#![expect(unsafe_code, reason = "instances for instruction sets are chosen at run time")]

use super::affine::{Affine, Totals};
#[cfg(target_arch = "aarch64")]
use super::bf16_neon;
use super::multiply::Multiply;
use super::simd::{Bf16, F16, F32};
use super::{Activation, Attend, Group, Level, Line, affine, attention, fit, multiply, rows, simd};
#[cfg(target_arch = "x86_64")]
use super::{bf16, bf16_amx};

/// The instances of one level.
pub(crate) struct Kernels {
    /// Whether brain float weights want their activations as brain floats too.
    pub(super) narrow_activations: bool,
    /// Those for a few rows of one sequence, where these would sum them in another order than a single row.
    pub(super) of_one_sequence: Option<&'static Kernels>,
    pub(super) multiply_f32: unsafe fn(&Multiply),
    pub(super) multiply_f16: unsafe fn(&Multiply),
    pub(super) multiply_bf16: unsafe fn(&Multiply),
    pub(super) affine_f32: unsafe fn(&Affine<'_>),
    pub(super) affine_f16: unsafe fn(&Affine<'_>),
    pub(super) affine_bf16: unsafe fn(&Affine<'_>),
    pub(super) attend_f32: unsafe fn(&Attend<'_, F32>),
    pub(super) attend_f16: unsafe fn(&Attend<'_, F16>),
    pub(super) attend_bf16: unsafe fn(&Attend<'_, Bf16>),
    pub(super) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(super) rms_norm_in_place: unsafe fn(&mut [f32], &[f32], f32),
    pub(super) layer_norm: unsafe fn(*const f32, rows::Factors<'_>, f32, *mut f32),
    pub(super) activate: unsafe fn(Activation, &mut [f32]),
    pub(super) gate: unsafe fn(Activation, &mut [f32], &[f32]),
    pub(super) narrow: unsafe fn(&[f32], &mut [u16]),
    pub(super) fit: unsafe fn(&Group<'_>) -> Line,
    pub(super) span: unsafe fn(&[f32]) -> (f32, f32),
    pub(super) code: unsafe fn(&Group<'_>, Line, &mut [u8]),
    pub(super) round: unsafe fn(&[f32], usize, &mut [i8], Totals<'_>),
}

/// Compiles the instances of one level.
macro_rules! instances {
    ($level:ident, $simd:ty, $integers:ty, $($feature:literal)?) => {
        mod $level {
            use super::{
                Activation, Affine, Attend, Bf16, F16, F32, Group, Kernels, Line, Multiply, Totals, affine, attention, fit,
                multiply, rows, simd,
            };

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
            unsafe fn affine_f32(job: &Affine<'_>) {
                // SAFETY: passed on to our caller.
                unsafe { affine::run::<$integers, F32>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn affine_f16(job: &Affine<'_>) {
                // SAFETY: passed on to our caller.
                unsafe { affine::run::<$integers, F16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn affine_bf16(job: &Affine<'_>) {
                // SAFETY: passed on to our caller.
                unsafe { affine::run::<$integers, Bf16>(job) }
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
            unsafe fn layer_norm(row: *const f32, factors: rows::Factors<'_>, epsilon: f32, out: *mut f32) {
                // SAFETY: passed on to our caller.
                unsafe { rows::layer_norm::<$simd>(row, factors, epsilon, out) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn activate(activation: Activation, row: &mut [f32]) {
                // SAFETY: passed on to our caller.
                unsafe { rows::activate_all::<$simd>(activation, row) }
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
            $(#[target_feature(enable = $feature)])?
            unsafe fn round(row: &[f32], group: usize, codes: &mut [i8], totals: Totals<'_>) {
                // SAFETY: passed on to our caller.
                unsafe { affine::round::<$simd>(row, group, codes, totals) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn fit_line(group: &Group<'_>) -> Line {
                // SAFETY: passed on to our caller.
                unsafe { fit::fit::<$simd>(group) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn span(numbers: &[f32]) -> (f32, f32) {
                // SAFETY: passed on to our caller.
                unsafe { fit::span::<$simd>(numbers) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn code(group: &Group<'_>, line: Line, codes: &mut [u8]) {
                // SAFETY: passed on to our caller.
                unsafe { fit::code::<$simd>(group, line, codes) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                narrow_activations: false,
                of_one_sequence: None,
                multiply_f32,
                multiply_f16,
                multiply_bf16,
                affine_f32,
                affine_f16,
                affine_bf16,
                attend_f32,
                attend_f16,
                attend_bf16,
                rms_norm,
                rms_norm_in_place,
                layer_norm,
                activate,
                gate,
                narrow,
                fit: fit_line,
                span,
                code,
                round,
            };
        }
    };
}

instances!(portable, simd::portable::Portable, simd::portable::Portable,);
#[cfg(target_arch = "x86_64")]
instances!(avx2, simd::avx2::Avx2, simd::avx2::Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
instances!(
    avx512,
    simd::avx512::Avx512,
    simd::avx512::Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
instances!(
    vnni,
    simd::avx512::Avx512,
    simd::Avx512Vnni,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
);
#[cfg(target_arch = "aarch64")]
instances!(neon, simd::neon::Neon, simd::neon::Neon, "neon");
#[cfg(target_arch = "aarch64")]
instances!(neon_dot, simd::neon::Neon, simd::NeonDot, "neon,dotprod");
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels =
    Kernels { narrow_activations: true, multiply_bf16: bf16::run, ..copy_of(&vnni::KERNELS) };

#[cfg(target_arch = "x86_64")]
static AMX_BF16: Kernels =
    Kernels { multiply_bf16: bf16_amx::run, of_one_sequence: Some(&AVX512_BF16), ..copy_of(&AVX512_BF16) };

#[cfg(target_arch = "aarch64")]
static NEON_BF16: Kernels =
    Kernels { narrow_activations: true, multiply_bf16: bf16_neon::run, ..copy_of(&neon_dot::KERNELS) };

/// The same instances again: `Kernels` is not `Copy`, so that nobody carries it about.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const fn copy_of(kernels: &'static Kernels) -> Kernels {
    Kernels { ..*kernels }
}

impl Kernels {
    /// The instances of a level that runs here; of the best one that does otherwise.
    pub(crate) fn of(level: Level) -> &'static Kernels {
        let level = if level.runs_here() { level } else { Level::best() };
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::AmxBf16 => &AMX_BF16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => &vnni::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Level::NeonBf16 => &NEON_BF16,
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => &neon_dot::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &neon::KERNELS,
            // What does not run here was replaced above.
            _ => &portable::KERNELS,
        }
    }
}
