//! Which models fit into memory together, and which one gives way. Pure, but for the question how much there is.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::Entry;

/// The share of the machine's memory that models may have, where nobody says otherwise.
const SHARE: f64 = 0.8;

/// A model's files and a little around them: what it takes if nobody knows better.
const AROUND_FILES: f64 = 1.2;

/// How much there is, and what models were seen to take.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes that models may take together; `None` where the machine does not say what it has.
    budget: Option<u64>,
    /// The most that a model was seen to take, by id.
    seen: HashMap<String, u64>,
    /// What those take that are being loaded, by id.
    reserved: HashMap<String, u64>,
}

/// A loaded model, as far as memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) bytes: u64,
    /// Since when nobody uses it; `None` while somebody does.
    pub(super) idle: Option<Duration>,
}

/// What loading a model means for memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fit {
    /// Bytes that it is expected to take.
    pub needed_bytes: u64,
    /// Where that is known from: `measured` before, the plugin's `estimate`, or the size of its `files`.
    pub known_from: &'static str,
    /// Bytes that all models may take together; null where the machine does not say what it has.
    pub budget_bytes: Option<u64>,
    /// Bytes that models take now.
    pub used_bytes: u64,
    /// What follows.
    pub verdict: Verdict,
    /// Models that would be unloaded for it, in this order.
    pub would_unload: Vec<String>,
}

/// Whether a model can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FitVerdict)]
pub enum Verdict {
    /// There is room.
    Fits,
    /// There is room when others are unloaded.
    FitsAfterUnloading,
    /// Others are busy: there may be room later.
    OthersAreBusy,
    /// It is larger than all that models may take.
    TooLarge,
}

impl Memory {
    /// With this budget; without one, a share of what the machine has.
    pub(super) fn new(budget_bytes: Option<u64>) -> Self {
        let of_machine = || machine_bytes().map(|bytes| (bytes as f64 * SHARE) as u64);
        Memory { budget: budget_bytes.or_else(of_machine), ..Memory::default() }
    }

    /// What a model is expected to take, and where that is known from.
    pub(super) fn expected(&self, entry: &Entry) -> (u64, &'static str) {
        if let Some(&seen) = self.seen.get(&entry.id) {
            return (seen, "measured");
        }
        match entry.summary.estimated_bytes {
            Some(bytes) => (bytes, "estimate"),
            None => {
                let files = entry.summary.size_bytes.unwrap_or_default();
                ((files as f64 * AROUND_FILES) as u64, "files")
            }
        }
    }

    /// A model was measured.
    pub(super) fn saw(&mut self, id: &str, bytes: u64) {
        let seen = self.seen.entry(id.to_owned()).or_default();
        *seen = bytes.max(*seen);
    }

    /// Room is kept for a model that is being loaded.
    pub(super) fn reserve(&mut self, id: &str, bytes: u64) {
        self.reserved.insert(id.to_owned(), bytes);
    }

    /// It is loaded, or not to be loaded any more.
    pub(super) fn release(&mut self, id: &str) {
        self.reserved.remove(id);
    }

    /// What loading `entry` means where these are loaded.
    pub(super) fn fit(&self, entry: &Entry, loaded: &[Taken]) -> Fit {
        let (needed, known_from) = self.expected(entry);
        let others = loaded.iter().filter(|taken| taken.id != entry.id);
        let reserved = self.reserved.iter().filter(|(id, _)| **id != entry.id).map(|(_, bytes)| bytes);
        let used = others.clone().map(|taken| taken.bytes).sum::<u64>() + reserved.sum::<u64>();
        let mut fit = Fit {
            needed_bytes: needed,
            known_from,
            budget_bytes: self.budget,
            used_bytes: used,
            verdict: Verdict::Fits,
            would_unload: Vec::new(),
        };
        let Some(budget) = self.budget else { return fit };
        if needed > budget {
            fit.verdict = Verdict::TooLarge;
            return fit;
        }
        let mut idle: Vec<_> = others.filter_map(|taken| Some((taken.idle?, taken))).collect();
        idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        let mut left = used;
        for (_, taken) in idle {
            if left + needed <= budget {
                break;
            }
            left -= taken.bytes;
            fit.would_unload.push(taken.id.clone());
        }
        fit.verdict = match fit.would_unload.is_empty() {
            _ if left + needed > budget => Verdict::OthersAreBusy,
            true => Verdict::Fits,
            false => Verdict::FitsAfterUnloading,
        };
        if fit.verdict == Verdict::OthersAreBusy {
            fit.would_unload.clear();
        }
        fit
    }
}

/// Memory of this machine, or what this process may have of it where that is less.
fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    Some(group.map_or(machine, |group: u64| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelState, Summary};

    fn entry(id: &str, bytes: u64) -> Entry {
        Entry {
            id: id.to_owned(),
            path: id.into(),
            created: 0,
            format: None,
            plugin: None,
            state: ModelState::Available,
            reason: None,
            detail: None,
            summary: Summary { estimated_bytes: Some(bytes), ..Summary::default() },
            capabilities: Vec::new(),
        }
    }

    fn taken(id: &str, bytes: u64, idle_secs: Option<u64>) -> Taken {
        Taken { id: id.to_owned(), bytes, idle: idle_secs.map(Duration::from_secs) }
    }

    #[test]
    fn the_least_recently_used_gives_way_and_a_busy_one_never() {
        let memory = Memory::new(Some(100));
        let check = |needed: u64, loaded: &[Taken], verdict: Verdict, unloaded: &[&str]| {
            let fit = memory.fit(&entry("new", needed), loaded);
            assert_eq!(
                (fit.verdict, fit.would_unload),
                (verdict, unloaded.iter().map(|&id| id.into()).collect())
            );
        };
        let loaded = [taken("a", 30, Some(5)), taken("b", 30, Some(50)), taken("c", 30, None)];
        check(10, &loaded, Verdict::Fits, &[]);
        check(20, &loaded, Verdict::FitsAfterUnloading, &["b"]);
        check(60, &loaded, Verdict::FitsAfterUnloading, &["b", "a"]);
        check(80, &loaded, Verdict::OthersAreBusy, &[]);
        check(101, &loaded, Verdict::TooLarge, &[]);
        check(100, &[taken("new", 90, Some(1))], Verdict::Fits, &[]);
    }

    #[test]
    fn what_was_measured_counts_more_than_what_was_guessed() {
        let mut memory = Memory::new(Some(100));
        assert_eq!(memory.expected(&entry("a", 40)), (40, "estimate"));
        memory.saw("a", 70);
        memory.saw("a", 60);
        assert_eq!(memory.expected(&entry("a", 40)), (70, "measured"));
        memory.reserve("b", 50);
        assert_eq!(memory.fit(&entry("a", 40), &[]).verdict, Verdict::OthersAreBusy);
        memory.release("b");
        assert_eq!(memory.fit(&entry("a", 40), &[]).verdict, Verdict::Fits);
    }
}
