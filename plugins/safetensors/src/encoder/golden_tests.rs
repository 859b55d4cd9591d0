//! Each family against `sentence-transformers` on a small random checkpoint (`tests/oracles/encoders.py` makes them),
//! through the contract's own calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impetus_plugin_api::sdk::{Embedder, Embedding, Model};
use impetus_plugin_api::{Flow, Token, TokenizeOptions};
use serde::Deserialize;

use super::EncoderState;
use crate::any::CheckpointModel;
use crate::kernels::Level;
use crate::options::Options;

#[derive(Deserialize)]
struct Answers {
    texts: Vec<String>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    tokens: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

/// What a vector's numbers may differ by from the reference's, whose own are up to about 3.
const TOLERANCE: f32 = 2e-5;

/// What they may differ by from those of the same sequence in other company.
const IN_COMPANY: f32 = 2e-6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoders")
}

fn answers() -> Answers {
    serde_json::from_slice(&std::fs::read(folder().join("answers.json")).unwrap()).unwrap()
}

fn model(name: &str, level: Level) -> Arc<CheckpointModel> {
    let options = Options { threads: Some(2), kernels: Some(level), ..Options::default() };
    let model = CheckpointModel::load(&folder().join(name), options, 1, |_| Flow::Continue);
    Arc::new(model.unwrap_or_else(|error| panic!("{name}: {}", error.message)))
}

fn embed(state: &mut EncoderState, sequences: &[Vec<Token>]) -> Vec<Vec<f32>> {
    let slices: Vec<&[Token]> = sequences.iter().map(Vec::as_slice).collect();
    let vectors = state.embed(&slices).unwrap();
    vectors.chunks_exact(state.limits().dimensions as usize).map(<[f32]>::to_vec).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
}

#[test]
fn every_family_makes_the_vectors_of_sentence_transformers() {
    let Answers { texts, cases } = answers();
    assert_eq!(cases.len(), 8);
    for (name, case) in &cases {
        for level in Level::ALL.into_iter().filter(|level| level.runs_here()) {
            let model = model(name, level);
            let options = TokenizeOptions { add_special: true, parse_special: false };
            let sequences: Vec<Vec<Token>> =
                texts.iter().map(|text| model.tokenize(text, options).unwrap()).collect();
            for (found, expected) in sequences.iter().zip(&case.tokens) {
                assert_eq!(found.iter().map(|token| token.0).collect::<Vec<_>>(), *expected, "{name}");
            }
            let mut state = Arc::clone(&model).new_embedder("{}").unwrap();
            let together = embed(&mut state, &sequences);
            for (at, (found, expected)) in together.iter().zip(&case.vectors).enumerate() {
                let difference = largest_difference(found, expected);
                assert!(difference <= TOLERANCE, "{name}, {level}, text {at}: differs by {difference}");
            }
            for (sequence, found) in sequences.iter().zip(&together) {
                let alone = embed(&mut state, std::slice::from_ref(sequence));
                let difference = largest_difference(&alone[0], found);
                assert!(difference <= IN_COMPANY, "{name}, {level}: in company by {difference}");
            }
        }
    }
}

#[test]
fn a_longer_batch_after_a_shorter_one_and_many_blocks_change_nothing() {
    let model = model("bert", Level::best());
    let sequence =
        |length: usize| -> Vec<Token> { (0..length).map(|i| Token((i * 7 % 150) as u32)).collect() };
    let lengths = [1, 15, 16, 17, 64, 65, 200, 3];
    let sequences: Vec<Vec<Token>> = lengths.into_iter().map(sequence).collect();
    let mut state = Arc::clone(&model).new_embedder("{}").unwrap();
    let alone: Vec<Vec<f32>> =
        sequences.iter().map(|one| embed(&mut state, std::slice::from_ref(one)).remove(0)).collect();
    let together = embed(&mut model.new_embedder("{}").unwrap(), &sequences);
    for ((alone, together), length) in alone.iter().zip(&together).zip(lengths) {
        let difference = largest_difference(alone, together);
        assert!(difference <= IN_COMPANY, "{length} tokens: {difference}");
    }
}

#[test]
fn what_is_told_of_a_model_is_what_its_files_say() {
    let told = |name: &str| -> serde_json::Value {
        serde_json::from_str(&model(name, Level::best()).metadata_json()).unwrap()
    };
    let bert = told("bert");
    assert_eq!((&bert["architecture"], &bert["context_length"]), (&"bert".into(), &200.into()));
    assert_eq!(bert["embeddings"], serde_json::json!({"pooling": "mean", "normalized": true}));
    assert_eq!(told("roberta")["embeddings"]["pooling"], "cls");
    assert_eq!(told("bert_last")["embeddings"]["pooling"], "last");
    let plain = told("bert_plain");
    assert_eq!(plain["embeddings"], serde_json::json!({"pooling": "mean", "normalized": false}));
    assert!(plain["notes"][0].as_str().unwrap().contains("modules.json"), "{plain}");
    // RoBERTa's table of positions has rows that no token gets.
    let limits = model("roberta", Level::best()).new_embedder("{}").unwrap().limits();
    assert_eq!((limits.sequence_tokens, limits.dimensions), (254, 48));
}

