//! A matrix in a few bits a number, packed for the kernels: affine groups, sixteen rows side by side.
//!
//! Numbers of a row come in groups of 32, 64 or 128 inputs that share a scale and a bias: `w = scale * code + bias`, as
//! MLX has it. Where codes come from (a checkpoint, or numbers rounded on load) is not known here.

use std::ops::Range;
use std::sync::Arc;

use impetus_plugin_api::{ErrorCode, PluginError};
use memmap2::{Advice, Mmap, MmapMut};

use super::Dtype;

/// Rows of a panel, one to each lane of a vector.
pub(crate) const PANEL: usize = 16;

/// Bits that a code takes in a panel. Codes of fewer bits take the next that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CodeBits {
    Four,
    Eight,
}

impl CodeBits {
    /// Codes of a 32-bit word, of one row each.
    const fn per_word(self) -> usize {
        match self {
            CodeBits::Four => 8,
            CodeBits::Eight => 4,
        }
    }

    /// The least that holds codes of so many bits.
    pub(crate) const fn holding(bits: usize) -> CodeBits {
        if bits <= 4 { CodeBits::Four } else { CodeBits::Eight }
    }
}

/// What a packed matrix looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Columns that share a scale and a bias; they divide the columns.
    pub(crate) group: usize,
    pub(crate) bits: CodeBits,
    /// Type of scales and biases.
    pub(crate) scales: Dtype,
}

impl Layout {
    /// Bytes of a panel's group: sixteen scales, sixteen biases, then a word of each row after another.
    pub(crate) const fn group_bytes(&self) -> usize {
        PANEL * (2 * self.scales.size() + 4 * self.group / self.bits.per_word())
    }

    /// Bytes of sixteen rows.
    pub(crate) const fn panel_bytes(&self) -> usize {
        self.columns / self.group * self.group_bytes()
    }

    /// Bytes of it all; the last panel is whole.
    pub(crate) const fn bytes(&self) -> usize {
        self.rows.div_ceil(PANEL) * self.panel_bytes()
    }
}

/// One row before it is packed.
pub(crate) struct CodedRow {
    /// `[columns]`
    pub(crate) codes: Vec<u8>,
    /// `[columns / group]`
    pub(crate) scales: Vec<f32>,
    /// `[columns / group]`
    pub(crate) biases: Vec<f32>,
}

/// A packed matrix in memory of its own.
pub(crate) struct Panels {
    layout: Layout,
    bytes: Bytes,
}

enum Bytes {
    Own(MmapMut),
    /// From this byte of a slab on.
    In(Arc<Mmap>, usize),
}

/// Memory that several packed matrices lie in: most are smaller than a large page.
pub(crate) struct Slab {
    pages: MmapMut,
    used: usize,
}

impl Slab {
    /// # Errors
    /// `OUT_OF_MEMORY` with the figure.
    pub(crate) fn new(length: usize) -> Result<Self, PluginError> {
        Ok(Slab { pages: pages(length)?, used: 0 })
    }

    /// Bytes that a matrix takes in a slab.
    pub(crate) fn room(panels: &Panels) -> usize {
        panels.bytes().len().next_multiple_of(64)
    }

    /// Copies a matrix; answers where it is.
    ///
    /// # Panics
    /// When there is no room.
    pub(crate) fn push(&mut self, panels: &Panels) -> usize {
        let start = self.used;
        self.pages[start..start + panels.bytes().len()].copy_from_slice(panels.bytes());
        self.used += Slab::room(panels);
        start
    }

    /// # Errors
    /// `OUT_OF_MEMORY` when the system does not let it be closed.
    pub(crate) fn close(self) -> Result<Arc<Mmap>, PluginError> {
        let error = |error| PluginError::new(ErrorCode::OUT_OF_MEMORY, format!("a slab of weights: {error}"));
        Ok(Arc::new(self.pages.make_read_only().map_err(error)?))
    }
}

/// Anonymous memory, in large pages where the system has them.
fn pages(length: usize) -> Result<MmapMut, PluginError> {
    let pages = MmapMut::map_anon(length.max(1)).map_err(|error| {
        let message = format!("no {length} bytes of memory for packed matrices: {error}");
        PluginError::new(ErrorCode::OUT_OF_MEMORY, message)
    })?;
    // Larger pages are only faster.
    pages.advise(Advice::HugePage).ok();
    Ok(pages)
}

