//! The scheduler by tables, and against its invariants under random arrivals.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::plugins::model::Rows;

const LIMITS: Limits = Limits {
    total_tokens: 100,
    sequence_tokens: 50,
    running: 3,
    slots: 3,
    step_tokens: 8,
    reuse: Reuse::Nothing,
};

const ALL: usize = usize::MAX;

fn scheduler(limits: Limits, prompts: &[usize]) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    for (id, &length) in prompts.iter().enumerate() {
        scheduler.add(
            RequestId(id as u64),
            0,
            (0..length).map(|at| Token((100 * id + at) as u32)).collect(),
            Computed::Beyond,
        );
    }
    scheduler
}

/// One step: rows per request, and who samples.
fn step(scheduler: &mut Scheduler) -> (Vec<(u64, usize)>, Vec<u64>) {
    let mut step = Step::default();
    scheduler.plan(&mut step, ALL);
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
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 5)], vec![0, 1]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 1), (2, 6)], vec![0, 1]));
    assert_eq!(step(&mut scheduler), (vec![(0, 1), (1, 1), (2, 4)], vec![0, 1, 2]));
}

#[test]
fn a_fourth_waits_for_one_of_three_slots() {
    let mut scheduler = scheduler(LIMITS, &[1, 1, 1, 1]);
    assert_eq!(step(&mut scheduler).1, [0, 1, 2]);
    assert_eq!((scheduler.running(), scheduler.waiting()), (3, 1));
    scheduler.remove(RequestId(1));
    assert_eq!(scheduler.take_edits().len(), 1);
    assert_eq!(step(&mut scheduler).1, [0, 2, 3]);
}

#[test]
fn the_last_gives_way_when_cells_run_out_and_comes_back() {
    let limits =
        Limits { total_tokens: 12, sequence_tokens: 12, running: 2, slots: 2, step_tokens: 8, ..LIMITS };
    let mut scheduler = scheduler(limits, &[4, 4]);
    let mut seen = Vec::new();
    while scheduler.running() != 1 {
        seen.push(step(&mut scheduler));
        assert!(seen.len() < 10, "never preempted: {seen:?}");
    }
    assert_eq!(scheduler.waiting(), 1);
    assert_eq!(scheduler.take_edits().len(), 1);
    scheduler.remove(RequestId(0));
    let (shares, sampling) = step(&mut scheduler);
    assert_eq!((shares[0].0, sampling), (1, vec![1]));
    assert!(shares[0].1 > 4, "its answer so far is computed again with its prompt: {shares:?}");
}

fn add(scheduler: &mut Scheduler, id: u64, priority: i32) {
    scheduler.add(RequestId(id), priority, vec![Token(id as u32); 3], Computed::Beyond);
}

#[test]
fn a_better_priority_goes_first_and_takes_the_seat_of_a_worse_one() {
    let mut scheduler = Scheduler::new(Limits { running: 2, slots: 2, step_tokens: 100, ..LIMITS });
    (0..3).for_each(|id| add(&mut scheduler, id, 0));
    assert_eq!(step(&mut scheduler).1, [0, 1]);
    add(&mut scheduler, 3, 7);
    add(&mut scheduler, 4, 0);
    add(&mut scheduler, 5, -1);
    // The last in rank of those that run gives way; its equals in priority are not touched.
    assert_eq!(step(&mut scheduler).1, [0, 5]);
    let mut order = Vec::new();
    while !scheduler.is_idle() {
        let sampling = step(&mut scheduler).1;
        order.extend(sampling.iter().copied().filter(|id| !order.contains(id)).collect::<Vec<_>>());
        scheduler.remove(RequestId(sampling[0]));
    }
    assert_eq!(order, [5, 0, 1, 2, 4, 3]);
}

#[test]
fn a_better_priority_finds_the_room_that_a_worse_one_had() {
    let limits = Limits { total_tokens: 20, sequence_tokens: 20, ..LIMITS };
    let mut scheduler = Scheduler::new(Limits { step_tokens: 30, ..limits });
    scheduler.add(RequestId(0), 1, vec![Token(0); 15], Computed::Beyond);
    assert_eq!(step(&mut scheduler).1, [0]);
    scheduler.add(RequestId(1), 0, vec![Token(1); 10], Computed::Beyond);
    assert_eq!(step(&mut scheduler).1, [1]);
    scheduler.remove(RequestId(1));
    assert_eq!(step(&mut scheduler), (vec![(0, 16)], vec![0]), "it goes on with all its tokens");
}

