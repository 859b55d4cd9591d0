//! Brain floats times brain floats by `bfdot`, for many rows: two products a lane and instruction, sums in floats.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::multiply::{self, MANY, Multiply};
use super::simd::neon::Neon;
use super::simd::{Bf16, Simd};
use super::strips::{self, Words};

/// # Safety
/// The machine has the instructions; `job` is as its type says, `a_narrow` included.
#[target_feature(enable = "neon,dotprod,bf16")]
pub(super) unsafe fn run(job: &Multiply) {
    // SAFETY: passed on to our caller.
    unsafe {
        // A few rows come at the memory's speed however they are multiplied.
        if job.rows < MANY { multiply::run::<Neon, Bf16>(job) } else { strips::run::<Pairs>(job) }
    }
}

/// Pairs of brain floats.
#[derive(Clone, Copy)]
struct Pairs;

// SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Words for Pairs {
    type Floats = Neon;
    type Number = u16;
    type Activation = u16;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> <Neon as Simd>::V {
        unsafe { Neon::load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn activations(job: &Multiply) -> *const u16 {
        job.a_narrow
    }
    #[inline(always)]
    unsafe fn word(from: *const u16) -> u32 {
        unsafe { from.cast::<u32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn half_word(from: *const u16) -> u32 {
        unsafe { u32::from(*from) }
    }
    #[inline(always)]
    unsafe fn add(
        sums: <Neon as Simd>::V,
        weights: <Neon as Simd>::V,
        activations: u32,
    ) -> <Neon as Simd>::V {
        unsafe {
            let activations = vreinterpretq_f32_u32(vdupq_n_u32(activations));
            // No closure: these are functions of their own, without the instruction.
            [
                dotted(sums[0], weights[0], activations),
                dotted(sums[1], weights[1], activations),
                dotted(sums[2], weights[2], activations),
                dotted(sums[3], weights[3], activations),
            ]
        }
    }
}

/// `vbfdotq_f32`, which is no stable function yet; a float's bits are a pair of brain floats.
#[inline(always)]
unsafe fn dotted(mut sums: float32x4_t, weights: float32x4_t, activations: float32x4_t) -> float32x4_t {
    // SAFETY: registers only; the caller promises the instruction.
    unsafe {
        asm!(
            "bfdot {sums:v}.4s, {weights:v}.8h, {activations:v}.8h",
            sums = inout(vreg) sums, weights = in(vreg) weights, activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}
