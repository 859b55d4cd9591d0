//! A batch in the pieces in which llama.cpp computes it best. Pure.
//!
//! From 64 rows on, its attention computes tiles of rows (`ggml_compute_forward_flash_attn_ext_tiled`): much cheaper for
//! rows of one sequence, which see the same cells, and much dearer for a tile of several, which computes for each row the
//! cells of all. So a long run of one sequence is a piece of its own, and what is short is gathered in pieces too small
//! for tiles.

use std::ops::Range;

use impetus_plugin_api::{Batch, Position, SeqId, Token};

/// Rows from which on attention computes tiles.
pub(crate) const TILE_ROWS: usize = 64;

/// Rows that are computed together, by their places in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// They stand side by side.
    Run(Range<usize>),
    /// They do not.
    Gathered(Vec<usize>),
}

/// Long runs first: of these, few rows want logits, and what a later piece computes overwrites them. Nothing is cut where
/// a sequence has two runs, whose order would change.
pub(crate) fn cut(sequences: &[SeqId]) -> Vec<Piece> {
    let (mut pieces, mut short, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for run in sequences.chunk_by(|a, b| a == b) {
        if seen.contains(&run[0]) {
            return vec![Piece::Run(0..sequences.len())];
        }
        seen.push(run[0]);
    }
    let mut start = 0;
    for run in sequences.chunk_by(|a, b| a == b) {
        let rows = start..start + run.len();
        start = rows.end;
        if run.len() < TILE_ROWS {
            short.extend(rows);
        } else {
            pieces.push(Piece::Run(rows));
        }
    }
    pieces.extend(short.chunks(TILE_ROWS - 1).map(Piece::of));
    pieces
}

impl Piece {
    fn of(rows: &[usize]) -> Piece {
        match (rows.first(), rows.last()) {
            (Some(&first), Some(&last)) if last - first + 1 == rows.len() => Piece::Run(first..last + 1),
            _ => Piece::Gathered(rows.to_vec()),
        }
    }

    /// The rows' places in the batch.
    pub(crate) fn rows(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Piece::Run(run) => Box::new(run.clone()),
            Piece::Gathered(rows) => Box::new(rows.iter().copied()),
        }
    }
}

/// Columns of rows that do not stand side by side.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    tokens: Vec<Token>,
    positions: Vec<Position>,
    sequences: Vec<SeqId>,
    wants_logits: Vec<bool>,
}

impl Columns {
    /// A piece as a batch of its own: in place where it can be.
    pub(crate) fn piece<'a>(&'a mut self, batch: Batch<'a>, piece: &Piece) -> Batch<'a> {
        match piece {
            Piece::Run(run) => Batch {
                tokens: batch.tokens.as_slice()[run.clone()].into(),
                positions: batch.positions.as_slice()[run.clone()].into(),
                sequences: batch.sequences.as_slice()[run.clone()].into(),
                wants_logits: batch.wants_logits.as_slice()[run.clone()].into(),
            },
            Piece::Gathered(rows) => {
                gather(&mut self.tokens, batch.tokens.as_slice(), rows);
                gather(&mut self.positions, batch.positions.as_slice(), rows);
                gather(&mut self.sequences, batch.sequences.as_slice(), rows);
                gather(&mut self.wants_logits, batch.wants_logits.as_slice(), rows);
                Batch {
                    tokens: self.tokens.as_slice().into(),
                    positions: self.positions.as_slice().into(),
                    sequences: self.sequences.as_slice().into(),
                    wants_logits: self.wants_logits.as_slice().into(),
                }
            }
        }
    }
}

fn gather<T: Copy>(column: &mut Vec<T>, from: &[T], rows: &[usize]) {
    column.clear();
    column.extend(rows.iter().map(|&row| from[row]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(lengths: &[usize]) -> Vec<Piece> {
        let ids = lengths.iter().zip(0..).flat_map(|(&length, id)| std::iter::repeat_n(SeqId(id), length));
        cut(&ids.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_short_stays_together() {
        assert_eq!(pieces(&[1, 1, 53, 8]), [Piece::Run(0..63)]);
        assert_eq!(pieces(&[512]), [Piece::Run(0..512)]);
        assert!(pieces(&[]).is_empty());
    }

    #[test]
    fn a_long_run_goes_first_and_alone() {
        assert_eq!(pieces(&[1, 1, 64, 100]), [Piece::Run(2..66), Piece::Run(66..166), Piece::Run(0..2)]);
        assert_eq!(pieces(&[1, 64, 2]), [Piece::Run(1..65), Piece::Gathered(vec![0, 65, 66])]);
    }

    #[test]
    fn a_sequence_is_computed_in_order() {
        let ids: Vec<SeqId> =
            [(7, 2), (8, 1), (7, 70)].iter().flat_map(|&(id, rows)| vec![SeqId(id); rows]).collect();
        assert_eq!(cut(&ids), [Piece::Run(0..73)]);
    }

    #[test]
    fn short_runs_never_make_a_tile() {
        assert_eq!(pieces(&[40, 40]), [Piece::Run(0..63), Piece::Run(63..80)]);
    }

    #[test]
    fn every_row_is_computed_once() {
        let lengths = [3, 70, 1, 64, 63, 1, 200, 5];
        let mut seen: Vec<usize> =
            pieces(&lengths).iter().flat_map(|piece| piece.rows().collect::<Vec<_>>()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..lengths.iter().sum()).collect::<Vec<_>>());
    }

    #[test]
    fn gathered_columns_are_of_the_same_rows() {
        let ids = [SeqId(0), SeqId(1), SeqId(2)];
        let (tokens, positions) = ([Token(5), Token(6), Token(7)], [Position(9), Position(0), Position(4)]);
        let wants = [true, false, true];
        let batch = Batch {
            tokens: tokens.as_slice().into(),
            positions: positions.as_slice().into(),
            sequences: ids.as_slice().into(),
            wants_logits: wants.as_slice().into(),
        };
        let mut columns = Columns::default();
        let piece = columns.piece(batch, &Piece::Gathered(vec![0, 2]));
        assert_eq!(piece.tokens.as_slice(), [Token(5), Token(7)]);
        assert_eq!(piece.positions.as_slice(), [Position(9), Position(4)]);
        assert_eq!(piece.sequences.as_slice(), [SeqId(0), SeqId(2)]);
        assert_eq!(piece.wants_logits.as_slice(), [true, true]);
    }
}
