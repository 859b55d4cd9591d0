//! Configurations that lack something or claim too much.

use super::*;

#[test]
fn a_model_card_names_the_licence() {
    for (card, expected) in [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", Some("apache-2.0")),
        ("---\nlicense: \"mit\"\n---\n", Some("mit")),
        ("---\nlicense:\n---\n", None),
        ("# Model\nlicense: mit\n---", None),
    ] {
        assert_eq!(license_of(card).as_deref(), expected, "{card}");
    }
}

#[test]
fn nothing_is_guessed() {
    let llama = serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9,
        "intermediate_size": 96, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    });
    let check = |change: &dyn Fn(&mut Map<String, Value>), expected: &str| {
        let mut config = llama.as_object().unwrap().clone();
        change(&mut config);
        let empty = Map::new;
        let description = Description {
            config,
            generation: empty(),
            tokenizer: empty(),
            chat_template: None,
            named_templates: Map::new(),
            license: None,
        };
        match description.decoder() {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => {
                assert!(error.message.contains(expected) && !expected.is_empty(), "{}", error.message)
            }
        }
    };
    let set = |name: &'static str, value: Value| {
        move |config: &mut Map<String, Value>| drop(config.insert(name.to_owned(), value.clone()))
    };
    check(&|_| (), "");
    for name in ["hidden_size", "rms_norm_eps", "max_position_embeddings", "vocab_size"] {
        check(&|config| drop(config.remove(name)), name);
    }
    check(&set("num_hidden_layers", 5000.into()), "num_hidden_layers is 4097");
    check(&set("num_key_value_heads", 3.into()), "4 attention heads cannot share 3");
    check(&set("num_attention_heads", 0.into()), "num_attention_heads is 0");
    check(&set("hidden_act", "relu".into()), "`relu`");
    check(&set("vocab_size", "many".into()), "`vocab_size` must be a whole number");
    check(&set("model_type", "mistral".into()), "`sliding_window` is missing");
    check(&set("model_type", "gemma2".into()), "`sliding_window` is missing");
    check(&set("model_type", "gemma3_text".into()), "`sliding_window` is missing");
    check(&set("rope_theta", "1e6".into()), "`rope_theta` must be a number");
    check(&set("rope_scaling", "linear".into()), "`rope_scaling` must be an object");
    check(&set("rope_parameters", 4.into()), "`rope_parameters` must be an object");
    check(&set("rope_scaling", Value::Object(Map::new())), "");
    check(&set("rope_interleaved", false.into()), "");
    check(&set("rope_interleaved", true.into()), "`rope_interleaved` is true");
}

fn with(base: &Value, change: &Value) -> Result<Decoder, PluginError> {
    let mut config = base.as_object().unwrap().clone();
    config.extend(change.as_object().unwrap().clone());
    decoder_of(config)
}

/// What a folder with this `config.json` and nothing else describes.
pub(super) fn decoder_of(config: Map<String, Value>) -> Result<Decoder, PluginError> {
    let (generation, tokenizer) = (Map::new(), Map::new());
    Description {
        config,
        generation,
        tokenizer,
        chat_template: None,
        named_templates: Map::new(),
        license: None,
    }
    .decoder()
}

/// A small configuration of a family, changed: what is wrong with it must be told, or nothing for "".
fn check(family: &str, change: Value, expected: &str) {
    let base = serde_json::json!({
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9, "rms_norm_eps": 1e-5,
        "intermediate_size": 96, "max_position_embeddings": 64,
    });
    let mut all = change.as_object().unwrap().clone();
    all.insert("model_type".to_owned(), family.into());
    if family.ends_with("moe") {
        for name in ["num_experts", "num_experts_per_tok"] {
            all.insert(name.to_owned(), 1.into());
        }
        for name in ["moe_intermediate_size", "shared_expert_intermediate_size"] {
            all.insert(name.to_owned(), 8.into());
        }
    }
    match with(&base, &all.into()) {
        Ok(_) => assert_eq!(expected, "", "{family} {change}"),
        Err(error) => assert!(
            error.message.contains(expected) && !expected.is_empty(),
            "{family} {change}: {}",
            error.message
        ),
    }
}

/// Two dialects that disagree are no model that anybody knows.
#[test]
fn ropes_that_contradict_each_other_are_refused() {
    let linear = |factor: f64| serde_json::json!({"rope_type": "linear", "factor": factor});
    let both = |scaling: Value| serde_json::json!({"rope_parameters": linear(2.0), "rope_scaling": scaling});
    check("llama", both(linear(2.0)), "");
    check("llama", both(Value::Null), "");
    check("llama", both(linear(4.0)), "`rope_parameters` and `rope_scaling` differ");
    let kinds = |change: Value, scaling: Value| {
        let mut ropes = serde_json::json!({"full_attention": {}, "sliding_attention": {}});
        ropes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::json!({"sliding_window": 8, "rope_parameters": ropes, "rope_scaling": scaling})
    };
    check("gemma3_text", kinds(serde_json::json!({}), Value::Null), "");
    check("gemma3_text", kinds(serde_json::json!({}), linear(8.0)), "`rope_scaling` is");
    let null = serde_json::json!({"sliding_attention": null});
    check("gemma3_text", kinds(null, Value::Null), "must have an object `sliding_attention`");
    check(
        "gemma3_text",
        kinds(serde_json::json!({"chunks": {}}), Value::Null),
        "of `chunks` are not supported",
    );
}

