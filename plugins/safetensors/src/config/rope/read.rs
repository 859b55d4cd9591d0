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
    let empty = Map::new();
    let figures = Figures(parameters.unwrap_or(&empty));
    match figures.kind()? {
        "longrope" | "su" | "yarn" => long(&figures, defaults),
        _ => of_object(parameters, defaults),
    }
}

type Object<'a> = Option<&'a Map<String, Value>>;

/// The object of either dialect, and what stands beside it.
///
/// # Errors
/// `UNSUPPORTED` for both dialects at once, unless they say the same.
fn parameters<'a>(fields: &Fields<'a>, defaults: Defaults) -> Result<(Object<'a>, Defaults), PluginError> {
    let theta = fields.number("rope_theta")?.unwrap_or(defaults.theta);
    let partial = fields.number("partial_rotary_factor")?.or(defaults.partial);
    let original = fields.number("original_max_position_embeddings")?.or(defaults.original);
    let (scaling, parameters) = (fields.object("rope_scaling")?, fields.object("rope_parameters")?);
    if scaling.is_some() && parameters.is_some() && scaling != parameters {
        return Err(PluginError::unsupported(
            "config.json: `rope_parameters` and `rope_scaling` differ, and it does not say which of them counts",
        ));
    }
    Ok((parameters.or(scaling), Defaults { theta, partial, original, ..defaults }))
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

/// A rope's object: what has the wrong type is refused, never taken for missing.
struct Figures<'a>(&'a Map<String, Value>);

impl<'a> Figures<'a> {
    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PluginError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            PluginError::corrupt_model(format!(
                "config.json: rope scaling's `{name}` must be {expected}; found {value}"
            ))
        })
    }

    fn number(&self, name: &str) -> Result<Option<f64>, PluginError> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// A number that something is divided by, or a length.
    fn positive(&self, name: &str) -> Result<Option<f64>, PluginError> {
        self.typed(name, "a number above 0", |value| value.as_f64().filter(|number| *number > 0.0))
    }

    fn need(&self, name: &str) -> Result<f64, PluginError> {
        self.positive(name)?
            .ok_or_else(|| PluginError::corrupt_model(format!("config.json: rope scaling without `{name}`")))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, PluginError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// Under its two names, of which the old one may repeat the new one.
    fn kind(&self) -> Result<&'a str, PluginError> {
        let text = |name| self.typed(name, "a text", Value::as_str);
        match (text("rope_type")?, text("type")?) {
            (Some(new), Some(old)) if new != old => Err(PluginError::unsupported(format!(
                "config.json: rope scaling has `rope_type` `{new}` and `type` `{old}`"
            ))),
            (new, old) => Ok(new.or(old).unwrap_or("default")),
        }
    }
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
    let figures = Figures(object.unwrap_or(&empty));
    let original = defaults.original.or(figures.positive("original_max_position_embeddings")?);
    let scaling = match figures.kind()? {
        "default" => plain(&figures)?,
        "linear" => Scaling::Linear { factor: figures.need("factor")? },
        "dynamic" => Scaling::Dynamic { factor: figures.need("factor")?, original: defaults.positions },
        "llama3" => Scaling::Llama3 {
            factor: figures.need("factor")?,
            low: figures.need("low_freq_factor")?,
            high: figures.need("high_freq_factor")?,
            original: match original {
                Some(original) => original,
                None => figures.need("original_max_position_embeddings")?,
            },
        },
        "yarn" => yarn(&figures, original.unwrap_or(defaults.positions))?,
        other => {
            return Err(PluginError::unsupported(format!(
                "config.json: rope scaling `{other}` is not supported; supported are default, linear, dynamic, llama3 \
                 and yarn, and for phi3 longrope"
            )));
        }
    };
    rope(&figures, defaults, scaling)
}

/// No scaling, and so no factor of one.
fn plain(figures: &Figures<'_>) -> Result<Scaling, PluginError> {
    match figures.number("factor")? {
        Some(factor) if factor != 1.0 => Err(PluginError::unsupported(format!(
            "config.json: rope scaling has the `factor` {factor}, but its `rope_type` does not say what for"
        ))),
        _ => Ok(Scaling::None),
    }
}

