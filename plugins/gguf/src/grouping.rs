//! Whether single rows of several sequences are computed together or one after another: by what both took lately. Pure: it
//! is told the times.
//!
//! Together, weights are read once for all. But llama.cpp has kernels for one row and others for many, which can be slow for
//! few: AMX computes whole tiles of rows, for which weights are unpacked each time. Two rows then take longer together
//! than two times one.

/// More rows than these are computed together in any case.
const MOST: usize = 32;

/// Weight of the newest measurement in the moving averages.
const NEWEST: f64 = 0.2;

/// One after another must be so much faster: measurements scatter.
const WORTH: f64 = 1.05;

/// A measurement that no piece of so many has confirmed says nothing any more: sequences grow, other programs come and go.
const FORGOTTEN_AFTER: u64 = 1024;

/// Measured seconds of pieces of single rows, by their number of rows.
#[derive(Debug)]
pub(crate) struct Grouping {
    costs: [Option<Cost>; MOST + 1],
    /// How many pieces were measured.
    pieces: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// When it was measured last, by the count of pieces.
    at: u64,
}

impl Grouping {
    pub(crate) fn new() -> Self {
        Grouping { costs: [None; MOST + 1], pieces: 0 }
    }

    /// A piece of so many single rows took so long.
    pub(crate) fn observe(&mut self, rows: usize, seconds: f64) {
        self.pieces += 1;
        let known = self.known(rows);
        if let Some(cost) = self.costs.get_mut(rows) {
            let seconds = known.map_or(seconds, |before| before + NEWEST * (seconds - before));
            *cost = Some(Cost { seconds, at: self.pieces });
        }
    }

    /// Whether so many single rows are faster one after another. What is not known is tried.
    pub(crate) fn is_faster_apart(&self, rows: usize) -> bool {
        if !(2..=MOST).contains(&rows) {
            return false;
        }
        match (self.known(1), self.known(rows)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(one), Some(together)) => one * rows as f64 * WORTH < together,
        }
    }

    fn known(&self, rows: usize) -> Option<f64> {
        let cost = self.costs.get(rows).copied().flatten()?;
        (self.pieces - cost.at <= FORGOTTEN_AFTER).then_some(cost.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_tried_and_the_faster_stays() {
        let mut grouping = Grouping::new();
        assert!(grouping.is_faster_apart(4), "what one row takes is not known");
        grouping.observe(1, 0.006);
        assert!(!grouping.is_faster_apart(4), "what four take together is not known");
        grouping.observe(4, 0.040);
        assert!(grouping.is_faster_apart(4));
        grouping.observe(8, 0.041);
        assert!(!grouping.is_faster_apart(8));
    }

    #[test]
    fn one_row_and_very_many_are_never_cut() {
        let grouping = Grouping::new();
        assert!(![0, 1, MOST + 1].into_iter().any(|rows| grouping.is_faster_apart(rows)));
    }

    #[test]
    fn what_was_slow_once_is_tried_again() {
        let mut grouping = Grouping::new();
        grouping.observe(4, 0.100);
        for _ in 0..FORGOTTEN_AFTER {
            grouping.observe(1, 0.006);
            assert!(grouping.is_faster_apart(4));
        }
        grouping.observe(1, 0.006);
        assert!(!grouping.is_faster_apart(4), "four together are tried again");
        grouping.observe(4, 0.010);
        assert!(!grouping.is_faster_apart(4));
    }
}
