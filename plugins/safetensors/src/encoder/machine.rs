//! The threads, kernels and buffers that an encoder computes with.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::product::{Packed, Product, Target};
use super::rows::{Norm, RowKernels};
use crate::kernels::{Kernels, Level};
use crate::pool::{Pool, Shared};

/// A matrix `[out][in]` and a bias `[out]`.
pub(super) struct Projection {
    pub(super) matrix: Packed,
    pub(super) bias: Vec<f32>,
}

/// Threads and what they run.
pub(crate) struct Machine {
    pub(super) pool: Pool,
    pub(super) kernels: &'static Kernels,
    pub(super) rows: &'static RowKernels,
    product: Product,
}

/// Sequences of one batch, one behind the other: no row is padding, so that none changes another's result.
pub(super) struct Batch {
    pub(super) tokens: Vec<u32>,
    /// Rows of each sequence.
    pub(super) sequences: Vec<Range<usize>>,
}

/// Intermediate results of a batch; what is written before it is read is not cleared.
#[derive(Default)]
pub(super) struct Buffers {
    rows: usize,
    /// `[rows][hidden]`: a layer's input and output.
    pub(super) stream: Vec<f32>,
    /// `[rows][3 * hidden]`: queries, keys, values.
    pub(super) mixed: Vec<f32>,
    /// `[rows][hidden]`: attention's answers.
    pub(super) attended: Vec<f32>,
    /// `[rows][intermediate]`
    pub(super) inner: Vec<f32>,
    /// Keys and values of every sequence and head, as the attention kernel wants them.
    pub(super) keys: Vec<f32>,
}

impl Batch {
    pub(super) fn new<'a>(sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let mut batch = Batch { tokens: Vec::new(), sequences: Vec::new() };
        for tokens in sequences {
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(tokens);
            batch.sequences.push(start..batch.tokens.len());
        }
        batch
    }
}

impl Buffers {
    /// Makes room for so many rows.
    pub(super) fn grow(&mut self, rows: usize, hidden: usize, intermediate: usize) {
        if rows <= self.rows {
            return;
        }
        let rows = rows.next_multiple_of(64);
        let floats = |width: usize| vec![0.0; rows * width];
        *self = Buffers {
            rows,
            stream: floats(hidden),
            mixed: floats(3 * hidden),
            attended: floats(hidden),
            inner: floats(intermediate),
            keys: Vec::new(),
        };
    }
}

impl Machine {
    pub(crate) fn new(threads: usize, level: Level) -> Self {
        Machine {
            pool: Pool::new(threads),
            kernels: Kernels::of(level),
            rows: RowKernels::of(level),
            product: Product::of(level),
        }
    }

    /// `out[..][column..] = W input + b`, or adds it to what is there.
    pub(super) fn project(
        &mut self,
        input: &[f32],
        projection: &Projection,
        (out, stride, column): (&mut [f32], usize, usize),
        add: bool,
    ) {
        let product = self.product;
        let to = Shared::new(out);
        let target = Target { to: &to, stride, column, add };
        let Projection { matrix, bias } = projection;
        self.pool.split(matrix.panels(), 2, |panels| {
            // SAFETY: each column is one thread's.
            unsafe { product.run(input, (matrix, bias), panels, &target) }
        });
    }

    /// Norms each row, where it is.
    pub(super) fn norm(&mut self, rows: &mut [f32], norm: &Norm) {
        let (kernels, width) = (self.rows, norm.weight.len());
        self.each_row(rows, width, |row| kernels.norm(row, norm));
    }

    /// Does something with each row.
    pub(super) fn each_row(&mut self, rows: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Sync) {
        let count = rows.len() / width;
        let shared = Shared::new(rows);
        self.pool.split(count, 4, |range| {
            for row in range {
                // SAFETY: each row is one thread's.
                work(unsafe { shared.slice(row * width..(row + 1) * width) });
            }
        });
    }
}
