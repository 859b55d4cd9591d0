//! The scheduler by tables, and against its invariants under random arrivals.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

const LIMITS: Limits = Limits { total_tokens: 100, sequence_tokens: 50, slots: 3, step_tokens: 8 };

fn scheduler(limits: Limits, prompts: &[usize]) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    for (id, &length) in prompts.iter().enumerate() {
        scheduler.add(RequestId(id as u64), vec![Token(7); length]);
    }
    scheduler
}

/// One step: rows per request, and who samples.
fn step(scheduler: &mut Scheduler) -> (Vec<(u64, usize)>, Vec<u64>) {
    let mut step = Step::default();
    scheduler.plan(&mut step);
    scheduler.done(&step);
    let sampling: Vec<u64> = step.wanted.iter().map(|(_, id)| id.0).collect();
    for &(row, id) in &step.wanted {
        assert!(step.rows.wants_logits[row]);
        scheduler.push(id, Token(1));
    }
    assert_eq!(step.rows.wants_logits.iter().filter(|&&wanted| wanted).count(), sampling.len());
    (step.shares.iter().map(|&(id, rows)| (id.0, rows)).collect(), sampling)
}

#[test]
fn a_prompt_is_computed_in_pieces_and_then_token_by_token() {
    let mut scheduler = scheduler(LIMITS, &[18]);
    assert_eq!(step(&mut scheduler), (vec![(0, 8)], vec![]));
    assert_eq!(step(&mut scheduler), (vec![(0, 8)], vec![]));
    assert_eq!(step(&mut scheduler), (vec![(0, 2)], vec![0]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1)], vec![0]));
}

#[test]
fn answers_come_before_prompts_and_prompts_in_order_of_arrival() {
    let mut scheduler = scheduler(LIMITS, &[3, 10, 10]);
    assert_eq!(step(&mut scheduler), (vec![(0, 3), (1, 5)], vec![0]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 5), (2, 2)], vec![0, 1]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 1), (2, 6)], vec![0, 1]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 1), (2, 2)], vec![0, 1, 2]));
}

#[test]
fn a_fourth_waits_for_one_of_three_slots() {
    let mut scheduler = scheduler(LIMITS, &[1, 1, 1, 1]);
    assert_eq!(step(&mut scheduler).1, [0, 1, 2]);
    assert_eq!((scheduler.running(), scheduler.waiting()), (3, 1));
    scheduler.remove(RequestId(1));
    assert_eq!(scheduler.take_emptied().len(), 1);
    assert_eq!(step(&mut scheduler).1, [0, 2, 3]);
}

#[test]
fn the_youngest_gives_way_when_cells_run_out_and_comes_back() {
    let limits = Limits { total_tokens: 12, sequence_tokens: 12, slots: 2, step_tokens: 8 };
    let mut scheduler = scheduler(limits, &[4, 4]);
    let mut seen = Vec::new();
    while scheduler.running() != 1 {
        seen.push(step(&mut scheduler));
        assert!(seen.len() < 10, "never preempted: {seen:?}");
    }
    assert_eq!(scheduler.waiting(), 1);
    assert_eq!(scheduler.take_emptied().len(), 1);
    scheduler.remove(RequestId(0));
    let (shares, sampling) = step(&mut scheduler);
    assert_eq!((shares[0].0, sampling), (1, vec![1]));
    assert!(shares[0].1 > 4, "its answer so far is computed again with its prompt: {shares:?}");
}

#[test]
fn a_lone_sequence_fills_the_context_and_is_full() {
    let limits = Limits { total_tokens: 6, sequence_tokens: 50, slots: 2, step_tokens: 8 };
    let mut scheduler = scheduler(limits, &[4]);
    let mut step = Step::default();
    scheduler.plan(&mut step);
    scheduler.done(&step);
    assert_eq!(scheduler.push(RequestId(0), Token(1)), Growth::Grown);
    scheduler.plan(&mut step);
    scheduler.done(&step);
    assert_eq!(scheduler.push(RequestId(0), Token(1)), Growth::Full);
}

/// Random arrivals, cancellations and sizes: no row twice or out of order, never more cells than there are, and
/// everyone who stays ends.
#[test]
fn under_random_load_the_invariants_hold() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u32| (random.next_u32() % bound) as usize;
        let total_tokens = 20 + below(80);
        let sequence_tokens = 10 + below(60);
        let limits =
            Limits { total_tokens, sequence_tokens, slots: 1 + below(5), step_tokens: 5 + below(20) };
        let mut scheduler = Scheduler::new(limits);
        let (mut held, mut left) = (BTreeMap::<u32, usize>::new(), BTreeSet::new());
        let mut step = Step::default();
        for round in 0..3000_u64 {
            if round < 60 && below(2) == 0 {
                let length = 1 + below((limits.longest() - 1) as u32);
                scheduler.add(RequestId(round), vec![Token(0); length]);
                left.insert(RequestId(round));
            }
            if below(20) == 0
                && let Some(&id) = left.iter().nth(below(8))
            {
                scheduler.remove(id);
                left.remove(&id);
            }
            scheduler.plan(&mut step);
            for slot in scheduler.take_emptied() {
                held.remove(&slot.0);
            }
            for row in 0..step.rows.len() {
                let cells = held.entry(step.rows.sequences[row].0).or_default();
                assert_eq!(step.rows.positions[row].0 as usize, *cells, "seed {seed}, round {round}");
                *cells += 1;
            }
            assert!(step.rows.len() <= limits.step_tokens);
            assert!(held.values().sum::<usize>() <= limits.total_tokens, "seed {seed}, round {round}");
            assert!(scheduler.is_idle() || !step.rows.is_empty(), "stuck: seed {seed}, round {round}");
            scheduler.done(&step);
            for (_, id) in std::mem::take(&mut step.wanted) {
                if scheduler.push(id, Token(0)) == Growth::Full || below(6) == 0 {
                    scheduler.remove(id);
                    left.remove(&id);
                }
            }
        }
        assert!(scheduler.is_idle() && left.is_empty(), "seed {seed}: {left:?} never ended");
    }
}