/// The checkpoints of the hub are written in dialects of their own.
#[test]
fn older_dialects_describe_the_same_models() {
    let nomic = serde_json::json!({
        "model_type": "nomic_bert", "activation_function": "swiglu", "attn_pdrop": 0.0, "causal": false,
        "dense_seq_output": true, "embd_pdrop": 0.0, "fused_bias_fc": true, "fused_dropout_add_ln": true,
        "layer_norm_epsilon": 1e-12, "max_trained_positions": 128, "mlp_fc1_bias": false, "mlp_fc2_bias": false,
        "n_embd": 32, "n_head": 4, "n_inner": 48, "n_layer": 2, "n_positions": 256, "pad_vocab_size_multiple": 64,
        "parallel_block": false, "parallel_block_tied_norm": false, "prenorm": false, "qkv_proj_bias": false,
        "reorder_and_upcast_attn": false, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": false, "rotary_emb_scale_base": null, "rotary_scaling_factor": null,
        "scale_attn_by_inverse_layer_idx": false, "scale_attn_weights": true, "summary_type": "cls_index",
        "type_vocab_size": 2, "use_flash_attn": true, "use_rms_norm": false, "use_xentropy": true, "vocab_size": 160,
    });
    let modern = serde_json::json!({
        "model_type": "modernbert", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5,
        "num_attention_heads": 4, "max_position_embeddings": 256, "vocab_size": 300, "local_attention": 8,
        "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "norm_eps": 1e-5,
        "layer_norm_eps": 1e-5, "hidden_activation": "gelu", "attention_bias": false, "mlp_bias": false,
        "norm_bias": false, "pad_token_id": 1, "position_embedding_type": "absolute", "reference_compile": true,
    });
    for (name, config) in [("nomic_bert", nomic), ("modernbert", modern)] {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        for file in ["modules.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(folder().join(name).join(file), copy.path().join(file)).unwrap();
        }
        let load = |config: &serde_json::Value| {
            std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
            CheckpointModel::load(copy.path(), Options::default(), 1, |_| Flow::Continue)
        };
        let model = load(&config).unwrap_or_else(|error| panic!("{name}: {}", error.message));
        let mut state = Arc::new(model).new_embedder("{}").unwrap();
        let case = &answers().cases[name];
        let tokens = case.tokens[8].iter().copied().map(Token).collect();
        let difference = largest_difference(&embed(&mut state, &[tokens])[0], &case.vectors[8]);
        assert!(difference <= TOLERANCE, "{name}: {difference}");
        for (field, value) in
            [("rotary_scaling_factor", 2.into()), ("norm_bias", true.into()), ("prenorm", true.into())]
        {
            let mut changed = config.clone();
            if changed.get(field).is_none() {
                continue;
            }
            changed[field] = value;
            let error = load(&changed).err().unwrap();
            assert!(error.message.contains(field), "{name}: {}", error.message);
        }
    }
}

/// As a longer run through the state's own door: a file that contradicts its configuration is told by the tensor.
#[test]
fn tensors_that_do_not_fit_are_named() {
    for (name, field, value, tensor) in [
        ("bert", "intermediate_size", 47, "intermediate.dense"),
        ("roberta", "max_position_embeddings", 255, "position_embeddings"),
        ("distilbert", "n_layers", 3, "transformer.layer.2"),
        ("distilbert", "n_layers", 1, "transformer.layer.1"),
        ("modernbert", "intermediate_size", 47, "mlp.Wi"),
        ("nomic_bert", "num_hidden_layers", 3, "encoder.layers.2"),
        ("nomic_bert", "num_hidden_layers", 1, "encoder.layers.1"),
    ] {
        let copy = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(folder().join(name).join(file), copy.path().join(file)).unwrap();
        }
        let path = copy.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[field] = value.into();
        std::fs::write(&path, config.to_string()).unwrap();
        let loaded = CheckpointModel::load(copy.path(), Options::default(), 1, |_| Flow::Continue);
        let error = loaded.err().unwrap_or_else(|| panic!("{name}: {field} = {value} loaded"));
        assert!(error.message.contains(tensor), "{name}, {field}: {}", error.message);
    }
}
