//! Brain floats times brain floats by `bfdot`, for many rows of activations: two products a lane and instruction.
//!
//! Few rows are read at the memory's speed in floats as well.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::arch::aarch64::float32x4_t;
use std::arch::asm;

use super::multiply::{self, MANY, Multiply};
use super::simd::neon::Neon;
use super::simd::{Bf16, Simd};
use super::strips::{self, Words};

/// # Safety
/// The machine has the instructions; `job` is as its type says, `a_narrow` included.
#[target_feature(enable = "neon,bf16")]
pub(super) unsafe fn run(job: &Multiply) {
    // SAFETY: passed on to our caller.
    unsafe { if job.rows >= MANY { strips::run::<Pairs>(job) } else { multiply::run::<Neon, Bf16>(job) } }
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
    unsafe fn load(from: *const u16) -> [float32x4_t; 4] {
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
    /// The intrinsic for it is not yet stable.
    #[inline(always)]
    unsafe fn add(
        mut sums: [float32x4_t; 4],
        weights: [float32x4_t; 4],
        activations: u32,
    ) -> [float32x4_t; 4] {
        unsafe {
            let pair = Neon::splat(f32::from_bits(activations))[0];
            for (sum, weights) in sums.iter_mut().zip(weights) {
                asm!("bfdot {0:v}.4s, {1:v}.8h, {2:v}.8h", inout(vreg) *sum, in(vreg) weights, in(vreg) pair,
                    options(pure, nomem, nostack, preserves_flags));
            }
            sums
        }
    }
}
