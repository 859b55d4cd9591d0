//! What a child may not do, taken upon itself before any plugin's code runs: as much as the system offers. What is in
//! force has a name, which is reported; what the system does not offer is missing there.
//!
//! It lives no longer than its host (`dies_with_host`) and goes before it where memory runs out (`dies_before_host`), leaves no core dumps (`no_core_dumps`), gets no rights by running
//! other programs (`no_new_privileges`), has a bound of memory of its own where one is set (`memory_limit`), writes no
//! files and reads those that it needs (`files_read_only`), opens no TCP connection (`no_tcp`), and reaches no other
//! process by signals (`no_signals`). What else it has no use for the system refuses call by call (`syscalls`).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::config::Confinement;
use crate::error::{Error, Kind, Result};

/// Closes what a careless parent of the host has left open, and takes the socket from stdin, where a plugin could read.
pub(super) fn close_inherited(socket: &OwnedFd) {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in
        open.into_iter().filter(|&descriptor| descriptor > 2 && descriptor != socket.as_raw_fd())
    {
        // Nothing but the socket is ours yet. The listing's own descriptor is closed already, which is no harm.
        let _ = nix::unistd::close(descriptor);
    }
    if let Ok(nothing) = std::fs::File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(nothing);
    }
}

/// A service manager tells every process of a service to stop, not its first alone, and a crash would be made of that. The
/// host knows what is to end when; this process ends with it. Holds for every thread that is started later.
pub fn leave_stopping_to_the_host() {
    use nix::sys::signal::{SigSet, Signal};

    let mut stops = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        stops.add(signal);
    }
    // It only fails for a set that is none.
    let _ = stops.thread_block();
}

/// When the machine runs out of memory the system ends whoever takes most of it, so many thousandths counted on top: a
/// model is loaded again, a host that is gone answers nobody.
#[cfg(target_os = "linux")]
fn raise_oom_score() -> std::io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    const RAISED: i32 = 500;
    const MOST: i32 = 1000;

    let of_host: i32 = std::fs::read_to_string(FILE)?.trim().parse().map_err(std::io::Error::other)?;
    std::fs::write(FILE, (of_host + RAISED).min(MOST).to_string())
}

/// Threads' stacks count as allocated although hardly anything of them is ever used: so much comes on top of a bound.
const STACKS: u64 = 1 << 30;

/// The limits that need to know nothing of the task. Memory counts what is allocated, not what is mapped from files: weights
/// that stay in their file cost nothing here.
///
/// # Errors
/// [`Kind::Internal`] when the host has ended already.
pub(super) fn limit(host_pid: u32, memory_bytes: u64) -> Result<Vec<String>> {
    use nix::sys::resource::{Resource, setrlimit};

    let (mut in_force, most) = (Vec::new(), memory_bytes.saturating_add(STACKS));
    let mut note = |name: &str, done: nix::Result<()>| {
        if done.is_ok() {
            in_force.push(name.to_owned());
        }
    };
    note("no_core_dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0));
    #[cfg(target_os = "linux")]
    {
        use nix::sys::{prctl, signal::Signal};

        note("dies_with_host", prctl::set_pdeathsig(Signal::SIGKILL));
        note("no_new_privileges", prctl::set_no_new_privs());
        if memory_bytes > 0 {
            note("memory_limit", setrlimit(Resource::RLIMIT_DATA, most, most));
        }
        if raise_oom_score().is_ok() {
            in_force.push("dies_before_host".to_owned());
        }
    }
    #[cfg(not(target_os = "linux"))]
    if memory_bytes > 0 {
        note("memory_limit", setrlimit(Resource::RLIMIT_AS, most, most));
    }
    // It may have ended before the wish to end with it was heard.
    if std::os::unix::process::parent_id() != host_pid {
        return Err(Error::new(Kind::Internal, "the server that started this process has ended"));
    }
    Ok(in_force)
}

/// Leaves nothing of the disk but these files and folders, to be read, and no system calls that engines have no use for,
/// as far as plugins.toml wants that. Holds for every thread that is started later, and for ever. Tells what came of it
/// by name.
#[cfg(target_os = "linux")]
pub fn confine(readable: &[PathBuf], wanted: Confinement) -> Vec<String> {
    let mut in_force = match wanted {
        Confinement::Full | Confinement::Files => landlock(readable).unwrap_or_else(|error| {
            tracing::debug!("the kernel confines no files: {error}");
            Vec::new()
        }),
        Confinement::None => Vec::new(),
    };
    let by_calls = match wanted {
        Confinement::Full => super::syscalls::refuse().unwrap_or_else(|error| {
            tracing::debug!("the kernel refuses no system calls: {error}");
            &[]
        }),
        Confinement::Files | Confinement::None => &[],
    };
    for name in by_calls {
        if !in_force.iter().any(|known| known == name) {
            in_force.push((*name).to_owned());
        }
    }
    in_force
}

/// This system offers nothing that could be used here.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &[PathBuf], _: Confinement) -> Vec<String> {
    Vec::new()
}

#[cfg(target_os = "linux")]
fn landlock(readable: &[PathBuf]) -> Result<Vec<String>, landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope, path_beneath_rules,
    };

    let newest = ABI::V6;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    // Devices of graphics cards are worked with by writing to them.
    let devices = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(graphics_devices(), devices))?
        .restrict_self()?;
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else { return Ok(Vec::new()) };
    if status.ruleset == RulesetStatus::NotEnforced {
        return Ok(Vec::new());
    }
    let names = [("files_read_only", ABI::V1), ("no_tcp", ABI::V4), ("no_signals", ABI::V6)];
    let known = names.iter().filter(|(_, since)| effective_abi as i32 >= *since as i32);
    Ok(known.map(|(name, _)| (*name).to_owned()).collect())
}

/// What the loader and the libraries under a plugin read: other libraries, processor and memory figures.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
];

#[cfg(target_os = "linux")]
fn graphics_devices() -> Vec<PathBuf> {
    let is_graphics = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b"nvidia") || name == b"dri" || name == b"kfd"
    };
    let devices = std::fs::read_dir("/dev").into_iter().flatten();
    devices.filter_map(|entry| Some(entry.ok()?.path())).filter(is_graphics).collect()
}

/// Everything that reading a model may take: the folder it lies in, and those that links lead to.
pub fn folders_of(path: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut add = |path: &Path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = if real.is_dir() { real } else { real.parent().unwrap_or(&real).to_owned() };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    add(path);
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    add(folder);
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            add(&entry.path());
        }
    }
    folders
}