#[test]
fn who_was_overtaken_often_enough_comes_first() {
    let mut scheduler = Scheduler::new(Limits { running: 1, slots: 1, step_tokens: 100, ..LIMITS });
    add(&mut scheduler, 0, 9);
    let mut before = 0;
    loop {
        before += 1;
        add(&mut scheduler, before, 0);
        let sampling = step(&mut scheduler).1;
        if sampling == [0] {
            break;
        }
        assert!(before < 100, "it never comes");
        scheduler.remove(RequestId(sampling[0]));
    }
    assert_eq!(before - 1, u64::from(MOST_OVERTAKEN));
    add(&mut scheduler, 200, -5);
    assert_eq!(step(&mut scheduler).1, [0], "nobody takes its place any more");
}

#[test]
fn a_lone_sequence_fills_the_context_and_is_full() {
    let limits =
        Limits { total_tokens: 6, sequence_tokens: 50, running: 2, slots: 2, step_tokens: 8, ..LIMITS };
    let mut scheduler = scheduler(limits, &[4]);
    let mut step = Step::default();
    scheduler.plan(&mut step, ALL);
    scheduler.done(&step);
    assert_eq!(scheduler.push(RequestId(0), Token(1)), Growth::Grown);
    scheduler.plan(&mut step, ALL);
    scheduler.done(&step);
    assert_eq!(scheduler.push(RequestId(0), Token(1)), Growth::Full);
}

fn prompts(scheduler: &mut Scheduler, texts: &[&str]) {
    for (id, text) in texts.iter().enumerate() {
        scheduler.add(
            RequestId(id as u64),
            0,
            text.bytes().map(|byte| Token(byte.into())).collect(),
            Computed::Beyond,
        );
    }
}

/// Who started in the next step, with the tokens that were there already.
fn started(scheduler: &mut Scheduler) -> Vec<(u64, usize)> {
    let mut step = Step::default();
    scheduler.plan(&mut step, ALL);
    scheduler.done(&step);
    step.started.iter().map(|&(id, reused)| (id.0, reused)).collect()
}

const KEEPING: Limits = Limits { slots: 6, step_tokens: 64, reuse: Reuse::Beginnings, ..LIMITS };

#[test]
fn a_prompt_starts_from_what_another_has_computed() {
    let mut scheduler = Scheduler::new(KEEPING);
    prompts(&mut scheduler, &["you are kind. one"]);
    assert_eq!(started(&mut scheduler), [(0, 0)]);
    scheduler.remove(RequestId(0));
    assert_eq!(scheduler.take_edits(), [], "it is kept");
    scheduler.add(
        RequestId(1),
        0,
        "you are kind. two".bytes().map(|byte| Token(byte.into())).collect(),
        Computed::Beyond,
    );
    assert_eq!(started(&mut scheduler), [(1, 14)]);
    assert_eq!(scheduler.take_edits(), [Edit::Copy { from: SeqId(0), to: SeqId(1), tokens: 14 }]);
    assert_eq!(scheduler.cells(), 20, "what is shared is held once");
}

#[test]
fn the_last_token_of_a_prompt_is_always_computed() {
    let mut scheduler = Scheduler::new(KEEPING);
    prompts(&mut scheduler, &["the very same"]);
    started(&mut scheduler);
    scheduler.remove(RequestId(0));
    scheduler.add(
        RequestId(1),
        0,
        "the very same".bytes().map(|byte| Token(byte.into())).collect(),
        Computed::Beyond,
    );
    assert_eq!(started(&mut scheduler), [(1, 12)]);
}

#[test]
fn who_shares_what_is_just_being_computed_waits_for_it_and_others_do_not() {
    let mut scheduler = Scheduler::new(Limits { step_tokens: 12, ..KEEPING });
    let shared = "a beginning that is shared, ";
    prompts(&mut scheduler, &[&format!("{shared}one"), &format!("{shared}two"), "other"]);
    assert_eq!(started(&mut scheduler), [(0, 0), (2, 0)]);
    assert_eq!(started(&mut scheduler), []);
    assert_eq!(started(&mut scheduler), [(1, 24)], "the rest is not worth another step");
}

