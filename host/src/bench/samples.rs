//! Samples of one figure, and what can be said about them. Pure numbers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Fewer samples than these say nothing about their scatter.
const ENOUGH: usize = 5;

/// Samples whose middle half is wider than this share of their median are noisy.
const NOISY_FROM: f64 = 0.05;

/// Measured values of one figure, all in one unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a value. One that is no number is a fault of the measurement and is left out.
    pub fn push(&mut self, value: f64) {
        if value.is_finite() {
            self.0.push(value);
        }
    }

    /// The values in the order in which they were measured.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Each value through the same function.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Samples {
        self.0.iter().map(|&value| change(value)).collect()
    }

    /// The value below which this share (0 to 1) of the samples lies, interpolated between neighbours as NumPy does by
    /// default; `None` without samples.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)?) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        Some(below + (above - below) * place.fract())
    }

    /// The middle of the samples.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// From the first to the third quartile: how much the samples scatter.
    pub fn interquartile_range(&self) -> Option<f64> {
        Some(self.quantile(0.75)? - self.quantile(0.25)?)
    }

    /// Whether they scatter too much to be relied on; `None` where there are too few to tell.
    pub fn is_noisy(&self) -> Option<bool> {
        let (range, median) = self.interquartile_range().zip(self.median())?;
        (self.0.len() >= ENOUGH).then_some(range > NOISY_FROM * median.abs())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Samples::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_samples() {
        let samples: Samples = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        for (share, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)] {
            assert!((samples.quantile(share).unwrap() - expected).abs() < 1e-12, "{share}");
        }
        assert!((samples.interquartile_range().unwrap() - 1.5).abs() < 1e-12);
        assert_eq!(samples.values(), [4.0, 1.0, 3.0, 2.0]);
    }

    #[test]
    fn without_samples_there_is_no_figure() {
        assert_eq!(Samples::default().median(), None);
        let samples: Samples = [f64::NAN, f64::INFINITY].into_iter().collect();
        assert_eq!((samples.median(), samples.is_noisy()), (None, None));
    }

    #[test]
    fn noise_is_told_of_enough_samples() {
        let of = |values: &[f64]| values.iter().copied().collect::<Samples>().is_noisy();
        assert_eq!(of(&[100.0, 101.0, 100.0, 99.0, 100.0]), Some(false));
        assert_eq!(of(&[100.0, 120.0, 80.0, 99.0, 100.0, 140.0]), Some(true));
        assert_eq!(of(&[100.0, 120.0, 80.0, 99.0]), None);
    }
}
