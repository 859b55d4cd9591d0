//! Matrices that MLX has rounded: three tensors of a module, `weight`, `scales` and `biases`.
//!
//! A row of `weight` is a stream of codes, low bits first, in 32-bit words; a group of columns has one number of
//! `scales` and `biases`: `w = scale * code + bias`. Bits and group follow from the shapes.
//! Source: `mlx.core.quantize`, <https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html>.

use std::ops::Range;

use impetus_plugin_api::PluginError;

use super::header::Entry;
use super::panels::{CodeBits, CodedRow, Layout, Panels};
use super::{Checkpoint, Dtype};

/// What MLX rounds to.
const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
const GROUPS: [usize; 3] = [32, 64, 128];

/// The shape of a rounded matrix, as its three tensors have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounded {
    pub(crate) bits: usize,
    pub(crate) layout: Layout,
}

impl Checkpoint {
    /// What the tensors of a module say of its matrix of this shape; none where it is not rounded. Of several matrices
    /// in one tensor `rows` are how many there are and the rows of each.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` or `UNSUPPORTED` with the tensor's name and the figures.
    pub(crate) fn rounded(
        &self,
        module: &str,
        rows: &[usize],
        columns: usize,
    ) -> Result<Option<Rounded>, PluginError> {
        let [weight, scales, biases] = names(module);
        let Some((_, scales)) = self.find(&scales) else { return Ok(None) };
        let (_, weight) = self.need(&weight)?;
        let (_, biases) = self.need(&biases)?;
        if weight.dtype != safetensors::Dtype::U32 {
            return Err(PluginError::unsupported(format!(
                "tensor `{}` is of type {:?} beside scales; supported is U32, as MLX has it",
                weight.name, weight.dtype
            )));
        }
        let dtype = Dtype::of(scales.dtype).filter(|_| scales.dtype == biases.dtype).ok_or_else(|| {
            PluginError::unsupported(format!(
                "tensors `{}` and `{}` are of the types {:?} and {:?}; supported are F32, F16 and BF16, both alike",
                scales.name, biases.name, scales.dtype, biases.dtype
            ))
        })?;
        let words = width(weight, rows)?;
        let groups = width(scales, rows)?;
        if width(biases, rows)? != groups {
            return Err(PluginError::corrupt_model(format!(
                "tensor `{}` has another shape than `{}`",
                biases.name, scales.name
            )));
        }
        let bits = BITS.into_iter().find(|bits| words * 32 == columns * bits);
        let group = GROUPS.into_iter().find(|group| groups * group == columns);
        let (Some(bits), Some(group)) = (bits, group) else {
            return Err(PluginError::corrupt_model(format!(
                "tensor `{}` has {words} words and {groups} groups a row, which are no groups of {GROUPS:?} codes of \
                 {BITS:?} bits for {columns} columns",
                weight.name
            )));
        };
        let rows = rows.iter().product();
        let layout = Layout { rows, columns, group, bits: CodeBits::holding(bits), scales: dtype };
        Ok(Some(Rounded { bits, layout }))
    }

    /// Packs some rows of a rounded matrix.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY`, `CORRUPT_MODEL`.
    pub(crate) fn pack(
        &self,
        module: &str,
        rounded: Rounded,
        rows: Range<usize>,
        threads: usize,
    ) -> Result<Panels, PluginError> {
        let [weight, scales, biases] = names(module);
        let ((weight, _), (scales, _), (biases, _)) =
            (self.need(&weight)?, self.need(&scales)?, self.need(&biases)?);
        let Rounded { bits, layout } = rounded;
        let groups = layout.columns / layout.group;
        let words = layout.columns * bits / 8;
        let first = rows.start;
        Panels::pack(Layout { rows: rows.len(), ..layout }, threads, |row, to: &mut CodedRow| {
            let row = first + row;
            unpack(&weight[row * words..(row + 1) * words], bits, &mut to.codes);
            for (g, (scale, bias)) in to.scales.iter_mut().zip(&mut to.biases).enumerate() {
                *scale = layout.scales.read(scales, row * groups + g);
                *bias = layout.scales.read(biases, row * groups + g);
            }
            Ok(())
        })
    }
}

fn names(module: &str) -> [String; 3] {
    ["weight", "scales", "biases"].map(|part| format!("{module}.{part}"))
}

/// Columns of a tensor that has these rows.
fn width(entry: &Entry, rows: &[usize]) -> Result<usize, PluginError> {
    match entry.shape.split_last() {
        Some((&width, found)) if found == rows => Ok(width),
        _ => Err(PluginError::corrupt_model(format!(
            "tensor `{}` has the shape {:?}; config.json makes it {rows:?} rows",
            entry.name, entry.shape
        ))),
    }
}

/// Codes of a few bits, low bits first.
fn unpack(bytes: &[u8], bits: usize, codes: &mut [u8]) {
    let mask = (1u16 << bits) - 1;
    for (i, code) in codes.iter_mut().enumerate() {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let next = bytes.get(byte + 1).copied().unwrap_or(0);
        *code = (u16::from_le_bytes([bytes[byte], next]) >> shift & mask) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_any_width_are_found_again() {
        for bits in BITS {
            let codes: Vec<u8> = (0..64).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let mut bytes = vec![0u8; 64 * bits / 8];
            for (i, &code) in codes.iter().enumerate() {
                for bit in (0..bits).filter(|bit| code >> bit & 1 == 1) {
                    bytes[(i * bits + bit) / 8] |= 1 << ((i * bits + bit) % 8);
                }
            }
            let mut found = vec![0; 64];
            unpack(&bytes, bits, &mut found);
            assert_eq!(found, codes, "{bits} bits");
        }
    }
}
