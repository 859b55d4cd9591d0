//! Attention against its formula.

use super::*;

/// What [`check_attention`] varies.
#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    /// Keys, of which the queries are the last.
    keys: u32,
    width: usize,
    window: u32,
    softcap: Option<f32>,
    /// A key that the sequence does not have.
    hole: Option<u32>,
}

fn check_attention<E: CacheElement>(level: Level, case: Case, tolerance: f32) {
    let Case { rows, keys, width, window, softcap, hole } = case;
    let kernels = Kernels::of(level);
    let (queries, k, v) =
        (noise(6, rows * width), noise(7, keys as usize * width), noise(8, keys as usize * width));
    let blocks = (keys as usize).div_ceil(LANES);
    let stride = 2 * LANES * width + 5;
    // What nobody wrote must not matter.
    let mut memory = vec![E::narrow(f32::NAN); blocks * stride];
    let mut table = Vec::new();
    for block in 0..blocks {
        // Blocks lie in no order.
        let id = (block + 1) % blocks;
        let first = (block * LANES) as u32;
        let mut present = 0;
        for slot in 0..LANES.min(keys as usize - block * LANES) {
            let key = block * LANES + slot;
            present |= u16::from(hole != Some(key as u32)) << slot;
            for i in 0..width {
                memory[id * stride + i * LANES + slot] = E::narrow(k[key * width + i]);
                memory[id * stride + LANES * width + slot * width + i] = E::narrow(v[key * width + i]);
            }
        }
        table.push(KeyBlock { id: id as u32, first, present });
    }
    let mut answers = vec![7.0; rows * width];
    let to = answers.as_mut_ptr();
    let query_rows: Vec<QueryRow> = (0..rows)
        .map(|row| QueryRow {
            query: queries[row * width..].as_ptr(),
            // SAFETY: within the answers.
            out: unsafe { to.add(row * width) },
            position: keys - rows as u32 + row as u32,
        })
        .collect();
    let job = Attend::<E> {
        rows: &query_rows,
        blocks: &table,
        memory: memory.as_ptr(),
        stride,
        head_width: width,
        window,
        softcap,
    };
    // SAFETY: the pointers are valid, the level runs here.
    unsafe { E::attend(kernels, &job) };
    for row in 0..rows {
        let position = query_rows[row].position;
        let seen = |key: &u32| *key <= position && position - *key < window && Some(*key) != hole;
        let score = |key: u32| {
            let at = key as usize * width;
            let score: f32 =
                (0..width).map(|i| queries[row * width + i] * E::widen(E::narrow(k[at + i]))).sum();
            softcap.map_or(score, |cap| cap * (score / cap).tanh())
        };
        let total: f32 = (0..keys).filter(seen).map(|key| score(key).exp()).sum();
        for i in 0..width {
            let expected: f32 = (0..keys)
                .filter(seen)
                .map(|key| score(key).exp() / total * E::widen(E::narrow(v[key as usize * width + i])))
                .sum();
            let found = answers[row * width + i];
            assert!((found - expected).abs() < tolerance, "{level}, {case:?}: {found} for {expected}");
        }
    }
}

#[test]
fn attention_is_right_in_every_instance() {
    let plain = Case { rows: 1, keys: 1, width: 16, window: u32::MAX, softcap: None, hole: None };
    let mut cases = vec![plain];
    for rows in 1..=MAX_ROWS {
        for keys in [rows as u32 + 3, 33, 64, 150] {
            cases.push(Case { rows, keys, width: 32, ..plain });
        }
    }
    cases.push(Case { rows: 5, keys: 100, window: 7, ..plain });
    cases.push(Case { rows: 3, keys: 90, softcap: Some(2.0), ..plain });
    cases.push(Case { rows: 2, keys: 70, hole: Some(20), ..plain });
    for level in levels() {
        for &case in &cases {
            check_attention::<F32>(level, case, 2e-6);
            check_attention::<F16>(level, case, 2e-6);
            check_attention::<Bf16>(level, case, 2e-6);
        }
    }
}