#[test]
fn states_that_cannot_be_cut_are_used_whole_or_not_at_all() {
    let mut scheduler = Scheduler::new(Limits { total_tokens: 200, reuse: Reuse::WholeStates, ..KEEPING });
    prompts(&mut scheduler, &["begin", "begin again"]);
    assert_eq!(started(&mut scheduler), [(0, 0), (1, 0)], "nothing is copied from what runs");
    scheduler.remove(RequestId(0));
    scheduler.remove(RequestId(1));
    prompts(&mut scheduler, &["begin", "begin anew", "begin again, again"]);
    assert_eq!(started(&mut scheduler), [(0, 0), (1, 5), (2, 11)]);
    assert_eq!(scheduler.take_edits(), [], "both go on in their slots");
}

#[test]
fn what_is_kept_goes_before_anybody_gives_way() {
    let mut scheduler = Scheduler::new(Limits { total_tokens: 20, ..KEEPING });
    prompts(&mut scheduler, &["0123456789"]);
    started(&mut scheduler);
    scheduler.remove(RequestId(0));
    scheduler.add(RequestId(1), 0, vec![Token(1); 15], Computed::Beyond);
    assert_eq!(started(&mut scheduler), [(1, 0)]);
    assert_eq!(scheduler.take_edits(), [Edit::Cut { slot: SeqId(0), tokens: 0 }]);
    assert!(!scheduler.give_way(), "it is alone and nothing is kept");
}

#[test]
fn the_only_slot_is_used_again() {
    let mut scheduler = Scheduler::new(Limits { running: 1, slots: 1, ..KEEPING });
    prompts(&mut scheduler, &["the weather today"]);
    started(&mut scheduler);
    scheduler.remove(RequestId(0));
    scheduler.add(
        RequestId(1),
        0,
        "the weather tomorrow".bytes().map(|byte| Token(byte.into())).collect(),
        Computed::Beyond,
    );
    assert_eq!(started(&mut scheduler), [(1, 14)]);
    assert_eq!(scheduler.take_edits(), [Edit::Cut { slot: SeqId(0), tokens: 14 }]);
}

/// A context that keeps every cell by itself, as one with `seq_cp` does.
#[derive(Default)]
struct Cells {
    slots: BTreeMap<u32, Vec<(Token, u64)>>,
    next: u64,
}

impl Cells {
    fn edit(&mut self, edit: Edit, reuse: Reuse) {
        match edit {
            Edit::Copy { from, to, tokens } => {
                assert_eq!(reuse, Reuse::Beginnings);
                let copy = self.slots[&from.0][..tokens].to_vec();
                assert!(self.slots.insert(to.0, copy).is_none_or(|held| held.is_empty()));
            }
            Edit::Cut { slot, tokens } => {
                assert!(reuse == Reuse::Beginnings || tokens == 0);
                self.slots.entry(slot.0).or_default().truncate(tokens);
            }
        }
    }

    fn compute(&mut self, rows: &Rows) {
        for row in 0..rows.len() {
            let held = self.slots.entry(rows.sequences[row].0).or_default();
            assert_eq!(rows.positions[row].0 as usize, held.len());
            held.push((rows.tokens[row], self.next));
            self.next += 1;
        }
    }

    fn used(&self) -> usize {
        self.slots.values().flatten().map(|&(_, cell)| cell).collect::<BTreeSet<_>>().len()
    }

    /// What a model would say after a row: it follows from all that the slot holds up to there.
    fn next_token(&self, rows: &Rows, row: usize) -> Token {
        let held = &self.slots[&rows.sequences[row].0][..=rows.positions[row].0 as usize];
        next_token(held.iter().map(|&(token, _)| token))
    }
}

fn next_token(tokens: impl Iterator<Item = Token>) -> Token {
    Token(tokens.fold(7_u32, |hash, token| hash.wrapping_mul(31).wrapping_add(token.0)) >> 5 & 3)
}

/// What comes next, but for a wrong end now and then.
fn guess(tokens: &[Token], count: usize) -> Vec<Token> {
    let mut guessed = tokens.to_vec();
    for _ in 0..count {
        guessed.push(next_token(guessed.iter().copied()));
    }
    if count > 2 && guessed.len().is_multiple_of(3) {
        *guessed.last_mut().unwrap() = Token(9);
    }
    guessed.split_off(tokens.len())
}