impl Panels {
    /// Packs what `code` answers for each row, on several threads.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` with the figure; the first error of `code`.
    ///
    /// # Panics
    /// When the group does not divide the columns.
    pub(crate) fn pack(
        layout: Layout,
        threads: usize,
        code: impl Fn(usize, &mut CodedRow) -> Result<(), PluginError> + Sync,
    ) -> Result<Self, PluginError> {
        assert!(layout.columns.is_multiple_of(layout.group), "whole groups: this is a bug");
        let mut bytes = pages(layout.bytes())?;
        let panels = layout.rows.div_ceil(PANEL);
        let share = panels.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let parts = bytes[..layout.bytes()].chunks_mut((share * layout.panel_bytes()).max(1));
            let workers: Vec<_> = parts
                .enumerate()
                .map(|(i, part)| {
                    let (code, first) = (&code, i * share);
                    scope.spawn(move || pack_panels(&layout, first, part, code))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("packing ends: this is a bug"))
        })?;
        Ok(Panels { layout, bytes: Bytes::Own(bytes) })
    }

    /// The same matrix where a slab has it.
    pub(crate) fn moved(&self, slab: &Arc<Mmap>, start: usize) -> Panels {
        Panels { layout: self.layout, bytes: Bytes::In(Arc::clone(slab), start) }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Own(bytes) => &bytes[..self.layout.bytes()],
            Bytes::In(slab, start) => &slab[*start..start + self.layout.bytes()],
        }
    }

    /// Where a panel begins.
    ///
    /// # Panics
    /// When there are no such panels.
    pub(crate) fn panels(&self, range: Range<usize>) -> *const u8 {
        let size = self.layout.panel_bytes();
        self.bytes()[range.start * size..range.end * size].as_ptr()
    }

    /// Computes a row's numbers.
    ///
    /// # Panics
    /// When there is no such row, or `to` has another length.
    pub(crate) fn read_row(&self, row: usize, to: &mut [f32]) {
        let Layout { group, bits, scales, columns, rows } = self.layout;
        assert!(row < rows && to.len() == columns, "a row exists: this is a bug");
        let panel = &self.bytes()[row / PANEL * self.layout.panel_bytes()..][..self.layout.panel_bytes()];
        let lane = row % PANEL;
        for (to, bytes) in to.chunks_exact_mut(group).zip(panel.chunks_exact(self.layout.group_bytes())) {
            let (factors, words) = bytes.split_at(2 * PANEL * scales.size());
            let scale = scales.read(factors, lane);
            let bias = scales.read(factors, PANEL + lane);
            for (i, to) in to.iter_mut().enumerate() {
                let word = i / bits.per_word();
                let word = &words[(word * PANEL + lane) * 4..][..4];
                *to = scale * f32::from(read_code(bits, word, i % bits.per_word())) + bias;
            }
        }
    }
}

fn pack_panels(
    layout: &Layout,
    first: usize,
    bytes: &mut [u8],
    code: &impl Fn(usize, &mut CodedRow) -> Result<(), PluginError>,
) -> Result<(), PluginError> {
    let groups = layout.columns / layout.group;
    let mut row =
        CodedRow { codes: vec![0; layout.columns], scales: vec![0.0; groups], biases: vec![0.0; groups] };
    for (i, panel) in bytes.chunks_exact_mut(layout.panel_bytes()).enumerate() {
        for lane in 0..PANEL.min(layout.rows - (first + i) * PANEL) {
            code((first + i) * PANEL + lane, &mut row)?;
            pack_row(layout, lane, &row, panel);
        }
    }
    Ok(())
}

fn pack_row(layout: &Layout, lane: usize, row: &CodedRow, panel: &mut [u8]) {
    let Layout { group, bits, scales, .. } = *layout;
    for (g, bytes) in panel.chunks_exact_mut(layout.group_bytes()).enumerate() {
        let (factors, words) = bytes.split_at_mut(2 * PANEL * scales.size());
        scales.write(factors, lane, row.scales[g]);
        scales.write(factors, PANEL + lane, row.biases[g]);
        let codes = row.codes[g * group..(g + 1) * group].chunks_exact(bits.per_word());
        for (codes, words) in codes.zip(words.chunks_exact_mut(4 * PANEL)) {
            words[lane * 4..lane * 4 + 4].copy_from_slice(&word(bits, codes));
        }
    }
}

/// In four bits, the low halves of a word's bytes are its first four codes and the high halves the next: one mask and
/// one shift make two words of bytes.
fn word(bits: CodeBits, codes: &[u8]) -> [u8; 4] {
    std::array::from_fn(|byte| match bits {
        CodeBits::Eight => codes[byte],
        CodeBits::Four => codes[byte] & 15 | codes[4 + byte] << 4,
    })
}

fn read_code(bits: CodeBits, word: &[u8], i: usize) -> u8 {
    match bits {
        CodeBits::Eight => word[i],
        CodeBits::Four => word[i % 4] >> (i / 4 * 4) & 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_again() {
        for (bits, scales) in [
            (CodeBits::Four, Dtype::F16),
            (CodeBits::Eight, Dtype::Bf16),
            (CodeBits::Four, Dtype::F32),
            (CodeBits::Eight, Dtype::F16),
        ] {
            for (rows, threads) in [(1, 1), (16, 3), (37, 2)] {
                let layout = Layout { rows, columns: 96, group: 32, bits, scales };
                let most = if bits == CodeBits::Four { 15 } else { 255 };
                let code = |row: usize, i: usize| ((row * 31 + i * 7) % (most + 1)) as u8;
                let panels = Panels::pack(layout, threads, |row, to| {
                    to.codes.iter_mut().enumerate().for_each(|(i, to)| *to = code(row, i));
                    to.scales.iter_mut().enumerate().for_each(|(g, to)| *to = 0.5 * (g + 1) as f32);
                    to.biases.fill(-(row as f32));
                    Ok(())
                })
                .unwrap();
                let mut found = vec![0.0; 96];
                for row in 0..rows {
                    panels.read_row(row, &mut found);
                    for (i, &found) in found.iter().enumerate() {
                        let expected = 0.5 * (i / 32 + 1) as f32 * f32::from(code(row, i)) - row as f32;
                        assert_eq!(found, expected, "{bits:?} {scales:?} {rows} at {row},{i}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_error_of_a_row_ends_it() {
        let layout = Layout { rows: 40, columns: 32, group: 32, bits: CodeBits::Eight, scales: Dtype::F16 };
        let result = Panels::pack(layout, 2, |row, _| match row {
            33 => Err(PluginError::corrupt_model("row 33")),
            _ => Ok(()),
        });
        assert_eq!(result.err().unwrap().message, "row 33");
    }
}
