//! Each instance that this machine can run against the plain definition, over odd shapes and tails.

mod attention;
mod products;
mod rows;

use super::*;
use crate::pool::Pool;

/// Numbers between -1 and 1 that look random.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32) * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.runs_here())
}

fn operand(kernels: &Kernels, forms: Forms, (rows, width): (usize, usize), floats: &[f32]) -> Operand {
    let mut operand = Operand::new(rows, width, forms);
    let shared = operand.share();
    for row in 0..rows {
        // SAFETY: one thread.
        unsafe {
            shared.fill(kernels, row, 0..width, |to| {
                to.copy_from_slice(&floats[row * width..(row + 1) * width])
            });
        }
    }
    operand.finish(kernels, &mut Pool::new(1), rows);
    operand
}