#[test]
fn proposed_tokens_are_computed_ahead_and_the_wrong_ones_cut() {
    let mut scheduler = scheduler(KEEPING, &[4]);
    let (id, mut step) = (RequestId(0), Step::default());
    scheduler.plan(&mut step, ALL);
    scheduler.done(&step);
    scheduler.push(id, Token(50));
    scheduler.propose(id, &[Token(51), Token(52), Token(53)]);
    scheduler.plan(&mut step, ALL);
    scheduler.done(&step);
    assert_eq!(step.wanted, [(0, id), (1, id), (2, id), (3, id)]);
    assert_eq!(scheduler.push(id, Token(51)), Growth::AsProposed);
    assert_eq!(scheduler.push(id, Token(60)), Growth::Grown);
    scheduler.plan(&mut step, ALL);
    assert_eq!(scheduler.take_edits(), [Edit::Cut { slot: SeqId(0), tokens: 6 }]);
    assert_eq!((step.rows.tokens.clone(), step.rows.positions[0].0), (vec![Token(60)], 6));
}

/// Random arrivals, cancellations, proposals, evictions and sizes: no row twice or out of order, never more cells than there are,
/// every token the one that would come without any cache and without company, and everyone who stays ends.
#[test]
fn under_random_load_the_invariants_hold() {
    for seed in 0..600 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u32| (random.next_u32() % bound) as usize;
        let running = 1 + below(5);
        let limits = Limits {
            total_tokens: 20 + below(80),
            sequence_tokens: 10 + below(60),
            running,
            slots: running + below(4),
            step_tokens: 5 + below(20),
            reuse: [Reuse::Beginnings, Reuse::WholeStates, Reuse::Nothing][below(3)],
        };
        let (mut scheduler, mut cells) = (Scheduler::new(limits), Cells::default());
        let mut left = BTreeMap::<RequestId, Vec<Token>>::new();
        let mut step = Step::default();
        for round in 0..3000_u64 {
            if round < 60 && below(2) == 0 {
                let length = 1 + below((limits.longest() - 1) as u32);
                // Few different tokens: beginnings are shared often.
                let prompt: Vec<Token> = (0..length).map(|_| Token((below(8) == 0).into())).collect();
                scheduler.add(RequestId(round), [0, 0, -3, 5][below(4)], prompt.clone(), Computed::Beyond);
                left.insert(RequestId(round), prompt);
            }
            if below(20) == 0
                && let Some((&id, _)) = left.iter().nth(below(8))
            {
                scheduler.remove(id);
                left.remove(&id);
            }
            scheduler.plan(&mut step, [ALL, 1, 7][below(3)]);
            scheduler.take_edits().into_iter().for_each(|edit| cells.edit(edit, limits.reuse));
            cells.compute(&step.rows);
            assert!(step.rows.len() <= limits.step_tokens);
            assert!(cells.used() <= limits.total_tokens, "seed {seed}, round {round}");
            assert!(scheduler.is_idle() || !step.rows.is_empty(), "stuck: seed {seed}, round {round}");
            scheduler.done(&step);
            let ahead = step.rows.len() - step.shares.iter().map(|&(_, rows)| rows).sum::<usize>();
            assert_eq!(scheduler.cells() + ahead, cells.used(), "seed {seed}, round {round}");
            let mut parted = None;
            for (row, id) in std::mem::take(&mut step.wanted) {
                let Some(alone) = left.get_mut(&id).filter(|_| parted != Some(id)) else { continue };
                let next = cells.next_token(&step.rows, row);
                assert_eq!(next, next_token(alone.iter().copied()), "seed {seed}, round {round}");
                alone.push(next);
                let growth = scheduler.push(id, next);
                if growth == Growth::Full || below(6) == 0 {
                    scheduler.remove(id);
                    left.remove(&id);
                } else if growth == Growth::Grown {
                    parted = Some(id);
                    if limits.reuse == Reuse::Beginnings {
                        scheduler.propose(id, &guess(alone, below(5)));
                    }
                }
            }
        }
        assert!(scheduler.is_idle() && left.is_empty(), "seed {seed}: {left:?} never ended");
    }
}
