//! No step allocates once a context is warm, on no thread: the allocator of these tests counts.

#![expect(unsafe_code, reason = "an allocator that counts, around the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use impetus_plugin_api::sdk::{Context, Model};
use impetus_plugin_api::{Batch, Flow, Position, SeqId, Token};

use crate::context::DecoderContext;
use crate::model::DecoderModel;
use crate::options::{Options, Quantize};

/// Counts what watched threads ask for.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on to our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One token for each of two sequences.
fn step(context: &mut DecoderContext, position: u32) {
    let (tokens, positions) = ([Token(position % 50), Token(7)], [Position(position); 2]);
    let batch = Batch {
        tokens: tokens.as_slice().into(),
        positions: positions.as_slice().into(),
        sequences: [SeqId(0), SeqId(1)].as_slice().into(),
        wants_logits: [true; 2].as_slice().into(),
    };
    context.decode(batch).unwrap();
    assert!(context.logits(1).unwrap()[0].is_finite());
}

/// What is asked for on any thread while `work` runs.
fn allocations(context: &mut DecoderContext, work: impl FnOnce(&mut DecoderContext)) -> usize {
    context.pool().on_each_thread(|| WATCHED.set(true));
    let before = COUNT.load(Ordering::Relaxed);
    work(context);
    let found = COUNT.load(Ordering::Relaxed) - before;
    context.pool().on_each_thread(|| WATCHED.set(false));
    found
}

#[test]
fn no_step_allocates_once_warm() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let cases = [
        ("checkpoints/llama", None),
        ("checkpoints/llama_narrow", None),
        ("checkpoints/gemma2", None),
        ("checkpoints/llama", Some(Quantize::Int8)),
        ("checkpoints/llama", Some(Quantize::Int4)),
        ("mlx/qwen3_4bit", None),
    ];
    for (name, quantize) in cases {
        let options = Options { threads: Some(2), quantize, ..Options::default() };
        let model = DecoderModel::load(&fixtures.join(name), options, 1, |_| Flow::Continue).unwrap();
        let parameters = r#"{"max_sequences": 2, "context_tokens": 512}"#;
        let mut context = Arc::new(model).new_context(parameters).unwrap();
        for position in 0..3 {
            step(&mut context, position);
        }
        let counted = allocations(&mut context, |context| {
            context.pool().on_each_thread(|| drop(std::hint::black_box(vec![1u8; 100])));
        });
        assert!(counted >= 2, "each thread is watched: {counted}");
        let found =
            allocations(&mut context, |context| (3..203).for_each(|position| step(context, position)));
        assert_eq!(found, 0, "{name}, {quantize:?}: allocations of 200 steps");
    }
}
