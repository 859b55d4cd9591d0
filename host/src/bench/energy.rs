//! What the processor's own counters say of its energy (RAPL), where the system shows them.

use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/class/powercap";

/// The counters of all processor packages.
pub(super) struct Meter {
    domains: Vec<Domain>,
}

struct Domain {
    folder: PathBuf,
    /// Where the counter begins again, in microjoules.
    wraps_at: u64,
    last: u64,
}

impl Meter {
    /// Opens the counters.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn open() -> Result<Meter, String> {
        Meter::open_in(Path::new(ROOT))
    }

    fn open_in(root: &Path) -> Result<Meter, String> {
        let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        // `intel-rapl:0` is a package, of whatever maker; `intel-rapl:0:1` a part of it.
        let is_package = |name: &str| name.starts_with("intel-rapl:") && name.matches(':').count() == 1;
        let folders: Vec<PathBuf> = entries
            .filter(|entry| is_package(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        if folders.is_empty() {
            return Err(
                "the system shows no energy counters (RAPL); in virtual machines there are none".to_owned()
            );
        }
        let domains = folders.into_iter().map(Domain::open).collect::<Result<_, _>>()?;
        Ok(Meter { domains })
    }

    /// Joules since this was asked last, or since the meter was opened.
    pub(super) fn joules(&mut self) -> Option<f64> {
        let spent = self.domains.iter_mut().map(Domain::spent).sum::<Option<u64>>()?;
        Some(spent as f64 / 1e6)
    }
}

impl Domain {
    fn open(folder: PathBuf) -> Result<Domain, String> {
        let wraps_at = number(&folder, "max_energy_range_uj").unwrap_or(u64::MAX);
        let last = number(&folder, "energy_uj")
            .ok_or("the energy counters (RAPL) cannot be read: the system shows them to root alone")?;
        Ok(Domain { folder, wraps_at, last })
    }

    fn spent(&mut self) -> Option<u64> {
        let now = number(&self.folder, "energy_uj")?;
        let spent =
            if now >= self.last { now - self.last } else { self.wraps_at.checked_sub(self.last)? + now };
        self.last = now;
        Some(spent)
    }
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_added_up_and_may_begin_again() {
        let root = tempfile::tempdir().unwrap();
        let set = |domain: &str, energy: u64| {
            let folder = root.path().join(domain);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("max_energy_range_uj"), "10000000\n").unwrap();
            std::fs::write(folder.join("energy_uj"), format!("{energy}\n")).unwrap();
        };
        assert!(Meter::open_in(root.path()).is_err_and(|why| why.contains("no energy counters")));
        set("intel-rapl:0", 9_000_000);
        set("intel-rapl:1", 1_000_000);
        set("intel-rapl:0:0", 5);
        let mut meter = Meter::open_in(root.path()).unwrap();
        set("intel-rapl:0", 500_000);
        set("intel-rapl:1", 3_000_000);
        set("intel-rapl:0:0", 9_000_000);
        assert_eq!(meter.joules(), Some(3.5));
        assert_eq!(meter.joules(), Some(0.0));
        std::fs::remove_file(root.path().join("intel-rapl:0/energy_uj")).unwrap();
        assert_eq!(meter.joules(), None);
        assert!(Meter::open_in(root.path()).is_err_and(|why| why.contains("root alone")));
    }
}
