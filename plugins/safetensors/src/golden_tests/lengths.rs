//! Positions that depend on how long a sequence is: what is cached when it crosses the trained length.

use super::*;

/// Tokens of the prompts that grow beyond the length at which positions change, and of a piece.
const SHORT_PROMPT: usize = 24;
const PIECE: usize = 13;

#[test]
fn a_sequence_that_grows_beyond_the_trained_length_goes_on_as_transformers_generates() {
    let Answers { cases, growing, .. } = answers();
    assert_eq!(growing.len(), 2);
    for (name, expected) in &growing {
        for level in
            [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|level| level.runs_here())
        {
            let prompt = &cases[name].prompt[..SHORT_PROMPT];
            let mut context = context(name, level, CacheType::F32);
            let first = argmax(&decode(&mut context, 1, 0, prompt));
            check_greedy(name, &mut context, (1, SHORT_PROMPT as u32, first), expected);
            // Cut back to where it was short, it is what it was.
            context.seq_rm(SeqId(1), PosRange::from(Position(SHORT_PROMPT as u32))).unwrap();
            check_greedy(name, &mut context, (1, SHORT_PROMPT as u32, first), expected);
            // A copy that grows leaves the short one alone.
            context.clear().unwrap();
            decode(&mut context, 2, 0, prompt);
            context.seq_cp(SeqId(2), SeqId(3), PosRange::from(Position(0))).unwrap();
            check_greedy(name, &mut context, (3, SHORT_PROMPT as u32, first), expected);
            check_greedy(name, &mut context, (2, SHORT_PROMPT as u32, first), &expected[..4]);
        }
    }
}

#[test]
fn a_prompt_in_pieces_is_computed_as_transformers_computes_pieces() {
    let Answers { cases, pieces, .. } = answers();
    for name in [BY_PIECE] {
        let mut context = context(name, Level::Portable, CacheType::F32);
        let mut found = Vec::new();
        for (piece, tokens) in cases[name].prompt.chunks(PIECE).enumerate() {
            found = decode(&mut context, 1, (piece * PIECE) as u32, tokens);
        }
        let difference = largest_difference(&found, &pieces[name]);
        assert!(difference <= 1e-3, "{name}: {difference}");
    }
}

#[test]
fn a_cache_that_is_too_full_to_begin_anew_changes_nothing() {
    let prompt = &answers().cases["phi3_longrope"].prompt;
    let mut context = context("phi3_longrope", Level::Portable, CacheType::F32);
    decode(&mut context, 0, 0, &prompt[..30]);
    context.seq_cp(SeqId(0), SeqId(1), PosRange::from(Position(0))).unwrap();
    // 512 cells and two blocks more for each of four sequences: all but the two that are shared, and the two that going
    // on without beginning anew would take.
    for first in (0..576).step_by(96) {
        decode(&mut context, 2, first, &[5; 96]);
    }
    let grow = |context: &mut DecoderContext| try_decode(context, &[(1, 30, 7), (1, 31, 8), (1, 32, 9)]);
    assert!(grow(&mut context).is_err());
    assert_eq!(context.seq_pos_max(SeqId(1)), Some(Position(29)));
    context.seq_rm(SeqId(2), PosRange::from(Position(0))).unwrap();
    grow(&mut context).unwrap();
    let grown = log_probabilities(&context, 2);
    context.clear().unwrap();
    let whole = [&prompt[..30], &[7, 8, 9]].concat();
    assert!(largest_difference(&decode(&mut context, 1, 0, &whole), &grown) < 1e-4);
}
