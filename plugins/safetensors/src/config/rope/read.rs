//! Positions as `config.json` has them, in two dialects: `rope_theta` beside `rope_scaling`, and `rope_parameters` with
//! everything in it.

use std::sync::Arc;

use impetus_plugin_api::PluginError;
use serde_json::{Map, Value};

use super::{Pairing, Rope, Scaling};
use crate::config::Fields;

/// Reads the one kind of rope of a model.
///
/// # Errors
/// `UNSUPPORTED` for a scaling by its name, `CORRUPT_MODEL` for one that lacks its figures.
pub(in crate::config) fn read(fields: &Fields<'_>, defaults: Defaults) -> Result<Rope, PluginError> {
    let (parameters, defaults) = parameters(fields, defaults)?;
    of_object(parameters, defaults)
}

/// The same of a Phi-3, which alone has `longrope`, under three names.
///
/// # Errors
/// As [`read`].
pub(in crate::config) fn read_phi3(fields: &Fields<'_>, defaults: Defaults) -> Result<Rope, PluginError> {
    let (parameters, defaults) = parameters(fields, defaults)?;
    match parameters.map(kind) {
        Some("longrope" | "su" | "yarn") => long(parameters.unwrap_or(&Map::new()), defaults),
        _ => of_object(parameters, defaults),
    }
}

type Object<'a> = Option<&'a Map<String, Value>>;

/// The object of either dialect, and what stands beside it.
fn parameters<'a>(fields: &Fields<'a>, defaults: Defaults) -> Result<(Object<'a>, Defaults), PluginError> {
    let theta = fields.number("rope_theta")?.unwrap_or(defaults.theta);
    let partial = fields.number("partial_rotary_factor")?.or(defaults.partial);
    let original = fields.number("original_max_position_embeddings")?.or(defaults.original);
    let scaling = fields.value("rope_scaling");
    let parameters = fields.value("rope_parameters").or(scaling).and_then(Value::as_object);
    Ok((parameters, Defaults { theta, partial, original, ..defaults }))
}

/// What stands where the object says nothing.
#[derive(Clone, Copy)]
pub(in crate::config) struct Defaults {
    pub(in crate::config) head_width: usize,
    pub(in crate::config) theta: f64,
    /// The part of a head that is rotated.
    pub(in crate::config) partial: Option<f64>,
    /// `max_position_embeddings`
    pub(in crate::config) positions: f64,
    /// `original_max_position_embeddings` beside the object, which goes before the one within.
    pub(in crate::config) original: Option<f64>,
    pub(in crate::config) pairing: Pairing,
}

fn kind(object: &Map<String, Value>) -> &str {
    object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str).unwrap_or("default")
}

/// One kind of rope from its object.
///
/// # Errors
/// As [`read`].
pub(in crate::config) fn of_object(
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
    let original = defaults.original.or(number("original_max_position_embeddings"));
    let scaling = match kind(object) {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: need("factor")? },
        "dynamic" => Scaling::Dynamic { factor: need("factor")?, original: defaults.positions },
        "llama3" => Scaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: match original {
                Some(original) => original,
                None => need("original_max_position_embeddings")?,
            },
        },
        "yarn" => yarn(object, need("factor")?, original.unwrap_or(defaults.positions))?,
        other => {
            return Err(PluginError::unsupported(format!(
                "config.json: rope scaling `{other}` is not supported; supported are default, linear, dynamic, llama3 \
                 and yarn, and for phi3 longrope"
            )));
        }
    };
    check_known(object)?;
    rope(object, defaults, scaling)
}

fn rope(object: &Map<String, Value>, defaults: Defaults, scaling: Scaling) -> Result<Rope, PluginError> {
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    let partial = number("partial_rotary_factor").or(defaults.partial).unwrap_or(1.0);
    let width = (defaults.head_width as f64 * partial) as usize;
    let least = if matches!(scaling, Scaling::Dynamic { .. }) { 4 } else { 2 };
    if width < least || !width.is_multiple_of(2) || width > defaults.head_width {
        return Err(PluginError::unsupported(format!(
            "config.json: {width} of {} dimensions cannot be rotated in pairs",
            defaults.head_width
        )));
    }
    let theta = number("rope_theta").unwrap_or(defaults.theta);
    Ok(Rope { width, theta, pairing: defaults.pairing, scaling })
}

/// `longrope`.
fn long(object: &Map<String, Value>, defaults: Defaults) -> Result<Rope, PluginError> {
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    let original = defaults.original.or(number("original_max_position_embeddings")).unwrap_or(0.0);
    if !(original > 1.0 && original.is_finite()) {
        return Err(PluginError::corrupt_model(
            "config.json: longrope without `original_max_position_embeddings`",
        ));
    }
    let factor = number("factor").unwrap_or(defaults.positions / original);
    let attention = match number("attention_factor") {
        Some(attention) => attention,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    check_known(object)?;
    let plain = rope(object, defaults, Scaling::None)?;
    let factors = |name: &str| {
        let listed: Option<Arc<[f64]>> = object
            .get(name)
            .and_then(Value::as_array)
            .and_then(|list| list.iter().map(|factor| factor.as_f64().filter(|f| *f > 0.0)).collect());
        listed.filter(|listed| listed.len() == plain.width / 2).ok_or_else(|| {
            let pairs = plain.width / 2;
            PluginError::corrupt_model(format!("config.json: longrope's `{name}` must be {pairs} factors"))
        })
    };
    let scaling =
        Scaling::Long { short: factors("short_factor")?, long: factors("long_factor")?, original, attention };
    Ok(Rope { scaling, ..plain })
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
        "long_factor",
        "low_freq_factor",
        "mscale",
        "mscale_all_dim",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "rope_theta",
        "rope_type",
        "short_factor",
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

    const DEFAULTS: Defaults = Defaults {
        head_width: 8,
        theta: 1e4,
        partial: None,
        positions: 64.0,
        original: None,
        pairing: Pairing::Halves,
    };

    #[test]
    fn unknown_scalings_are_refused_by_name() {
        for (object, expected) in [
            (serde_json::json!({"rope_type": "longrope", "factor": 2.0}), "`longrope`"),
            (serde_json::json!({"rope_type": "linear", "factor": 2.0, "wobble": 1}), "`wobble`"),
        ] {
            let error = of_object(object.as_object(), DEFAULTS).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }

    #[test]
    fn longrope_needs_its_factors() {
        for (object, expected) in [
            (serde_json::json!({"short_factor": [1, 1, 1, 1]}), "original_max_position_embeddings"),
            (
                serde_json::json!({"short_factor": [1, 1, 1], "original_max_position_embeddings": 32}),
                "`short_factor` must be 4",
            ),
            (
                serde_json::json!({"short_factor": [1, 1, 1, 1], "original_max_position_embeddings": 32}),
                "`long_factor` must be 4",
            ),
        ] {
            let error = long(object.as_object().unwrap(), DEFAULTS).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }
}
