//! Rotary positions (Su et al. 2021, arXiv:2104.09864) and the ways to stretch them, as frequencies.
//!
//! Two dialects of configuration: `rope_theta` beside `rope_scaling`, and `rope_parameters` with everything in it.

use impetus_plugin_api::PluginError;
use serde_json::{Map, Value};

use super::Fields;

/// One kind of rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// Dimensions of a head that are rotated, from the first.
    pub(crate) width: usize,
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
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
}

impl Rope {
    /// The angle that each pair of dimensions turns per position: `[width / 2]`.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        let pairs = self.width / 2;
        let plain = (0..pairs).map(|i| self.theta.powf(-((2 * i) as f64) / self.width as f64));
        match &self.scaling {
            Scaling::None => plain.map(|f| f as f32).collect(),
            Scaling::Linear { factor } => plain.map(|f| (f / factor) as f32).collect(),
            &Scaling::Llama3 { factor, low, high, original } => {
                plain.map(|f| llama3(f, factor, (low, high), original) as f32).collect()
            }
            &Scaling::Yarn { factor, fast, slow, original, truncate, .. } => {
                let (from, to) = self.yarn_range(fast, slow, original, truncate);
                let blend = |i: usize, f: f64| {
                    let stretched = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                    f / factor * stretched + f * (1.0 - stretched)
                };
                plain.enumerate().map(|(i, f)| blend(i, f) as f32).collect()
            }
        }
    }

    /// What cosines and sines are multiplied by.
    pub(crate) fn amplitude(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { attention, .. } => attention as f32,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
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

/// Reads the one kind of rope of a model. `theta`: the family's default.
///
/// # Errors
/// `UNSUPPORTED` for a scaling by its name, `CORRUPT_MODEL` for one that lacks its figures.
pub(super) fn read(fields: &Fields<'_>, head_width: usize, theta: f64) -> Result<Rope, PluginError> {
    let theta = fields.number("rope_theta")?.unwrap_or(theta);
    let partial = fields.number("partial_rotary_factor")?;
    let scaling = fields.value("rope_scaling");
    let parameters = fields.value("rope_parameters").or(scaling).and_then(Value::as_object);
    let positions = fields.size("max_position_embeddings")?.unwrap_or(0) as f64;
    of_object(parameters, Defaults { head_width, theta, partial, positions })
}

/// What stands where the object says nothing.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) head_width: usize,
    pub(super) theta: f64,
    pub(super) partial: Option<f64>,
    /// `max_position_embeddings`
    pub(super) positions: f64,
}

/// One kind of rope from its object.
///
/// # Errors
/// As [`read`].
pub(super) fn of_object(
    object: Option<&Map<String, Value>>,
    defaults: Defaults,
) -> Result<Rope, PluginError> {
    let empty = Map::new();
    let object = object.unwrap_or(&empty);
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    let need = |name: &str| {
        number(name)
            .ok_or_else(|| PluginError::corrupt_model(format!("config.json: rope scaling without `{name}`")))
    };
    let kind =
        object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str).unwrap_or("default");
    let original = number("original_max_position_embeddings").unwrap_or(defaults.positions);
    let scaling = match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: need("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: need("original_max_position_embeddings")?,
        },
        "yarn" => yarn(object, need("factor")?, original)?,
        other => {
            return Err(PluginError::unsupported(format!(
                "config.json: rope scaling `{other}` is not supported; supported are default, linear, llama3 and yarn"
            )));
        }
    };
    check_known(object)?;
    let partial = number("partial_rotary_factor").or(defaults.partial).unwrap_or(1.0);
    let width = (defaults.head_width as f64 * partial) as usize;
    if width == 0 || !width.is_multiple_of(2) || width > defaults.head_width {
        return Err(PluginError::unsupported(format!(
            "config.json: {width} of {} dimensions cannot be rotated in pairs",
            defaults.head_width
        )));
    }
    Ok(Rope { width, theta: number("rope_theta").unwrap_or(defaults.theta), scaling })
}

fn yarn(object: &Map<String, Value>, factor: f64, original: f64) -> Result<Scaling, PluginError> {
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    let scale = |factor: f64, m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let attention = match (number("attention_factor"), number("mscale"), number("mscale_all_dim")) {
        (Some(attention), _, _) => attention,
        (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale(factor, m) / scale(factor, all),
        (None, _, _) => scale(factor, 1.0),
    };
    if original <= 0.0 {
        return Err(PluginError::corrupt_model(
            "config.json: yarn without `original_max_position_embeddings`",
        ));
    }
    Ok(Scaling::Yarn {
        factor,
        fast: number("beta_fast").unwrap_or(32.0),
        slow: number("beta_slow").unwrap_or(1.0),
        original,
        attention,
        truncate: object.get("truncate").and_then(Value::as_bool).unwrap_or(true),
    })
}

/// # Errors
/// `UNSUPPORTED` for a figure that nothing here reads.
fn check_known(object: &Map<String, Value>) -> Result<(), PluginError> {
    const KNOWN: &[&str] = &[
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "factor",
        "finetuned",
        "high_freq_factor",
        "low_freq_factor",
        "mscale",
        "mscale_all_dim",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "rope_theta",
        "rope_type",
        "truncate",
        "type",
    ];
    match object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        Some(name) => Err(PluginError::unsupported(format!(
            "config.json: rope scaling with `{name}` is not understood"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: Scaling) -> Vec<f32> {
        Rope { width: 8, theta: 10000.0, scaling }.frequencies()
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
    fn unknown_scalings_are_refused_by_name() {
        let object = serde_json::json!({"rope_type": "longrope", "factor": 2.0});
        let defaults = Defaults { head_width: 8, theta: 1e4, partial: None, positions: 64.0 };
        let error = of_object(object.as_object(), defaults).unwrap_err();
        assert!(error.message.contains("`longrope`"), "{}", error.message);
        let object = serde_json::json!({"rope_type": "linear", "factor": 2.0, "wobble": 1});
        assert!(of_object(object.as_object(), defaults).unwrap_err().message.contains("`wobble`"));
    }
}
