//! How fast caches and memory are read, written and copied: one thread, and all that there are.
//!
//! Bytes are counted as STREAM counts them (McCalpin 1995): those that the program reads and those that it writes, so that a
//! copy counts twice, and not those that a processor reads only because they are written.

use std::hint::black_box;

use super::together::{Sampling, together};
use crate::bench::environment::{Cache, Machine, available_memory};
use crate::bench::recorder::Recorder;
use crate::bench::report::{Named, Unit};
use crate::pinning;

/// What is done to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Copy,
}

impl Access {
    const ALL: [Access; 3] = [Access::Read, Access::Write, Access::Copy];

    fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Copy => "copy",
        }
    }

    fn how(self) -> &'static str {
        match self {
            Access::Read => "every 64-bit word is read and added up",
            Access::Write => "every 64-bit word is written; what the processor reads for that is not counted",
            Access::Copy => {
                "one half of the working set is copied to the other by the system library's memcpy; bytes \
                             read and bytes written count"
            }
        }
    }
}

/// Where a working set lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// `l1`, `l2`, `l3`, `main`.
    name: String,
    label: String,
    /// Of each thread, where so many work.
    bytes: u64,
}

/// All accesses to all places, by one thread and by all.
pub(super) fn measure(recorder: &mut Recorder, sampling: Sampling) {
    if recorder.machine().caches.is_empty() {
        recorder.note("the system does not tell its caches: only main memory was measured");
    }
    for (threads, of_threads) in super::thread_counts(recorder.machine().logical_cpus) {
        for place in places(recorder.machine(), threads) {
            for access in Access::ALL {
                one(recorder, sampling, (threads, &of_threads), (access, &place));
            }
        }
    }
}

/// The figure that bounds a model which reads its weights for each token; its name.
pub(super) fn limit(recorder: &mut Recorder, sampling: Sampling) -> String {
    let counts = super::thread_counts(recorder.machine().logical_cpus);
    let (threads, of_threads) = counts.last().cloned().unwrap_or((1, String::new()));
    let places = places(recorder.machine(), threads);
    let main = places.last().expect("there is always main memory: this is a bug");
    one(recorder, sampling, (threads, &of_threads), (Access::Read, main));
    name(Access::Read, main, &of_threads)
}

fn name(access: Access, place: &Place, of_threads: &str) -> String {
    format!("memory.{}.{}.{}", access.name(), place.name, of_threads.replace(' ', "_"))
}

fn one(
    recorder: &mut Recorder,
    sampling: Sampling,
    (threads, of_threads): (usize, &str),
    (access, place): (Access, &Place),
) {
    let label = format!("{}, {of_threads}, {}", access.name(), place.label);
    if !recorder.begin(format!("memory: {label}")) {
        return;
    }
    let cpus = pinning::allowed();
    let cpus = &cpus[..threads.min(cpus.len())];
    let how = format!("{}; a working set of {} bytes for each thread", access.how(), place.bytes);
    let named = Named::new(name(access, place, of_threads), label, Unit::BytesPerSecond).how(how);
    let measured = together(cpus, sampling, recorder.stopper(), || pass(access, place.bytes));
    if !measured.pinned {
        recorder.note_once(super::NOT_PINNED);
    }
    let counted = (place.bytes / 16 * 16) as f64;
    recorder.found(named.measured(measured.passes_per_second.map(|passes| passes * counted)));
}

/// How many figures it makes.
pub(super) fn steps(machine: &Machine) -> usize {
    let counts = super::thread_counts(machine.logical_cpus);
    counts.iter().map(|(threads, _)| places(machine, *threads).len()).sum::<usize>() * Access::ALL.len()
}

/// A half of each cache, and for main memory four times all of the last one, as STREAM wants it.
fn places(machine: &Machine, threads: usize) -> Vec<Place> {
    let of_cache = |cache: &Cache| {
        let sharing = cache.shared_by.min(threads).max(1) as u64;
        let bytes = cache.bytes / 2 / sharing;
        Place { name: format!("l{}", cache.level), label: format!("level {} cache", cache.level), bytes }
    };
    let mut places: Vec<Place> = machine.caches.iter().map(of_cache).collect();
    let last = machine.caches.last();
    let all = last.map_or(0, |cache| cache.bytes * machine.logical_cpus.div_ceil(cache.shared_by) as u64);
    let most = available_memory().map_or(256 << 20, |bytes| bytes / 4);
    let bytes = (4 * all).max(128 << 20).min(most) / threads as u64;
    places.push(Place { name: "main".to_owned(), label: "main memory".to_owned(), bytes });
    places
}

/// A pass over a working set of so many bytes.
fn pass(access: Access, bytes: u64) -> impl FnMut() {
    let words = bytes as usize / 16 * 2;
    // Written once: pages that were never touched are all the same one.
    let mut set: Vec<u64> = (0..words as u64).collect();
    let mut value = 0;
    move || match access {
        Access::Read => {
            black_box(sum(black_box(&set)));
        }
        Access::Write => {
            value += 1;
            black_box(&mut set).fill(value);
        }
        Access::Copy => {
            let (from, to) = black_box(&mut set).split_at_mut(words / 2);
            to.copy_from_slice(from);
        }
    }
}

/// The compiler makes vectors of it, several sums at once. Thirty-two sums written out by hand were read at two thirds of
/// its speed.
fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        for count in [0, 1, 31, 32, 33, 1000] {
            let words: Vec<u64> = (0..count).collect();
            assert_eq!(sum(&words), words.iter().sum::<u64>());
        }
    }

    #[test]
    fn working_sets_fit_where_they_are_meant_to_lie() {
        let caches = vec![
            Cache { level: 1, bytes: 32 << 10, shared_by: 1 },
            Cache { level: 3, bytes: 32 << 20, shared_by: 2 },
        ];
        let machine = Machine { caches, logical_cpus: 4, ..Machine::default() };
        let bytes =
            |threads| -> Vec<u64> { places(&machine, threads).iter().map(|place| place.bytes).collect() };
        assert_eq!(bytes(1)[..2], [16 << 10, 16 << 20]);
        assert_eq!(bytes(4)[..2], [16 << 10, 8 << 20]);
        // Two of the last caches, four times; or a quarter of what is free.
        assert!(bytes(1)[2] <= 256 << 20 && bytes(1)[2] / 4 == bytes(4)[2]);
        assert_eq!(steps(&machine), 2 * 3 * 3);
    }
}
