//! How fast a model's file is read: from the disk, and once more when the system has it in memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use crate::bench::recorder::Recorder;
use crate::bench::report::{Named, Unit};
use crate::bench::samples::Samples;

/// More of a file says nothing more.
const MOST: u64 = 1 << 30;

/// What is read at once.
const PIECE: usize = 4 << 20;

/// How many figures it makes.
pub(super) const STEPS: usize = 2;

/// Why there is nothing to read.
pub(super) fn nothing(recorder: &mut Recorder, why: &str) {
    for named in [cold(""), warm("")] {
        recorder.found(named.not_available(why));
    }
}

fn cold(how: &str) -> Named {
    Named::new("disk.read.cold", "read a model's file, not in memory", Unit::BytesPerSecond).how(how)
}

fn warm(how: &str) -> Named {
    Named::new("disk.read.warm", "read a model's file, in memory already", Unit::BytesPerSecond).how(how)
}

/// Reads the file so often, each time after it was dropped from memory; then as often without that.
pub(super) fn measure(recorder: &mut Recorder, path: &Path, runs: u32) {
    let how = "the file (its first GiB) from its beginning in pieces of 4 MiB, one after another";
    if !recorder.begin("disk: read a model's file, not in memory") {
        return;
    }
    let mut samples = Samples::default();
    let mut reason = None;
    for _ in 0..runs {
        if recorder.stopper().is_asked() || reason.is_some() {
            break;
        }
        match read_cold(path) {
            Ok(rate) => samples.push(rate),
            Err(why) => reason = Some(why),
        }
    }
    recorder.found(match reason {
        Some(why) => cold(how).not_available(why),
        None => cold(&format!("{how}; as much as was read came from the disk, by the system's own count"))
            .measured(samples),
    });
    if !recorder.begin("disk: read a model's file, in memory already") {
        return;
    }
    let mut samples = Samples::default();
    for run in 0..=runs {
        match read(path) {
            // The first brings it into memory.
            Ok(_) if run == 0 => {}
            Ok((bytes, seconds)) => samples.push(bytes as f64 / seconds),
            Err(error) => {
                recorder.found(warm(how).not_available(format!("the file cannot be read: {error}")));
                return;
            }
        }
        if recorder.stopper().is_asked() {
            break;
        }
    }
    recorder.found(warm(how).measured(samples));
}

/// Bytes in a second, where they really came from the disk.
fn read_cold(path: &Path) -> Result<f64, String> {
    drop_from_memory(path)?;
    let before = bytes_from_disk().ok_or("the system does not say how much of it came from the disk")?;
    let (bytes, seconds) = read(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let from_disk = bytes_from_disk().unwrap_or(before) - before;
    if !is_cold(from_disk, bytes) {
        return Err(format!(
            "the system kept the file in memory: of {bytes} bytes {from_disk} came from the disk; another program may be \
             using it, or its file system knows no dropping"
        ));
    }
    Ok(bytes as f64 / seconds)
}

/// Whether nine of ten bytes came from the disk.
fn is_cold(from_disk: u64, bytes: u64) -> bool {
    bytes > 0 && from_disk.saturating_mul(10) >= bytes.saturating_mul(9)
}

fn read(path: &Path) -> std::io::Result<(u64, f64)> {
    let mut file = File::open(path)?.take(MOST);
    let mut piece = vec![0; PIECE];
    let started = Instant::now();
    let mut bytes = 0;
    loop {
        match file.read(&mut piece)? {
            0 if bytes == 0 => return Err(std::io::Error::other("it is empty")),
            0 => return Ok((bytes, started.elapsed().as_secs_f64())),
            read => bytes += read as u64,
        }
    }
}

#[cfg(target_os = "linux")]
fn drop_from_memory(path: &Path) -> Result<(), String> {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

    let failed = |error: &dyn std::fmt::Display| format!("the file cannot be dropped from memory: {error}");
    let file = File::open(path).map_err(|error| failed(&error))?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(|error| failed(&error))
}

#[cfg(not(target_os = "linux"))]
fn drop_from_memory(_: &Path) -> Result<(), String> {
    Err("this system cannot be told to drop a file from memory".to_owned())
}

/// What this process has had read from disks so far.
fn bytes_from_disk() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_from_the_disk_is_cold() {
        for (from_disk, bytes, expected) in [
            (0, 0, false),
            (0, 5, false),
            (4096, 5, true),
            (89, 100, false),
            (90, 100, true),
            (0, 1 << 30, false),
        ] {
            assert_eq!(is_cold(from_disk, bytes), expected, "{from_disk} of {bytes}");
        }
    }

    #[test]
    fn an_empty_file_has_no_rate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("empty"));
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(read(file.path()).unwrap().0, 3);
    }
}
