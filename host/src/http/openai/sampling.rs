//! The fields that say how tokens are chosen, under the names that llama.cpp's server and vLLM have for them. What they
//! mean is in docs/sampling.md; their ranges are checked by `sampling::Settings`.

use serde_json::Value;

use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found, number};
use crate::sampling::{
    Dry, DynamicTemperature, Filters, InvalidSetting, Mirostat, MirostatVersion, Selection, Settings, Xtc,
};

/// Texts over which no repetition goes, and the longest of them: each is looked for at every token.
const MAX_BREAKERS: usize = 64;
const MAX_BREAKER_BYTES: usize = 128;

/// What `dry_sequence_breakers` is where it is not said, as in llama.cpp.
const BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// Takes the fields.
pub(super) fn take(fields: &mut Fields) -> Result<Settings> {
    let default = Settings::default();
    let (repeat_name, repeat_penalty) = repeat_penalty(fields)?;
    let settings = Settings {
        temperature: fields.number("temperature")?.unwrap_or(default.temperature),
        selection: selection(fields)?,
        repeat_penalty: repeat_penalty.unwrap_or(default.repeat_penalty),
        presence_penalty: fields.number("presence_penalty")?.unwrap_or(default.presence_penalty),
        frequency_penalty: fields.number("frequency_penalty")?.unwrap_or(default.frequency_penalty),
        penalty_window: match window(fields, "repeat_last_n")? {
            Some(tokens) => tokens.unwrap_or(u32::MAX),
            None => default.penalty_window,
        },
        dry: dry(fields)?,
        logit_bias: logit_bias(fields)?,
        ..default
    };
    match settings.validate() {
        Ok(()) => Ok(settings),
        // The client wrote one of two names for it and must find that one in the answer.
        Err(invalid) if invalid.field == "repeat_penalty" => Err(refused(&invalid, repeat_name)),
        Err(invalid) => Err(refused(&invalid, invalid.field)),
    }
}

/// The sampler's refusal under the name that the client wrote.
pub(super) fn refused(invalid: &InvalidSetting, written: &str) -> Failure {
    let rest = invalid.message.strip_prefix(invalid.field).unwrap_or(&invalid.message);
    Error::invalid(written, format!("`{written}`{rest}")).into()
}

fn repeat_penalty(fields: &mut Fields) -> Result<(&'static str, Option<f32>)> {
    let short = fields.number("repeat_penalty")?;
    let long = fields.number("repetition_penalty")?;
    match (short, long) {
        (Some(short), Some(long)) if short != long => {
            let message =
                "`repetition_penalty` is another name of `repeat_penalty`, and the two differ: send one";
            Err(Error::invalid("repetition_penalty", message).into())
        }
        (None, Some(long)) => Ok(("repetition_penalty", Some(long))),
        (short, _) => Ok(("repeat_penalty", short)),
    }
}

/// The filters, or mirostat. Filters beside mirostat would do nothing: they are refused by name.
fn selection(fields: &mut Fields) -> Result<Selection> {
    let default = Filters::default();
    let filters = Filters {
        top_n_sigma: top_n_sigma(fields)?.unwrap_or(default.top_n_sigma),
        top_k: top_k(fields)?.unwrap_or(default.top_k),
        typical_p: fields.number("typical_p")?.unwrap_or(default.typical_p),
        top_p: fields.number("top_p")?.unwrap_or(default.top_p),
        min_p: fields.number("min_p")?.unwrap_or(default.min_p),
        xtc: xtc(fields)?,
        dynamic: dynamic(fields)?,
    };
    let Some(mirostat) = mirostat(fields)? else { return Ok(Selection::Filters(filters)) };
    let off = [
        ("top_n_sigma", filters.top_n_sigma == default.top_n_sigma),
        ("top_k", filters.top_k == default.top_k),
        ("typical_p", filters.typical_p == default.typical_p),
        ("top_p", filters.top_p == default.top_p),
        ("min_p", filters.min_p == default.min_p),
        ("xtc_probability", filters.xtc.is_none()),
        ("dynatemp_range", filters.dynamic.is_none()),
    ];
    match off.into_iter().find(|(_, is_off)| !is_off) {
        None => Ok(Selection::Mirostat(mirostat)),
        Some((name, _)) => {
            let message =
                format!("`{name}` has no effect beside `mirostat`, which selects by itself: send one");
            Err(Error::unsupported(name, message).into())
        }
    }
}

// What belongs to a setting that is off is still checked: a mistake is found before it is switched on.

fn xtc(fields: &mut Fields) -> Result<Option<Xtc>> {
    let xtc = Xtc {
        probability: fields.number("xtc_probability")?.unwrap_or(0.0),
        threshold: fields.number("xtc_threshold")?.unwrap_or(0.1),
    };
    xtc.validate().map_err(|invalid| refused(&invalid, invalid.field))?;
    Ok((xtc.probability > 0.0).then_some(xtc))
}

