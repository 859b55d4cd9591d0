//! The host's side of a child: how it is started, and how it ended.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
#[cfg(target_os = "linux")]
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;

use super::Greeting;
use super::frame::{FrameReader, FrameWriter};
use super::log::{LastLines, pump};
use super::program::own_program;
use crate::error::{Error, Kind, Result};

/// How long a child may take until it has answered the greeting. It has done nothing yet.
const GREETING: Duration = Duration::from_secs(20);

/// How long after the end of its socket a child that is about to end has for it.
const DYING: Duration = Duration::from_millis(300);

/// A running child. Killed when dropped, with whatever it has started.
pub struct Child {
    process: Arc<Mutex<Process>>,
    pid: u32,
    last: LastLines,
    /// Closed when all that it said was read.
    silent: Mutex<Receiver<()>>,
}

/// A process that leads a group of its own, and how it ended once that was asked for.
struct Process {
    child: std::process::Child,
    status: Option<ExitStatus>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// As `was killed by signal 11 (SIGSEGV)`.
    pub what: String,
    /// Whether it ended by itself and without complaint.
    pub clean: bool,
    /// The last that it said.
    pub last_lines: Vec<String>,
}

impl Child {
    /// Starts `impetus engine ROLE` and greets it. `name` stands beside what it says in the log.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the system starts no process, or it is none of ours.
    pub fn start(role: &str, name: &str, memory_bytes: u64) -> Result<(Child, FrameReader, FrameWriter)> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(Kind::Internal, format!("a process for {name} cannot be started: {what}: {error}"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(|error| failed("no socket", &error))?;
        let (pipe, output) = io::pipe().map_err(|error| failed("no pipe", &error))?;
        let process = output
            .try_clone()
            .and_then(|errors| spawn(command(role, theirs, output, errors)?))
            .map_err(|error| failed("the system refused", &error))?;
        let (last, pid) = (LastLines::default(), process.id());
        let (end, silent) = channel();
        let (reading, named) = (last.clone(), name.to_owned());
        let body = move || {
            let _end: Sender<()> = end;
            pump(&named, pipe, &reading);
        };
        let process = Arc::new(Mutex::new(Process { child: process, status: None }));
        let child = Child { process: Arc::clone(&process), pid, last, silent: Mutex::new(silent) };
        let thread = std::thread::Builder::new().name("child's words".to_owned()).spawn(body);
        thread.map_err(|error| failed("no thread", &error))?;
        #[cfg(target_os = "linux")]
        {
            let thread = std::thread::Builder::new().name("child's end".to_owned());
            let body = move || end_what_is_left(pid, &process);
            thread.spawn(body).map_err(|error| failed("no thread", &error))?;
        }
        let (reader, writer) = child.greet(ours, memory_bytes).map_err(|error| {
            let ending = child.end();
            failed(&format!("it {}", ending.told()), &error)
        })?;
        Ok((child, reader, writer))
    }

    fn greet(&self, socket: UnixStream, memory_bytes: u64) -> io::Result<(FrameReader, FrameWriter)> {
        let mut writer = FrameWriter::new(socket.try_clone()?);
        let mut reader = FrameReader::new(socket);
        writer.send(&Greeting::of_this_host(memory_bytes))?;
        reader.stream().set_read_timeout(Some(GREETING))?;
        let answer: Option<Greeting> = reader.receive()?;
        reader.stream().set_read_timeout(None)?;
        answer.map(|_| (reader, writer)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it now, and whatever it has started.
    pub fn kill(&self) {
        lock(&self.process).kill();
    }

    /// How it ended; a child that does not end by itself within a moment is killed.
    pub fn end(&self) -> Ending {
        let status = self.wait(DYING);
        // What it said last is often why it ended.
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = silent.recv_timeout(DYING);
        Ending {
            what: status.as_ref().map_or_else(|error| format!("is lost: {error}"), describe),
            clean: status.is_ok_and(|status| status.success()),
            last_lines: self.last.told(),
        }
    }

    fn wait(&self, patience: Duration) -> io::Result<ExitStatus> {
        let started = Instant::now();
        let mut process = lock(&self.process);
        while started.elapsed() < patience && !process.has_ended() {
            std::thread::sleep(Duration::from_millis(2));
        }
        process.end()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = lock(&self.process).end();
    }
}

impl Process {
    /// Whether it has ended. It is not asked for how: until then its number, which is its group's too, is nobody else's.
    #[cfg(target_os = "linux")]
    fn has_ended(&mut self) -> bool {
        self.status.is_some() || has_ended(self.child.id(), WaitPidFlag::WNOHANG)
    }

    /// Whether it has ended.
    #[cfg(not(target_os = "linux"))]
    fn has_ended(&mut self) -> bool {
        self.status = self.child.try_wait().unwrap_or_default();
        self.status.is_some()
    }

    /// Ends the whole group: who is in it was started by the child, and outlives it otherwise.
    fn kill(&mut self) {
        // Afterwards the number may be another's.
        if self.status.is_some() {
            return;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.kill();
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a child of ours has ended, or ends while we wait as `how` says. Its status can still be asked for.
#[cfg(target_os = "linux")]
fn has_ended(pid: u32, how: WaitPidFlag) -> bool {
    use nix::sys::wait::{Id, WaitStatus, waitid};

    let Ok(pid) = i32::try_from(pid) else { return true };
    loop {
        match waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | how) {
            Ok(WaitStatus::StillAlive) => return false,
            Err(nix::Error::EINTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// What a child has started may hold its socket open when it ends: then nobody would see that it has.
#[cfg(target_os = "linux")]
fn end_what_is_left(pid: u32, process: &Mutex<Process>) {
    has_ended(pid, WaitPidFlag::empty());
    lock(process).kill();
}

impl Ending {
    /// In a line: how it ended, and the last that it said.
    pub fn told(&self) -> String {
        match self.last_lines.last() {
            Some(line) => format!("{}; its last words: {line}", self.what),
            None => self.what.clone(),
        }
    }
}

fn describe(status: &ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal without a name");
            format!("was killed by signal {signal} ({name})")
        }
        (code, None) => format!("ended with exit code {}", code.unwrap_or_default()),
    }
}

fn command(
    role: &str,
    socket: UnixStream,
    output: io::PipeWriter,
    errors: io::PipeWriter,
) -> io::Result<Command> {
    let mut command = Command::new(own_program()?);
    command
        .arg0("impetus")
        .args(["engine", role])
        .current_dir("/")
        // What a terminal sends to the server's group is meant for the server, which lets running answers end.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::from(OwnedFd::from(errors)));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_scrubbed(name)) {
        command.env_remove(name);
    }
    Ok(command)
}

/// What would change which code the loader takes, and what is the host's own, keys among it.
fn is_scrubbed(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let beginnings: [&[u8]; 4] = [b"LD_", b"DYLD_", b"GLIBC_TUNABLES", b"IMPETUS_"];
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

struct Order {
    command: Command,
    started: Sender<io::Result<std::process::Child>>,
}

/// Starts a process from a thread that lives as long as the host: the system ends a child that wishes so with the thread
/// that started it, not with its process.
fn spawn(command: Command) -> io::Result<std::process::Child> {
    static ORDERS: OnceLock<Option<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, received) = channel::<Order>();
        let body = move || {
            for mut order in received {
                let _ = order.started.send(order.command.spawn());
            }
        };
        std::thread::Builder::new().name("starts children".to_owned()).spawn(body).ok().map(|_| orders)
    });
    let (started, answer) = channel();
    let lost = || io::Error::other("the thread that starts children is gone");
    let orders = orders.as_ref().ok_or_else(lost)?;
    orders.send(Order { command, started }).map_err(|_| lost())?;
    answer.recv().map_err(|_| lost())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_variables_and_keys_do_not_reach_children() {
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "IMPETUS_API_KEYS"] {
            assert!(is_scrubbed(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "OMP_NUM_THREADS", "OLD_X"] {
            assert!(!is_scrubbed(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn an_end_is_told_in_words() {
        for (status, expected) in [
            (0, "ended with exit code 0"),
            (7 << 8, "ended with exit code 7"),
            (11, "was killed by signal 11 (SIGSEGV)"),
        ] {
            assert_eq!(describe(&ExitStatus::from_raw(status)), expected);
        }
    }
}
