//! Threads on processors of their own: what is measured shall not be moved about meanwhile. Where the system offers nothing
//! of the kind, nothing is done, and the answers say so.

/// The processors that this process may use.
pub fn allowed() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_getaffinity};

        let set = sched_getaffinity(nix::unistd::Pid::from_raw(0));
        let found = set.map(|set| (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect());
        if let Ok(found) = found.map(|found: Vec<usize>| found)
            && !found.is_empty()
        {
            return found;
        }
    }
    (0..std::thread::available_parallelism().map_or(1, Into::into)).collect()
}

/// Keeps the calling thread, and those that it starts from now on, to one processor. `false` where that cannot be done.
pub fn keep_on(cpu: usize) -> bool {
    keep(&[cpu])
}

/// The same, to the first so many processors that this process may use.
pub fn keep_to(count: usize) -> bool {
    // Not those that this thread was kept to before.
    static ALL: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(allowed);
    keep(&all[..count.clamp(1, all.len())])
}

fn keep(cpus: &[usize]) -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_setaffinity};

        let mut set = CpuSet::new();
        let named = cpus.iter().all(|&cpu| set.set(cpu).is_ok());
        named && sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = cpus;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_stays_where_it_is_kept() {
        std::thread::spawn(|| {
            let all = allowed();
            let last = *all.last().unwrap();
            assert!(keep_on(last));
            assert_eq!(allowed(), [last]);
        })
        .join()
        .unwrap();
    }
}
