//! Each family against `transformers` on a small random checkpoint (`tests/oracles/checkpoints.py` makes them), and
//! rounded ones against `mlx_lm` (`tests/oracles/mlx_checkpoints.py`), through the contract's own calls.

mod layouts;
mod lengths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impetus_plugin_api::sdk::{Context, Model};
use impetus_plugin_api::{Batch, Flow, PluginError, PosRange, Position, SeqId, Token};
use serde::Deserialize;

use crate::context::DecoderContext;
use crate::kernels::Level;
use crate::model::DecoderModel;
use crate::options::{CacheType, Options, Quantize};

#[derive(Deserialize)]
struct Answers {
    rows: Vec<usize>,
    cases: BTreeMap<String, Case>,
    /// Of what looks at the length: what follows the prompt's first tokens, growing beyond the trained length.
    #[serde(default)]
    growing: BTreeMap<String, Vec<u32>>,
    /// Of the same: log probabilities behind the prompt in pieces.
    #[serde(default)]
    pieces: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Case {
    prompt: Vec<u32>,
    /// Behind each of `rows`.
    log_probabilities: Vec<Vec<f32>>,
    greedy: Vec<u32>,
    /// Rows of a rounded embedding.
    #[serde(default)]
    embedding: BTreeMap<usize, Vec<f32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints")
}

fn answers() -> Answers {
    answers_of(&folder())
}

fn answers_of(folder: &Path) -> Answers {
    serde_json::from_slice(&std::fs::read(folder.join("answers.json")).unwrap()).unwrap()
}

fn model(folder: &Path, options: Options) -> DecoderModel {
    let options = Options { threads: Some(2), ..options };
    DecoderModel::load(folder, options, 1, |_| Flow::Continue)
        .unwrap_or_else(|error| panic!("{}: {}", folder.display(), error.message))
}

fn context_of(model: DecoderModel) -> DecoderContext {
    Arc::new(model).new_context(r#"{"max_sequences": 4, "context_tokens": 512}"#).unwrap()
}

fn context(case: &str, level: Level, cache_type: CacheType) -> DecoderContext {
    let options = Options { cache_type: Some(cache_type), kernels: Some(level), ..Options::default() };
    context_of(model(&folder().join(case), options))
}

/// Decodes tokens of one sequence from a position on; answers the log probabilities behind the last.
fn decode(context: &mut DecoderContext, sequence: u32, first: u32, tokens: &[u32]) -> Vec<f32> {
    let rows: Vec<(u32, u32, u32)> =
        tokens.iter().enumerate().map(|(i, &token)| (sequence, first + i as u32, token)).collect();
    decode_rows(context, &rows);
    log_probabilities(context, tokens.len() - 1)
}

/// (sequence, position, token)
fn decode_rows(context: &mut DecoderContext, rows: &[(u32, u32, u32)]) {
    try_decode(context, rows).unwrap();
}

fn try_decode(context: &mut DecoderContext, rows: &[(u32, u32, u32)]) -> Result<(), PluginError> {
    let tokens: Vec<Token> = rows.iter().map(|row| Token(row.2)).collect();
    let positions: Vec<Position> = rows.iter().map(|row| Position(row.1)).collect();
    let sequences: Vec<SeqId> = rows.iter().map(|row| SeqId(row.0)).collect();
    let wants_logits = vec![true; rows.len()];
    let batch = Batch {
        tokens: tokens.as_slice().into(),
        positions: positions.as_slice().into(),
        sequences: sequences.as_slice().into(),
        wants_logits: wants_logits.as_slice().into(),
    };
    context.decode(batch)
}

fn log_probabilities(context: &DecoderContext, row: usize) -> Vec<f32> {
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

/// With brain floats for activations the reference, in float32, is only near.
fn tolerance(level: Level) -> f32 {
    if level.narrows() { 0.25 } else { 1e-3 }
}

fn check(name: &str, case: &Case, rows: &[usize], level: Level) {
    let mut context = context(name, level, CacheType::F32);
    check_context(name, case, rows, &mut context, (level, tolerance(level)));
}

fn check_context(
    name: &str,
    case: &Case,
    rows: &[usize],
    context: &mut DecoderContext,
    (level, tolerance): (Level, f32),
) {
    let prompt: Vec<(u32, u32, u32)> =
        case.prompt.iter().enumerate().map(|(i, &token)| (1, i as u32, token)).collect();
    decode_rows(context, &prompt);
    for (&row, expected) in rows.iter().zip(&case.log_probabilities) {
        let found = log_probabilities(context, row);
        let difference = largest_difference(&found, expected);
        assert!(
            difference <= tolerance,
            "{name}, {level}, row {row}: log probabilities differ by {difference}"
        );
    }
    if tolerance > 1e-3 {
        return;
    }
    let first = argmax(&log_probabilities(context, case.prompt.len() - 1));
    check_greedy(&format!("{name}, {level}"), context, (1, case.prompt.len() as u32, first), &case.greedy);
}

/// A sequence at a position goes on from a token.
fn check_greedy(
    name: &str,
    context: &mut DecoderContext,
    (sequence, first, mut next): (u32, u32, u32),
    expected: &[u32],
) {
    for (i, &expected) in expected.iter().enumerate() {
        assert_eq!(next, expected, "{name}: greedy token {i}");
        next = argmax(&decode(context, sequence, first + i as u32, &[next]));
    }
}

#[test]
fn every_family_computes_what_transformers_computes() {
    let Answers { rows, cases, .. } = answers();
    let family = |name: &String| model(&folder().join(name), Options::default()).decoder.family;
    let proved: BTreeSet<String> = cases.keys().map(family).collect();
    let unproved: Vec<&str> = crate::config::names().filter(|name| !proved.contains(*name)).collect();
    assert!(unproved.is_empty(), "tests/fixtures/checkpoints has none of {unproved:?}");
    for (name, case) in &cases {
        for level in Level::ALL.into_iter().filter(|level| level.runs_here()) {
            check(name, case, &rows, level);
        }
    }
}

/// Codes, scales and biases are read without loss: as floats they give what MLX computes. In groups, activations are
/// rounded as well.
#[test]
fn every_width_of_mlx_computes_what_mlx_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/mlx");
    let Answers { rows, cases, .. } = answers_of(&folder);
    assert_eq!(cases.len(), 10);
    for (name, case) in &cases {
        for level in Level::ALL.into_iter().filter(|level| level.runs_here()) {
            let options =
                || Options { cache_type: Some(CacheType::F32), kernels: Some(level), ..Options::default() };
            let mut exact = model(&folder.join(name), options());
            for (&token, expected) in &case.embedding {
                let difference = largest_difference(&exact.weights.embedding(token), expected);
                assert!(difference <= 1e-6, "{name}: embedding of {token} differs by {difference}");
            }
            exact.weights.widen();
            // More matrices in a row, and a router between them.
            let near = if exact.decoder.experts.is_some() { 0.6 } else { 0.3 };
            check_context(name, case, &rows, &mut context_of(exact), (level, 1e-3));
            let mut rounded = context_of(model(&folder.join(name), options()));
            check_context(name, case, &rows, &mut rounded, (level, near));
        }
    }
}

/// Log probabilities behind some rows of a prompt.
fn behind_rows(context: &mut DecoderContext, prompt: &[u32], rows: &[usize]) -> Vec<Vec<f32>> {
    let all: Vec<(u32, u32, u32)> =
        prompt.iter().enumerate().map(|(i, &token)| (0, i as u32, token)).collect();
    decode_rows(context, &all);
    rows.iter().map(|&row| log_probabilities(context, row)).collect()
}

/// The largest difference of all rows but some: a router that is undecided chooses another expert for a little rounding.
fn difference_but(strays: usize, a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let mut differences: Vec<f32> = a.iter().zip(b).map(|(a, b)| largest_difference(a, b)).collect();
    differences.sort_by(f32::total_cmp);
    differences[differences.len() - 1 - strays]
}

/// Rounded on load, a model computes what its rounded numbers say; in eight bits these are near the checkpoint's.
#[test]
fn rounding_on_load_stays_near() {
    let Answers { cases, rows, .. } = answers();
    for (name, case) in &cases {
        for quantize in [Quantize::Int8, Quantize::Int4] {
            let options = || Options {
                cache_type: Some(CacheType::F32),
                quantize: Some(quantize),
                ..Options::default()
            };
            let mut widened = model(&folder().join(name), options());
            widened.weights.widen();
            let strays = widened.decoder.experts.map_or(0, |_| rows.len() / 2);
            let expected = behind_rows(&mut context_of(widened), &case.prompt, &rows);
            let found =
                behind_rows(&mut context_of(model(&folder().join(name), options())), &case.prompt, &rows);
            let difference = difference_but(strays, &found, &expected);
            // Activations of eight bits, in models whose random weights make much of little.
            assert!(difference < 0.8, "{name}, {quantize:?}: {difference}");
            let whole = difference_but(strays, &found, &case.log_probabilities);
            assert!(whole < 0.6 || quantize == Quantize::Int4, "{name}: {whole}");
            assert!(difference > 0.0 && whole > 0.0, "{name}: nothing was rounded");
        }
    }
}

/// What a prompt is when it comes in one piece, it is not in several: `transformers` rotates each piece for the length at
/// its end, and so is it here.
const BY_PIECE: &str = "llama_dynamic";

#[test]
fn a_sequence_is_the_same_in_pieces_in_company_and_copied() {
    for (name, case) in answers().cases.into_iter().filter(|(name, _)| name != BY_PIECE) {
        same_in_company(&name, &case, Level::Portable, 1e-4);
        // Where activations are rounded, a router that is nearly undecided may take another expert by the last bits, which
        // depend on how many rows a step has.
        let exact = Level::ALL.into_iter().find(|level| level.runs_here() && !level.narrows());
        let best = if has_experts(&name) { exact.unwrap() } else { Level::best() };
        same_in_company(&name, &case, best, 4e-2);
    }
}

fn has_experts(name: &str) -> bool {
    model(&folder().join(name), Options::default()).decoder.experts.is_some()
}

fn same_in_company(name: &str, case: &Case, level: Level, tolerance: f32) {
    let mut context = context(name, level, CacheType::F32);
    let prompt = &case.prompt;
    let alone = decode(&mut context, 0, 0, prompt);
    context.clear().unwrap();
    // In pieces that fit no block, between rows of another sequence.
    let mut rows = Vec::new();
    for (piece, tokens) in prompt.chunks(13).enumerate() {
        rows.clear();
        rows.push((1, piece as u32, prompt[piece] ^ 1));
        let first = piece as u32 * 13;
        rows.extend(tokens.iter().enumerate().map(|(i, &token)| (0, first + i as u32, token)));
        decode_rows(&mut context, &rows);
    }
    let in_company = log_probabilities(&context, rows.len() - 1);
    let difference = largest_difference(&alone, &in_company);
    assert!(difference < tolerance, "{name} in company, {level}: {difference}");
    // A copy of a part goes on by itself, and the original is not touched.
    context.seq_cp(SeqId(0), SeqId(2), PosRange::new(Position(0), Position(50))).unwrap();
    decode(&mut context, 2, 50, &[7, 8, 9]);
    context.seq_rm(SeqId(2), PosRange::from(Position(50))).unwrap();
    let copied = decode(&mut context, 2, 50, &prompt[50..]);
    assert!(largest_difference(&alone, &copied) < tolerance, "{name} copied");
    let last = prompt.len() as u32 - 1;
    context.seq_rm(SeqId(0), PosRange::from(Position(last))).unwrap();
    let again = decode(&mut context, 0, last, &prompt[last as usize..]);
    assert!(largest_difference(&alone, &again) < tolerance, "{name} after a copy wrote");
}

#[test]
fn a_narrower_cache_is_near() {
    let answers = answers();
    for (name, case) in &answers.cases {
        for cache_type in [CacheType::F16, CacheType::Bf16] {
            let mut context = context(name, Level::best(), cache_type);
            let found = decode(&mut context, 0, 0, &case.prompt);
            let difference = largest_difference(&found, case.log_probabilities.last().unwrap());
            assert!(difference < 0.6, "{name}, {cache_type:?}: {difference}");
        }
    }
}

#[test]
fn a_full_cache_changes_nothing() {
    let mut context = context("llama", Level::best(), CacheType::F32);
    // By itself, as later: a kernel of several rows may sum in another order.
    decode(&mut context, 0, 0, &[1, 2]);
    let before = decode(&mut context, 0, 2, &[3]);
    for sequence in 1..4 {
        let tokens = vec![5; 240];
        let rows: Vec<_> = tokens.iter().enumerate().map(|(i, &token)| (sequence, i as u32, token)).collect();
        let tokens: Vec<Token> = rows.iter().map(|row| Token(row.2)).collect();
        let positions: Vec<Position> = rows.iter().map(|row| Position(row.1)).collect();
        let sequences: Vec<SeqId> = rows.iter().map(|row| SeqId(row.0)).collect();
        let wants_logits = vec![false; rows.len()];
        let result = context.decode(Batch {
            tokens: tokens.as_slice().into(),
            positions: positions.as_slice().into(),
            sequences: sequences.as_slice().into(),
            wants_logits: wants_logits.as_slice().into(),
        });
        assert_eq!(result.is_ok(), sequence < 3);
        assert_eq!(context.seq_pos_max(SeqId(sequence)).is_some(), sequence < 3);
    }
    context.seq_rm(SeqId(0), PosRange::from(Position(2))).unwrap();
    assert_eq!(decode(&mut context, 0, 2, &[3]), before);
}
