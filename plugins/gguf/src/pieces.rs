//! A batch in the pieces in which llama.cpp computes it best. Pure.
//!
//! From 64 rows on, its attention computes tiles of rows (`ggml_compute_forward_flash_attn_ext_tiled`): much cheaper for
//! rows of one sequence, which see the same cells, and much dearer for a tile of several in one pool, which computes for
//! each row the cells of all. So a long run of one sequence is a piece of its own, and what is short in the pool is
//! gathered in pieces too small for tiles. In lanes, rows of several sequences are computed apart in any case.

use impetus_plugin_api::{Batch, Position, SeqId, Token};

/// Rows from which on attention computes tiles.
const TILE_ROWS: usize = 64;

/// Where a sequence's keys and values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Among those of others.
    Pool,
    /// In cells of its own.
    Lane(u32),
}

/// Rows that are computed together, by their places in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) in_lanes: bool,
    pub(crate) rows: Vec<usize>,
}

/// Long runs first: of these, few rows want logits, and what a later piece computes overwrites them. `apart` says whether so
/// many single rows, in lanes or in the pool, are pieces of their own. Nothing is cut where a sequence has two runs, whose
/// order would change: then there are no pieces.
pub(crate) fn cut(
    sequences: &[SeqId],
    place: impl Fn(SeqId) -> Place,
    apart: impl Fn(bool, usize) -> bool,
) -> Option<Vec<Piece>> {
    let mut seen = Vec::new();
    let (mut pieces, mut pooled, mut in_lanes) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for run in sequences.chunk_by(|a, b| a == b) {
        if seen.contains(&run[0]) {
            return None;
        }
        seen.push(run[0]);
        let rows = start..start + run.len();
        start = rows.end;
        match place(run[0]) {
            Place::Pool if run.len() < TILE_ROWS => pooled.extend(rows),
            Place::Lane(lane) if run.len() < TILE_ROWS => in_lanes.push((lane, rows)),
            place => pieces.push(Piece { in_lanes: place != Place::Pool, rows: rows.collect() }),
        }
    }
    // llama.cpp computes lanes together that follow one another, in this order.
    in_lanes.sort_unstable_by_key(|(lane, _)| *lane);
    let in_lanes: Vec<usize> = in_lanes.into_iter().flat_map(|(_, rows)| rows).collect();
    for (in_lanes, rows, most) in [(false, pooled, TILE_ROWS - 1), (true, in_lanes, usize::MAX)] {
        let most = if are_single(&rows, sequences) && apart(in_lanes, rows.len()) { 1 } else { most };
        pieces.extend(rows.chunks(most).map(|rows| Piece { in_lanes, rows: rows.to_vec() }));
    }
    Some(pieces)
}

/// Whether each of these rows is the only one of its sequence.
pub(crate) fn are_single(rows: &[usize], sequences: &[SeqId]) -> bool {
    rows.iter().all(|&row| {
        let of_another = |other: Option<&SeqId>| other != Some(&sequences[row]);
        of_another(sequences.get(row + 1)) && (row == 0 || of_another(sequences.get(row - 1)))
    })
}

/// A piece's rows as a batch of their own.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    tokens: Vec<Token>,
    positions: Vec<Position>,
    sequences: Vec<SeqId>,
    wants_logits: Vec<bool>,
}

impl Columns {
    /// Gathers a piece; `id` is what a sequence is called where it is computed.
    pub(crate) fn gather(
        &mut self,
        batch: Batch<'_>,
        piece: &Piece,
        id: impl Fn(SeqId) -> SeqId,
    ) -> Batch<'_> {
        let rows = || piece.rows.iter().copied();
        refill(&mut self.tokens, rows().map(|row| batch.tokens[row]));
        refill(&mut self.positions, rows().map(|row| batch.positions[row]));
        refill(&mut self.sequences, rows().map(|row| id(batch.sequences[row])));
        refill(&mut self.wants_logits, rows().map(|row| batch.wants_logits[row]));
        Batch {
            tokens: self.tokens.as_slice().into(),
            positions: self.positions.as_slice().into(),
            sequences: self.sequences.as_slice().into(),
            wants_logits: self.wants_logits.as_slice().into(),
        }
    }
}

