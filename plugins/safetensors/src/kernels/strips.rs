//! Many rows of activations: a strip of weight rows is laid side by side, so that no sum goes across a vector.
//!
//! Dot products end in sums across lanes, which cost a third of the time where rows are short. Here the weights of a
//! strip are transposed into a buffer that stays in the nearer caches while all rows of activations pass by: a vector
//! has a word of each of sixteen weight rows, and is multiplied with one word of activations. A word is a float, or a
//! pair of brain floats where there is an instruction for these. Transposing costs a hundredth of the products with 512
//! rows of activations.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::multiply::{Multiply, Sink};
use super::simd::{Element, LANES, Simd};

/// What a strip is made of and multiplied with.
///
/// # Safety
/// Of every method: the machine has the implementation's instructions; pointers are valid for what is read.
pub(super) trait Words: Copy {
    /// The floats of the same machine.
    type Floats: Simd;
    /// A number of the weights.
    type Number: Copy + Default;
    /// A number of the activations.
    type Activation: Copy;
    /// Columns of a word.
    const COLUMNS: usize;

    /// Sixteen words of one weight row.
    unsafe fn load(from: *const Self::Number) -> <Self::Floats as Simd>::V;
    unsafe fn activations(job: &Multiply) -> *const Self::Activation;
    /// A word of activations.
    unsafe fn word(from: *const Self::Activation) -> u32;
    /// The last number of a row, which is no whole word; behind it may be anything, or nothing.
    unsafe fn half_word(from: *const Self::Activation) -> u32;
    /// Adds the products of a word of each of sixteen weight rows with a word of activations.
    unsafe fn add(
        sums: <Self::Floats as Simd>::V,
        weights: <Self::Floats as Simd>::V,
        activations: u32,
    ) -> <Self::Floats as Simd>::V;

    /// A strip of `N` vectors with the first rows of activations, where there is a faster way for some; how many these were.
    #[inline(always)]
    unsafe fn many<const N: usize>(_part: &Part<'_, Self>, _strip: *const u32, _n: usize) -> usize {
        0
    }
}

/// Weights widened to floats.
#[derive(Clone, Copy)]
pub(super) struct Widened<S, E>(PhantomData<(S, E)>);

impl<S: Simd, E: Element> Words for Widened<S, E> {
    type Floats = S;
    type Number = E::Bits;
    type Activation = f32;
    const COLUMNS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const E::Bits) -> S::V {
        // SAFETY: passed on to our caller.
        unsafe { E::load::<S>(from) }
    }
    #[inline(always)]
    unsafe fn activations(job: &Multiply) -> *const f32 {
        job.a
    }
    #[inline(always)]
    unsafe fn word(from: *const f32) -> u32 {
        // SAFETY: passed on to our caller.
        unsafe { from.cast::<u32>().read() }
    }
    #[inline(always)]
    unsafe fn half_word(from: *const f32) -> u32 {
        // SAFETY: passed on to our caller.
        unsafe { Self::word(from) }
    }
    #[inline(always)]
    unsafe fn add(sums: S::V, weights: S::V, activations: u32) -> S::V {
        // SAFETY: registers only.
        unsafe { S::fma(weights, S::splat(f32::from_bits(activations)), sums) }
    }
}

/// Words of a row that are packed at a time; the products of more are added up in the output.
pub(super) const DEPTH: usize = 1024;
/// Vectors that the widest strip has.
const WIDEST: usize = 2;

/// Up to [`WIDEST`] times sixteen weight rows, transposed: `[vectors][DEPTH][LANES]`. The second cache holds it.
#[repr(align(64))]
struct Buffer([MaybeUninit<u32>; WIDEST * DEPTH * LANES]);

/// # Safety
/// The machine has `W`; `job` is as its type says, with the activations that `W` wants.
#[inline(always)]
pub(super) unsafe fn run<W: Words>(job: &Multiply) {
    let mut buffer = Buffer([MaybeUninit::uninit(); WIDEST * DEPTH * LANES]);
    let buffer = buffer.0.as_mut_ptr().cast::<u32>();
    for from in (0..job.width).step_by(DEPTH * W::COLUMNS) {
        let depth = (DEPTH * W::COLUMNS).min(job.width - from);
        // A later part adds to what the first has written, bias and all.
        let Sink { bias, out, stride, add, scale } = job.sink;
        let first = from == 0;
        let sink = Sink { bias: bias.filter(|_| first), out, stride, add: add || !first, scale };
        let part = Part::<W> { job, from, depth, sink, words: PhantomData };
        let mut n = 0;
        // SAFETY: weight rows and columns are within the job's shapes; the buffer has room for a strip of the depth.
        unsafe {
            while W::Floats::STRIP == 2 && n + LANES < job.count {
                part.pack(n, buffer);
                part.pack(n + LANES, buffer.add(DEPTH * LANES));
                part.down::<2>(buffer, n);
                n += 2 * LANES;
            }
            while n < job.count {
                part.pack(n, buffer);
                part.down::<1>(buffer, n);
                n += LANES;
            }
        }
    }
}

