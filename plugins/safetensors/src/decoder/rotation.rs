//! Rotary positions of a batch: cosines and sines once, for all layers and heads.

use crate::config::Rope;

/// One kind of rope.
pub(super) struct Rotation {
    /// Pairs of dimensions that turn.
    pairs: usize,
    frequencies: Vec<f32>,
    amplitude: f32,
    /// `[rows][pairs]`
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    pub(super) fn new(rope: &Rope, rows: usize) -> Self {
        let frequencies = rope.frequencies();
        let pairs = frequencies.len();
        Rotation {
            pairs,
            frequencies,
            amplitude: rope.amplitude(),
            cosines: vec![0.0; rows * pairs],
            sines: vec![0.0; rows * pairs],
        }
    }

    /// Computes the angles of a batch.
    pub(super) fn turn(&mut self, positions: impl Iterator<Item = u32>) {
        let rows = self.cosines.chunks_exact_mut(self.pairs).zip(self.sines.chunks_exact_mut(self.pairs));
        for ((cosines, sines), position) in rows.zip(positions) {
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
                let (s, c) = (position as f32 * frequency).sin_cos();
                (*cosine, *sine) = (c * self.amplitude, s * self.amplitude);
            }
        }
    }

    /// Rotates one head of a row: the first half of the rotated dimensions against the second.
    pub(super) fn apply(&self, row: usize, head: &mut [f32]) {
        let at = row * self.pairs..(row + 1) * self.pairs;
        let (first, rest) = head.split_at_mut(self.pairs);
        let angles = self.cosines[at.clone()].iter().zip(&self.sines[at]);
        for ((x, y), (&cosine, &sine)) in first.iter_mut().zip(rest).zip(angles) {
            (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
        }
    }
}