fn dynamic(fields: &mut Fields) -> Result<Option<DynamicTemperature>> {
    let dynamic = DynamicTemperature {
        range: fields.number("dynatemp_range")?.unwrap_or(0.0),
        exponent: fields.number("dynatemp_exponent")?.unwrap_or(1.0),
    };
    dynamic.validate().map_err(|invalid| refused(&invalid, invalid.field))?;
    Ok((dynamic.range > 0.0).then_some(dynamic))
}

fn mirostat(fields: &mut Fields) -> Result<Option<Mirostat>> {
    let asked = fields.count("mirostat", 0..=2)?.unwrap_or(0);
    let version = if asked == 1 { MirostatVersion::One } else { MirostatVersion::Two };
    let mirostat = Mirostat {
        version,
        tau: fields.number("mirostat_tau")?.unwrap_or(5.0),
        eta: fields.number("mirostat_eta")?.unwrap_or(0.1),
    };
    mirostat.validate().map_err(|invalid| refused(&invalid, invalid.field))?;
    Ok((asked > 0).then_some(mirostat))
}

fn dry(fields: &mut Fields) -> Result<Option<Dry>> {
    let multiplier = fields.number("dry_multiplier")?.unwrap_or(0.0);
    let is_on = multiplier != 0.0;
    let dry = Dry {
        multiplier: if is_on { multiplier } else { 1.0 },
        base: fields.number("dry_base")?.unwrap_or(1.75),
        allowed_length: fields.count("dry_allowed_length", 0..=u32::MAX)?.unwrap_or(2),
        window: window(fields, "dry_penalty_last_n")?.flatten(),
        breakers: breakers(fields)?,
    };
    dry.validate().map_err(|invalid| refused(&invalid, invalid.field))?;
    Ok(is_on.then_some(dry))
}

fn breakers(fields: &mut Fields) -> Result<Vec<String>> {
    const NAME: &str = "dry_sequence_breakers";
    let Some(values) = fields.list(NAME)? else {
        return Ok(BREAKERS.map(str::to_owned).to_vec());
    };
    if values.len() > MAX_BREAKERS {
        let message = format!("`{NAME}` may have up to {MAX_BREAKERS} texts; found {}", values.len());
        return Err(Error::invalid(NAME, message).into());
    }
    let text = |(path, value): (String, Value)| match value {
        Value::String(text) if text.is_empty() || text.len() > MAX_BREAKER_BYTES => {
            let message = format!("`{path}` must have 1 to {MAX_BREAKER_BYTES} bytes; found {}", text.len());
            Err(Error::invalid(path, message).into())
        }
        Value::String(text) => Ok(text),
        other => Err(Failure::wrong_shape(&path, "a string", found(&other))),
    };
    values.into_iter().map(text).collect()
}

/// A number of last tokens; -1 is all of them (`Some(None)`).
fn window(fields: &mut Fields, name: &str) -> Result<Option<Option<u32>>> {
    match fields.integer(name)? {
        None => Ok(None),
        Some(-1) => Ok(Some(None)),
        Some(tokens) => u32::try_from(tokens).map(|tokens| Some(Some(tokens))).map_err(|_| {
            let message = format!("`{name}` must be a number of tokens, or -1 for all; found {tokens}");
            Error::invalid(name, message).into()
        }),
    }
}

/// llama.cpp's value for off is -1.
fn top_n_sigma(fields: &mut Fields) -> Result<Option<f32>> {
    let sigma = fields.number("top_n_sigma")?;
    Ok(sigma.map(|sigma| if sigma == -1.0 { 0.0 } else { sigma }))
}

fn top_k(fields: &mut Fields) -> Result<Option<u32>> {
    match fields.integer("top_k")? {
        None => Ok(None),
        Some(-1) => Ok(Some(0)),
        Some(k) => u32::try_from(k).map(Some).map_err(|_| {
            Error::invalid("top_k", format!("`top_k` must be at least 1, or 0 or -1 for off; found {k}"))
                .into()
        }),
    }
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>> {
    let Some(biases) = fields.object("logit_bias")? else {
        return Ok(Vec::new());
    };
    let bias = |(key, value): (String, Value)| {
        let path = format!("logit_bias.{key}");
        let token = key.parse::<u32>().map_err(|_| {
            Error::invalid(
                path.as_str(),
                format!("the keys of `logit_bias` must be token ids; found `{key}`"),
            )
        })?;
        Ok((token, number(&path, &value)?))
    };
    biases.into_values().map(bias).collect()
}
