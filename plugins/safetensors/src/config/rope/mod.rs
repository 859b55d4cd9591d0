//! Rotary positions (Su et al. 2021, arXiv:2104.09864) and the ways to stretch them, as frequencies.

mod read;

use std::sync::Arc;

pub(super) use self::read::{Defaults, of_object, read, read_phi3};

/// One kind of rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// Dimensions of a head that are rotated, from the first.
    pub(crate) width: usize,
    pub(crate) theta: f64,
    pub(crate) pairing: Pairing,
    pub(crate) scaling: Scaling,
}

/// Which two dimensions turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// One of the first half with one of the second.
    Halves,
    /// Neighbours.
    Neighbours,
}

/// How positions beyond the trained ones are reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions divided by a factor (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        factor: f64,
        fast: f64,
        slow: f64,
        original: f64,
        attention: f64,
        truncate: bool,
    },
    /// The base grows with a sequence that is longer than the trained ones ("NTK-aware", by length).
    Dynamic {
        factor: f64,
        original: f64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): every pair of dimensions has a factor for sequences up to the
    /// trained length and one for longer ones.
    Long {
        short: Arc<[f64]>,
        long: Arc<[f64]>,
        original: f64,
        attention: f64,
    },
}

impl Rope {
    /// The angle that each pair of dimensions turns per position, in a sequence of so many tokens: `[width / 2]`.
    pub(crate) fn frequencies(&self, length: u32) -> impl Iterator<Item = f32> + '_ {
        let width = self.width as f64;
        let theta = match self.scaling {
            Scaling::Dynamic { factor, original } if f64::from(length) > original => {
                let stretch = factor * f64::from(length) / original - (factor - 1.0);
                self.theta * stretch.powf(width / (width - 2.0))
            }
            _ => self.theta,
        };
        let plain = move |i: usize| theta.powf(-((2 * i) as f64) / width);
        (0..self.width / 2).map(move |i| self.scaled(i, plain(i), length) as f32)
    }

    /// The frequency of a pair, from the plain one.
    fn scaled(&self, i: usize, plain: f64, length: u32) -> f64 {
        match &self.scaling {
            Scaling::None | Scaling::Dynamic { .. } => plain,
            Scaling::Linear { factor } => plain / factor,
            &Scaling::Llama3 { factor, low, high, original } => llama3(plain, factor, (low, high), original),
            &Scaling::Yarn { factor, fast, slow, original, truncate, .. } => {
                let (from, to) = self.yarn_range(fast, slow, original, truncate);
                let stretched = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                plain / factor * stretched + plain * (1.0 - stretched)
            }
            Scaling::Long { short, long, original, .. } => {
                plain / if f64::from(length) > *original { long[i] } else { short[i] }
            }
        }
    }

    /// Sequences of the same stage have the same frequencies.
    pub(crate) fn stage(&self, length: u32) -> u32 {
        match self.scaling {
            Scaling::Dynamic { original, .. } if f64::from(length) > original => length,
            Scaling::Long { original, .. } if f64::from(length) > original => 1,
            _ => 0,
        }
    }

    /// Whether frequencies depend on the length of the sequence.
    pub(crate) fn looks_at_length(&self) -> bool {
        matches!(self.scaling, Scaling::Dynamic { .. } | Scaling::Long { .. })
    }

    /// Whether a sequence that comes to another stage is computed anew, its earlier tokens too, as `transformers` does
    /// it; otherwise what is cached stays as it is.
    pub(crate) fn starts_anew(&self) -> bool {
        matches!(self.scaling, Scaling::Long { .. })
    }

    /// What cosines and sines are multiplied by.
    pub(crate) fn amplitude(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { attention, .. } | Scaling::Long { attention, .. } => attention as f32,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } | Scaling::Dynamic { .. } => 1.0,
        }
    }

    /// The pairs between which YaRN blends.
    fn yarn_range(&self, fast: f64, slow: f64, original: f64, truncate: bool) -> (f64, f64) {
        let width = self.width as f64;
        let pair =
            |turns: f64| width * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * self.theta.ln());
        let (mut from, mut to) = (pair(fast), pair(slow));
        if truncate {
            (from, to) = (from.floor(), to.ceil());
        }
        let (from, to) = (from.max(0.0), to.min(width - 1.0));
        (from, if from == to { to + 0.001 } else { to })
    }
}

fn llama3(frequency: f64, factor: f64, (low, high): (f64, f64), original: f64) -> f64 {
    let wavelength = std::f64::consts::TAU / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: Scaling) -> Vec<f32> {
        stretched(scaling, 0)
    }

    fn stretched(scaling: Scaling, length: u32) -> Vec<f32> {
        Rope { width: 8, theta: 10000.0, pairing: Pairing::Halves, scaling }.frequencies(length).collect()
    }

    #[test]
    fn frequencies_fall_from_one() {
        assert_eq!(rope(Scaling::None), [1.0, 0.1, 0.01, 0.001]);
        assert_eq!(rope(Scaling::Linear { factor: 4.0 }), [0.25, 0.025, 0.0025, 0.000_25]);
    }

    #[test]
    fn llama3_keeps_the_fast_and_stretches_the_slow() {
        let scaled = rope(Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 1000.0 });
        // Wavelengths: 6.3, 63, 628 and 6283 of 1000 positions.
        assert_eq!((scaled[0], scaled[1], scaled[3]), (1.0, 0.1, 0.001 / 8.0));
        assert!(scaled[2] < 0.01 && scaled[2] > 0.01 / 8.0, "{}", scaled[2]);
    }

    #[test]
    fn dynamic_and_long_look_at_the_length() {
        let dynamic = Scaling::Dynamic { factor: 2.0, original: 100.0 };
        assert_eq!(stretched(dynamic.clone(), 100), rope(Scaling::None));
        let twice = stretched(dynamic, 200);
        // The base is 3^(8/6) times as large: the slowest pair turns 3 times as slowly.
        assert!((twice[3] - 0.001 / 3.0).abs() < 1e-9 && twice[0] == 1.0, "{twice:?}");
        let long = Scaling::Long {
            short: [1.0, 1.0, 2.0, 2.0].into(),
            long: [1.0, 2.0, 4.0, 8.0].into(),
            original: 100.0,
            attention: 1.0,
        };
        assert_eq!(stretched(long.clone(), 100), [1.0, 0.1, 0.005, 0.0005]);
        assert_eq!(stretched(long, 101), [1.0, 0.05, 0.0025, 0.000_125]);
    }
}
