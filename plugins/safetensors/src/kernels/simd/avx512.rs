//! One 512-bit register: x86-64 with AVX-512 F, BW, DQ and VL.

use std::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx512 {
    type V = __m512;
    const STRIP: usize = 2;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn largest(v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), n) }
    }
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: __m512) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
    /// Fours of rows within each quarter of a register, then quarters.
    #[inline(always)]
    unsafe fn store_transposed(to: *mut f32, rows: &[__m512; 16]) {
        unsafe {
            // `fours[4 g + c]` has the columns `c`, `c + 4`, `c + 8` and `c + 12` of the rows from `4 g` on.
            let mut fours = [_mm512_setzero_pd(); 16];
            for (rows, fours) in rows.chunks_exact(4).zip(fours.chunks_exact_mut(4)) {
                let pairs = [
                    _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1])),
                    _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1])),
                    _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3])),
                    _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3])),
                ];
                fours[0] = _mm512_unpacklo_pd(pairs[0], pairs[2]);
                fours[1] = _mm512_unpackhi_pd(pairs[0], pairs[2]);
                fours[2] = _mm512_unpacklo_pd(pairs[1], pairs[3]);
                fours[3] = _mm512_unpackhi_pd(pairs[1], pairs[3]);
            }
            for c in 0..4 {
                let four = |g: usize| _mm512_castpd_ps(fours[4 * g + c]);
                let even = _mm512_shuffle_f32x4::<0x88>(four(0), four(1));
                let odd = _mm512_shuffle_f32x4::<0xdd>(four(0), four(1));
                let even_too = _mm512_shuffle_f32x4::<0x88>(four(2), four(3));
                let odd_too = _mm512_shuffle_f32x4::<0xdd>(four(2), four(3));
                let column = |i: usize| to.add((c + 4 * i) * 16);
                _mm512_storeu_ps(column(0), _mm512_shuffle_f32x4::<0x88>(even, even_too));
                _mm512_storeu_ps(column(1), _mm512_shuffle_f32x4::<0x88>(odd, odd_too));
                _mm512_storeu_ps(column(2), _mm512_shuffle_f32x4::<0xdd>(even, even_too));
                _mm512_storeu_ps(column(3), _mm512_shuffle_f32x4::<0xdd>(odd, odd_too));
            }
        }
    }
}
