//! How long a draft is worth verifying: what is gained by tokens that come for nothing against what more rows cost. Pure:
//! it is told the times.

use std::time::Duration;

/// The longest draft.
pub(super) const LONGEST_DRAFT: usize = 10;

/// Weight of the newest measurement in the moving averages.
const NEWEST: f64 = 0.2;

/// Drafts must promise this much: measurements scatter.
const WORTH: f64 = 1.1;

/// A measurement that no step of so many has confirmed says nothing any more: sequences grow, other programs come and go,
/// and a length that was slow once would never be tried again.
const FORGOTTEN_AFTER: u64 = 256;

/// Measured seconds of steps by their number of rows.
#[derive(Debug, Default)]
pub(super) struct Costs {
    costs: [Option<Cost>; LONGEST_DRAFT + 2],
    /// How many steps were measured.
    steps: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// When it was measured last, by the count of steps.
    at: u64,
}

impl Costs {
    /// A step of so many rows took so long.
    pub(super) fn observe(&mut self, rows: usize, took: Duration) {
        self.steps += 1;
        let (seen, known) = (took.as_secs_f64(), self.known(rows));
        if let Some(cost) = self.costs.get_mut(rows) {
            let seconds = known.map_or(seen, |before| before + NEWEST * (seen - before));
            *cost = Some(Cost { seconds, at: self.steps });
        }
    }

    /// How many drafted tokens promise the most tokens in a second, where each is right with this probability; 0 where none
    /// promises enough. `most` is what there is to draft.
    pub(super) fn best_draft(&self, right: f64, most: usize) -> usize {
        let Some(alone) = self.known(1) else { return 0 };
        let speed = |drafted: usize| expected_tokens(right, drafted) / self.seconds_of(drafted + 1, alone);
        let best = (1..=most.min(LONGEST_DRAFT)).max_by(|&one, &other| speed(one).total_cmp(&speed(other)));
        best.filter(|&drafted| speed(drafted) > WORTH / alone).unwrap_or(0)
    }

    /// What steps of so many rows took lately.
    fn known(&self, rows: usize) -> Option<f64> {
        let cost = self.costs.get(rows).copied().flatten()?;
        (self.steps - cost.at <= FORGOTTEN_AFTER).then_some(cost.seconds)
    }

    /// Measured, or between the nearest that were measured; beyond them as if a row more cost nothing, so that it is tried.
    fn seconds_of(&self, rows: usize, alone: f64) -> f64 {
        if let Some(seconds) = self.known(rows) {
            return seconds;
        }
        let known = |at: usize| self.known(at).map(|seconds| (at, seconds));
        let below = (1..rows).rev().find_map(known).unwrap_or((1, alone));
        let Some(above) = (rows + 1..self.costs.len()).find_map(known) else { return below.1 };
        let share = (rows - below.0) as f64 / (above.0 - below.0) as f64;
        below.1 + share * (above.1 - below.1)
    }
}

/// Tokens that a step gives on average: the drafted ones that are right in a row, and the one after them.
fn expected_tokens(right: f64, drafted: usize) -> f64 {
    (0..=drafted).map(|length| right.powi(length as i32)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(millis: &[(usize, u64)]) -> Costs {
        let mut costs = Costs::default();
        for &(rows, millis) in millis {
            costs.observe(rows, Duration::from_millis(millis));
        }
        costs
    }

    #[test]
    fn nothing_is_drafted_before_a_step_was_measured_or_when_it_is_never_right() {
        assert_eq!(Costs::default().best_draft(1.0, 9), 0);
        assert_eq!(costs(&[(1, 10)]).best_draft(0.05, 9), 0);
        assert_eq!(costs(&[(1, 10)]).best_draft(1.0, 0), 0);
    }

    #[test]
    fn drafts_are_as_long_as_they_pay() {
        let free = costs(&[(1, 10), (11, 10)]);
        assert_eq!(free.best_draft(0.9, 99), LONGEST_DRAFT);
        assert_eq!(free.best_draft(0.9, 3), 3);
        let dear = costs(&[(1, 10), (11, 110)]);
        assert_eq!(dear.best_draft(0.99, 99), 0, "ten rows cost as much as ten steps");
        let some = costs(&[(1, 10), (2, 12), (11, 60)]);
        assert_eq!(some.best_draft(0.7, 99), 1);
        assert!(some.best_draft(0.98, 99) > 3);
    }

    #[test]
    fn what_was_slow_once_is_tried_again() {
        let mut costs = costs(&[(1, 10), (11, 500)]);
        assert_eq!(costs.best_draft(0.95, 99), 0);
        for _ in 0..FORGOTTEN_AFTER {
            assert_eq!(costs.best_draft(0.95, 99), 0);
            costs.observe(1, Duration::from_millis(10));
        }
        assert_eq!(costs.best_draft(0.95, 99), 0);
        costs.observe(1, Duration::from_millis(10));
        assert_eq!(costs.best_draft(0.95, 99), LONGEST_DRAFT);
        costs.observe(11, Duration::from_millis(500));
        assert_eq!(costs.best_draft(0.95, 99), 0, "one try, not many");
    }

    #[test]
    fn without_a_step_of_one_row_lately_one_is_measured_again() {
        let mut costs = costs(&[(1, 10), (11, 10)]);
        for _ in 0..FORGOTTEN_AFTER {
            assert_eq!(costs.best_draft(0.95, 99), LONGEST_DRAFT);
            costs.observe(11, Duration::from_millis(10));
        }
        assert_eq!(costs.best_draft(0.95, 99), 0);
        costs.observe(1, Duration::from_millis(10));
        assert_eq!(costs.best_draft(0.95, 99), LONGEST_DRAFT);
    }

    #[test]
    fn the_expected_tokens_are_a_geometric_sum() {
        assert!((expected_tokens(0.5, 2) - 1.75).abs() < 1e-12);
        assert!((expected_tokens(1.0, 4) - 5.0).abs() < 1e-12);
    }
}
