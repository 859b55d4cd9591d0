//! A team of threads made for decoding: hundreds of short parallel regions in a few milliseconds, then nothing.
//!
//! Workers spin for a moment before they sleep, so that a region costs a fraction of a microsecond; an idle pool costs
//! nothing. Each thread has a share of a region's pieces that lie side by side, so that it reads memory in one stream; who
//! is done takes what is left of others' shares, and a worker that comes late (its core was busy elsewhere) finds the
//! region closed and holds nobody up. Who waits fetches what it will read in the region after next (see [`Ahead`]): at one
//! row of activations memory is the limit, and must not rest while one thread works alone.

#![expect(unsafe_code, reason = "workers borrow the caller's closure and buffers for the time of a region")]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod ahead;
#[cfg(test)]
mod tests;

pub(crate) use self::ahead::Ahead;
use self::ahead::Fetch;

/// How long a worker looks for the next region before it sleeps: longer than a host takes between two steps.
const SPIN: Duration = Duration::from_micros(300);

/// Threads, the caller's own among them.
pub(crate) struct Pool {
    team: Arc<Team>,
    workers: Vec<JoinHandle<()>>,
    /// What is read in the next region.
    ahead: Ahead,
}

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// What the threads share.
struct Team {
    /// The region's number in the upper half; then [`OPEN`]; then how many workers are in it.
    gate: AtomicU64,
    /// Workers that have left the region.
    left: AtomicUsize,
    /// The next piece of each thread's share.
    next: Box<[Next]>,
    /// Written while the gate is closed.
    region: std::cell::UnsafeCell<Region>,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Workers that sleep, or are about to.
    sleepers: Mutex<Vec<std::thread::Thread>>,
    sleeping: AtomicUsize,
}

/// A counter in a cache line of its own.
#[repr(align(64))]
struct Next(AtomicUsize);

/// What threads do in a region.
#[derive(Clone, Copy)]
struct Region {
    pieces: usize,
    work: Option<*const Work<'static>>,
    /// What will be read in a later one.
    ahead: Ahead,
}

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

// SAFETY: `region` is written by the one who holds the pool mutably, while the gate is closed and nobody is inside, and
// read only by those inside.
unsafe impl Sync for Team {}
// SAFETY: as above; the pointer in it is used only while its region is open.
unsafe impl Send for Team {}

impl Pool {
    /// A team of so many threads, at least the caller's.
    pub(crate) fn new(threads: usize) -> Self {
        let team = Arc::new(Team {
            gate: AtomicU64::new(0),
            left: AtomicUsize::new(0),
            next: (0..threads.max(1)).map(|_| Next(AtomicUsize::new(0))).collect(),
            region: std::cell::UnsafeCell::new(Region { pieces: 0, work: None, ahead: Ahead::default() }),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: Mutex::new(Vec::with_capacity(threads)),
            sleeping: AtomicUsize::new(0),
        });
        // Where no more threads can be had, the team is smaller.
        let workers = (1..threads).map_while(|number| {
            let team = Arc::clone(&team);
            let thread = std::thread::Builder::new().name(format!("decode-{number}"));
            thread.spawn(move || team.work(number)).ok()
        });
        let workers = workers.collect();
        Pool { team, workers, ahead: Ahead::default() }
    }

    /// Threads in the team.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Says what will be read in the region after the next one, for threads that have nothing to do until then.
    pub(crate) fn announce(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// Runs `work` for each number below `pieces`, in no order, on all threads; returns when all is done.
    ///
    /// # Panics
    /// When `work` panicked on a worker.
    pub(crate) fn run(&mut self, pieces: usize, work: impl Fn(usize) + Sync) {
        if pieces <= 1 || self.workers.is_empty() {
            (0..pieces).for_each(work);
            return;
        }
        let team = &*self.team;
        let work: &Work<'_> = &work;
        // SAFETY: only the lifetime changes. The closure is used by those inside the region, and this function does
        // not return, nor unwind, before `Closing` has seen all of them leave.
        let erased: *const Work<'static> = unsafe { std::mem::transmute::<&Work<'_>, &Work<'static>>(work) };
        let ahead = std::mem::take(&mut self.ahead);
        // SAFETY: the gate is closed and nobody is inside; `&mut self` keeps other callers out.
        unsafe { *team.region.get() = Region { pieces, work: Some(erased), ahead } };
        for (thread, next) in team.next.iter().enumerate() {
            next.0.store(team.share(thread, pieces).start, Ordering::Relaxed);
        }
        team.left.store(0, Ordering::Relaxed);
        let number = (team.gate.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is the sleepers' count: one of the two sees the other.
        team.gate.store((number << 32) | OPEN, Ordering::SeqCst);
        if team.sleeping.load(Ordering::SeqCst) > 0 {
            team.wake();
        }
        {
            let _closing = Closing(team, ahead.of_thread(0, team.next.len()));
            team.take_pieces(0, pieces, work);
        }
        assert!(!team.panicked.load(Ordering::Relaxed), "a kernel panicked on a worker thread");
    }

    /// Runs `work` for ranges that together are `0..length`: a few for each thread, each a multiple of `grain` long
    /// but the last.
    pub(crate) fn split(&mut self, length: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
        let grains = length.div_ceil(grain);
        let pieces = grains.min(self.threads() * PIECES_PER_THREAD);
        let from = |piece: usize| (piece * grains / pieces * grain).min(length);
        self.run(pieces, |piece| work(from(piece)..from(piece + 1)));
    }
}

#[cfg(test)]
impl Pool {
    /// Runs `work` once on each thread.
    pub(crate) fn on_each_thread(&mut self, work: impl Fn() + Sync) {
        let all = std::sync::Barrier::new(self.threads());
        self.run(self.threads(), |_| {
            // Nobody takes a second piece before everybody has one.
            all.wait();
            work();
        });
    }
}

/// More pieces even out threads that are held up; fewer cost less.
const PIECES_PER_THREAD: usize = 8;

/// Shuts the region, also when the caller's own piece panics.
struct Closing<'a>(&'a Team, Fetch);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let inside = self.0.gate.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE;
        let mut spins = 0u32;
        while self.0.left.load(Ordering::Acquire) < inside as usize {
            spins += 1;
            match spins.is_multiple_of(1 << 14) {
                true => std::thread::yield_now(),
                false if self.1.some() => {}
                false => std::hint::spin_loop(),
            }
        }
    }
}

