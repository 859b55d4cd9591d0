//! The tree by examples, and against a model of it that keeps every cell by itself.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

fn tokens(text: &str) -> Vec<Token> {
    text.bytes().map(|byte| Token(byte.into())).collect()
}

fn run(tree: &mut PrefixTree, slot: u32, text: &str) {
    tree.start(SeqId(slot));
    tree.extend(SeqId(slot), &tokens(text));
}

#[test]
fn the_longest_beginning_is_found() {
    let mut tree = PrefixTree::new(4);
    run(&mut tree, 0, "system one");
    assert_eq!(tree.keep(SeqId(0)), []);
    let found = tree.find(&tokens("system two"), false).unwrap();
    assert_eq!((found.tokens, found.pinned, found.kept, found.whole), (7, 0, true, false));
    tree.fork(SeqId(0), SeqId(1), 7);
    tree.extend(SeqId(1), &tokens("two"));
    assert_eq!((tree.cells(), tree.pinned()), (13, 10));
    let found = tree.find(&tokens("system two, three"), false).unwrap();
    assert_eq!((found.slot, found.tokens, found.kept, found.whole), (SeqId(1), 10, false, true));
    assert_eq!(tree.find(&tokens("other"), false), None);
}

#[test]
fn only_kept_slots_that_fit_whole_are_found_where_states_cannot_be_cut() {
    let mut tree = PrefixTree::new(4);
    run(&mut tree, 0, "ab");
    run(&mut tree, 1, "abcd");
    assert_eq!(tree.find(&tokens("abcdef"), true), None, "both run");
    tree.keep(SeqId(0));
    assert_eq!(tree.find(&tokens("abcdef"), true).unwrap().slot, SeqId(0));
    tree.keep(SeqId(1));
    assert_eq!(tree.find(&tokens("abcdef"), true).unwrap().tokens, 4);
    assert_eq!(tree.find(&tokens("abc"), true).unwrap().tokens, 2);
}

#[test]
fn a_slot_whose_tokens_another_holds_is_spare() {
    let mut tree = PrefixTree::new(3);
    run(&mut tree, 0, "abcd");
    tree.keep(SeqId(0));
    tree.fork(SeqId(0), SeqId(1), 4);
    tree.extend(SeqId(1), &tokens("ef"));
    tree.fork(SeqId(1), SeqId(2), 5);
    assert_eq!(tree.keep(SeqId(2)), [SeqId(2)], "the longer one holds it");
    assert_eq!(tree.keep(SeqId(1)), [SeqId(0)], "the shorter one is held by it");
    assert_eq!((tree.cells(), tree.pinned(), tree.held(SeqId(1))), (6, 0, 6));
}

#[test]
fn the_least_recently_used_goes_first_and_frees_only_what_it_holds_alone() {
    let mut tree = PrefixTree::new(4);
    for (slot, text) in [(0, "abcx"), (1, "zz")] {
        run(&mut tree, slot, text);
        tree.keep(SeqId(slot));
    }
    tree.fork(SeqId(0), SeqId(2), 3);
    assert_eq!(tree.evict(None), Some(SeqId(1)));
    assert_eq!(tree.evict(Some(SeqId(0))), None);
    assert_eq!(tree.evict(None), Some(SeqId(0)));
    assert_eq!((tree.cells(), tree.pinned()), (3, 3));
    assert_eq!(tree.evict(None), None, "what runs is not evicted");
}

#[test]
fn what_nothing_was_used_of_again_has_a_share_and_what_was_stays() {
    let mut tree = PrefixTree::new(6);
    for (slot, text) in [(0, "proven"), (1, "once"), (2, "twice"), (3, "thrice")] {
        run(&mut tree, slot, text);
        if slot == 0 {
            tree.prove(SeqId(slot));
        }
        tree.keep(SeqId(slot));
    }
    assert_eq!(tree.evict_unproven(100), []);
    assert_eq!(tree.evict_unproven(11), [SeqId(1)], "`thrice` and `twice` fit");
    assert_eq!(tree.evict_unproven(0), [SeqId(2)], "the last one stays");
    assert_eq!(tree.cells(), "proventhrice".len());
}

