//! The same work on several threads at once, each on a processor of its own, all beginning at one moment.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::bench::recorder::Stopper;
use crate::bench::samples::Samples;
use crate::pinning;

/// How a figure is sampled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    /// Samples.
    pub(super) runs: u32,
    /// What each takes at least.
    pub(super) least: Duration,
}

/// What came of it.
pub(super) struct Measured {
    /// Passes of all threads together in a second, for each run.
    pub(super) passes_per_second: Samples,
    /// Whether every thread stayed on its processor.
    pub(super) pinned: bool,
}

/// Does the passes that `make` makes for each thread, on threads kept to these processors. A first pass on each is not
/// counted. Ends early when it is to stop.
pub(super) fn together<W: FnMut()>(
    cpus: &[usize],
    sampling: Sampling,
    stopper: &Stopper,
    make: impl Fn() -> W + Sync,
) -> Measured {
    let team = Team {
        barrier: Barrier::new(cpus.len()),
        times: AtomicU64::new(1),
        goes_on: AtomicBool::new(true),
        sampling,
        stopper,
    };
    let (team, make) = (&team, &make);
    let threads: Vec<(bool, Vec<Span>)> = std::thread::scope(|scope| {
        let start = |(number, &cpu): (usize, &usize)| {
            scope.spawn(move || {
                let pinned = pinning::keep_on(cpu);
                (pinned, team.work(number == 0, make()))
            })
        };
        let started: Vec<_> = cpus.iter().enumerate().map(start).collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("a pass does not panic: this is a bug"))
            .collect()
    });
    let passes = (team.times.load(Ordering::Relaxed) * cpus.len() as u64) as f64;
    let runs = threads.iter().map(|(_, spans)| spans.len()).min().unwrap_or(0);
    let seconds = |run: usize| {
        let of_run = || threads.iter().map(move |(_, spans)| spans[run]);
        let (first, last) = (of_run().map(|span| span.0).min(), of_run().map(|span| span.1).max());
        first.zip(last).map_or(f64::NAN, |(first, last)| (last - first).as_secs_f64())
    };
    Measured {
        passes_per_second: (0..runs).map(|run| passes / seconds(run)).collect(),
        pinned: threads.iter().all(|(pinned, _)| *pinned),
    }
}

type Span = (Instant, Instant);

struct Team<'a> {
    barrier: Barrier,
    /// Passes of each thread in a run.
    times: AtomicU64,
    goes_on: AtomicBool,
    sampling: Sampling,
    stopper: &'a Stopper,
}

impl Team<'_> {
    /// A thread's part: when each of its runs began and ended.
    fn work(&self, leads: bool, mut pass: impl FnMut()) -> Vec<Span> {
        pass();
        if leads {
            self.times.store(times(self.sampling.least, &mut pass), Ordering::Relaxed);
        }
        let mut spans = Vec::new();
        for _ in 0..self.sampling.runs {
            if leads {
                self.goes_on.store(!self.stopper.is_asked(), Ordering::Relaxed);
            }
            self.barrier.wait();
            // The leader writes it only when all have passed the second barrier.
            let goes_on = self.goes_on.load(Ordering::Relaxed);
            let times = self.times.load(Ordering::Relaxed);
            let started = Instant::now();
            if goes_on {
                (0..times).for_each(|_| pass());
                spans.push((started, Instant::now()));
            }
            self.barrier.wait();
            if !goes_on {
                break;
            }
        }
        spans
    }
}

/// How many passes take so long.
fn times(least: Duration, mut pass: impl FnMut()) -> u64 {
    let mut times = 1_u64;
    loop {
        let started = Instant::now();
        (0..times).for_each(|_| pass());
        let took = started.elapsed();
        if took * 8 >= least || times > 1 << 40 {
            let share = least.as_secs_f64() / took.as_secs_f64().max(1e-9);
            return ((times as f64 * share).ceil() as u64).max(1);
        }
        times *= 4;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_thread_does_its_passes_and_a_stop_ends_it() {
        let (made, stopper) = (AtomicUsize::new(0), Stopper::default());
        let make = || {
            made.fetch_add(1, Ordering::Relaxed);
            || std::thread::sleep(Duration::from_millis(2))
        };
        let cpus = vec![pinning::allowed()[0]; 3];
        let sampling = Sampling { runs: 4, least: Duration::from_millis(4) };
        let measured = together(&cpus, sampling, &stopper, make);
        assert_eq!((made.load(Ordering::Relaxed), measured.passes_per_second.values().len()), (3, 4));
        // Three threads, each of which cannot do more than 500 in a second.
        assert!(measured.passes_per_second.values().iter().all(|rate| (1.0..=1500.0).contains(rate)));
        stopper.stop();
        assert_eq!(together(&cpus, sampling, &stopper, make).passes_per_second.values(), [0.0; 0]);
    }
}