impl Team {
    /// A thread's part of the pieces.
    fn share(&self, thread: usize, pieces: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * pieces / threads..(thread + 1) * pieces / threads
    }

    /// A thread's own pieces, then what is left of others'.
    fn take_pieces(&self, thread: usize, pieces: usize, work: &Work<'_>) {
        let threads = self.next.len();
        for of in (thread..threads).chain(0..thread) {
            let end = self.share(of, pieces).end;
            loop {
                let piece = self.next[of].0.fetch_add(1, Ordering::Relaxed);
                if piece >= end {
                    break;
                }
                work(piece);
            }
        }
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut seen = 0;
        let mut fetch = Fetch::default();
        while let Some(gate) = self.wait(seen, &mut fetch) {
            seen = gate >> 32;
            if self.enter(gate) {
                // SAFETY: we are inside: the region was written before the gate opened, and stays until we have left.
                let Region { pieces, work, ahead } = unsafe { *self.region.get() };
                fetch = ahead.of_thread(thread, self.next.len());
                let work = work.map(|work| {
                    // SAFETY: as above, the closure lives until we have left.
                    unsafe { &*work }
                });
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    if let Some(work) = work {
                        self.take_pieces(thread, pieces, work);
                    }
                }));
                if done.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                    // What is left of the region is not computed.
                    self.next.iter().for_each(|next| next.0.store(usize::MAX / 2, Ordering::Relaxed));
                }
                self.left.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Goes into the region of `gate` unless it has closed since.
    fn enter(&self, mut gate: u64) -> bool {
        let number = gate >> 32;
        while gate >> 32 == number && gate & OPEN != 0 {
            match self.gate.compare_exchange_weak(gate, gate + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => gate = now,
            }
        }
        false
    }

    /// Waits for a region after `seen`; `None` at the end.
    fn wait(&self, seen: u64, fetch: &mut Fetch) -> Option<u64> {
        let started = Instant::now();
        let mut spins = 0u32;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if gate >> 32 != seen {
                return Some(gate);
            }
            if fetch.some() {
                continue;
            }
            spins += 1;
            if spins.is_multiple_of(64) && started.elapsed() > SPIN {
                self.sleep(seen);
            }
            std::hint::spin_loop();
        }
    }

    fn sleep(&self, seen: u64) {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        // A region that opened before our name was on the list would not wake us.
        while self.gate.load(Ordering::SeqCst) >> 32 == seen && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        let own = std::thread::current().id();
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sleepers.len();
        sleepers.retain(|thread| thread.id() != own);
        self.sleeping.fetch_sub(before - sleepers.len(), Ordering::SeqCst);
    }

    fn wake(&self) {
        for thread in self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            thread.unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.team.stop.store(true, Ordering::SeqCst);
        self.team.wake();
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

/// A buffer that threads write at once, each its own part.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    _buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow that is handed out in parts, each to one thread, as `slice` demands.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(buffer: &'a mut [T]) -> Self {
        Shared { start: buffer.as_mut_ptr(), length: buffer.len(), _buffer: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The place of an element; to be used within the buffer and nobody else's part.
    ///
    /// # Panics
    /// When it is beyond the buffer.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.length, "an index is in its buffer: this is a bug");
        // SAFETY: within the buffer.
        unsafe { self.start.add(index) }
    }

    /// A part.
    ///
    /// # Panics
    /// When it is beyond the buffer.
    ///
    /// # Safety
    /// Nobody else has any of it as long as the answer lives.
    #[expect(clippy::mut_from_ref, reason = "that is what it is for: disjoint parts of one buffer")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "a part is in its buffer: this is a bug"
        );
        // SAFETY: within the buffer, and ours alone as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
