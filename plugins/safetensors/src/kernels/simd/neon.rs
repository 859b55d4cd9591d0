//! Four 128-bit registers: AArch64, which always has them.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

// SAFETY, of every block below: the caller promises the pointers (see the trait); the instructions are always there.
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
        unsafe { from_fn(|i| vld1q_f32(from.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        unsafe { from_fn(|i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * i))))) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        unsafe { from_fn(|i| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4 * i))))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { (0..4).for_each(|i| vst1q_f32(to.add(4 * i), v[i])) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vaddq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vsubq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vmulq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vdivq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vmaxq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { from_fn(|i| vminq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { from_fn(|i| vfmaq_f32(c[i], a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(v[0], v[1]), vaddq_f32(v[2], v[3]))) }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[1]), vmaxq_f32(v[2], v[3]))) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags)) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: Self::V) -> Self::V {
        unsafe {
            from_fn(|i| {
                let biased = vaddq_s32(vcvtnq_s32_f32(n[i]), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            })
        }
    }
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        unsafe { v.map(|v| vrndnq_f32(v)) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: Self::V) {
        unsafe {
            let half = |i: usize| vqmovn_s32(vcvtnq_s32_f32(v[i]));
            let eight = |i: usize| vqmovn_s16(vcombine_s16(half(i), half(i + 1)));
            vst1q_s8(to, vcombine_s8(eight(0), eight(2)))
        }
    }
    /// By squares of four.
    #[inline(always)]
    unsafe fn store_transposed(to: *mut f32, rows: &[Self::V; 16]) {
        unsafe {
            for (group, rows) in rows.chunks_exact(4).enumerate() {
                for quarter in 0..4 {
                    let row = |i: usize| rows[i][quarter];
                    let even = |a, b| vreinterpretq_f64_f32(vtrn1q_f32(a, b));
                    let odd = |a, b| vreinterpretq_f64_f32(vtrn2q_f32(a, b));
                    let (low, high) = (even(row(0), row(1)), even(row(2), row(3)));
                    let (low_odd, high_odd) = (odd(row(0), row(1)), odd(row(2), row(3)));
                    let columns = [
                        vtrn1q_f64(low, high),
                        vtrn1q_f64(low_odd, high_odd),
                        vtrn2q_f64(low, high),
                        vtrn2q_f64(low_odd, high_odd),
                    ];
                    for (c, column) in columns.into_iter().enumerate() {
                        vst1q_f32(to.add((4 * quarter + c) * 16 + 4 * group), vreinterpretq_f32_f64(column));
                    }
                }
            }
        }
    }
}
