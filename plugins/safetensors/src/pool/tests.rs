//! Regions are done whole, by whoever is there.

use super::*;

#[test]
fn each_piece_is_done_once_awake_or_asleep() {
    for threads in [1, 2, 4] {
        let mut pool = Pool::new(threads);
        for round in 0..300 {
            if round % 100 == 99 {
                // Longer than workers spin: they must be woken.
                std::thread::sleep(SPIN * 3);
            }
            let pieces = round % 37;
            let counts: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            pool.run(pieces, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads}, {round}");
        }
    }
}

#[test]
fn an_idle_team_sleeps() {
    let mut pool = Pool::new(3);
    pool.run(8, |_| {});
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.team.sleeping.load(Ordering::SeqCst) < 2 {
        assert!(Instant::now() < deadline, "workers go on looking for work");
        std::thread::yield_now();
    }
}

#[test]
fn a_split_covers_the_length() {
    let mut pool = Pool::new(3);
    for length in [0, 1, 15, 16, 17, 1000] {
        let covered: Vec<AtomicUsize> = (0..length).map(|_| AtomicUsize::new(0)).collect();
        pool.split(length, 16, |range| {
            assert!(range.start % 16 == 0);
            range.for_each(|i| {
                covered[i].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(covered.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{length}");
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_ends() {
    let mut pool = Pool::new(2);
    let run = std::panic::AssertUnwindSafe(|| pool.run(64, |i| assert!(i < 3, "on purpose")));
    assert!(std::panic::catch_unwind(run).is_err());
    drop(pool);
}
