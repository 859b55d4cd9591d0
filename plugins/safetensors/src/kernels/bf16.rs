//! Brain floats times brain floats by `vdpbf16ps`: two products a lane and instruction, sums in floats.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::bf16_amx;
use super::multiply::{MANY, Multiply};
use super::simd::avx512::Avx512;
use super::simd::{LANES, Simd};
use super::strips::{self, Part, Words};

/// Brain floats in a register.
const WIDTH: usize = 32;

/// # Safety
/// The machine has the instructions; `job` is as its type says, `a_narrow` included.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn run(job: &Multiply) {
    // SAFETY: passed on to our caller.
    unsafe { if job.rows < MANY { stream(job) } else { strips::run::<Pairs<false>>(job) } }
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

/// Sums of [`LANES`] weight rows with each row of activations, across whose lanes nothing is summed yet:
/// `[rows][LANES][LANES]`.
#[repr(align(64))]
struct Sums([MaybeUninit<f32>; MANY * LANES * LANES]);

/// A few rows of activations with every weight row, one after another: the weights come from memory, which is fastest in
/// order and when it is told what comes next. A weight row is in the first cache for all rows but the first.
///
/// Each product is summed in one order, whatever rows are beside it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn stream(job: &Multiply) {
    let mut sums = Sums([MaybeUninit::uninit(); MANY * LANES * LANES]);
    let sums = sums.0.as_mut_ptr().cast::<f32>();
    let last = job.rows.saturating_sub(1) / TOGETHER * TOGETHER;
    // SAFETY: rows and weights are within the job's shapes, and the sums have room for them.
    unsafe {
        for n in (0..job.count).step_by(LANES) {
            let count = LANES.min(job.count - n);
            for column in 0..count {
                for row in (0..last).step_by(TOGETHER) {
                    with_rows::<TOGETHER>(job, (row, n), column, sums);
                }
                match job.rows - last {
                    TOGETHER => with_rows::<TOGETHER>(job, (last, n), column, sums),
                    7 => with_rows::<7>(job, (last, n), column, sums),
                    6 => with_rows::<6>(job, (last, n), column, sums),
                    5 => with_rows::<5>(job, (last, n), column, sums),
                    4 => with_rows::<4>(job, (last, n), column, sums),
                    3 => with_rows::<3>(job, (last, n), column, sums),
                    2 => with_rows::<2>(job, (last, n), column, sums),
                    1 => with_rows::<1>(job, (last, n), column, sums),
                    _ => {}
                }
            }
            for row in 0..job.rows {
                let sums = sums.add(row * LANES * LANES);
                let sums = std::array::from_fn(|column| match column < count {
                    true => Avx512::load(sums.add(column * LANES)),
                    false => _mm512_setzero_ps(),
                });
                job.sink.write_lanes::<Avx512>(row, n, count, totals(sums));
            }
        }
    }
}

/// Rows that a weight row is multiplied with at once: so many sums do not wait for each other.
const TOGETHER: usize = 8;

/// Numbers by which the prefetch of a stream runs before its use.
const AHEAD: usize = 2048;

/// The weight row `n + column` with rows of activations from `row` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn with_rows<const ROWS: usize>(
    job: &Multiply,
    (row, n): (usize, usize),
    column: usize,
    to: *mut f32,
) {
    let width = job.width;
    // SAFETY: rows and weights are within the job's shapes; masked lanes are not read, and what is only prefetched need
    // not exist; the sums have room.
    unsafe {
        let a = job.a_narrow.add(row * width);
        let w = job.weights.cast::<u16>().add((n + column) * width);
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let mut i = 0;
        while i + WIDTH <= width {
            _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(i + AHEAD).cast());
            let weights = load(w.add(i));
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_dpbf16_ps(*sum, load(a.add(r * width + i)), weights);
            }
            i += WIDTH;
        }
        if i < width {
            let mask = (1u32 << (width - i)) - 1;
            let weights = load_some(mask, w.add(i));
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_dpbf16_ps(*sum, load_some(mask, a.add(r * width + i)), weights);
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            Avx512::store(to.add(((row + r) * LANES + column) * LANES), sum);
        }
    }
}

/// The sum of the lanes of each vector, in their order.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn totals(v: [__m512; LANES]) -> __m512 {
    // Pairs of lanes of two vectors become lanes of one, until each vector is one lane.
    let pairs: [_; 8] = std::array::from_fn(|i| {
        let (a, b) = (v[2 * i], v[2 * i + 1]);
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)))
    });
    let fours: [_; 4] = std::array::from_fn(|i| {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
    });
    let quarters =
        |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<ODD>(a, b));
    let [a, b, c, d] = fours;
    quarters(quarters(a, b), quarters(c, d))
}

/// Of the quarters of two vectors, the first and the third of each; the second and the fourth.
const EVEN: i32 = 0b10_00_10_00;
const ODD: i32 = 0b11_01_11_01;

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
