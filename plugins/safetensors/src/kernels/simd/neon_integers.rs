//! Sums of products of bytes on AArch64: by `sdot` where the processor has it, by widening products otherwise.
//!
//! These instructions multiply signed bytes: 128 is taken off codes of eight bits, and given back with the group's bias.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::neon::Neon;
use super::{Integers, Simd};

/// AArch64 with products of bytes (`dotprod`).
#[derive(Clone, Copy)]
pub(in super::super) struct NeonDot;

type Sums = [int32x4_t; 4];
/// Four codes of each of four rows in a register.
type Codes = [int8x16_t; 4];

/// What the two have in common.
macro_rules! integers {
    ($type:ty, $dot:expr) => {
        // SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
        #[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
        impl Integers for $type {
            type Floats = Neon;
            type Sums = Sums;
            type Codes = Codes;
            const TALL: bool = false;
            const OFFSET: f32 = 128.0;

            #[inline(always)]
            unsafe fn zero() -> Sums {
                unsafe { [vdupq_n_s32(0); 4] }
            }
            #[inline(always)]
            unsafe fn load(from: *const u8) -> Codes {
                unsafe { words(from).map(|word| vreinterpretq_s8_u8(veorq_u8(word, vdupq_n_u8(128)))) }
            }
            #[inline(always)]
            unsafe fn load_halves(from: *const u8) -> [Codes; 2] {
                unsafe {
                    let words = words(from);
                    [
                        words.map(|word| vreinterpretq_s8_u8(vandq_u8(word, vdupq_n_u8(15)))),
                        words.map(|word| vreinterpretq_s8_u8(vshrq_n_u8::<4>(word))),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn dot(sums: Sums, codes: Codes, activations: *const i8) -> Sums {
                unsafe {
                    let four = activations.cast::<i32>().read_unaligned();
                    let four = vreinterpretq_s8_s32(vdupq_n_s32(four));
                    // No closure: these are functions of their own, without the instructions.
                    [
                        $dot(sums[0], codes[0], four),
                        $dot(sums[1], codes[1], four),
                        $dot(sums[2], codes[2], four),
                        $dot(sums[3], codes[3], four),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn to_floats(sums: Sums) -> <Neon as Simd>::V {
                unsafe { sums.map(|sums| vcvtq_f32_s32(sums)) }
            }
        }
    };
}

integers!(Neon, widened);
integers!(NeonDot, dotted);

#[inline(always)]
unsafe fn words(from: *const u8) -> [uint8x16_t; 4] {
    // SAFETY: sixteen words are there, as the trait demands.
    unsafe { from_fn(|i| vld1q_u8(from.add(16 * i))) }
}

#[inline(always)]
unsafe fn widened(sums: int32x4_t, codes: int8x16_t, activations: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the instructions are always there.
    unsafe {
        let low = vmull_s8(vget_low_s8(codes), vget_low_s8(activations));
        let high = vmull_high_s8(codes, activations);
        vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
    }
}

/// `vdotq_s32`, which is no stable function yet.
#[inline(always)]
unsafe fn dotted(mut sums: int32x4_t, codes: int8x16_t, activations: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the caller promises the instruction.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {activations:v}.16b",
            sums = inout(vreg) sums, codes = in(vreg) codes, activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}
