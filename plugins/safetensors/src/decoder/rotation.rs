//! Rotary positions of a batch: cosines and sines once, for all layers and heads.

use super::forward::Run;
use crate::config::{Pairing, Rope};

/// One kind of rope.
pub(super) struct Rotation {
    rope: Rope,
    /// Pairs of dimensions that turn.
    pairs: usize,
    /// Of the sequence whose angles were computed last.
    frequencies: Vec<f32>,
    stage: u32,
    amplitude: f32,
    /// `[rows][pairs]`
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    pub(super) fn new(rope: &Rope, rows: usize) -> Self {
        let frequencies: Vec<f32> = rope.frequencies(0).collect();
        let pairs = frequencies.len();
        Rotation {
            rope: rope.clone(),
            pairs,
            frequencies,
            stage: 0,
            amplitude: rope.amplitude(),
            cosines: vec![0.0; rows * pairs],
            sines: vec![0.0; rows * pairs],
        }
    }

    /// Computes the angles of a batch, each sequence's for its own length.
    pub(super) fn turn(&mut self, positions: &[u32], runs: &[Run]) {
        for run in runs {
            let stage = self.rope.stage(run.length);
            if stage != self.stage {
                self.stage = stage;
                self.frequencies
                    .iter_mut()
                    .zip(self.rope.frequencies(run.length))
                    .for_each(|(to, f)| *to = f);
            }
            self.turn_rows(&positions[run.rows.clone()], run.rows.start);
        }
    }

    fn turn_rows(&mut self, positions: &[u32], first: usize) {
        let rows = self.cosines.chunks_exact_mut(self.pairs).zip(self.sines.chunks_exact_mut(self.pairs));
        for ((cosines, sines), &position) in rows.skip(first).zip(positions) {
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
                let (s, c) = (position as f32 * frequency).sin_cos();
                (*cosine, *sine) = (c * self.amplitude, s * self.amplitude);
            }
        }
    }

    /// Rotates one head of a row: the first half of the rotated dimensions against the second, or neighbours.
    pub(super) fn apply(&self, row: usize, head: &mut [f32]) {
        let at = row * self.pairs..(row + 1) * self.pairs;
        let angles = self.cosines[at.clone()].iter().zip(&self.sines[at]);
        match self.rope.pairing {
            Pairing::Halves => {
                let (first, rest) = head.split_at_mut(self.pairs);
                for ((x, y), (&cosine, &sine)) in first.iter_mut().zip(rest).zip(angles) {
                    (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
                }
            }
            Pairing::Neighbours => {
                for (pair, (&cosine, &sine)) in head.chunks_exact_mut(2).zip(angles) {
                    let (x, y) = (pair[0], pair[1]);
                    (pair[0], pair[1]) = (x * cosine - y * sine, y * cosine + x * sine);
                }
            }
        }
    }
}
