//! How long a text is to be: always the same, or drawn from a distribution.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::prompts::Words;

/// A count, or where it is drawn from: `200`, `50-400` (each as probable), `normal:MEAN,DEVIATION`,
/// `lognormal:MEDIAN,SIGMA`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lengths {
    /// Always this.
    Fixed(u32),
    /// Each from the first to the second is as probable.
    Uniform(u32, u32),
    /// Around a mean, with a standard deviation.
    Normal(f64, f64),
    /// Around a median, its logarithm with a standard deviation: few are very long, as among people's own texts.
    LogNormal(f64, f64),
}

/// No text is longer.
const MOST: u32 = 1 << 20;

impl Lengths {
    /// The next, at least 1.
    pub(super) fn draw(self, random: &mut Words) -> u32 {
        let whole = |value: f64| value.round().clamp(1.0, MOST.into()) as u32;
        match self {
            Lengths::Fixed(count) => count.max(1),
            Lengths::Uniform(least, most) => least + random.below((most - least) as usize + 1) as u32,
            Lengths::Normal(mean, deviation) => whole(mean + deviation * random.normal()),
            Lengths::LogNormal(median, sigma) => whole(median * (sigma * random.normal()).exp()),
        }
    }
}

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no length: give a number, LEAST-MOST, normal:MEAN,DEVIATION or lognormal:MEDIAN,SIGMA"
            )
        };
        let pair = |text: &str| {
            let (a, b) = text.split_once(',')?;
            let (a, b): (f64, f64) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
            ((1.0..=MOST.into()).contains(&a) && (0.0..=MOST.into()).contains(&b)).then_some((a, b))
        };
        let count = |text: &str| text.trim().parse().ok().filter(|count| (1..=MOST).contains(count));
        let found = if let Some(rest) = text.strip_prefix("normal:") {
            pair(rest).map(|(mean, deviation)| Lengths::Normal(mean, deviation))
        } else if let Some(rest) = text.strip_prefix("lognormal:") {
            pair(rest).map(|(median, sigma)| Lengths::LogNormal(median, sigma))
        } else if let Some((least, most)) = text.split_once('-') {
            count(least)
                .zip(count(most))
                .filter(|(least, most)| least <= most)
                .map(|(a, b)| Lengths::Uniform(a, b))
        } else {
            count(text).map(Lengths::Fixed)
        };
        found.ok_or_else(wrong)
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lengths::Fixed(count) => write!(f, "{count}"),
            Lengths::Uniform(least, most) => write!(f, "{least}-{most}"),
            Lengths::Normal(mean, deviation) => write!(f, "normal:{mean},{deviation}"),
            Lengths::LogNormal(median, sigma) => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

impl Serialize for Lengths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Lengths::Fixed(count) => serializer.serialize_u32(*count),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Count(u32),
            Text(String),
        }
        let text = match Wire::deserialize(deserializer)? {
            Wire::Count(count) => count.to_string(),
            Wire::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::Samples;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["200", "50-400", "normal:200,50", "lognormal:200,0.5"] {
            let lengths: Lengths = text.parse().unwrap();
            assert_eq!(lengths.to_string(), text);
            let json = serde_json::to_string(&lengths).unwrap();
            assert_eq!(serde_json::from_str::<Lengths>(&json).unwrap(), lengths, "{json}");
        }
        for text in ["", "0", "x", "400-50", "normal:200", "lognormal:-1,2", "1-"] {
            assert!(text.parse::<Lengths>().is_err(), "{text}");
        }
    }

    #[test]
    fn draws_follow_their_distribution() {
        let mut random = Words::new(7);
        let mut draw = |lengths: &str| -> Samples {
            let lengths: Lengths = lengths.parse().unwrap();
            (0..4000).map(|_| f64::from(lengths.draw(&mut random))).collect()
        };
        let near = |samples: &Samples, share: f64, expected: f64| {
            let found = samples.quantile(share).unwrap();
            assert!((found - expected).abs() < 0.05 * expected, "{share}: {found} for {expected}");
        };
        assert!(draw("9").values().iter().all(|value| (*value - 9.0).abs() < 1e-9));
        let uniform = draw("100-300");
        near(&uniform, 0.5, 200.0);
        near(&uniform, 0.0, 100.0);
        near(&uniform, 1.0, 300.0);
        let normal = draw("normal:1000,100");
        near(&normal, 0.5, 1000.0);
        near(&normal, 0.8413, 1100.0);
        let lognormal = draw("lognormal:1000,0.5");
        near(&lognormal, 0.5, 1000.0);
        near(&lognormal, 0.8413, 1648.7);
    }
}
