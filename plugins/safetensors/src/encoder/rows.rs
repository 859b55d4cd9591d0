//! What is done with one row: layer norm and the activations, one source compiled for each instruction set.
//!
//! Plain loops that the compiler turns into vectors: they are a small part of the time, and the products, which are
//! most of it, are the kernels'.

#![expect(unsafe_code, reason = "instances for instruction sets are chosen at run time")]

use crate::kernels::{self, Kernels, Level};

/// The function between a feed-forward network's two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// The Gaussian error linear unit by its error function (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// The same by its tanh formula.
    GeluTanh,
    Relu,
}

/// A layer norm's weights (Ba et al. 2016, arXiv:1607.06450).
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

/// The instances of one level.
pub(super) struct RowKernels {
    norm: unsafe fn(&mut [f32], &Norm),
    gelu: unsafe fn(&mut [f32]),
}

impl RowKernels {
    pub(super) fn of(level: Level) -> &'static RowKernels {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::AmxBf16 | Level::Avx512Bf16 | Level::Avx512Vnni | Level::Avx512 if level.runs_here() => {
                &avx512::KERNELS
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if level.runs_here() => &avx2::KERNELS,
            _ => &portable::KERNELS,
        }
    }

    /// `row = (row - mean) / sqrt(variance + epsilon) * weight + bias`
    ///
    /// # Panics
    /// When the lengths differ.
    pub(super) fn norm(&self, row: &mut [f32], norm: &Norm) {
        assert!(row.len() == norm.weight.len() && row.len() == norm.bias.len(), "one length: this is a bug");
        // SAFETY: the level runs here.
        unsafe { (self.norm)(row, norm) }
    }

    /// The activation of each number.
    pub(super) fn activate(&self, activation: Activation, row: &mut [f32], kernels: &Kernels) {
        match activation {
            // SAFETY: the level runs here.
            Activation::Gelu => unsafe { (self.gelu)(row) },
            Activation::GeluTanh => {
                const ONES: [f32; 64] = [1.0; 64];
                for part in row.chunks_mut(ONES.len()) {
                    let ones = &ONES[..part.len()];
                    kernels.gate(kernels::Activation::GeluTanh, part, ones);
                }
            }
            Activation::Relu => row.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
    }
}

macro_rules! instances {
    ($level:ident, $($feature:literal)?) => {
        mod $level {
            use super::{Norm, RowKernels, gelu_row, norm_row};

            $(#[target_feature(enable = $feature)])?
            unsafe fn norm(row: &mut [f32], norm: &Norm) {
                norm_row(row, norm);
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gelu(row: &mut [f32]) {
                gelu_row(row);
            }
            pub(super) static KERNELS: RowKernels = RowKernels { norm, gelu };
        }
    };
}

#[cfg(target_arch = "x86_64")]
instances!(avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
instances!(avx2, "avx2,fma");
instances!(portable,);

const LANES: usize = 16;

/// A sum whose order does not hinder vectors.
#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for part in whole {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane += of(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| of(x)).sum::<f32>()
}

#[inline(always)]
fn norm_row(row: &mut [f32], norm: &Norm) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    for ((x, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        *x = (*x - mean) * factor * weight + bias;
    }
}

#[inline(always)]
fn gelu_row(row: &mut [f32]) {
    for x in row {
        *x = 0.5 * *x * (1.0 + error_function(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function by a quotient of polynomials (as Eigen and XLA have it), within 5e-7.
#[inline(always)]
fn error_function(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut above = ABOVE[0];
    for coefficient in &ABOVE[1..] {
        above = above * square + coefficient;
    }
    let mut below = BELOW[0];
    for coefficient in &BELOW[1..] {
        below = below * square + coefficient;
    }
    x * above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its series, in double precision.
    fn exact_error_function(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn every_level_computes_the_same_activation_and_norm() {
        let row: Vec<f32> = (0..301).map(|i| (i as f32 - 150.0) / 25.0).collect();
        let norm = Norm {
            weight: (0..301).map(|i| 1.0 + i as f32 / 100.0).collect(),
            bias: (0..301).map(|i| i as f32 / 50.0).collect(),
            epsilon: 1e-5,
        };
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / 301.0;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 301.0;
        for level in Level::ALL.into_iter().filter(|level| level.runs_here()) {
            let (rows, kernels) = (RowKernels::of(level), Kernels::of(level));
            let check = |found: f32, expected: f64, what: &str| {
                assert!(
                    (f64::from(found) - expected).abs() < 3e-6,
                    "{level}, {what}: {found} for {expected}"
                );
            };
            for (activation, of) in [
                (
                    Activation::Gelu,
                    (|x| 0.5 * x * (1.0 + exact_error_function(x / 2f64.sqrt()))) as fn(f64) -> f64,
                ),
                (Activation::GeluTanh, |x| {
                    0.5 * x
                        * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
                }),
                (Activation::Relu, |x| x.max(0.0)),
            ] {
                let mut found = row.clone();
                rows.activate(activation, &mut found, kernels);
                for (found, &x) in found.iter().zip(&row) {
                    check(*found, of(x.into()), &format!("{activation:?} of {x}"));
                }
            }
            let mut found = row.clone();
            rows.norm(&mut found, &norm);
            for (i, &found) in found.iter().enumerate() {
                let normal = (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt();
                let expected = normal * f64::from(norm.weight[i]) + f64::from(norm.bias[i]);
                check(found, expected, &format!("norm {i}"));
            }
        }
    }
}
