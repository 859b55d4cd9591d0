//! Products of activations with matrices, plain and packed.

use super::*;
use crate::checkpoint::{CodeBits, Dtype, Layout, Matrix, PANEL, Panels, Rounding, Weight};
use crate::kernels::multiply::MANY;

fn check_multiply(level: Level, dtype: Dtype, (rows, count, width): (usize, usize, usize)) {
    let kernels = Kernels::of(level);
    let (a, w, bias) = (noise(1, rows * width), noise(2, count * width), noise(3, count));
    let matrix = Matrix::made(dtype, count, width, &w);
    let weights = matrix.to_floats();
    let weight = Weight::Plain(matrix);
    let operand = operand(kernels, kernels.wants(&weight), (rows, width), &a);
    let mut found = vec![0.5; rows * (count + 3)];
    let to = Shared::new(&mut found);
    let out = Output { to: &to, stride: count + 3, column: 2, add: true, scale: 2.0 };
    // Two calls, as two threads would share the work.
    for range in [0..count / 2, count / 2..count] {
        // SAFETY: one thread.
        unsafe { kernels.multiply((&operand, rows), (&weight, Some(&bias)), range, &out) };
    }
    // Activations are rounded to 8 bits of mantissa where they are narrowed.
    let tolerance = if kernels.wants(&weight).narrow { 0.02 } else { 1e-5 } * (width as f32).sqrt() + 1e-5;
    for row in 0..rows {
        assert_eq!((found[row * (count + 3)], found[row * (count + 3) + count + 2]), (0.5, 0.5), "untouched");
        for n in 0..count {
            let product: f32 = (0..width).map(|i| a[row * width + i] * weights[n * width + i]).sum();
            let expected = 0.5 + 2.0 * (product + bias[n]);
            let found = found[row * (count + 3) + 2 + n];
            assert!(
                (found - expected).abs() < tolerance,
                "{level}, {dtype:?}, {rows}x{count}x{width} at {row},{n}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn products_are_right_in_every_instance() {
    for level in levels() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for shape in
                [(1, 4, 32), (1, 7, 576), (2, 9, 33), (3, 5, 1), (5, 6, 47), (7, 3, 64), (13, 17, 95)]
            {
                check_multiply(level, dtype, shape);
            }
            // Many rows, with each number of rows that is left over, and more columns than are packed at a time.
            for shape in (16..24).map(|rows| (rows, 2 * rows + 3, 33)) {
                check_multiply(level, dtype, shape);
            }
            // Few, with whole tiles of columns.
            for shape in [
                (2, 16, 32),
                (8, 70, 576),
                (15, 33, 2080),
                (5, 49, 4128),
                (3, 7, 64),
                (9, 16, 2048),
                (6, 100, 96),
            ] {
                check_multiply(level, dtype, shape);
            }
            for shape in [
                (16, 64, 1),
                (40, 1, 96),
                (17, 96, 64),
                (19, 40, 2050),
                (16, 34, 4097),
                (70, 70, 64),
                (33, 40, 4128),
            ] {
                check_multiply(level, dtype, shape);
            }
        }
    }
}

/// Rows that are too few for another kernel.
const FEW: usize = MANY - 1;

/// Products of some rows of activations with a matrix.
fn product(kernels: &Kernels, weight: &Weight, rows: &[f32]) -> Vec<f32> {
    let count = rows.len() / weight.columns();
    let operand = operand(kernels, kernels.wants(weight), (count, weight.columns()), rows);
    let mut found = vec![0.0; count * weight.rows()];
    let to = Shared::new(&mut found);
    let out = Output { to: &to, stride: weight.rows(), column: 0, add: false, scale: 1.0 };
    // SAFETY: one thread.
    unsafe { kernels.multiply((&operand, count), (weight, None), 0..weight.rows(), &out) };
    found
}

#[test]
fn a_row_is_computed_alike_alone_and_with_a_few_others() {
    for level in levels() {
        // For the rows of a lone sequence.
        let kernels = Kernels::of(level).for_step(FEW, 1);
        for (count, width) in [(70, 576), (33, 47), (16, 2080), (7, 4128), (40, 4096)] {
            let (a, w) = (noise(1, FEW * width), noise(2, count * width));
            let plain = [Dtype::F32, Dtype::F16, Dtype::Bf16]
                .map(|dtype| Weight::Plain(Matrix::made(dtype, count, width, &w)));
            let rounded = [CodeBits::Eight, CodeBits::Four].into_iter().filter_map(|bits| {
                let matrix = Matrix::made(Dtype::F32, count, width, &w);
                let panels = Rounding { bits, group: 32 }.round((&matrix, None), 1).unwrap()?;
                Some(Weight::Grouped(std::sync::Arc::new(panels)))
            });
            for weight in plain.into_iter().chain(rounded) {
                let alone: Vec<f32> =
                    a.chunks(width).flat_map(|row| product(kernels, &weight, row)).collect();
                for rows in 2..=FEW {
                    let together = product(kernels, &weight, &a[..rows * width]);
                    assert_eq!(together, alone[..rows * count], "{level}, {rows} of {count}x{width}");
                }
            }
        }
    }
}

/// A packed matrix against its own numbers and the rounded activations: the sums of codes are exact.
fn check_affine(
    level: Level,
    (bits, scales, group): (CodeBits, Dtype, usize),
    (rows, count, width): (usize, usize, usize),
) {
    let kernels = Kernels::of(level);
    let layout = Layout { rows: count, columns: width, group, bits, scales };
    let most = if bits == CodeBits::Four { 15 } else { 255 };
    let panels = Panels::pack(layout, 1, |row, to| {
        to.codes
            .iter_mut()
            .enumerate()
            .for_each(|(i, code)| *code = ((row * 53 + i * 29) % (most + 1)) as u8);
        to.scales.iter_mut().enumerate().for_each(|(g, scale)| *scale = 0.25 + (row % 3 + g) as f32 / 8.0);
        to.biases.iter_mut().enumerate().for_each(|(g, bias)| *bias = -2.0 - (row % 5 + g) as f32);
        Ok(())
    })
    .unwrap();
    let weight = Weight::Grouped(std::sync::Arc::new(panels));
    let (a, bias) = (noise(1, rows * width), noise(3, count));
    // Groups of activations may be smaller than the matrix's, for another matrix's sake.
    for forms in [kernels.wants(&weight), Forms { narrow: false, group: Some(32) }] {
        let operand = operand(kernels, forms, (rows, width), &a);
        let mut found = vec![0.5; rows * (count + 3)];
        let to = Shared::new(&mut found);
        let out = Output { to: &to, stride: count + 3, column: 2, add: true, scale: 2.0 };
        let middle = (count / 2).next_multiple_of(PANEL).min(count);
        for range in [0..middle, middle..count] {
            // SAFETY: one thread.
            unsafe { kernels.multiply((&operand, rows), (&weight, Some(&bias)), range, &out) };
        }
        let mut numbers = vec![0.0; width];
        for n in 0..count {
            weight.read_row(n, &mut numbers);
            for row in 0..rows {
                let product: f64 = (0..width)
                    .map(|i| {
                        let at = row * width + i;
                        let rounded =
                            f64::from(operand.factors[at / operand.group]) * f64::from(operand.codes[at]);
                        assert!(
                            (rounded - f64::from(a[at])).abs()
                                <= f64::from(operand.factors[at / operand.group]) * 0.51
                        );
                        rounded * f64::from(numbers[i])
                    })
                    .sum();
                let expected = 0.5 + 2.0 * (product + f64::from(bias[n]));
                let found = f64::from(found[row * (count + 3) + 2 + n]);
                assert!(
                    (found - expected).abs() < 2e-5 * f64::from(most as u16) * (width as f64).sqrt(),
                    "{level}, {layout:?}, {rows} rows at {row},{n}: {found} for {expected}"
                );
            }
        }
        assert!((0..rows).all(|row| found[row * (count + 3)] == 0.5), "untouched");
    }
}

#[test]
fn products_of_groups_are_right_in_every_instance() {
    for level in levels() {
        for (bits, scales) in [
            (CodeBits::Four, Dtype::F16),
            (CodeBits::Four, Dtype::Bf16),
            (CodeBits::Eight, Dtype::F32),
            (CodeBits::Eight, Dtype::F16),
        ] {
            for (group, shape) in [
                (32, (1, 4, 32)),
                (64, (1, 37, 576)),
                (32, (3, 16, 96)),
                (128, (13, 33, 256)),
                (64, (8, 17, 64)),
            ] {
                check_affine(level, (bits, scales, group), shape);
            }
        }
    }
}

#[test]
fn rows_of_a_product_are_computed_by_themselves() {
    let (rows, columns, outputs) = (7, 64, 20);
    let floats = noise(2, outputs * columns);
    let plain = Weight::Plain(Matrix::made(Dtype::Bf16, outputs, columns, &floats));
    let rounding = Rounding { bits: CodeBits::Eight, group: 32 };
    let grouped = Matrix::made(Dtype::F32, outputs, columns, &floats);
    let grouped = Weight::Grouped(std::sync::Arc::new(rounding.round((&grouped, None), 1).unwrap().unwrap()));
    for level in levels() {
        let kernels = Kernels::of(level);
        for weight in [&plain, &grouped] {
            let a = operand(kernels, kernels.wants(weight), (rows, columns), &noise(3, rows * columns));
            let product = |parts: &[Range<usize>]| {
                let mut out = vec![0.0; rows * outputs];
                let to = Shared::new(&mut out);
                let output = Output { to: &to, stride: outputs, column: 0, add: false, scale: 1.0 };
                for part in parts {
                    // SAFETY: one thread.
                    unsafe {
                        kernels.multiply_rows((&a, part.clone()), (weight, None), 0..outputs, &output);
                    }
                }
                out
            };
            let all = 0..rows;
            let whole = product(std::slice::from_ref(&all));
            let parts = product(&[0..3, 3..4, 4..rows]);
            for (whole, part) in whole.iter().zip(&parts) {
                assert!((whole - part).abs() < 1e-4, "{level}: {part} for {whole}");
            }
        }
    }
}
