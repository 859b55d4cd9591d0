//! What is done with one row of activations: norms, activation, gate, rounding.

#![expect(unsafe_code, reason = "kernels are generic over instructions")]

use super::Activation;
use super::simd::{Bf16, Element, LANES, Simd};

/// # Safety
/// The machine has `S`; the slices have one length.
#[inline(always)]
pub(super) unsafe fn rms_norm<S: Simd>(row: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    // SAFETY: one length.
    unsafe { norm_to::<S>(row.as_ptr(), weight, epsilon, out.as_mut_ptr()) }
}

/// # Safety
/// The machine has `S`; the slices have one length.
#[inline(always)]
pub(super) unsafe fn rms_norm_in_place<S: Simd>(row: &mut [f32], weight: &[f32], epsilon: f32) {
    // SAFETY: one length; each number is read before it is written.
    unsafe { norm_to::<S>(row.as_ptr(), weight, epsilon, row.as_mut_ptr()) }
}

#[inline(always)]
unsafe fn norm_to<S: Simd>(row: *const f32, weight: &[f32], epsilon: f32, out: *mut f32) {
    let length = weight.len();
    let whole = length - length % LANES;
    // SAFETY: `i` leaves room for a vector; both pointers are valid for the length.
    unsafe {
        let mut squares = S::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let x = S::load(row.add(i));
            squares = S::fma(x, x, squares);
        }
        let tail: f32 = (whole..length).map(|i| *row.add(i) * *row.add(i)).sum();
        let factor = 1.0 / ((S::sum(squares) + tail) / length as f32 + epsilon).sqrt();
        for i in (0..whole).step_by(LANES) {
            let x = S::mul(S::load(row.add(i)), S::splat(factor));
            S::store(out.add(i), S::mul(x, S::load(weight.as_ptr().add(i))));
        }
        for (i, weight) in weight.iter().enumerate().skip(whole) {
            *out.add(i) = *row.add(i) * factor * weight;
        }
    }
}

/// Weights of a norm, and biases where there are some.
pub(super) type Factors<'a> = (&'a [f32], Option<&'a [f32]>);

/// Takes the mean off first; `out` may be the row itself.
///
/// # Safety
/// The machine has `S`; both pointers are valid for as many numbers as there are weights, and biases where there are some.
#[inline(always)]
pub(super) unsafe fn layer_norm<S: Simd>(
    row: *const f32,
    (weight, bias): Factors<'_>,
    epsilon: f32,
    out: *mut f32,
) {
    let length = weight.len();
    let whole = length - length % LANES;
    // SAFETY: `i` leaves room for a vector; both pointers are valid for the length.
    unsafe {
        let mut total = S::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            total = S::add(total, S::load(row.add(i)));
        }
        let tail: f32 = (whole..length).map(|i| *row.add(i)).sum();
        let mean = (S::sum(total) + tail) / length as f32;
        let mut squares = S::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let x = S::sub(S::load(row.add(i)), S::splat(mean));
            squares = S::fma(x, x, squares);
        }
        let tail: f32 = (whole..length).map(|i| (*row.add(i) - mean).powi(2)).sum();
        let factor = 1.0 / ((S::sum(squares) + tail) / length as f32 + epsilon).sqrt();
        for i in (0..whole).step_by(LANES) {
            let x = S::mul(S::sub(S::load(row.add(i)), S::splat(mean)), S::splat(factor));
            let shift = bias.map_or(S::splat(0.0), |bias| S::load(bias.as_ptr().add(i)));
            S::store(out.add(i), S::fma(x, S::load(weight.as_ptr().add(i)), shift));
        }
        for i in whole..length {
            let shift = bias.map_or(0.0, |bias| bias[i]);
            *out.add(i) = (*row.add(i) - mean) * factor * weight[i] + shift;
        }
    }
}

/// # Safety
/// The machine has `S`.
#[inline(always)]
pub(super) unsafe fn activate_all<S: Simd>(activation: Activation, row: &mut [f32]) {
    let mut vectors = row.chunks_exact_mut(LANES);
    // SAFETY: a vector is whole; the rest goes through one that is.
    unsafe {
        for vector in &mut vectors {
            S::store(vector.as_mut_ptr(), activate::<S>(activation, S::load(vector.as_ptr())));
        }
        let rest = vectors.into_remainder();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        S::store(last.as_mut_ptr(), activate::<S>(activation, S::load(last.as_ptr())));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// # Safety
/// The machine has `S`; the slices have one length.
#[inline(always)]
pub(super) unsafe fn gate<S: Simd>(activation: Activation, gate: &mut [f32], up: &[f32]) {
    let (whole, rest) = (gate.len() - gate.len() % LANES, gate.len() % LANES);
    // SAFETY: `i` leaves room for a vector in both slices; the rest goes through a whole one.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let x = activate::<S>(activation, S::load(gate.as_ptr().add(i)));
            S::store(gate.as_mut_ptr().add(i), S::mul(x, S::load(up.as_ptr().add(i))));
        }
        if rest > 0 {
            let mut last = [0.0; LANES];
            last[..rest].copy_from_slice(&gate[whole..]);
            let x = activate::<S>(activation, S::load(last.as_ptr()));
            S::store(last.as_mut_ptr(), x);
            for i in 0..rest {
                gate[whole + i] = last[i] * up[whole + i];
            }
        }
    }
}

#[inline(always)]
unsafe fn activate<S: Simd>(activation: Activation, x: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe {
        let logistic = |x: S::V| {
            let one = S::splat(1.0);
            S::div(one, S::add(one, S::exp(S::sub(S::splat(0.0), x))))
        };
        match activation {
            Activation::Silu => S::mul(x, logistic(x)),
            Activation::Gelu => {
                let size = S::max(x, S::sub(S::splat(0.0), x));
                let z = S::mul(size, S::splat(std::f32::consts::FRAC_1_SQRT_2));
                // x erf(x) is |x| erf(|x|).
                S::mul(S::splat(0.5), S::fma(size, error_function::<S>(z), x))
            }
            // x/2 (1 + tanh(y)) is x times the logistic function of 2y.
            Activation::GeluTanh => {
                let cube = S::mul(S::mul(x, x), x);
                let y = S::fma(cube, S::splat(0.044_715), x);
                S::mul(x, logistic(S::mul(y, S::splat(1.595_769))))
            }
        }
    }
}

/// The error function of numbers from 0 on, within 2e-7 (Abramowitz & Stegun 1964, 7.1.26).
#[inline(always)]
unsafe fn error_function<S: Simd>(z: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe {
        let one = S::splat(1.0);
        let t = S::div(one, S::fma(z, S::splat(0.327_591_1), one));
        let mut p = S::splat(1.061_405_4);
        for c in [-1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
            p = S::fma(p, t, S::splat(c));
        }
        let e = S::exp(S::sub(S::splat(0.0), S::mul(z, z)));
        S::sub(one, S::mul(S::mul(p, t), e))
    }
}

#[inline(always)]
pub(super) fn narrow(from: &[f32], to: &mut [u16]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = Bf16::narrow(from);
    }
}
