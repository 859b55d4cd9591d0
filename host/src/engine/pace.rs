//! How many rows of prompts a step may have so that it lasts no longer than a stream may be silent. Pure: it is told the times.

use std::time::Duration;

/// The speed of a context as it was measured lately.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long a step may last.
    target: Duration,
    rows_per_second: Option<f64>,
}

/// Steps of fewer rows are left out of the measurement: they spend their time on reading weights, not on rows.
const TELLING_ROWS: usize = 32;

/// Kernels compute rows in tiles: one that is begun costs as much as a full one. A step has at least one, or prompts would
/// never end on a slow machine.
const TILE_ROWS: usize = 64;

/// Weight of the newest measurement in the moving average.
const NEWEST: f64 = 0.3;

impl Pace {
    pub(super) fn new(target: Duration) -> Self {
        Pace { target, rows_per_second: None }
    }

    /// A step of so many rows took so long.
    pub(super) fn observe(&mut self, rows: usize, took: Duration) {
        if rows < TELLING_ROWS || took.is_zero() {
            return;
        }
        let seen = rows as f64 / took.as_secs_f64();
        let before = self.rows_per_second.unwrap_or(seen);
        self.rows_per_second = Some(before + NEWEST * (seen - before));
    }

    /// Rows that take about the target time, in whole tiles; one before anything was measured.
    pub(super) fn rows(&self) -> usize {
        let rows = self.rows_per_second.map_or(0.0, |speed| speed * self.target.as_secs_f64());
        (rows as usize / TILE_ROWS).max(1) * TILE_ROWS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_measured_speed() {
        let mut pace = Pace::new(Duration::from_millis(250));
        assert_eq!(pace.rows(), 64);
        pace.observe(600, Duration::from_secs(1));
        assert_eq!(pace.rows(), 128);
        for _ in 0..50 {
            pace.observe(800, Duration::from_secs(1));
        }
        assert_eq!(pace.rows(), 192);
        pace.observe(1, Duration::from_millis(8));
        assert_eq!(pace.rows(), 192, "a step of one row says nothing about prompts");
        for _ in 0..50 {
            pace.observe(32, Duration::from_secs(10));
        }
        assert_eq!(pace.rows(), 64);
    }
}
