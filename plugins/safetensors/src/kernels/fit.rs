//! Finds the line of a group: the scale and bias whose codes come nearest to its numbers.
//!
//! The span of a group is divided into a little more or less than there are codes, once for each of [`SHIFTS`]; for the
//! codes that each division gives, the best line is that of weighted least squares, and the best of these is taken
//! (llama.cpp's `make_qkx2_quants` does it likewise), then fitted to its own codes again.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use super::simd::{LANES, Simd};

/// One group of numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    /// A multiple of [`LANES`] of them.
    pub(crate) numbers: &'a [f32],
    /// What a squared error of each counts, more than nothing.
    pub(crate) weights: &'a [f32],
    /// The largest code.
    pub(crate) most: f32,
}

/// `number = scale * code + bias`
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) scale: f32,
    pub(crate) bias: f32,
}

/// Divisions that are tried: codes more or less than there are.
const SHIFTS: Range = Range { first: -1.5, step: 0.125, count: 25 };
/// Times that the best line is fitted to its own codes.
const AGAIN: usize = 3;

struct Range {
    first: f32,
    step: f32,
    count: usize,
}

/// The best line that was found; none of finite numbers where the group has other ones.
///
/// # Safety
/// The machine has `S`; the group is as its type says.
#[inline(always)]
pub(super) unsafe fn fit<S: Simd>(group: &Group<'_>) -> Line {
    // SAFETY: passed on to our caller.
    unsafe {
        let (least, largest) = span::<S>(group.numbers);
        let whole = Line { scale: (largest - least) / group.most, bias: least };
        if largest <= least || !whole.scale.is_finite() {
            return whole;
        }
        let mut best = (whole, f32::INFINITY);
        for i in 0..SHIFTS.count {
            let codes = group.most + SHIFTS.first + SHIFTS.step * i as f32;
            let tried = Line { scale: (largest - least) / codes, bias: least };
            better::<S>(group, tried, &mut best);
        }
        for _ in 0..AGAIN {
            better::<S>(group, best.0, &mut best);
        }
        best.0
    }
}

/// The least and the largest.
#[inline(always)]
pub(super) unsafe fn span<S: Simd>(numbers: &[f32]) -> (f32, f32) {
    // SAFETY: whole vectors.
    unsafe {
        let (mut least, mut largest) = (S::splat(f32::NEG_INFINITY), S::splat(f32::NEG_INFINITY));
        for x in numbers.chunks_exact(LANES) {
            let x = S::load(x.as_ptr());
            largest = S::max(largest, x);
            least = S::max(least, S::sub(S::splat(0.0), x));
        }
        (-S::largest(least), S::largest(largest))
    }
}

/// Takes the line of the least squares for the codes that `tried` gives, if it is better than the best.
#[inline(always)]
unsafe fn better<S: Simd>(group: &Group<'_>, tried: Line, best: &mut (Line, f32)) {
    // SAFETY: whole vectors.
    unsafe {
        let zero = S::splat(0.0);
        let (inverse, start, most) =
            (S::splat(1.0 / tried.scale), S::splat(tried.bias), S::splat(group.most));
        // Sums of weights and of their products with codes and numbers; numbers from `start` on, for exactness.
        let [mut w, mut wq, mut wqq, mut wx, mut wqx, mut wxx] = [zero; 6];
        for (x, weight) in group.numbers.chunks_exact(LANES).zip(group.weights.chunks_exact(LANES)) {
            let (x, weight) = (S::sub(S::load(x.as_ptr()), start), S::load(weight.as_ptr()));
            let code = S::min(S::max(S::round(S::mul(x, inverse)), zero), most);
            let (weighted, code_weighted) = (S::mul(x, weight), S::mul(code, weight));
            w = S::add(w, weight);
            wq = S::add(wq, code_weighted);
            wqq = S::fma(code_weighted, code, wqq);
            wx = S::add(wx, weighted);
            wqx = S::fma(weighted, code, wqx);
            wxx = S::fma(weighted, x, wxx);
        }
        let [w, wq, wqq, wx, wqx, wxx] = [w, wq, wqq, wx, wqx, wxx].map(|sum| f64::from(S::sum(sum)));
        let determinant = w * wqq - wq * wq;
        if determinant <= 0.0 {
            return;
        }
        let (scale, bias) = ((w * wqx - wq * wx) / determinant, (wqq * wx - wq * wqx) / determinant);
        let error = (wxx - scale * wqx - bias * wx) as f32;
        if error < best.1 && scale > 0.0 {
            *best = (Line { scale: scale as f32, bias: bias as f32 + tried.bias }, error);
        }
    }
}

/// The nearest code of each number.
///
/// # Safety
/// The machine has `S`; the group is as its type says, and there are as many codes.
#[inline(always)]
pub(super) unsafe fn code<S: Simd>(group: &Group<'_>, line: Line, codes: &mut [u8]) {
    // SAFETY: whole vectors.
    unsafe {
        let inverse = S::splat(if line.scale == 0.0 { 0.0 } else { 1.0 / line.scale });
        let (bias, most, half) = (S::splat(line.bias), S::splat(group.most), S::splat(128.0));
        for (x, to) in group.numbers.chunks_exact(LANES).zip(codes.chunks_exact_mut(LANES)) {
            let code = S::round(S::mul(S::sub(S::load(x.as_ptr()), bias), inverse));
            let code = S::min(S::max(code, S::splat(0.0)), most);
            // Signed bytes are what there is an instruction for.
            S::store_bytes(to.as_mut_ptr().cast(), S::sub(code, half));
            to.iter_mut().for_each(|code| *code ^= 128);
        }
    }
}
