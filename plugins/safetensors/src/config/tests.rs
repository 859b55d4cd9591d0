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
        let mut config = base.as_object().unwrap().clone();
        config.extend(change.as_object().unwrap().clone());
        let (generation, tokenizer) = (Map::new(), Map::new());
        let description = Description { config, generation, tokenizer, chat_template: None, license: None };
        let error = description.decoder().unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
}
