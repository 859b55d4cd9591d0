//! How many rows of prompts a step may have so that it lasts no longer than a stream may be silent. Pure: it is told the
//! times.
//!
//! Kernels compute rows in tiles: one that is begun costs about as much as a full one, so a step has whole ones. Where one
//! lasts too long, with a large model or behind a long context, a part of one is taken if it is nearly as fast a row. That
//! is tried beside whole tiles, and again after a while.

use std::time::Duration;

const TILE_ROWS: usize = 64;

/// Parts of a tile, in the order in which they are tried.
const PARTS: [usize; 3] = [32, 16, 8];

/// A part must have so much of a tile's speed: prompts would pay too much for the streams' sake.
const WORTH: f64 = 0.75;

/// A part's speed that was compared before so many steps says nothing any more.
const FORGOTTEN_AFTER: u32 = 256;

/// Weight of the newest measurement in the moving average.
const NEWEST: f64 = 0.3;

/// The speed of a context as it was measured lately.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long a step may last.
    target: Duration,
    /// Of whole tiles.
    rows_per_second: Option<f64>,
    parts: [Part; PARTS.len()],
    /// Whether the last step had whole tiles: what comes now can be compared with them.
    had_tiles: bool,
}

/// A part of a tile.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Its speed in rows, by that of whole tiles.
    share: Option<f64>,
    /// Steps since that was measured.
    age: u32,
}

impl Pace {
    pub(super) fn new(target: Duration) -> Self {
        Pace { target, rows_per_second: None, parts: Default::default(), had_tiles: false }
    }

    /// A step with so many rows of prompts took so long.
    pub(super) fn observe(&mut self, rows: usize, took: Duration) {
        if took.is_zero() || rows == 0 {
            return;
        }
        for part in self.parts.iter_mut().filter(|part| part.share.is_some()) {
            part.age += 1;
            if part.age == FORGOTTEN_AFTER {
                *part = Part::default();
            }
        }
        let seen = rows as f64 / took.as_secs_f64();
        let had_tiles = std::mem::replace(&mut self.had_tiles, rows >= TILE_ROWS);
        if self.had_tiles {
            return self.learn(seen);
        }
        let Some(before) = self.rows_per_second else { return };
        let Some(part) = PARTS.iter().position(|&part| rows >= part) else { return };
        match self.parts[part].share {
            Some(share) => self.learn(seen / share),
            None if had_tiles => self.parts[part].share = Some(seen / before),
            None => {}
        }
    }

    fn learn(&mut self, seen: f64) {
        let before = self.rows_per_second.unwrap_or(seen);
        self.rows_per_second = Some(before + NEWEST * (seen - before));
    }

    /// Rows that take about the target time; a whole tile before anything was measured.
    pub(super) fn rows(&self) -> usize {
        let Some(speed) = self.rows_per_second else { return TILE_ROWS };
        let in_time = speed * self.target.as_secs_f64();
        let tiles = in_time as usize / TILE_ROWS;
        if tiles > 0 {
            return tiles * TILE_ROWS;
        }
        let mut best = TILE_ROWS;
        for (part, rows) in self.parts.iter().zip(PARTS) {
            match part.share {
                None if self.had_tiles => return rows,
                None => return TILE_ROWS,
                Some(share) if share < WORTH => return best,
                Some(share) if rows as f64 <= in_time * share => return rows,
                Some(_) => best = rows,
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine, which takes so many seconds for so many rows, is given in so many steps.
    fn given(pace: &mut Pace, steps: usize, seconds: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut step = |_| {
            let rows = pace.rows();
            pace.observe(rows, Duration::from_secs_f64(seconds(rows)));
            rows
        };
        (0..steps).map(&mut step).collect()
    }

    fn pace() -> Pace {
        Pace::new(Duration::from_millis(250))
    }

    #[test]
    fn the_budget_follows_the_measured_speed() {
        let mut pace = pace();
        assert_eq!(pace.rows(), 64);
        pace.observe(600, Duration::from_secs(1));
        assert_eq!(pace.rows(), 128);
        for _ in 0..50 {
            pace.observe(800, Duration::from_secs(1));
        }
        assert_eq!(pace.rows(), 192);
        pace.observe(1, Duration::from_millis(8));
        assert_eq!(pace.rows(), 192, "a step of one row says nothing about prompts");
    }

    #[test]
    fn parts_of_tiles_are_taken_where_a_whole_one_lasts_too_long() {
        let large = |rows| 0.02 + rows as f64 / 40.0;
        let rows = given(&mut pace(), 400, large);
        let in_time = rows.iter().filter(|&&rows| large(rows) < 0.3).count();
        assert!(in_time > 380, "{rows:?}");
        assert!(rows.iter().all(|&rows| rows >= 8));
        let larger = given(&mut pace(), 400, |rows| rows as f64 / 10.0);
        assert!(larger.iter().filter(|&&rows| rows == 8).count() > 360, "{larger:?}");
    }

    #[test]
    fn a_part_that_costs_as_much_as_a_whole_is_only_tried_now_and_then() {
        let rows = given(&mut pace(), 400, |rows| rows.div_ceil(64) as f64);
        assert!(rows.iter().filter(|&&rows| rows == 64).count() > 390, "{rows:?}");
        // Half a tile is as fast a row, a quarter is not.
        let rows = given(&mut pace(), 400, |rows| rows.div_ceil(32) as f64 / 2.0);
        assert!(rows.iter().filter(|&&rows| rows == 32).count() > 370, "{rows:?}");
    }

    #[test]
    fn whole_tiles_come_back_when_they_are_fast_again() {
        let mut pace = pace();
        given(&mut pace, 100, |rows| rows as f64 / 20.0);
        let rows = given(&mut pace, 40, |rows| rows as f64 / 1000.0);
        assert_eq!(rows.last(), Some(&192), "{rows:?}");
        let rows = given(&mut pace, 100, |rows| rows as f64 / 100.0);
        assert!(rows[80..].iter().all(|&rows| [64, 16].contains(&rows)), "{rows:?}");
        assert!(rows[80..].iter().filter(|&&rows| rows == 16).count() > 15, "{rows:?}");
    }
}