fn refill<T>(column: &mut Vec<T>, values: impl Iterator<Item = T>) {
    column.clear();
    column.extend(values);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(lengths: &[usize]) -> Vec<SeqId> {
        let of = |(&length, id): (&usize, u32)| std::iter::repeat_n(SeqId(id), length);
        lengths.iter().zip(0..).flat_map(of).collect()
    }

    fn together(_: bool, _: usize) -> bool {
        false
    }

    /// Pieces of runs that are all in the pool.
    fn pooled(lengths: &[usize]) -> Vec<Vec<usize>> {
        let pieces = cut(&ids(lengths), |_| Place::Pool, together).unwrap();
        assert!(pieces.iter().all(|piece| !piece.in_lanes));
        pieces.into_iter().map(|piece| piece.rows).collect()
    }

    fn rows(range: std::ops::Range<usize>) -> Vec<usize> {
        range.collect()
    }

    #[test]
    fn what_is_short_stays_together() {
        assert_eq!(pooled(&[1, 1, 53, 8]), [rows(0..63)]);
        assert_eq!(pooled(&[512]), [rows(0..512)]);
        assert!(pooled(&[]).is_empty());
    }

    #[test]
    fn a_long_run_goes_first_and_alone() {
        assert_eq!(pooled(&[1, 1, 64, 100]), [rows(2..66), rows(66..166), rows(0..2)]);
        assert_eq!(pooled(&[1, 64, 2]), [rows(1..65), vec![0, 65, 66]]);
    }

    #[test]
    fn short_runs_never_make_a_tile_in_the_pool() {
        assert_eq!(pooled(&[40, 40]), [rows(0..63), rows(63..80)]);
    }

    #[test]
    fn a_sequence_of_two_runs_is_not_cut() {
        assert_eq!(cut(&[SeqId(7), SeqId(8), SeqId(7)], |_| Place::Pool, together), None);
    }

    #[test]
    fn lanes_are_computed_apart_from_the_pool_and_in_order() {
        let place = |id: SeqId| if id.0 == 1 { Place::Pool } else { Place::Lane(9 - id.0) };
        let pieces = cut(&ids(&[1, 2, 1, 70]), place, together).unwrap();
        let piece = |in_lanes, rows| Piece { in_lanes, rows };
        assert_eq!(pieces, [piece(true, rows(4..74)), piece(false, vec![1, 2]), piece(true, vec![3, 0])]);
    }

    #[test]
    fn single_rows_are_computed_apart_where_that_is_faster() {
        let lane = |id: SeqId| if id.0 < 2 { Place::Pool } else { Place::Lane(9 - id.0) };
        let rows_of = |lengths: &[usize], apart: fn(bool, usize) -> bool| -> Vec<Vec<usize>> {
            cut(&ids(lengths), lane, apart).unwrap().into_iter().map(|piece| piece.rows).collect()
        };
        assert_eq!(
            rows_of(&[1, 1, 1, 1], |in_lanes, rows| !in_lanes && rows == 2),
            [vec![0], vec![1], vec![3, 2]]
        );
        assert_eq!(rows_of(&[1, 1, 1, 1], |in_lanes, _| in_lanes), [vec![0, 1], vec![3], vec![2]]);
        assert_eq!(rows_of(&[70, 1, 2, 1], |_, _| true), [rows(0..70), vec![70], vec![73, 71, 72]]);
    }

    #[test]
    fn every_row_is_computed_once() {
        let lengths = [3, 70, 1, 64, 63, 1, 200, 5];
        let place = |id: SeqId| if id.0.is_multiple_of(2) { Place::Pool } else { Place::Lane(id.0) };
        let mut seen: Vec<usize> =
            cut(&ids(&lengths), place, together).unwrap().into_iter().flat_map(|piece| piece.rows).collect();
        seen.sort_unstable();
        assert_eq!(seen, rows(0..lengths.iter().sum()));
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
        let piece = Piece { in_lanes: true, rows: vec![2, 0] };
        let piece = columns.gather(batch, &piece, |id| SeqId(id.0 + 10));
        assert_eq!(piece.tokens.as_slice(), [Token(7), Token(5)]);
        assert_eq!(piece.positions.as_slice(), [Position(4), Position(9)]);
        assert_eq!(piece.sequences.as_slice(), [SeqId(12), SeqId(10)]);
        assert_eq!(piece.wants_logits.as_slice(), [true, true]);
    }
}