/// Some columns of a job.
pub(super) struct Part<'a, W> {
    pub(super) job: &'a Multiply,
    pub(super) from: usize,
    pub(super) depth: usize,
    pub(super) sink: Sink,
    words: PhantomData<W>,
}

impl<W: Words> Part<'_, W> {
    /// Transposes sixteen weight rows from `n` on; where there are fewer, the last stands for those that are missing.
    #[inline(always)]
    unsafe fn pack(&self, n: usize, to: *mut u32) {
        let Multiply { width, count, weights, .. } = *self.job;
        let block = W::COLUMNS * LANES;
        // SAFETY: rows and columns are within the job's shapes; the buffer has room for whole vectors of columns.
        unsafe {
            let weights = weights.cast::<W::Number>().add(self.from);
            let rows: [*const W::Number; LANES] =
                std::array::from_fn(|lane| weights.add((n + lane).min(count - 1) * width));
            let whole = self.depth - self.depth % block;
            let mut words = [W::Floats::splat(0.0); LANES];
            for i in (0..whole).step_by(block) {
                for (words, row) in words.iter_mut().zip(rows) {
                    *words = W::load(row.add(i));
                }
                W::Floats::store_transposed(to.add(i / W::COLUMNS * LANES).cast(), &words);
            }
            if whole < self.depth {
                for (words, row) in words.iter_mut().zip(rows) {
                    let mut last = [W::Number::default(); 2 * LANES];
                    row.add(whole).copy_to_nonoverlapping(last.as_mut_ptr(), self.depth - whole);
                    *words = W::load(last.as_ptr());
                }
                W::Floats::store_transposed(to.add(whole / W::COLUMNS * LANES).cast(), &words);
            }
        }
    }

    /// One strip, packed, with every row of activations.
    #[inline(always)]
    unsafe fn down<const N: usize>(&self, strip: *const u32, n: usize) {
        let rows = self.job.rows;
        let most = W::Floats::ROWS;
        // SAFETY: rows are within the job's shapes.
        unsafe {
            let mut row = W::many::<N>(self, strip, n);
            while row + most <= rows {
                match most {
                    8 => self.tile::<8, N>(strip, row, n),
                    6 => self.tile::<6, N>(strip, row, n),
                    _ => self.tile::<3, N>(strip, row, n),
                }
                row += most.clamp(3, 8);
            }
            match rows - row {
                7 if most > 7 => self.tile::<7, N>(strip, row, n),
                6 if most > 6 => self.tile::<6, N>(strip, row, n),
                5 if most > 5 => self.tile::<5, N>(strip, row, n),
                4 if most > 4 => self.tile::<4, N>(strip, row, n),
                3 if most > 3 => self.tile::<3, N>(strip, row, n),
                2 => self.tile::<2, N>(strip, row, n),
                1 => self.tile::<1, N>(strip, row, n),
                _ => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, strip: *const u32, row: usize, n: usize) {
        let Multiply { width, count, .. } = *self.job;
        // SAFETY: rows and columns are within the job's shapes, and the strip has its words.
        unsafe {
            let a = W::activations(self.job).add(row * width + self.from);
            let mut sums = [[W::Floats::splat(0.0); N]; R];
            let words = self.depth / W::COLUMNS;
            for i in 0..words {
                let word = |r| W::word(a.add(r * width + i * W::COLUMNS));
                step::<W, R, N>(&mut sums, strip.add(i * LANES), word);
            }
            if words * W::COLUMNS < self.depth {
                let word = |r| W::half_word(a.add(r * width + words * W::COLUMNS));
                step::<W, R, N>(&mut sums, strip.add(words * LANES), word);
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    let n = n + c * LANES;
                    self.sink.write_lanes::<W::Floats>(row + r, n, LANES.min(count - n), sum);
                }
            }
        }
    }
}

/// Adds the products of one word of each weight row and of each row of activations.
#[inline(always)]
unsafe fn step<W: Words, const R: usize, const N: usize>(
    sums: &mut [[<W::Floats as Simd>::V; N]; R],
    strip: *const u32,
    word: impl Fn(usize) -> u32,
) {
    // SAFETY: the strip has its words.
    unsafe {
        let weights: [_; N] =
            std::array::from_fn(|c| W::Floats::load(strip.add(c * DEPTH * LANES).cast::<f32>()));
        for (r, sums) in sums.iter_mut().enumerate() {
            let activations = word(r);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = W::add(*sum, weights, activations);
            }
        }
    }
}
