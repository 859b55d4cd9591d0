//! Configurations as they are published, and the fixtures' rewritten into the dialect of years ago.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::tests::decoder_of;
use super::*;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(folder)
}

fn published(name: &str) -> Decoder {
    let config = object(&fixtures("configs"), name).unwrap().unwrap();
    decoder_of(config).unwrap_or_else(|error| panic!("{name}: {}", error.message))
}

/// What people can fetch runs: no field of a published file may be a surprise.
#[test]
fn published_configurations_are_read() {
    let mut families = BTreeSet::new();
    for file in std::fs::read_dir(fixtures("configs")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".json") {
            families.insert(published(&name).family);
        }
    }
    let missing: Vec<&str> = families::names().filter(|name| !families.contains(*name)).collect();
    assert!(missing.is_empty(), "tests/fixtures/configs has none of {missing:?}");
}

/// Figures that a wrong reading would change.
#[test]
fn published_figures_arrive() {
    let phi = published("phi-4-mini-instruct.json");
    assert_eq!((phi.ropes[0].width, phi.head_width, phi.tied), (96, 128, true));
    let Scaling::Long { short, long, original, .. } = &phi.ropes[0].scaling else {
        panic!("{:?}", phi.ropes)
    };
    assert_eq!((short.len(), long[47], *original), (48, 47.77, 4096.0));
    assert_eq!(published("phi-3-mini-4k-instruct.json").layers[31].window, Some(2047));
    let falcon = published("falcon-7b-instruct.json");
    assert_eq!((falcon.context_length, falcon.kv_heads, falcon.head_width), (2048, 1, 64));
    assert_eq!(published("falcon-40b.json").kv_heads, 8);
    assert_eq!(published("starcoder2-3b.json").activation, Activation::GeluTanh);
    assert_eq!(published("gpt-neox-20b.json").activation, Activation::GeluTanh);
    let smollm = published("smollm3-3b.json");
    assert_eq!((smollm.layers[2].rope, smollm.layers[3].rope), (Some(0), None));
    let gemma = published("gemma-3-1b-it.json");
    assert_eq!((gemma.layers[4].window, gemma.layers[5].window), (Some(512), None));
    assert_eq!((gemma.ropes[0].theta, gemma.ropes[1].theta), (1e6, 1e4));
    assert!(published("qwen2.5-0.5b-instruct.json").layers.iter().all(|layer| layer.window.is_none()));
    let llama = published("llama-3.1-8b-instruct.json");
    assert_eq!(
        llama.ropes[0].scaling,
        Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 }
    );
}

/// `rope_theta` and `rope_scaling` for `rope_parameters`, `torch_dtype` for `dtype`, and rules for `layer_types`.
fn older(mut config: Map<String, Value>) -> Map<String, Value> {
    let family = config["model_type"].as_str().unwrap().to_owned();
    let dtype = config.remove("dtype").unwrap();
    config.insert("torch_dtype".to_owned(), dtype);
    if config.remove("layer_types").is_some() && ["gemma3_text", "cohere2"].contains(&family.as_str()) {
        // Their rule has a field of its own; in the fixtures every second layer sees everything.
        config.remove("_sliding_window_pattern");
        config.insert("sliding_window_pattern".to_owned(), 2.into());
    }
    let Some(Value::Object(mut ropes)) = config.remove("rope_parameters") else { return config };
    if let Some(sliding) = ropes.remove("sliding_attention") {
        if family == "gemma3_text" {
            config.insert("rope_local_base_freq".to_owned(), sliding["rope_theta"].clone());
        }
        let Some(Value::Object(full)) = ropes.remove("full_attention") else { panic!("{family}") };
        ropes = full;
    }
    let neox = family == "gpt_neox";
    for (new, old) in [
        ("rope_theta", if neox { "rotary_emb_base" } else { "rope_theta" }),
        ("partial_rotary_factor", if neox { "rotary_pct" } else { "partial_rotary_factor" }),
    ] {
        if let Some(value) = ropes.remove(new) {
            config.insert(old.to_owned(), value);
        }
    }
    let kind = ropes.remove("rope_type").unwrap();
    if kind == "default" {
        config.insert("rope_scaling".to_owned(), Value::Null);
    } else {
        // Llama 3.1 brought the newer name along.
        ropes.insert(if kind == "llama3" { "rope_type" } else { "type" }.to_owned(), kind);
        config.insert("rope_scaling".to_owned(), ropes.into());
    }
    config
}

#[test]
fn older_dialects_describe_the_same_decoders() {
    let (mut scaled, mut sliding) = (BTreeSet::new(), 0);
    for folder in std::fs::read_dir(fixtures("checkpoints")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(Some(mut config)) = object(&folder, "config.json") else { continue };
        if config["model_type"] == "olmo3" {
            // The older dialect has no field for the windows' own.
            config["rope_parameters"]["sliding_attention"]["rope_theta"] = json!(500_000.0);
        }
        let rewritten = older(config.clone());
        assert!(!rewritten.contains_key("rope_parameters") && !rewritten.contains_key("layer_types"));
        sliding += usize::from(config.contains_key("layer_types"));
        if let Some(kind) = rewritten.get("rope_scaling").and_then(Value::as_object) {
            scaled.insert(kind.get("type").or(kind.get("rope_type")).unwrap().as_str().unwrap().to_owned());
        }
        let name = folder.display();
        let expected = decoder_of(config).unwrap_or_else(|error| panic!("{name}: {}", error.message));
        let found = decoder_of(rewritten).unwrap_or_else(|error| panic!("{name}: {}", error.message));
        assert_eq!(found, expected, "{name}");
    }
    let scaled: Vec<&str> = scaled.iter().map(String::as_str).collect();
    assert_eq!(scaled, ["dynamic", "linear", "llama3", "longrope", "yarn"]);
    assert!(sliding >= 8, "{sliding}");
}
