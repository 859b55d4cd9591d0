//! Each instance that this machine can run against the plain definition, over odd shapes and tails.

use super::*;
use crate::checkpoint::{CodeBits, Dtype, Layout, Matrix, PANEL, Panels, Rounding, Weight};
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
fn norms_and_gates_are_right_in_every_instance() {
    for level in levels() {
        let kernels = Kernels::of(level);
        for length in [1, 15, 16, 40, 576] {
            let (row, weight) = (noise(4, length), noise(5, length));
            let mut out = vec![0.0; length];
            kernels.rms_norm(&row, &weight, 1e-5, &mut out);
            let mean = row.iter().map(|x| x * x).sum::<f32>() / length as f32;
            for i in 0..length {
                let expected = row[i] / (mean + 1e-5).sqrt() * weight[i];
                assert!((out[i] - expected).abs() < 1e-5, "{level}, {length}: {} for {expected}", out[i]);
            }
            let mut again = row.clone();
            kernels.rms_norm_in_place(&mut again, &weight, 1e-5);
            assert_eq!(again, out);
            for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
                let x: Vec<f32> = row.iter().map(|x| x * 20.0).collect();
                let (mut gated, mut plain) = (x.clone(), x.clone());
                kernels.gate(activation, &mut gated, &weight);
                kernels.activate(activation, &mut plain);
                for i in 0..length {
                    let (expected, weight) = (activated(activation, f64::from(x[i])), f64::from(weight[i]));
                    let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-5;
                    assert!(near(gated[i], expected * weight), "{level}, {activation:?}({}) gated", x[i]);
                    assert!(near(plain[i], expected), "{level}, {activation:?}({})", x[i]);
                }
            }
        }
    }
}

fn activated(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Silu => y / (1.0 + (-y).exp()),
        Activation::Gelu => 0.5 * y * (1.0 + error_function(y / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * y * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y * y * y)).tanh())
        }
    }
}

/// By its Taylor series, as far as that can be summed.
fn error_function(z: f64) -> f64 {
    if z.abs() > 4.5 {
        return z.signum();
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..120 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn layer_norms_are_right_in_every_instance() {
    for level in levels() {
        let kernels = Kernels::of(level);
        for length in [1, 15, 16, 40, 576] {
            let (weight, bias) = (noise(5, length), noise(6, length));
            // Far from a mean of nought, so that it must be taken off first.
            let row: Vec<f32> = noise(4, length).iter().map(|x| x + 30.0).collect();
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / length as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / length as f64;
            for bias in [None, Some(bias.as_slice())] {
                let mut out = vec![0.0; length];
                kernels.layer_norm(&row, (&weight, bias), 1e-5, &mut out);
                for i in 0..length {
                    let normed = (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt();
                    let expected = normed * f64::from(weight[i]) + bias.map_or(0.0, |b| f64::from(b[i]));
                    let difference = (f64::from(out[i]) - expected).abs();
                    assert!(difference < 1e-4, "{level}, {length}: {} for {expected}", out[i]);
                }
                let mut again = row.clone();
                kernels.layer_norm_in_place(&mut again, (&weight, bias), 1e-5);
                assert_eq!(again, out);
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
    let grouped = Weight::Grouped(std::sync::Arc::new(rounding.round(&grouped, 1).unwrap().unwrap()));
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

#[test]
fn narrowing_rounds_to_nearest_and_to_even() {
    let floats = [
        0.0,
        -0.0,
        1.0,
        1.0 + 1.0 / 256.0,
        1.0 + 1.0 / 512.0,
        1.0 + 3.0 / 512.0,
        f32::INFINITY,
        f32::NAN,
        3.4e38,
        -1e-40,
    ];
    for level in levels() {
        let mut narrow = [0; 10];
        Kernels::of(level).narrow(&floats, &mut narrow);
        let expected = floats.map(|float| half::bf16::from_f32(float).to_bits());
        assert_eq!(narrow, expected, "{level}");
    }
}

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
