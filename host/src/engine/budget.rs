//! How a step's rows are given to the prompts that wait for them. Pure.
//!
//! Kernels compute long runs of one sequence best, so a prompt is cut into as few pieces as may be: a short rest goes with
//! what is before it, and nobody is given the crumbs that another left.

/// Rows of prompts in one step.
#[derive(Debug)]
pub(super) struct Budget {
    whole: usize,
    left: usize,
}

impl Budget {
    pub(super) fn new(rows: usize) -> Self {
        Budget { whole: rows, left: rows }
    }

    /// The rows for a prompt that has so many to go, no more than there is room for.
    pub(super) fn take(&mut self, pending: usize, room: usize) -> usize {
        let rows = if self.left == 0 {
            0
        } else if pending <= room && pending <= self.left + self.whole / 2 {
            pending
        } else if self.left * 2 >= self.whole {
            self.left.min(room)
        } else {
            0
        };
        self.left = self.left.saturating_sub(rows);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What prompts of these lengths get of a step of 64 rows.
    fn shares(pending: &[usize]) -> Vec<usize> {
        let mut budget = Budget::new(64);
        pending.iter().map(|&pending| budget.take(pending, 200)).collect()
    }

    #[test]
    fn a_long_prompt_takes_all() {
        assert_eq!(shares(&[266, 266]), [64, 0]);
    }

    #[test]
    fn a_short_rest_goes_with_what_is_before_it() {
        assert_eq!(shares(&[74, 10]), [74, 0]);
        assert_eq!(shares(&[96]), [96]);
        assert_eq!(shares(&[97]), [64]);
    }

    #[test]
    fn nobody_gets_crumbs() {
        assert_eq!(shares(&[40, 100, 20]), [40, 0, 20]);
        assert_eq!(shares(&[20, 100]), [20, 44]);
    }

    #[test]
    fn short_prompts_share_once_beyond_the_end() {
        assert_eq!(shares(&[30, 30, 30, 30]), [30, 30, 30, 0]);
    }

    #[test]
    fn there_is_never_more_than_there_is_room_for() {
        assert_eq!(Budget::new(64).take(80, 70), 64);
        assert_eq!(Budget::new(64).take(80, 7), 7);
        assert_eq!(Budget::new(0).take(80, 70), 0);
    }
}
