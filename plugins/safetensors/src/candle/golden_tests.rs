//! Each family against `transformers` on a small random checkpoint (`tests/oracles/checkpoints.py` makes them), through
//! the contract's own calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impetus_plugin_api::sdk::{Context, Model};
use impetus_plugin_api::{Batch, Capabilities, ErrorCode, Flow, PosRange, Position, SeqId, Token};
use safetensors::tensor::{SafeTensors, TensorView};
use serde::Deserialize;

use crate::any::{AnyContext, CheckpointModel};
use crate::options::Options;

#[derive(Deserialize)]
struct Answers {
    rows: Vec<usize>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: Vec<u32>,
    /// Behind each of `rows`.
    log_probabilities: Vec<Vec<f32>>,
    greedy: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/candle")
}

fn answers() -> Answers {
    serde_json::from_slice(&std::fs::read(folder().join("answers.json")).unwrap()).unwrap()
}

fn model(name: &str) -> CheckpointModel {
    let options = Options { threads: Some(2), ..Options::default() };
    CheckpointModel::load(&folder().join(name), options, 1, |_| Flow::Continue)
        .unwrap_or_else(|error| panic!("{name}: {}", error.message))
}

fn context(name: &str) -> AnyContext {
    Arc::new(model(name)).new_context(r#"{"max_sequences": 3, "context_tokens": 512}"#).unwrap()
}

/// Decodes rows of (sequence, position, token); logits are wanted behind some.
fn decode(context: &mut AnyContext, rows: &[(u32, u32, u32)], wanted: impl Fn(usize) -> bool) {
    let tokens: Vec<Token> = rows.iter().map(|row| Token(row.2)).collect();
    let positions: Vec<Position> = rows.iter().map(|row| Position(row.1)).collect();
    let sequences: Vec<SeqId> = rows.iter().map(|row| SeqId(row.0)).collect();
    let wants_logits: Vec<bool> = (0..rows.len()).map(wanted).collect();
    let batch = Batch {
        tokens: tokens.as_slice().into(),
        positions: positions.as_slice().into(),
        sequences: sequences.as_slice().into(),
        wants_logits: wants_logits.as_slice().into(),
    };
    context.decode(batch).unwrap_or_else(|error| panic!("{}", error.message));
}

fn log_probabilities(context: &AnyContext, row: usize) -> Vec<f32> {
    let logits = context.logits(row).unwrap();
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits.iter().map(|logit| logit - largest - sum.ln()).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32
}

fn rows_of(sequence: u32, first: u32, tokens: &[u32]) -> Vec<(u32, u32, u32)> {
    tokens.iter().enumerate().map(|(i, &token)| (sequence, first + i as u32, token)).collect()
}

#[test]
fn every_family_computes_what_transformers_computes() {
    let Answers { rows, cases } = answers();
    let families: Vec<String> = cases.keys().map(|name| model_type(name)).collect();
    for family in super::names() {
        assert!(families.iter().any(|known| known == family), "{family} is proved by no checkpoint");
    }
    for (name, case) in &cases {
        let mut context = context(name);
        decode(&mut context, &rows_of(1, 0, &case.prompt), |row| rows.contains(&row));
        for (&row, expected) in rows.iter().zip(&case.log_probabilities) {
            let difference = largest_difference(&log_probabilities(&context, row), expected);
            assert!(difference <= 1e-3, "{name}, row {row}: log probabilities differ by {difference}");
        }
        let mut next = argmax(&log_probabilities(&context, case.prompt.len() - 1));
        for (i, &expected) in case.greedy.iter().enumerate() {
            assert_eq!(next, expected, "{name}: greedy token {i}");
            decode(&mut context, &rows_of(1, (case.prompt.len() + i) as u32, &[next]), |_| true);
            next = argmax(&log_probabilities(&context, 0));
        }
    }
}

fn model_type(name: &str) -> String {
    let config = std::fs::read(folder().join(name).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["model_type"].as_str().unwrap().to_owned()
}

/// In pieces, between rows of another sequence, and after both were dropped: always the same.
#[test]
fn sequences_do_not_touch_each_other() {
    for (name, case) in answers().cases {
        let mut context = context(&name);
        let last = case.prompt.len() - 1;
        decode(&mut context, &rows_of(0, 0, &case.prompt), |row| row == last);
        let alone = log_probabilities(&context, last);
        context.seq_rm(SeqId(0), PosRange::from(Position(0))).unwrap();
        assert_eq!(context.seq_pos_max(SeqId(0)), None);
        let mut at = 0;
        for (piece, tokens) in case.prompt.chunks(13).enumerate() {
            let mut rows = rows_of(0, at, tokens);
            rows.push((2, piece as u32, tokens[0] ^ 1));
            at += tokens.len() as u32;
            let wanted = tokens.len() - 1;
            decode(&mut context, &rows, |row| row == wanted);
        }
        let in_company = log_probabilities(&context, (case.prompt.len() - 1) % 13);
        let difference = largest_difference(&alone, &in_company);
        assert!(difference < 1e-4, "{name} in pieces: {difference}");
        assert_eq!(context.seq_pos_max(SeqId(0)), Some(Position(last as u32)));
        context.clear().unwrap();
        decode(&mut context, &rows_of(2, 0, &case.prompt), |row| row == last);
        assert_eq!(log_probabilities(&context, last), alone, "{name} after a drop");
    }
}

#[test]
fn a_state_is_neither_cut_nor_copied_and_says_so() {
    for name in answers().cases.keys() {
        let model = Arc::new(model(name));
        let can = model.capabilities();
        assert!(can.has(Capabilities::GENERATE));
        assert!(!can.has(Capabilities::PARTIAL_SEQ_RM) && !can.has(Capabilities::SEQ_CP));
        assert!(model.metadata_json().contains("one sequence after another"), "{name}");
        let mut context = context(name);
        decode(&mut context, &rows_of(0, 0, &[1, 2, 3]), |_| false);
        let cut = context.seq_rm(SeqId(0), PosRange::from(Position(2))).unwrap_err();
        let copy = context.seq_cp(SeqId(0), SeqId(1), PosRange::from(Position(0))).unwrap_err();
        assert_eq!((cut.code, copy.code), (ErrorCode::UNSUPPORTED, ErrorCode::UNSUPPORTED));
        assert_eq!(context.seq_pos_max(SeqId(0)), Some(Position(2)));
        // Behind its end there is nothing to forget.
        context.seq_rm(SeqId(0), PosRange::from(Position(3))).unwrap();
        let mut rows = rows_of(1, 0, &[1; 255]);
        rows.extend(rows_of(2, 0, &[1; 255]));
        let tokens: Vec<Token> = rows.iter().map(|row| Token(row.2)).collect();
        let positions: Vec<Position> = rows.iter().map(|row| Position(row.1)).collect();
        let sequences: Vec<SeqId> = rows.iter().map(|row| SeqId(row.0)).collect();
        let wants_logits = vec![false; rows.len()];
        let full = context.decode(Batch {
            tokens: tokens.as_slice().into(),
            positions: positions.as_slice().into(),
            sequences: sequences.as_slice().into(),
            wants_logits: wants_logits.as_slice().into(),
        });
        assert_eq!(full.unwrap_err().code, ErrorCode::CACHE_FULL, "{name}");
        assert_eq!(context.seq_pos_max(SeqId(1)), None);
    }
}

/// Copies a checkpoint, its configuration and its tensors changed.
fn changed(
    name: &str,
    config: impl FnOnce(&mut serde_json::Value),
    tensors: impl FnOnce(&mut Vec<(String, TensorView<'static>)>),
) -> tempfile::TempDir {
    let (from, to) = (folder().join(name), tempfile::tempdir().unwrap());
    let mut json = serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    config(&mut json);
    std::fs::write(to.path().join("config.json"), json.to_string()).unwrap();
    std::fs::copy(from.join("tokenizer.json"), to.path().join("tokenizer.json")).unwrap();
    // A test may leave the few bytes behind.
    let bytes: &'static [u8] = std::fs::read(from.join("model.safetensors")).unwrap().leak();
    let mut all = SafeTensors::deserialize(bytes).unwrap().tensors();
    tensors(&mut all);
    safetensors::serialize_to_file(all, None, &to.path().join("model.safetensors")).unwrap();
    to
}

fn load_error(folder: &Path) -> Option<String> {
    let loaded = CheckpointModel::load(folder, Options::default(), 1, |_| Flow::Continue);
    loaded.err().map(|error| error.message.into_string())
}

#[test]
fn what_the_authors_program_alone_is_told_is_refused() {
    let told = |value: serde_json::Value| changed("mamba", |config| config["ssm_cfg"] = value, |_| ());
    assert_eq!(load_error(told(serde_json::json!({})).path()), None);
    let error = load_error(told(serde_json::json!({"layer": "Mamba2"})).path()).unwrap();
    assert!(error.contains("`ssm_cfg` is"), "{error}");
}

#[test]
fn a_second_output_matrix_is_the_embedding_or_refused() {
    let with = |change: u8| {
        changed(
            "lfm2",
            |_| (),
            |tensors| {
                let (_, embedding) =
                    tensors.iter().find(|(name, _)| name.ends_with("embed_tokens.weight")).unwrap();
                let mut data = embedding.data().to_vec();
                data[0] ^= change;
                let view =
                    TensorView::new(embedding.dtype(), embedding.shape().to_vec(), data.leak()).unwrap();
                tensors.push(("lm_head.weight".to_owned(), view));
            },
        )
    };
    assert_eq!(load_error(with(0).path()), None);
    let error = load_error(with(1).path()).unwrap();
    assert!(error.contains("`lm_head.weight` differs from the embedding"), "{error}");
}
