//! Where something is measured: the processor, its caches, the memory, as far as the system tells. What it does not tell is
//! missing.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The machine of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkMachine)]
pub struct Machine {
    /// The processor's own name.
    pub cpu: Option<String>,
    /// Such as `x86_64`.
    pub architecture: String,
    /// Processors that this process may use.
    pub logical_cpus: usize,
    /// The system's kernel and its version.
    pub system: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Its data caches, nearest first.
    pub caches: Vec<Cache>,
    /// Instruction sets beyond what every processor of this architecture has.
    pub instructions: Vec<String>,
}

/// A data cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkCache)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u32,
    /// Of one such cache.
    pub bytes: u64,
    /// How many of the processors that this process may use share it.
    pub shared_by: usize,
}

impl Machine {
    /// This one.
    pub fn here(cpus: &[usize]) -> Machine {
        Machine {
            cpu: cpu_name(),
            architecture: std::env::consts::ARCH.to_owned(),
            logical_cpus: cpus.len(),
            system: system(),
            memory_bytes: memory("MemTotal"),
            caches: caches(Path::new("/sys/devices/system/cpu"), cpus),
            instructions: instructions(),
        }
    }
}

/// Bytes of memory that could be taken without pushing anything out.
pub(super) fn available_memory() -> Option<u64> {
    memory("MemAvailable")
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn system() -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    Some(format!("{} {}", read("ostype")?.trim(), read("osrelease")?.trim()))
}

fn memory(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The caches of the first of these processors.
fn caches(root: &Path, cpus: &[usize]) -> Vec<Cache> {
    let Some(first) = cpus.first() else { return Vec::new() };
    let folder = root.join(format!("cpu{first}/cache"));
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut caches: Vec<Cache> = entries.filter_map(|entry| cache(&entry.path(), cpus)).collect();
    caches.sort_by_key(|cache| cache.level);
    caches
}

fn cache(folder: &Path, cpus: &[usize]) -> Option<Cache> {
    let read = |name: &str| Some(std::fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
    if read("type")? == "Instruction" {
        return None;
    }
    let shared = list(&read("shared_cpu_list")?);
    let shared_by = cpus.iter().filter(|cpu| shared.contains(cpu)).count().max(1);
    Some(Cache { level: read("level")?.parse().ok()?, bytes: size(&read("size")?)?, shared_by })
}

/// `32K` as bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()? << shift)
}

/// `0-2,5` as numbers.
fn list(text: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn instructions() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;

        let known = [
            ("avx", has!("avx")),
            ("avx2", has!("avx2")),
            ("fma", has!("fma")),
            ("f16c", has!("f16c")),
            ("avxvnni", has!("avxvnni")),
            ("avx512f", has!("avx512f")),
            ("avx512bw", has!("avx512bw")),
            ("avx512vl", has!("avx512vl")),
            ("avx512vnni", has!("avx512vnni")),
            ("avx512bf16", has!("avx512bf16")),
        ];
        known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;

        let known = [
            ("neon", has!("neon")),
            ("dotprod", has!("dotprod")),
            ("bf16", has!("bf16")),
            ("i8mm", has!("i8mm")),
            ("sve", has!("sve")),
        ];
        known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        assert_eq!(
            (size("32K"), size("1M"), size("7"), size("x")),
            (Some(32768), Some(1 << 20), Some(7), None)
        );
        assert_eq!(list("0-2,5"), BTreeSet::from([0, 1, 2, 5]));
        let folder = tempfile::tempdir().unwrap();
        for (index, kind, level, bytes, shared) in
            [(0, "Data", 1, "32K", "1"), (1, "Instruction", 1, "32K", "1"), (2, "Unified", 3, "8M", "0-3")]
        {
            let index = folder.path().join(format!("cpu1/cache/index{index}"));
            std::fs::create_dir_all(&index).unwrap();
            for (name, text) in
                [("type", kind), ("level", &level.to_string()), ("size", bytes), ("shared_cpu_list", shared)]
            {
                std::fs::write(index.join(name), format!("{text}\n")).unwrap();
            }
        }
        let expected = [
            Cache { level: 1, bytes: 32768, shared_by: 1 },
            Cache { level: 3, bytes: 8 << 20, shared_by: 2 },
        ];
        assert_eq!(caches(folder.path(), &[1, 2]), expected);
        assert_eq!(caches(folder.path(), &[7]), []);
    }
}
