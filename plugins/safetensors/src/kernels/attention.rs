//! Attention of a few query rows over the blocks of one sequence's keys and values, for one head of keys.
//!
//! Scores are turned into weights as they come (online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867), so that
//! nothing of the size of the context is stored. Keys lie with one dimension of a whole block together: a vector is
//! one dimension of sixteen keys, and no sum across lanes is needed.

#![expect(unsafe_code, reason = "kernels work on raw memory")]

use super::simd::{Element, LANES, Simd};

/// A block of [`LANES`] keys and values, as far as one sequence has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyBlock {
    /// Its place in the memory.
    pub(crate) id: u32,
    /// The position of its first slot.
    pub(crate) first: u32,
    /// The slots that the sequence has, by bit.
    pub(crate) present: u16,
}

/// A query and where its answer goes: both `[head_width]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRow {
    /// Already multiplied by the scale of the scores.
    pub(crate) query: *const f32,
    pub(crate) out: *mut f32,
    /// Its position: it sees keys up to here.
    pub(crate) position: u32,
}

/// One call: at most [`MAX_ROWS`] queries.
///
/// # Safety
/// The pointers are valid for the shapes; present keys and values are initialised; `head_width` is a multiple of
/// [`LANES`]; each query sees at least one present key; no other thread has the outs.
pub(crate) struct Attend<'a, E: Element> {
    pub(crate) rows: &'a [QueryRow],
    pub(crate) blocks: &'a [KeyBlock],
    /// Block 0: keys `[head_width][LANES]`, then values `[LANES][head_width]`.
    pub(crate) memory: *const E::Bits,
    /// Numbers from a block to the next.
    pub(crate) stride: usize,
    pub(crate) head_width: usize,
    /// How many keys a query sees, itself included; more than there are where there is no window.
    pub(crate) window: u32,
    /// Scores are squashed to `cap * tanh(score / cap)` where there is one.
    pub(crate) softcap: Option<f32>,
}

impl<E: Element> Attend<'_, E> {
    #[inline(always)]
    unsafe fn keys(&self, block: KeyBlock) -> *const E::Bits {
        // SAFETY: blocks are in the memory.
        unsafe { self.memory.add(block.id as usize * self.stride) }
    }

    #[inline(always)]
    unsafe fn values(&self, block: KeyBlock) -> *const E::Bits {
        // SAFETY: values stand behind the keys of their block.
        unsafe { self.keys(block).add(LANES * self.head_width) }
    }
}

/// Queries of one call.
pub(crate) const MAX_ROWS: usize = 8;
/// Blocks whose scores are taken together.
const TOGETHER: usize = 4;

/// # Safety
/// The machine has `S`; `job` is as its type says.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, E: Element>(job: &Attend<'_, E>) {
    // SAFETY: passed on to our caller.
    unsafe {
        match job.rows.len() {
            1 => rows::<S, E, 1>(job),
            2 => rows::<S, E, 2>(job),
            3 => rows::<S, E, 3>(job),
            4 => rows::<S, E, 4>(job),
            5 => rows::<S, E, 5>(job),
            6 => rows::<S, E, 6>(job),
            7 => rows::<S, E, 7>(job),
            MAX_ROWS => rows::<S, E, MAX_ROWS>(job),
            _ => {}
        }
    }
}

/// What a row has gathered so far.
#[derive(Clone, Copy)]
struct State {
    /// The largest score.
    largest: f32,
    /// The sum of the weights, relative to `largest`.
    sum: f32,
}

