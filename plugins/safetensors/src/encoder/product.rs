//! Many rows of floats times a matrix: the shape of an encoder's work, where a decoder has few rows at a time.
//!
//! The matrix is packed once, sixteen outputs side by side, so that a vector's lanes are outputs and no sum goes across
//! them. A tile of rows stays in registers while the inputs pass by.

#![expect(
    unsafe_code,
    reason = "instances for instruction sets are chosen at run time, and work on raw memory"
)]

use std::ops::Range;

use crate::checkpoint::Matrix;
use crate::kernels::Level;
#[cfg(target_arch = "aarch64")]
use crate::kernels::simd::neon::Neon;
use crate::kernels::simd::{LANES, Simd, portable::Portable};
#[cfg(target_arch = "x86_64")]
use crate::kernels::simd::{avx2::Avx2, avx512::Avx512};
use crate::pool::Shared;

/// A matrix `[outputs][inputs]` as `[panels][inputs][LANES]` floats; outputs beyond the last are zeros.
pub(super) struct Packed {
    lines: Vec<Line>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

/// A vector's worth, where a vector can be loaded from within one line of the cache.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([f32; LANES]);

impl Packed {
    /// Copies a matrix, widened.
    pub(super) fn of(matrix: &Matrix) -> Self {
        let (outputs, inputs) = (matrix.rows(), matrix.columns());
        let mut lines = vec![Line([0.0; LANES]); outputs.div_ceil(LANES) * inputs];
        let mut row = vec![0.0; inputs];
        for output in 0..outputs {
            matrix.read_row(output, &mut row);
            let panel = &mut lines[output / LANES * inputs..][..inputs];
            for (line, &number) in panel.iter_mut().zip(&row) {
                line.0[output % LANES] = number;
            }
        }
        Packed { lines, outputs, inputs }
    }