/// Nor is a window that nobody gave its width.
#[test]
fn windows_that_nobody_understands_are_refused() {
    for family in ["qwen2", "qwen3", "qwen2_moe"] {
        let used = |window: Value| serde_json::json!({"use_sliding_window": true, "sliding_window": window});
        check(family, serde_json::json!({"use_sliding_window": true}), "`sliding_window` is missing");
        check(family, used(0.into()), "`sliding_window` is 0");
        check(family, used(8.into()), "");
        let listed = |kinds: Value| serde_json::json!({"sliding_window": 8, "layer_types": kinds});
        let of = |first: &str| listed(serde_json::json!([first, "full_attention"]));
        check(family, of("full_attention"), "");
        check(family, of("sliding_attention"), "while `use_sliding_window` is not true");
        check(family, of("moon"), "layer type \"moon\"");
        check(family, listed("full_attention".into()), "`layer_types` must be a list");
    }
    let unbounded = serde_json::json!({"layer_types": ["sliding_attention", "full_attention"]});
    check("phi3", unbounded, "does not say how far it sees");
    check("phi3", serde_json::json!({"full_attn_mod": 2}), "`full_attn_mod` is 2");
    check("phi3", serde_json::json!({"lm_head_bias": true}), "`lm_head_bias` is true");
    check("smollm3", serde_json::json!({"no_rope_layers": [1]}), "for each of 2 layers");
    check("qwen2_moe", serde_json::json!({"mlp_only_layers": ["first"]}), "must be numbers of layers");
}

#[test]
fn figures_of_experts_and_lengths_are_checked() {
    let base = serde_json::json!({
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9,
        "intermediate_size": 96, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "layer_norm_eps": 1e-5,
    });
    for (change, expected) in [
        (
            serde_json::json!({"model_type": "mixtral", "sliding_window": null}),
            "`num_local_experts` is missing",
        ),
        (
            serde_json::json!({"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3}),
            "3 of 2 experts",
        ),
        (serde_json::json!({"model_type": "olmo", "clip_qkv": 0.0}), "`clip_qkv` is 0"),
        (
            serde_json::json!({"model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": "LLG"}),
            "whole number",
        ),
        (
            serde_json::json!({
                "model_type": "seed_oss", "head_dim": 16, "attention_bias": false, "attention_out_bias": true
            }),
            "`attention_out_bias` without",
        ),
        (serde_json::json!({"model_type": "cohere2"}), "`sliding_window` is missing"),
        (serde_json::json!({"model_type": "cohere2", "sliding_window": 8, "head_dim": 8}), "`head_dim` is 8"),
        (serde_json::json!({"model_type": "glm4"}), "`head_dim` is missing"),
        (serde_json::json!({"model_type": "gpt2"}), "`n_embd` is missing"),
        (
            serde_json::json!({"model_type": "llama", "rope_scaling": {"type": "longrope", "factor": 2.0}}),
            "for phi3 longrope",
        ),
        (
            serde_json::json!({"model_type": "phi3", "rope_scaling": {"type": "su", "short_factor": [1.0]}}),
            "`short_factor` must be 8 factors",
        ),
    ] {
        let error = with(&base, &change).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

#[test]
fn templates_have_names_and_both_configurations_end_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("config.json", r#"{"model_type": "llama", "eos_token_id": 2}"#);
    write("generation_config.json", r#"{"eos_token_id": [7, 5, 2], "temperature": 0.6}"#);
    let listed = |names: &[&str]| {
        let all: Vec<Value> = names
            .iter()
            .map(|name| serde_json::json!({"name": name, "template": format!("of {name}")}))
            .collect();
        write("tokenizer_config.json", &serde_json::json!({"chat_template": all}).to_string());
        let description = Description::read(folder.path()).unwrap();
        let named: Vec<String> = description.named_templates.keys().cloned().collect();
        (description.chat_template, named)
    };
    assert_eq!(
        listed(&["rag", "tool_use", "default"]),
        (Some("of default".into()), vec!["rag".into(), "tool_use".into()])
    );
    assert_eq!(listed(&["rag"]), (Some("of rag".into()), vec!["rag".into()]));
    // Which of them is for plain chats, nobody said.
    assert_eq!(listed(&["rag", "tool_use"]).0, None);
    let description = Description::read(folder.path()).unwrap();
    assert_eq!(description.end_tokens(), [2, 5, 7]);
    assert_eq!(description.generation["temperature"], 0.6);
    // Files go before what the tokeniser's configuration has.
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    write("chat_template.jinja", "a file");
    write("additional_chat_templates/tool_use.jinja", "with tools");
    let description = Description::read(folder.path()).unwrap();
    assert_eq!(description.chat_template.as_deref(), Some("a file"));
    let named: Vec<(&String, &Value)> = description.named_templates.iter().collect();
    assert_eq!(named, [(&"tool_use".to_owned(), &Value::from("with tools"))]);
}