#[inline(always)]
unsafe fn rows<S: Simd, E: Element, const ROWS: usize>(job: &Attend<'_, E>) {
    let mut states = [State { largest: f32::NEG_INFINITY, sum: 0.0 }; ROWS];
    let mut weights = [[0.0f32; LANES * TOGETHER]; ROWS];
    // SAFETY: the pointers are valid for the shapes.
    unsafe {
        for row in job.rows {
            for i in (0..job.head_width).step_by(LANES) {
                S::store(row.out.add(i), S::splat(0.0));
            }
        }
        for (i, blocks) in job.blocks.chunks(TOGETHER).enumerate() {
            let next = job.blocks.get((i + 1) * TOGETHER..).unwrap_or_default();
            let seen = Seen { blocks, next };
            match blocks.len() {
                TOGETHER => scores::<S, E, ROWS, TOGETHER>(job, seen, &mut weights),
                3 => scores::<S, E, ROWS, 3>(job, seen, &mut weights),
                2 => scores::<S, E, ROWS, 2>(job, seen, &mut weights),
                _ => scores::<S, E, ROWS, 1>(job, seen, &mut weights),
            }
            let mut shrink = [1.0f32; ROWS];
            for r in 0..ROWS {
                let scores = &mut weights[r][..blocks.len() * LANES];
                mask(job, blocks, job.rows[r].position, scores);
                shrink[r] = soften::<S>(scores, &mut states[r]);
            }
            gather::<S, E, ROWS>(job, seen, &weights, shrink);
        }
        for (row, state) in job.rows.iter().zip(states) {
            let share = S::splat(1.0 / state.sum);
            for i in (0..job.head_width).step_by(LANES) {
                S::store(row.out.add(i), S::mul(S::load(row.out.add(i)), share));
            }
        }
    }
}

/// Blocks that are taken together, and those that will be: they may lie anywhere, so that no machine guesses them.
#[derive(Clone, Copy)]
struct Seen<'a> {
    blocks: &'a [KeyBlock],
    next: &'a [KeyBlock],
}

impl Seen<'_> {
    /// A block, and the one in the same place of those to come, or the same where there is none.
    #[inline(always)]
    fn with_next(self, b: usize) -> (KeyBlock, KeyBlock) {
        (self.blocks[b], *self.next.get(b).unwrap_or(&self.blocks[b]))
    }
}

/// `scores[r][key] = query[r] · key`
#[inline(always)]
unsafe fn scores<S: Simd, E: Element, const ROWS: usize, const BLOCKS: usize>(
    job: &Attend<'_, E>,
    seen: Seen<'_>,
    scores: &mut [[f32; LANES * TOGETHER]; ROWS],
) {
    // SAFETY: the pointers are valid for the shapes.
    unsafe {
        // Many rows with many blocks would not fit the registers: two blocks at a time then.
        if ROWS > 4 && BLOCKS > 2 {
            pass::<S, E, ROWS, 2>(job, seen, 0, scores);
            match BLOCKS {
                3 => pass::<S, E, ROWS, 1>(job, seen, 2, scores),
                _ => pass::<S, E, ROWS, 2>(job, seen, 2, scores),
            }
        } else {
            pass::<S, E, ROWS, BLOCKS>(job, seen, 0, scores);
        }
    }
}

