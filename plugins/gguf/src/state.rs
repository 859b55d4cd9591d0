//! llama.cpp's bytes of one sequence, between a pool and lanes. Pure.
//!
//! They are the same but for what says how many caches a context has: behind a mark and the sequence's id stands their
//! number, and then for each the count of its cells, with what is in them where that is not 0. A pool is one cache, each
//! lane one of its own. This is no promise of llama.cpp's: `EMPTY_POOL` and `EMPTY_LANES` are compared with what it writes of
//! a sequence without cells before anything is relied upon.

use crate::caches::LANES;

/// The mark and the id.
const HEAD: usize = 8;
const COUNT: usize = size_of::<u32>();

/// Bytes of a sequence without cells.
pub(crate) const EMPTY_POOL: usize = HEAD + 2 * COUNT;
pub(crate) const EMPTY_LANES: usize = HEAD + COUNT + LANES as usize * COUNT;

/// Bytes of a lane, as a pool has them.
pub(crate) fn from_lane(state: &mut Vec<u8>, lane: u32) {
    state[HEAD..HEAD + COUNT].copy_from_slice(&1_u32.to_ne_bytes());
    let before = lane as usize * COUNT;
    state.copy_within(HEAD + COUNT + before.., HEAD + COUNT);
    state.truncate(state.len() - (LANES as usize - 1) * COUNT);
}

/// Bytes of a pool, as lanes have them.
pub(crate) fn to_lanes(state: &mut Vec<u8>) {
    state[HEAD..HEAD + COUNT].copy_from_slice(&LANES.to_ne_bytes());
    // Which lane it is to be is said when it is read.
    state.resize(state.len() + (LANES as usize - 1) * COUNT, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state with these counts of cells, and with so many bytes behind one that is not 0.
    fn state(counts: &[u32]) -> Vec<u8> {
        let mut bytes = b"MARKseq ".to_vec();
        bytes.extend((counts.len() as u32).to_ne_bytes());
        for &count in counts {
            bytes.extend(count.to_ne_bytes());
            bytes.extend((0..count).map(|number| number as u8 + 1));
        }
        bytes
    }

    #[test]
    fn what_is_in_a_lane_is_found_in_a_pool_and_back() {
        for lane in 0..LANES {
            let mut counts = [0; LANES as usize];
            counts[lane as usize] = 9;
            let mut bytes = state(&counts);
            from_lane(&mut bytes, lane);
            assert_eq!(bytes, state(&[9]), "lane {lane}");
            to_lanes(&mut bytes);
            assert_eq!(bytes, state(&[9, 0, 0, 0, 0, 0, 0, 0]));
        }
    }

    #[test]
    fn a_sequence_without_cells_has_as_many_bytes_as_is_said() {
        assert_eq!(state(&[0]).len(), EMPTY_POOL);
        assert_eq!(state(&[0; LANES as usize]).len(), EMPTY_LANES);
    }
}