fn rope(figures: &Figures<'_>, defaults: Defaults, scaling: Scaling) -> Result<Rope, PluginError> {
    check_known(figures.0)?;
    let partial = figures.number("partial_rotary_factor")?.or(defaults.partial).unwrap_or(1.0);
    let width = (defaults.head_width as f64 * partial) as usize;
    let least = if matches!(scaling, Scaling::Dynamic { .. }) { 4 } else { 2 };
    if width < least || !width.is_multiple_of(2) || width > defaults.head_width {
        return Err(PluginError::unsupported(format!(
            "config.json: {width} of {} dimensions cannot be rotated in pairs",
            defaults.head_width
        )));
    }
    let theta = figures.number("rope_theta")?.unwrap_or(defaults.theta);
    // Frequencies are its negative powers, and YaRN divides by its logarithm.
    if theta <= 1.0 {
        return Err(PluginError::corrupt_model(format!(
            "config.json: `rope_theta` is {theta}; it must be more than 1"
        )));
    }
    Ok(Rope { width, theta, pairing: defaults.pairing, scaling })
}

/// `longrope`.
fn long(figures: &Figures<'_>, defaults: Defaults) -> Result<Rope, PluginError> {
    let within = figures.positive("original_max_position_embeddings")?;
    let original = defaults.original.or(within).unwrap_or(0.0);
    if !(original > 1.0 && original.is_finite()) {
        return Err(PluginError::corrupt_model(
            "config.json: longrope without `original_max_position_embeddings`",
        ));
    }
    let factor = figures.positive("factor")?.unwrap_or(defaults.positions / original);
    let attention = match figures.positive("attention_factor")? {
        Some(attention) => attention,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    let plain = rope(figures, defaults, Scaling::None)?;
    let pairs = plain.width / 2;
    let list = |value: &Value| -> Option<Arc<[f64]>> {
        let factors = value.as_array()?.iter().map(|factor| factor.as_f64().filter(|f| *f > 0.0));
        factors.collect::<Option<Arc<[f64]>>>().filter(|factors| factors.len() == pairs)
    };
    let factors = |name: &str| {
        figures.0.get(name).and_then(list).ok_or_else(|| {
            PluginError::corrupt_model(format!("config.json: longrope's `{name}` must be {pairs} factors"))
        })
    };
    let scaling =
        Scaling::Long { short: factors("short_factor")?, long: factors("long_factor")?, original, attention };
    Ok(Rope { scaling, ..plain })
}

fn yarn(figures: &Figures<'_>, original: f64) -> Result<Scaling, PluginError> {
    let factor = figures.need("factor")?;
    let scale = |factor: f64, m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let (m, all) = (figures.number("mscale")?, figures.number("mscale_all_dim")?);
    let attention = match (figures.positive("attention_factor")?, m, all) {
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
        fast: figures.positive("beta_fast")?.unwrap_or(32.0),
        slow: figures.positive("beta_slow")?.unwrap_or(1.0),
        original,
        attention,
        truncate: figures.flag("truncate")?.unwrap_or(true),
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
    let unknown = |name: &&String| !KNOWN.contains(&name.as_str()) && !object[name.as_str()].is_null();
    match object.keys().find(unknown) {
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
            (serde_json::json!({"rope_type": "linear", "type": "yarn", "factor": 2.0}), "`type` `yarn`"),
            (serde_json::json!({"factor": 2.0}), "the `factor` 2"),
        ] {
            let error = of_object(object.as_object(), DEFAULTS).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }

    /// A wrong type is no reason to take the default, and no figure may be one that nothing can be divided by.
    #[test]
    fn figures_of_the_wrong_type_or_sign_are_refused() {
        for (name, value, expected) in [
            ("rope_theta", "1e6".into(), "`rope_theta` must be a number; found \"1e6\""),
            ("rope_theta", 1.into(), "`rope_theta` is 1"),
            ("partial_rotary_factor", "half".into(), "`partial_rotary_factor` must be a number"),
            ("factor", "2".into(), "`factor` must be a number above 0"),
            ("factor", 0.into(), "`factor` must be a number above 0; found 0"),
            ("factor", (-4).into(), "`factor` must be a number above 0; found -4"),
            ("beta_fast", "32".into(), "`beta_fast` must be a number above 0"),
            ("beta_slow", 0.into(), "`beta_slow` must be a number above 0"),
            ("attention_factor", "1".into(), "`attention_factor` must be a number above 0"),
            ("mscale", true.into(), "`mscale` must be a number"),
            ("truncate", "no".into(), "`truncate` must be true or false"),
            ("original_max_position_embeddings", "32".into(), "`original_max_position_embeddings` must be"),
            ("rope_type", 3.into(), "`rope_type` must be a text"),
        ] {
            let mut object = serde_json::json!({"rope_type": "yarn", "factor": 2.0});
            assert!(of_object(object.as_object(), DEFAULTS).is_ok());
            object[name] = value;
            let error = of_object(object.as_object(), DEFAULTS).unwrap_err();
            assert!(error.message.contains(expected), "{name}: {}", error.message);
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
            let error = long(&Figures(object.as_object().unwrap()), DEFAULTS).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }
}
