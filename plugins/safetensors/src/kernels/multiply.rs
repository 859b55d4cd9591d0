//! Activations times a matrix whose rows are the outputs, as checkpoints have them: tiles of dot products.
//!
//! With many rows, `strips` does it. A tile's activations stay in the first cache while the weights of the range pass by; for one row of activations it
//! is a stream through the weights at the memory's speed.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use super::simd::{Element, LANES, Simd};
use super::strips;

/// One call: `out[r][n] = scale * (a[r] · w[n] + bias[n])`.
///
/// The pointers are valid for the shapes: `a` (and `a_narrow`, for the kernel that wants it) `[rows][width]`, `weights`
/// `[count][width]` of the kernel's element; the sink has `count` columns.
pub(super) struct Multiply {
    pub(super) a: *const f32,
    pub(super) a_narrow: *const u16,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) weights: *const u8,
    pub(super) count: usize,
    pub(super) sink: Sink,
}

/// Where products go, and what is done to them on the way: `bias` `[columns]`, `out` `[rows][stride]`.
pub(super) struct Sink {
    pub(super) bias: Option<*const f32>,
    pub(super) out: *mut f32,
    pub(super) stride: usize,
    pub(super) add: bool,
    pub(super) scale: f32,
}

impl Sink {
    /// Writes one product.
    #[inline(always)]
    pub(super) unsafe fn write(&self, row: usize, n: usize, product: f32) {
        // SAFETY: the pointers are valid for the shapes.
        unsafe {
            let at = self.out.add(row * self.stride + n);
            let value = (product + self.bias.map_or(0.0, |bias| *bias.add(n))) * self.scale;
            *at = if self.add { *at + value } else { value };
        }
    }

    /// Writes the first `count` of a vector of products, to columns behind each other.
    #[inline(always)]
    pub(super) unsafe fn write_lanes<S: Simd>(&self, row: usize, n: usize, count: usize, products: S::V) {
        // SAFETY: the pointers are valid for the shapes; a whole vector is there where the count says so.
        unsafe {
            if count < LANES {
                let mut lanes = [0.0; LANES];
                S::store(lanes.as_mut_ptr(), products);
                (0..count).for_each(|i| self.write(row, n + i, lanes[i]));
                return;
            }
            let at = self.out.add(row * self.stride + n);
            let mut value = products;
            if let Some(bias) = self.bias {
                value = S::add(value, S::load(bias.add(n)));
            }
            value = S::mul(value, S::splat(self.scale));
            S::store(at, if self.add { S::add(S::load(at), value) } else { value });
        }
    }
}

/// Weight rows of a tile.
const COUNT: usize = 4;
/// From so many rows of activations on it pays to transpose the weights.
pub(super) const MANY: usize = 16;

/// # Safety
/// The machine has `S`; `job` is as its type says.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, E: Element>(job: &Multiply) {
    let mut row = 0;
    // SAFETY: rows and weights are within the job's shapes.
    unsafe {
        if job.rows >= MANY {
            return strips::run::<strips::Widened<S, E>>(job);
        }
        while row + 4 <= job.rows {
            across::<S, E, 4>(job, row);
            row += 4;
        }
        match job.rows - row {
            3 => across::<S, E, 3>(job, row),
            2 => across::<S, E, 2>(job, row),
            1 => across::<S, E, 1>(job, row),
            _ => {}
        }
    }
}

/// `ROWS` rows of activations with every weight row.
#[inline(always)]
unsafe fn across<S: Simd, E: Element, const ROWS: usize>(job: &Multiply, row: usize) {
    let mut n = 0;
    // SAFETY: rows and weights are within the job's shapes.
    unsafe {
        while n + COUNT <= job.count {
            tile::<S, E, ROWS, COUNT>(job, row, n);
            n += COUNT;
        }
        while n < job.count {
            tile::<S, E, ROWS, 1>(job, row, n);
            n += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const ROWS: usize, const N: usize>(job: &Multiply, row: usize, n: usize) {
    let width = job.width;
    // SAFETY: rows and weights are within the job's shapes; `i` and `tail` stay below the width.
    unsafe {
        let a = job.a.add(row * width);
        let w = job.weights.cast::<E::Bits>().add(n * width);
        let mut sums = [[S::splat(0.0); N]; ROWS];
        let whole = width - width % LANES;
        let mut i = 0;
        while i < whole {
            let mut weights = [S::splat(0.0); N];
            for (c, weight) in weights.iter_mut().enumerate() {
                *weight = E::load::<S>(w.add(c * width + i));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let activations = S::load(a.add(r * width + i));
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = S::fma(activations, weight, *sum);
                }
            }
            i += LANES;
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                let mut product = S::sum(sum);
                for tail in whole..width {
                    product += *a.add(r * width + tail) * E::widen(*w.add(c * width + tail));
                }
                job.sink.write(row + r, n + c, product);
            }
        }
    }
}
