//! Four 128-bit registers: AArch64, which always has NEON with fused products.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Integers, Simd};

#[derive(Clone, Copy)]
pub(in super::super) struct Neon;

/// Applies `f` to each quarter.
#[inline(always)]
fn each(f: impl Fn(usize) -> float32x4_t) -> [float32x4_t; 4] {
    [f(0), f(1), f(2), f(3)]
}

// SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Neon {
    type V = [float32x4_t; 4];
    const STRIP: usize = 1;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { each(|i| vld1q_f32(from.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        unsafe { each(|i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * i))))) }
    }
    /// The intrinsic for it is not yet stable.
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        unsafe {
            each(|i| {
                let half = vld1_u16(from.add(4 * i));
                let wide: float32x4_t;
                asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) half,
                    options(pure, nomem, nostack, preserves_flags));
                wide
            })
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { (0..4).for_each(|i| vst1q_f32(to.add(4 * i), v[i])) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vaddq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vsubq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vmulq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vdivq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vmaxq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each(|i| vminq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { each(|i| vfmaq_f32(c[i], a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]))) }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[2]), vmaxq_f32(v[1], v[3]))) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: Self::V) -> Self::V {
        unsafe {
            each(|i| {
                let biased = vaddq_s32(vcvtnq_s32_f32(n[i]), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            })
        }
    }
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        unsafe { each(|i| vrndnq_f32(v[i])) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: Self::V) {
        unsafe {
            let words = v.map(|v| vqmovn_s32(vcvtnq_s32_f32(v)));
            let halves = [vcombine_s16(words[0], words[1]), vcombine_s16(words[2], words[3])];
            vst1q_s8(to, vcombine_s8(vqmovn_s16(halves[0]), vqmovn_s16(halves[1])));
        }
    }
}

// Products of whole numbers in 16 bits, which every machine has.
// SAFETY, of every block below: as above.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for Neon {
    type Floats = Neon;
    type Sums = [int32x4_t; 4];
    /// Two rows' words each.
    type Codes = [int16x8_t; 8];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        unsafe { std::array::from_fn(|i| vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from.add(8 * i))))) }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2] {
        unsafe {
            let bytes: [uint8x8_t; 8] = std::array::from_fn(|i| vld1_u8(from.add(8 * i)));
            let wide = |bytes| vreinterpretq_s16_u16(vmovl_u8(bytes));
            [bytes.map(|b| wide(vand_u8(b, vdup_n_u8(15)))), bytes.map(|b| wide(vshr_n_u8::<4>(b)))]
        }
    }
    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, codes: Self::Codes, activations: *const i8) -> Self::Sums {
        unsafe {
            let four = vdup_n_s32(activations.cast::<i32>().read_unaligned());
            let four = vget_low_s16(vmovl_s8(vreinterpret_s8_s32(four)));
            for (sum, codes) in sums.iter_mut().zip(codes.chunks_exact(2)) {
                let word = |codes: int16x4_t| vmull_s16(codes, four);
                let [a, b] = [word(vget_low_s16(codes[0])), word(vget_high_s16(codes[0]))];
                let [c, d] = [word(vget_low_s16(codes[1])), word(vget_high_s16(codes[1]))];
                *sum = vaddq_s32(*sum, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sums: Self::Sums) -> [float32x4_t; 4] {
        unsafe { sums.map(|sums| vcvtq_f32_s32(sums)) }
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}

/// NEON with products of bytes (the feature `dotprod`).
#[derive(Clone, Copy)]
pub(in super::super) struct NeonDot;

// SAFETY, of every block below: as above.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for NeonDot {
    type Floats = Neon;
    type Sums = [int32x4_t; 4];
    type Codes = [int8x16_t; 4];
    /// The instruction takes signed bytes.
    const OFFSET: f32 = 128.0;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        unsafe {
            std::array::from_fn(|i| {
                vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from.add(16 * i)), vdupq_n_u8(128)))
            })
        }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2] {
        unsafe {
            let bytes: [uint8x16_t; 4] = std::array::from_fn(|i| vld1q_u8(from.add(16 * i)));
            [
                bytes.map(|bytes| vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)))),
                bytes.map(|bytes| vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))),
            ]
        }
    }
    /// The intrinsic for it is not yet stable.
    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, codes: Self::Codes, activations: *const i8) -> Self::Sums {
        unsafe {
            let four = vreinterpretq_s8_s32(vdupq_n_s32(activations.cast::<i32>().read_unaligned()));
            for (sum, codes) in sums.iter_mut().zip(codes) {
                asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                    inout(vreg) *sum, in(vreg) codes, in(vreg) four,
                    options(pure, nomem, nostack, preserves_flags));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sums: Self::Sums) -> [float32x4_t; 4] {
        unsafe { sums.map(|sums| vcvtq_f32_s32(sums)) }
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}
