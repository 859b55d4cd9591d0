//! Brain floats times brain floats by `vdpbf16ps`: two products a lane and instruction, sums in floats.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::arch::x86_64::*;

use super::bf16_amx;
use super::multiply::{MANY, Multiply};
use super::simd::Simd;
use super::simd::avx512::Avx512;
use super::strips::{self, Part, Words};

/// Brain floats in a register.
const WIDTH: usize = 32;
/// Weight rows of a tile.
const COUNT: usize = 4;

/// # Safety
/// The machine has the instructions; `job` is as its type says, `a_narrow` included.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn run(job: &Multiply) {
    let mut row = 0;
    // SAFETY: rows and weights are within the job's shapes.
    unsafe {
        if job.rows >= MANY {
            return strips::run::<Pairs<false>>(job);
        }
        while row + 6 <= job.rows {
            across::<6>(job, row);
            row += 6;
        }
        match job.rows - row {
            5 => across::<5>(job, row),
            4 => across::<4>(job, row),
            3 => across::<3>(job, row),
            2 => across::<2>(job, row),
            1 => stream(job, row),
            _ => {}
        }
    }
}

/// Pairs of brain floats; with or without tiles.
#[derive(Clone, Copy)]
pub(super) struct Pairs<const TILES: bool>;

// SAFETY, of every block below: the caller promises the instructions and the pointers (see the trait).
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl<const TILES: bool> Words for Pairs<TILES> {
    type Floats = Avx512;
    type Number = u16;
    type Activation = u16;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> __m512 {
        unsafe { Avx512::load(from.cast()) }
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
    unsafe fn add(sums: __m512, weights: __m512, activations: u32) -> __m512 {
        unsafe {
            let activations = _mm512_set1_epi32(activations.cast_signed());
            let weights = std::mem::transmute::<__m512, __m512bh>(weights);
            _mm512_dpbf16_ps(sums, weights, std::mem::transmute::<__m512i, __m512bh>(activations))
        }
    }
    #[inline(always)]
    unsafe fn many<const N: usize>(part: &Part<'_, Self>, strip: *const u32, n: usize) -> usize {
        if TILES { unsafe { bf16_amx::multiply::<N, Self>(part, strip, n) } } else { 0 }
    }
}

/// `ROWS` rows of activations with every weight row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn across<const ROWS: usize>(job: &Multiply, row: usize) {
    let mut n = 0;
    // SAFETY: rows and weights are within the job's shapes.
    unsafe {
        while n + COUNT <= job.count {
            tile::<ROWS, COUNT>(job, row, n);
            n += COUNT;
        }
        while n < job.count {
            tile::<ROWS, 1>(job, row, n);
            n += 1;
        }
    }
}

/// One row of activations with every weight row, one after another: the weights come from memory, which is fastest in
/// order and when it is told what comes next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn stream(job: &Multiply, row: usize) {
    let width = job.width;
    // SAFETY: rows and weights are within the job's shapes; masked lanes are not read, and what is only prefetched need
    // not exist.
    unsafe {
        let a = job.a_narrow.add(row * width);
        for n in 0..job.count {
            let w = job.weights.cast::<u16>().add(n * width);
            // Several sums, so that none waits for the one before it.
            let mut sums = [_mm512_setzero_ps(); 4];
            let mut i = 0;
            while i + 4 * WIDTH <= width {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let at = i + part * WIDTH;
                    _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(at + AHEAD).cast());
                    *sum = _mm512_dpbf16_ps(*sum, load(a.add(at)), load(w.add(at)));
                }
                i += 4 * WIDTH;
            }
            while i + WIDTH <= width {
                _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(i + AHEAD).cast());
                sums[0] = _mm512_dpbf16_ps(sums[0], load(a.add(i)), load(w.add(i)));
                i += WIDTH;
            }
            if i < width {
                let mask = (1u32 << (width - i)) - 1;
                sums[1] = _mm512_dpbf16_ps(sums[1], load_some(mask, a.add(i)), load_some(mask, w.add(i)));
            }
            let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
            job.sink.write(row, n, _mm512_reduce_add_ps(sum));
        }
    }
}

/// Numbers by which the prefetch of a stream runs before its use.
const AHEAD: usize = 2048;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn tile<const ROWS: usize, const N: usize>(job: &Multiply, row: usize, n: usize) {
    let width = job.width;
    // SAFETY: rows and weights are within the job's shapes; masked lanes are not read.
    unsafe {
        let a = job.a_narrow.add(row * width);
        let w = job.weights.cast::<u16>().add(n * width);
        let mut sums = [[_mm512_setzero_ps(); N]; ROWS];
        let mut i = 0;
        while i + WIDTH <= width {
            let weights: [__m512bh; N] = std::array::from_fn(|c| load(w.add(c * width + i)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let activations = load(a.add(r * width + i));
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbf16_ps(*sum, activations, weight);
                }
            }
            i += WIDTH;
        }
        if i < width {
            let mask = (1u32 << (width - i)) - 1;
            for (r, sums) in sums.iter_mut().enumerate() {
                let activations = load_some(mask, a.add(r * width + i));
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbf16_ps(*sum, activations, load_some(mask, w.add(c * width + i)));
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                job.sink.write(row + r, n + c, _mm512_reduce_add_ps(sum));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load(from: *const u16) -> __m512bh {
    // SAFETY: the caller's pointer is valid for a register; both types are 64 bytes of anything.
    unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load_some(mask: u32, from: *const u16) -> __m512bh {
    // SAFETY: as above, for the lanes in the mask.
    unsafe { std::mem::transmute(_mm512_maskz_loadu_epi16(mask, from.cast())) }
}