/// The same without any sharing of structure: each slot is a list of tokens with the cell of each.
#[derive(Default)]
struct Model {
    slots: BTreeMap<u32, (Vec<(Token, u64)>, bool)>,
    next_cell: u64,
}

impl Model {
    fn cells(&self, running_only: bool) -> usize {
        let held = self.slots.values().filter(|(_, running)| *running || !running_only);
        held.flat_map(|(cells, _)| cells.iter().map(|&(_, cell)| cell)).collect::<BTreeSet<_>>().len()
    }

    fn longest(&self, tokens: &[Token]) -> usize {
        let common = |cells: &[(Token, u64)]| {
            cells.iter().zip(tokens).take_while(|((one, _), other)| one == *other).count()
        };
        self.slots.values().map(|(cells, _)| common(cells)).max().unwrap_or(0)
    }
}

#[test]
fn it_does_what_a_list_of_cells_does() {
    for seed in 0..300 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: usize| (random.next_u32() as usize) % bound;
        let (mut tree, mut model) = (PrefixTree::new(6), Model::default());
        for _ in 0..200 {
            change(&mut tree, &mut model, &mut below);
            assert_eq!((tree.cells(), tree.pinned()), (model.cells(false), model.cells(true)), "seed {seed}");
            for (&slot, (cells, _)) in &model.slots {
                assert_eq!(tree.held(SeqId(slot)), cells.len(), "seed {seed}");
            }
        }
    }
}

/// Does one thing to a random slot in both.
fn change(tree: &mut PrefixTree, model: &mut Model, below: &mut impl FnMut(usize) -> usize) {
    let slot = SeqId(below(6) as u32);
    let text: Vec<Token> = (0..below(6)).map(|_| Token(below(2) as u32)).collect();
    match (below(5), model.slots.get(&slot.0).map(|(_, running)| *running)) {
        (_, None) => begin(tree, model, slot, &text),
        (0..=2, Some(true)) => {
            tree.extend(slot, &text);
            let entry = model.slots.get_mut(&slot.0).unwrap();
            for &token in &text {
                entry.0.push((token, model.next_cell));
                model.next_cell += 1;
            }
        }
        (3, Some(_)) => {
            let left = below(1 + tree.held(slot));
            tree.truncate(slot, left);
            model.slots.get_mut(&slot.0).unwrap().0.truncate(left);
        }
        (4, Some(true)) => {
            model.slots.get_mut(&slot.0).unwrap().1 = false;
            for spare in tree.keep(slot) {
                let cells = model.slots.remove(&spare.0).unwrap().0;
                let held = |other: &[(Token, u64)]| other.starts_with(&cells);
                assert!(cells.is_empty() || model.slots.values().any(|(other, _)| held(other)));
            }
        }
        (0, Some(false)) => {
            let evicted = tree.evict(None).unwrap();
            assert!(!model.slots.remove(&evicted.0).unwrap().1, "{evicted:?} ran");
        }
        (_, _) => {
            let left = below(1 + tree.held(slot));
            tree.adopt(slot, left);
            let entry = model.slots.get_mut(&slot.0).unwrap();
            entry.0.truncate(left);
            entry.1 = true;
        }
    }
}

/// A free slot begins with the most that any other holds of the text.
fn begin(tree: &mut PrefixTree, model: &mut Model, slot: SeqId, text: &[Token]) {
    let found = tree.find(text, false);
    assert_eq!(found.map_or(0, |found| found.tokens), model.longest(text));
    let cells = match found {
        Some(found) => {
            tree.fork(found.slot, slot, found.tokens);
            model.slots[&found.slot.0].0[..found.tokens].to_vec()
        }
        None => {
            tree.start(slot);
            Vec::new()
        }
    };
    model.slots.insert(slot.0, (cells, true));
}
