//! What the machine and its processes take, as Linux tells it under /proc; elsewhere nothing is known, and nothing is
//! guessed.

use std::path::Path;
use std::thread::available_parallelism;

use serde::Serialize;
use utoipa::ToSchema;

/// What Linux counts CPU time in towards programs, on every architecture that it runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of a page as /proc counts them. Larger pages exist on some ARM machines: there the figure of `status` is read.
const STATUS_UNIT: u64 = 1024;

/// The machine at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MachineNow {
    /// Cores that this process may use.
    pub cores: usize,
    /// All memory.
    pub memory_bytes: Option<u64>,
    /// Memory that new work can have without anything being swapped out.
    pub available_bytes: Option<u64>,
    /// CPU seconds of all cores since the machine was started, without idle ones.
    pub cpu_busy_secs: Option<f64>,
}

impl MachineNow {
    /// As it is.
    pub fn look() -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpu = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        MachineNow {
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes(&memory, "MemTotal:"),
            available_bytes: kibibytes(&memory, "MemAvailable:"),
            cpu_busy_secs: busy_secs(&cpu),
        }
    }
}

/// CPU seconds that a process has used.
pub fn cpu_secs(pid: u32) -> Option<f64> {
    process_secs(&std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
}

/// Bytes of memory that a process has in RAM, what it shares with others included. Cheap to ask.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    kibibytes(&status, "VmRSS:")
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(STATUS_UNIT)
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, and guests, which are in `user`.
fn busy_secs(stat: &str) -> Option<f64> {
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = ticks.map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft, stolen, ..] = *ticks.as_slice() else {
        return None;
    };
    Some((user + nice + system + interrupts + soft + stolen) as f64 / TICKS_PER_SECOND)
}

/// /proc/PID/stat: the name stands in brackets and may have any letters, so counting begins behind the last of these.
fn process_secs(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read() {
        assert_eq!(busy_secs("cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2"), Some(1.71));
        assert_eq!(busy_secs(""), None);
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 100 0 0";
        assert_eq!(process_secs(stat), Some(3.0));
        assert_eq!(process_secs("12 (a"), None);
        assert_eq!(kibibytes("VmRSS:\t  2048 kB\n", "VmRSS:"), Some(2 << 20));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_very_process_is_seen() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 0 && cpu_secs(own).is_some());
        let now = MachineNow::look();
        assert!(now.cores > 0 && now.memory_bytes > now.available_bytes && now.cpu_busy_secs.unwrap() > 0.0);
    }
}
