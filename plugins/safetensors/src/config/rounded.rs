//! Whether a checkpoint's weights are rounded, and by whom: MLX's affine groups are read, all else is refused by name.

use impetus_plugin_api::PluginError;
use serde_json::{Map, Value};

/// Whether `config.json` says that MLX rounded the weights.
///
/// # Errors
/// `UNSUPPORTED` with the method that rounded them.
pub(super) fn by_mlx(config: &Map<String, Value>) -> Result<bool, PluginError> {
    let object = |name: &str| config.get(name).filter(|value| !value.is_null());
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let of_hub = object("quantization_config");
    if let Some(method) = of_hub.and_then(|value| text(value, "quant_method")) {
        return Err(refused(&format!("`quantization_config` says `{method}`")));
    }
    // MLX writes the same object under both names.
    let Some(rounding) = object("quantization").or(of_hub) else { return Ok(false) };
    match text(rounding, "mode").as_deref() {
        None | Some("affine") if rounding.get("bits").is_some() => Ok(true),
        None | Some("affine") => Err(refused("`quantization` does not say how")),
        Some(mode) => Err(refused(&format!("`quantization` says mode `{mode}`"))),
    }
}

fn refused(how: &str) -> PluginError {
    PluginError::unsupported(format!(
        "config.json: the weights are quantised, {how}, which safetensors {} does not read; read are MLX's affine groups; \
         otherwise use the checkpoint in BF16, or a GGUF of it",
        env!("CARGO_PKG_VERSION")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_are_told_apart() {
        let affine =
            json!({"group_size": 64, "bits": 4, "mode": "affine", "model.layers.0.mlp.up_proj": {"bits": 8}});
        for (config, expected) in [
            (json!({}), Ok(false)),
            (json!({"quantization": null, "quantization_config": null}), Ok(false)),
            (json!({"quantization": affine, "quantization_config": affine}), Ok(true)),
            (json!({"quantization": {"group_size": 64, "bits": 4}}), Ok(true)),
            (json!({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}), Err("mxfp4")),
            (json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}), Err("gptq")),
            (json!({"quantization_config": {"quant_method": "fp8"}}), Err("fp8")),
            (json!({"quantization": {}}), Err("does not say how")),
        ] {
            match (by_mlx(config.as_object().unwrap()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{config}"),
                (Err(error), Err(expected)) => assert!(error.message.contains(expected), "{}", error.message),
                (found, _) => panic!("{config}: {:?}", found.map_err(|error| error.message)),
            }
        }
    }
}
