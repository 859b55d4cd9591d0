//! What threads fetch while they wait.

/// Matrices that are read together.
const PARTS: usize = 4;
/// Bytes that a thread fetches at most: they must still be in its second cache when they are used.
const MOST: usize = 384 << 10;
/// Bytes between two looks at what is waited for.
const STEP: usize = 512;
const LINE: usize = 64;

/// Memory that will be read soon, each thread its own part of each matrix. An announcement is advice: nothing is read
/// through it, so that it may outlive the memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ahead {
    /// Addresses and lengths.
    parts: [(usize, usize); PARTS],
    count: usize,
}

impl Ahead {
    /// These matrices; more than fit are left out.
    pub(crate) fn of<'a>(matrices: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut ahead = Ahead::default();
        for bytes in matrices.take(PARTS) {
            ahead.parts[ahead.count] = (bytes.as_ptr().addr(), bytes.len());
            ahead.count += 1;
        }
        ahead
    }

    /// What one of several threads has to fetch.
    pub(super) fn of_thread(self, thread: usize, threads: usize) -> Fetch {
        let mut fetch = Fetch { ahead: self, part: 0, at: 0 };
        for (start, length) in &mut fetch.ahead.parts[..self.count] {
            let from = *length / threads * thread;
            *start += from;
            *length = (*length / threads).min(MOST / self.count);
        }
        fetch
    }
}

/// How far one thread is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fetch {
    ahead: Ahead,
    part: usize,
    at: usize,
}

impl Fetch {
    /// Asks for a little more of each matrix in turn; answers whether there was any.
    pub(super) fn some(&mut self) -> bool {
        if self.part >= self.ahead.count {
            return false;
        }
        let (start, length) = self.ahead.parts[self.part];
        let end = (self.at + STEP).min(length);
        (self.at..end).step_by(LINE).for_each(|at| prefetch(start + at));
        self.at = end;
        if end == length {
            (self.part, self.at) = (self.part + 1, 0);
        }
        true
    }
}

/// Asks for a line of memory; it need not exist.
#[inline(always)]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction is always there, and no address is wrong.
        #[expect(unsafe_code, reason = "an instruction that only advises")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_fetch_disjoint_parts_and_come_to_an_end() {
        let memory = vec![0u8; 100_000];
        let ahead = Ahead::of([&memory[..60_000], &memory[60_000..]].into_iter());
        let mut ends = Vec::new();
        for thread in 0..3 {
            let mut fetch = ahead.of_thread(thread, 3);
            ends.push((fetch.ahead.parts[0].0 - memory.as_ptr().addr(), fetch.ahead.parts[0].1));
            let steps = (0..10_000).take_while(|_| fetch.some()).count();
            assert_eq!(steps, 20_000usize.div_ceil(STEP) + 13_333usize.div_ceil(STEP));
        }
        assert_eq!(ends, [(0, 20_000), (20_000, 20_000), (40_000, 20_000)]);
        assert!(!Fetch::default().some());
    }
}
