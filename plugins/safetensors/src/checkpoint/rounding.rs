//! Rounds numbers to affine groups of few bits, when a model is loaded.
//!
//! With eight bits a group's scale and bias span its least and largest number (Jacob et al. 2017, arXiv:1712.05877). With
//! four, they are those of the least weighted squared error among many (`kernels::fit`).

use super::matrix::{Dtype, Matrix};
use super::panels::{CodeBits, CodedRow, Layout, Panels};
use crate::kernels::{Group, Kernels, Level, Line};
use impetus_plugin_api::PluginError;

/// Type of the scales and biases of what is rounded here: eleven bits of mantissa, in two bytes.
const SCALES: Dtype = Dtype::F16;

/// How matrices are to be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounding {
    pub(crate) bits: CodeBits,
    /// Columns that share a scale and a bias, where they fit.
    pub(crate) group: usize,
}

impl Rounding {
    /// Eight bits, for a matrix that does not bear this rounding.
    pub(crate) fn fine(self) -> Rounding {
        Rounding { bits: CodeBits::Eight, group: self.group.max(64) }
    }

    /// The layout of a matrix after rounding, in groups of 32 where the wished ones do not fit; none where its columns
    /// are no whole groups at all.
    pub(crate) fn layout(self, rows: usize, columns: usize) -> Option<Layout> {
        let group = [self.group, 32].into_iter().find(|&group| columns.is_multiple_of(group))?;
        Some(Layout { rows, columns, group, bits: self.bits, scales: SCALES })
    }

    /// Rounds a matrix; none where its columns are no whole groups. `weights` say what a squared error counts in each
    /// column, where that is known.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY`; `CORRUPT_MODEL` for numbers that are none, or beyond what a scale can have.
    pub(crate) fn round(
        self,
        (matrix, weights): (&Matrix, Option<&[f32]>),
        threads: usize,
    ) -> Result<Option<Panels>, PluginError> {
        let Some(layout) = self.layout(matrix.rows(), matrix.columns()) else { return Ok(None) };
        let kernels = Kernels::of(Level::best());
        let most = if self.bits == CodeBits::Four { 15.0 } else { 255.0 };
        let equal = vec![1.0; matrix.columns()];
        let weights = weights.unwrap_or(&equal);
        let code = |row: usize, to: &mut CodedRow| {
            let mut numbers = vec![0.0; matrix.columns()];
            matrix.read_row(row, &mut numbers);
            let groups = numbers.chunks_exact(layout.group).zip(weights.chunks_exact(layout.group));
            for (g, (numbers, weights)) in groups.enumerate() {
                let group = Group { numbers, weights, most };
                let line = line(kernels, &group).ok_or_else(|| {
                    PluginError::corrupt_model(format!("row {row} has numbers that cannot be rounded"))
                })?;
                kernels.code(&group, line, &mut to.codes[g * layout.group..(g + 1) * layout.group]);
                (to.scales[g], to.biases[g]) = (line.scale, line.bias);
            }
            Ok(())
        };
        Panels::pack(layout, threads, code).map(Some)
    }
}

/// A group's line as it will be stored; none where there is none.
fn line(kernels: &Kernels, group: &Group<'_>) -> Option<Line> {
    if group.numbers.iter().any(|number| number.is_nan()) {
        return None;
    }
    let line = if group.most > 15.0 {
        let (least, largest) = kernels.span(group.numbers);
        Line { scale: (largest - least) / group.most, bias: least }
    } else {
        kernels.fit(group)
    };
    let line = Line { scale: SCALES.round(line.scale), bias: SCALES.round(line.bias) };
    (line.scale.is_finite() && line.bias.is_finite()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7919 % 1013) as f32 / 1013.0 - 0.4) * 0.2).collect()
    }

    fn errors(bits: CodeBits, group: usize) -> Vec<f32> {
        let matrix = Matrix::made(Dtype::F32, 5, 128, &numbers(5, 128));
        let panels = Rounding { bits, group }.round((&matrix, None), 2).unwrap().unwrap();
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
        let panels = Rounding { bits: CodeBits::Four, group: 32 }.round((&matrix, None), 1).unwrap().unwrap();
        let mut found = [0.0; 32];
        panels.read_row(0, &mut found);
        assert_eq!(found, [0.25; 32]);
        let odd = Matrix::made(Dtype::F32, 1, 33, &[0.25; 33]);
        assert!(Rounding { bits: CodeBits::Four, group: 32 }.round((&odd, None), 1).unwrap().is_none());
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let mut numbers = [0.0; 32];
            numbers[3] = bad;
            let matrix = Matrix::made(Dtype::F32, 1, 32, &numbers);
            let error =
                Rounding { bits: CodeBits::Eight, group: 32 }.round((&matrix, None), 1).err().unwrap();
            assert!(error.message.contains("row 0"), "{}", error.message);
        }
    }
}