    /// Panels.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }
}

/// Where products go: columns of a `[rows][stride]` buffer.
pub(super) struct Target<'a> {
    pub(super) to: &'a Shared<'a, f32>,
    pub(super) stride: usize,
    /// The column of the matrix's first output.
    pub(super) column: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// The instance of one level.
#[derive(Clone, Copy)]
pub(super) struct Product(unsafe fn(&Job<'_>));

/// One call: some panels for all rows.
struct Job<'a> {
    input: *const f32,
    rows: usize,
    matrix: &'a Packed,
    bias: &'a [f32],
    panels: Range<usize>,
    out: *mut f32,
    stride: usize,
    add: bool,
}

impl Product {
    pub(super) fn of(level: Level) -> Product {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::AmxBf16 | Level::Avx512Bf16 | Level::Avx512Vnni | Level::Avx512 if level.runs_here() => {
                Product(avx512)
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if level.runs_here() => Product(avx2),
            #[cfg(target_arch = "aarch64")]
            Level::NeonBf16 | Level::NeonDot | Level::Neon => Product(neon),
            _ => Product(portable),
        }
    }

    /// `out[r][column + n] = matrix[n] · input[r] + bias[n]` for the outputs `n` of some panels and every row.
    ///
    /// # Panics
    /// When shapes do not fit.
    ///
    /// # Safety
    /// No other thread has these columns of the target.
    pub(super) unsafe fn run(
        self,
        input: &[f32],
        (matrix, bias): (&Packed, &[f32]),
        panels: Range<usize>,
        target: &Target<'_>,
    ) {
        let rows = input.len() / matrix.inputs;
        assert!(bias.len() == matrix.outputs && panels.end <= matrix.panels(), "shapes fit: this is a bug");
        assert!(
            target.column + matrix.outputs <= target.stride && rows * target.stride <= target.to.len(),
            "the target has room: this is a bug"
        );
        if rows == 0 || panels.is_empty() {
            return;
        }
        let job = Job {
            input: input.as_ptr(),
            rows,
            matrix,
            bias,
            panels,
            out: target.to.at(target.column),
            stride: target.stride,
            add: target.add,
        };
        // SAFETY: the level runs here, the shapes were checked, the columns are the caller's alone.
        unsafe { (self.0)(&job) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn avx512(job: &Job<'_>) {
    // SAFETY: passed on to our caller.
    unsafe { all::<Avx512, 12, 2>(job) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn neon(job: &Job<'_>) {
    // SAFETY: passed on to our caller.
    unsafe { all::<Neon, 6, 1>(job) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(job: &Job<'_>) {
    // SAFETY: passed on to our caller.
    unsafe { all::<Avx2, 6, 1>(job) }
}

unsafe fn portable(job: &Job<'_>) {
    // SAFETY: passed on to our caller.
    unsafe { all::<Portable, 2, 1>(job) }
}

/// `ROWS` rows and `PANELS` panels at a time, and what is left in smaller tiles.
#[inline(always)]
unsafe fn all<S: Simd, const ROWS: usize, const PANELS: usize>(job: &Job<'_>) {
    let mut panel = job.panels.start;
    // SAFETY: rows and panels are within the job's shapes.
    unsafe {
        while panel + PANELS <= job.panels.end {
            rows::<S, ROWS, PANELS>(job, panel);
            panel += PANELS;
        }
        while panel < job.panels.end {
            rows::<S, ROWS, 1>(job, panel);
            panel += 1;
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd, const ROWS: usize, const PANELS: usize>(job: &Job<'_>, panel: usize) {
    let mut row = 0;
    // SAFETY: rows are within the job's shapes.
    unsafe {
        while row + ROWS <= job.rows {
            tile::<S, ROWS, PANELS>(job, row, panel);
            row += ROWS;
        }
        // What is left, in tiles as large as it gives: small ones keep the arithmetic waiting.
        if ROWS > 6 && row + 6 <= job.rows {
            tile::<S, 6, PANELS>(job, row, panel);
            row += 6;
        }
        if ROWS > 4 && row + 4 <= job.rows {
            tile::<S, 4, PANELS>(job, row, panel);
            row += 4;
        }
        while row + 2 <= job.rows {
            tile::<S, 2, PANELS>(job, row, panel);
            row += 2;
        }
        if row < job.rows {
            tile::<S, 1, PANELS>(job, row, panel);
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const PANELS: usize>(job: &Job<'_>, row: usize, panel: usize) {
    let inputs = job.matrix.inputs;
    // SAFETY: `i` stays below the inputs, rows and panels are within the job's shapes.
    unsafe {
        let input = job.input.add(row * inputs);
        let weights: [*const f32; PANELS] =
            std::array::from_fn(|p| job.matrix.lines.as_ptr().add((panel + p) * inputs).cast());
        let mut sums = [[S::splat(0.0); PANELS]; ROWS];
        for i in 0..inputs {
            let weights: [S::V; PANELS] = std::array::from_fn(|p| S::load(weights[p].add(i * LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let number = S::splat(*input.add(r * inputs + i));
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = S::fma(number, weight, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (p, sum) in sums.into_iter().enumerate() {
                write::<S>(job, row + r, (panel + p) * LANES, sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn write<S: Simd>(job: &Job<'_>, row: usize, output: usize, sum: S::V) {
    let count = (job.matrix.outputs - output).min(LANES);
    // SAFETY: `count` outputs are there, and as many columns.
    unsafe {
        let out = job.out.add(row * job.stride + output);
        let bias = job.bias.as_ptr().add(output);
        if count == LANES {
            let mut value = S::add(sum, S::load(bias));
            if job.add {
                value = S::add(value, S::load(out));
            }
            S::store(out, value);
            return;
        }
        let mut lanes = [0.0; LANES];
        S::store(lanes.as_mut_ptr(), sum);
        for (n, lane) in lanes.into_iter().enumerate().take(count) {
            let before = if job.add { *out.add(n) } else { 0.0 };
            *out.add(n) = lane + *bias.add(n) + before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;

    #[test]
    fn every_level_multiplies_odd_shapes() {
        let number = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        for level in Level::ALL.into_iter().filter(|level| level.runs_here()) {
            for (rows, outputs, inputs) in [(1, 1, 1), (2, 16, 3), (15, 33, 40), (27, 50, 17), (12, 32, 64)] {
                let input: Vec<f32> = (0..rows * inputs).map(number).collect();
                let numbers: Vec<f32> = (0..outputs * inputs).map(|i| number(i + 5)).collect();
                let matrix = Packed::of(&Matrix::made(Dtype::F32, outputs, inputs, &numbers));
                let bias: Vec<f32> = (0..outputs).map(number).collect();
                for add in [false, true] {
                    let stride = outputs + 3;
                    let mut out = vec![0.5; rows * stride];
                    let to = Shared::new(&mut out);
                    let target = Target { to: &to, stride, column: 2, add };
                    // SAFETY: one thread.
                    unsafe { Product::of(level).run(&input, (&matrix, &bias), 0..matrix.panels(), &target) };
                    for row in 0..rows {
                        for n in 0..outputs {
                            let product: f32 =
                                (0..inputs).map(|i| input[row * inputs + i] * numbers[n * inputs + i]).sum();
                            let expected = product + bias[n] + if add { 0.5 } else { 0.0 };
                            let found = out[row * stride + 2 + n];
                            assert!(
                                (found - expected).abs() < 1e-4,
                                "{level}: {rows}x{outputs}x{inputs} at {row}, {n}: {found} for {expected}"
                            );
                        }
                        assert_eq!((out[row * stride], out[row * stride + 1]), (0.5, 0.5));
                        assert_eq!(out[row * stride + outputs + 2], 0.5);
                    }
                }
            }
        }
    }
}
