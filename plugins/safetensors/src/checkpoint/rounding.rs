//! Rounds numbers to affine groups of few bits, when a model is loaded.
//!
//! A group's first scale and bias span its least and largest number (Jacob et al. 2017, arXiv:1712.05877). With four
//! bits they are then fitted to the codes by least squares a few times, which lessens the squared error.

use super::matrix::{Dtype, Matrix};
use super::panels::{CodeBits, CodedRow, Layout, Panels};
use impetus_plugin_api::PluginError;

/// Type of the scales and biases of what is rounded here: eleven bits of mantissa, in two bytes.
const SCALES: Dtype = Dtype::F16;
/// Fits of a four-bit group.
const FITS: usize = 4;

/// How matrices are to be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounding {
    pub(crate) bits: CodeBits,
    /// Columns that share a scale and a bias, where they fit.
    pub(crate) group: usize,
}

impl Rounding {
    /// The layout of a matrix after rounding, in groups of 32 where the wished ones do not fit; none where its columns
    /// are no whole groups at all.
    pub(crate) fn layout(self, rows: usize, columns: usize) -> Option<Layout> {
        let group = [self.group, 32].into_iter().find(|&group| columns.is_multiple_of(group))?;
        Some(Layout { rows, columns, group, bits: self.bits, scales: SCALES })
    }

    /// Rounds a matrix; none where its columns are no whole groups.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY`; `CORRUPT_MODEL` for numbers that are none, or beyond what a scale can have.
    pub(crate) fn round(self, matrix: &Matrix, threads: usize) -> Result<Option<Panels>, PluginError> {
        let Some(layout) = self.layout(matrix.rows(), matrix.columns()) else { return Ok(None) };
        let most = if self.bits == CodeBits::Four { 15.0 } else { 255.0 };
        let code = |row: usize, to: &mut CodedRow| {
            let mut numbers = vec![0.0; matrix.columns()];
            matrix.read_row(row, &mut numbers);
            let CodedRow { codes, scales, biases } = to;
            let groups = numbers.chunks_exact(layout.group).zip(codes.chunks_exact_mut(layout.group));
            for (((numbers, codes), scale), bias) in groups.zip(scales).zip(biases) {
                let line = Line::fit(numbers, codes, most).ok_or_else(|| {
                    PluginError::corrupt_model(format!("row {row} has numbers that cannot be rounded"))
                })?;
                (*scale, *bias) = (line.scale, line.bias);
            }
            Ok(())
        };
        Panels::pack(layout, threads, code).map(Some)
    }
}

/// `number = scale * code + bias`
#[derive(Debug, Clone, Copy)]
struct Line {
    scale: f32,
    bias: f32,
}

impl Line {
    /// The codes of a group and the line that makes numbers of them; none where no line does.
    fn fit(numbers: &[f32], codes: &mut [u8], most: f32) -> Option<Line> {
        let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut best = Line::stored((largest - least) / most, least)?;
        if numbers.iter().any(|number| number.is_nan()) {
            return None;
        }
        let mut error = best.code(numbers, codes, most);
        if most > 15.0 {
            return Some(best);
        }
        let mut tried = codes.to_vec();
        for _ in 0..FITS {
            let Some(line) = Line::through(numbers, &tried) else { break };
            let found = line.code(numbers, &mut tried, most);
            if found < error {
                (best, error) = (line, found);
                codes.copy_from_slice(&tried);
            }
        }
        Some(best)
    }

    /// The line as it will be stored.
    fn stored(scale: f32, bias: f32) -> Option<Line> {
        let line = Line { scale: SCALES.round(scale), bias: SCALES.round(bias) };
        (line.scale.is_finite() && line.bias.is_finite()).then_some(line)
    }

    /// The nearest code of each number; answers the sum of squared errors.
    fn code(self, numbers: &[f32], codes: &mut [u8], most: f32) -> f32 {
        let inverse = if self.scale == 0.0 { 0.0 } else { 1.0 / self.scale };
        let mut error = 0.0;
        for (&number, code) in numbers.iter().zip(codes) {
            let nearest = ((number - self.bias) * inverse).round().clamp(0.0, most);
            *code = nearest as u8;
            let difference = nearest * self.scale + self.bias - number;
            error += difference * difference;
        }
        error
    }

    /// The line of the least squares for given codes; none where all codes are the same.
    fn through(numbers: &[f32], codes: &[u8]) -> Option<Line> {
        let count = numbers.len() as f32;
        let mean_code = codes.iter().map(|&code| f32::from(code)).sum::<f32>() / count;
        let mean = numbers.iter().sum::<f32>() / count;
        let (mut both, mut square) = (0.0, 0.0);
        for (&number, &code) in numbers.iter().zip(codes) {
            let offset = f32::from(code) - mean_code;
            both += offset * (number - mean);
            square += offset * offset;
        }
        if square == 0.0 {
            return None;
        }
        let scale = both / square;
        Line::stored(scale, mean - scale * mean_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7919 % 1013) as f32 / 1013.0 - 0.4) * 0.2).collect()
    }

    fn errors(bits: CodeBits, group: usize) -> Vec<f32> {
        let matrix = Matrix::made(Dtype::F32, 5, 128, &numbers(5, 128));
        let panels = Rounding { bits, group }.round(&matrix, 2).unwrap().unwrap();
        let (mut found, mut exact) = (vec![0.0; 128], vec![0.0; 128]);
        (0..5)
            .flat_map(|row| {
                panels.read_row(row, &mut found);
                matrix.read_row(row, &mut exact);
                found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn rounding_errs_by_half_a_step_at_most() {
        for (bits, step) in [(CodeBits::Eight, 0.2 / 255.0), (CodeBits::Four, 0.2 / 15.0)] {
            for group in [32, 64, 128] {
                let errors = errors(bits, group);
                let worst = errors.iter().copied().fold(0.0, f32::max);
                // A fit may trade the worst number for all the others.
                let allowed = if bits == CodeBits::Four { 1.2 } else { 0.6 };
                assert!(worst <= allowed * step, "{bits:?} {group}: {worst} of a step of {step}");
                let mean = errors.iter().sum::<f32>() / errors.len() as f32;
                assert!(mean <= 0.3 * step, "{bits:?} {group}: {mean} of a step of {step}");
            }
        }
    }

    #[test]
    fn constant_groups_and_odd_widths_and_no_numbers() {
        let matrix = Matrix::made(Dtype::F32, 1, 32, &[0.25; 32]);
        let panels = Rounding { bits: CodeBits::Four, group: 32 }.round(&matrix, 1).unwrap().unwrap();
        let mut found = [0.0; 32];
        panels.read_row(0, &mut found);
        assert_eq!(found, [0.25; 32]);
        let odd = Matrix::made(Dtype::F32, 1, 33, &[0.25; 33]);
        assert!(Rounding { bits: CodeBits::Four, group: 32 }.round(&odd, 1).unwrap().is_none());
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let mut numbers = [0.0; 32];
            numbers[3] = bad;
            let matrix = Matrix::made(Dtype::F32, 1, 32, &numbers);
            let error = Rounding { bits: CodeBits::Eight, group: 32 }.round(&matrix, 1).err().unwrap();
            assert!(error.message.contains("row 0"), "{}", error.message);
        }
    }
}
