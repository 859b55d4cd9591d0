//! Sixteen sums of products of whole numbers: codes between 0 and 255 times activations between -127 and 127.
//!
//! A vector of codes is a word of each of sixteen rows: four codes that stand behind each other in their row.

use super::Simd;
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// What the integer kernels do with [`super::LANES`] words at a time.
///
/// # Safety
/// Of every method: the machine has the implementation's instructions; pointers are valid for [`super::LANES`] words,
/// or for the four activations.
pub(in super::super) trait Integers: Copy {
    /// The floats of the same machine.
    type Floats: Simd;
    /// Sums, 32 bits each.
    type Sums: Copy;
    /// Codes as they are multiplied.
    type Codes: Copy;
    /// Whether there are registers for two panels at once.
    const PAIRS: bool = false;
    /// Whether there are registers for eight rows of activations.
    const TALL: bool = true;
    /// What is taken off a code of eight bits before it is multiplied.
    const OFFSET: f32 = 0.0;

    unsafe fn zero() -> Self::Sums;
    /// Codes of eight bits.
    unsafe fn load(from: *const u8) -> Self::Codes;
    /// Codes of four bits: a row's first four, then its next.
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2];
    /// Adds the products with four activations.
    unsafe fn dot(sums: Self::Sums, codes: Self::Codes, activations: *const i8) -> Self::Sums;
    unsafe fn to_floats(sums: Self::Sums) -> <Self::Floats as Simd>::V;
}

// SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for Portable {
    type Floats = Portable;
    type Sums = [i32; 16];
    type Codes = [[u8; 4]; 16];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        unsafe { from.cast::<Self::Codes>().read() }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2] {
        let both = unsafe { <Self as Integers>::load(from) };
        [both.map(|word| word.map(|byte| byte & 15)), both.map(|word| word.map(|byte| byte >> 4))]
    }
    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, codes: Self::Codes, activations: *const i8) -> Self::Sums {
        let activations = unsafe { activations.cast::<[i8; 4]>().read() };
        for (sum, word) in sums.iter_mut().zip(codes) {
            for (code, activation) in word.into_iter().zip(activations) {
                *sum += i32::from(code) * i32::from(activation);
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn to_floats(sums: Self::Sums) -> [f32; 16] {
        sums.map(|sum| sum as f32)
    }
}

/// Sums in two registers; codes as 16-bit numbers, first and third of each word, then second and fourth.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for Avx2 {
    type Floats = Avx2;
    type Sums = [__m256i; 2];
    type Codes = [[__m256i; 2]; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        unsafe {
            let bytes = _mm256_set1_epi16(0xff);
            [0, 32].map(|at| {
                let words = _mm256_loadu_si256(from.add(at).cast());
                [_mm256_and_si256(words, bytes), _mm256_srli_epi16::<8>(words)]
            })
        }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2] {
        unsafe {
            let half = _mm256_set1_epi16(15);
            let words = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
            [
                words.map(|words| {
                    [_mm256_and_si256(words, half), _mm256_and_si256(_mm256_srli_epi16::<8>(words), half)]
                }),
                words.map(|words| {
                    [_mm256_and_si256(_mm256_srli_epi16::<4>(words), half), _mm256_srli_epi16::<12>(words)]
                }),
            ]
        }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, codes: Self::Codes, activations: *const i8) -> Self::Sums {
        unsafe {
            let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(four));
            let odd = _mm256_srai_epi16::<8>(four);
            std::array::from_fn(|half| {
                let both = _mm256_add_epi32(
                    _mm256_madd_epi16(codes[half][0], even),
                    _mm256_madd_epi16(codes[half][1], odd),
                );
                _mm256_add_epi32(sums[half], both)
            })
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sums: Self::Sums) -> [__m256; 2] {
        unsafe { sums.map(|sums| _mm256_cvtepi32_ps(sums)) }
    }
}

/// As with AVX2, in one register.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for Avx512 {
    type Floats = Avx512;
    type Sums = __m512i;
    type Codes = [__m512i; 2];

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        unsafe {
            let words = _mm512_loadu_si512(from.cast());
            [_mm512_and_si512(words, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(words)]
        }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [Self::Codes; 2] {
        unsafe {
            let half = _mm512_set1_epi16(15);
            let words = _mm512_loadu_si512(from.cast());
            let low = [_mm512_and_si512(words, half), _mm512_and_si512(_mm512_srli_epi16::<8>(words), half)];
            let high =
                [_mm512_and_si512(_mm512_srli_epi16::<4>(words), half), _mm512_srli_epi16::<12>(words)];
            [low, high]
        }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, codes: Self::Codes, activations: *const i8) -> __m512i {
        unsafe {
            let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(four));
            let odd = _mm512_srai_epi16::<8>(four);
            let both = _mm512_add_epi32(_mm512_madd_epi16(codes[0], even), _mm512_madd_epi16(codes[1], odd));
            _mm512_add_epi32(sums, both)
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

/// AVX-512 with products of bytes (VNNI).
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512Vnni;

#[cfg(target_arch = "x86_64")]
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Integers for Avx512Vnni {
    type Floats = Avx512;
    type Sums = __m512i;
    type Codes = __m512i;
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [__m512i; 2] {
        unsafe {
            let half = _mm512_set1_epi8(15);
            let words = _mm512_loadu_si512(from.cast());
            [_mm512_and_si512(words, half), _mm512_and_si512(_mm512_srli_epi16::<4>(words), half)]
        }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, codes: __m512i, activations: *const i8) -> __m512i {
        unsafe {
            let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sums, codes, four)
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}