#[inline(always)]
unsafe fn pass<S: Simd, E: Element, const ROWS: usize, const BLOCKS: usize>(
    job: &Attend<'_, E>,
    seen: Seen<'_>,
    from: usize,
    scores: &mut [[f32; LANES * TOGETHER]; ROWS],
) {
    // SAFETY: the pointers are valid for the shapes; `from + BLOCKS` blocks exist.
    unsafe {
        let mut sums = [[S::splat(0.0); BLOCKS]; ROWS];
        let both: [(KeyBlock, KeyBlock); BLOCKS] = std::array::from_fn(|b| seen.with_next(from + b));
        let keys_of = both.map(|(block, next)| (job.keys(block), job.keys(next)));
        for i in 0..job.head_width {
            let mut keys = [S::splat(0.0); BLOCKS];
            for (key, (keys_of, next)) in keys.iter_mut().zip(keys_of) {
                S::prefetch(next.add(i * LANES).cast());
                *key = E::load::<S>(keys_of.add(i * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let query = S::splat(*job.rows.get_unchecked(r).query.add(i));
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = S::fma(query, key, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (b, sum) in sums.into_iter().enumerate() {
                S::store(scores[r].as_mut_ptr().add((from + b) * LANES), sum);
            }
        }
    }
}

/// Caps scores, and takes away what the query at `position` must not see.
#[inline(always)]
fn mask<E: Element>(job: &Attend<'_, E>, blocks: &[KeyBlock], position: u32, scores: &mut [f32]) {
    if let Some(cap) = job.softcap {
        scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
    }
    // The first position that it sees.
    let start = (position + 1).saturating_sub(job.window);
    for (block, scores) in blocks.iter().zip(scores.chunks_mut(LANES)) {
        let whole = block.first >= start && block.first + (LANES as u32 - 1) <= position;
        if whole && block.present == u16::MAX {
            continue;
        }
        for (i, score) in scores.iter_mut().enumerate() {
            let at = block.first + i as u32;
            if at > position || at < start || block.present & (1 << i) == 0 {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

/// Turns scores into weights relative to the largest so far; answers what earlier weights shrink by.
#[inline(always)]
unsafe fn soften<S: Simd>(scores: &mut [f32], state: &mut State) -> f32 {
    // SAFETY: the scores are whole vectors.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..scores.len()).step_by(LANES) {
            largest = S::max(largest, S::load(scores.as_ptr().add(i)));
        }
        let largest = S::largest(largest).max(state.largest);
        if largest == f32::NEG_INFINITY {
            // Nothing seen yet, and nothing here.
            scores.fill(0.0);
            return 1.0;
        }
        let mut sum = S::splat(0.0);
        for i in (0..scores.len()).step_by(LANES) {
            let at = scores.as_mut_ptr().add(i);
            let weight = S::exp(S::sub(S::load(at), S::splat(largest)));
            S::store(at, weight);
            sum = S::add(sum, weight);
        }
        let shrink = (state.largest - largest).exp();
        *state = State { largest, sum: state.sum * shrink + S::sum(sum) };
        shrink
    }
}

/// `out[r] = out[r] * shrink[r] + Σ weights[r][key] * value[key]`
#[inline(always)]
unsafe fn gather<S: Simd, E: Element, const ROWS: usize>(
    job: &Attend<'_, E>,
    seen: Seen<'_>,
    weights: &[[f32; LANES * TOGETHER]; ROWS],
    shrink: [f32; ROWS],
) {
    let mut i = 0;
    // SAFETY: the pointers are valid for the shapes.
    unsafe {
        // A weight is read once for two vectors, where there are registers for their sums.
        while S::STRIP == 2 && i + 2 * LANES <= job.head_width {
            columns::<S, E, ROWS, 2>(job, seen, i, (weights, shrink));
            i += 2 * LANES;
        }
        while i < job.head_width {
            columns::<S, E, ROWS, 1>(job, seen, i, (weights, shrink));
            i += LANES;
        }
    }
}

/// The same for some vectors of the head's width, from `i` on.
#[inline(always)]
unsafe fn columns<S: Simd, E: Element, const ROWS: usize, const N: usize>(
    job: &Attend<'_, E>,
    seen: Seen<'_>,
    i: usize,
    (weights, shrink): (&[[f32; LANES * TOGETHER]; ROWS], [f32; ROWS]),
) {
    // SAFETY: the pointers are valid for the shapes.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; ROWS];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                let out = job.rows.get_unchecked(r).out.add(i + n * LANES);
                *sum = S::mul(S::load(out), S::splat(shrink[r]));
            }
        }
        for b in 0..seen.blocks.len() {
            let (block, next) = seen.with_next(b);
            let (values_of, next) = (job.values(block).add(i), job.values(next).add(i));
            for key in 0..LANES {
                S::prefetch(next.add(key * job.head_width).cast());
                // Others' or old numbers, which may be no numbers at all: their weight of nearly nothing is no help.
                if block.present & (1 << key) == 0 {
                    continue;
                }
                let mut values = [S::splat(0.0); N];
                for (n, value) in values.iter_mut().enumerate() {
                    *value = E::load::<S>(values_of.add(key * job.head_width + n * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = S::splat(weights[r][b * LANES + key]);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = S::fma(weight, value, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                S::store(job.rows.get_unchecked(r).out.add(i + n * LANES), sum);
            }
        }
    }
}
