//! Children of this very binary in which plugins' code runs, so that what it does to its process ends that one alone.
//!
//! How they are started and ended, how one speaks with them, what they may do, and where their words go. What they
//! work at is known to `plugins::prober` (questions about model files) and `worker` (a model's engine) alone.

pub mod confine;
mod frame;
mod log;
mod process;
mod program;
#[cfg(target_os = "linux")]
mod syscalls;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::frame::{FrameReader, FrameWriter};
pub use self::log::{CHILD_TARGET, keep_directives};
pub use self::process::{Child, Ending};
pub use self::program::use_program;
pub(crate) use self::program::{build_of, own_program};
use crate::error::{Error, Kind, Result};

/// Both sides of a socket pair must say the same.
const PROTOCOL: u32 = 2;

/// The first frame, from the host to its child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Greeting {
    protocol: u32,
    version: String,
    host_pid: u32,
    /// What the child is to log, as `--log` has it.
    log: String,
    /// Bytes of memory of its own that the child may take; 0: no limit.
    memory_bytes: u64,
}

impl Greeting {
    fn of_this_host(memory_bytes: u64) -> Self {
        Greeting {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host_pid: std::process::id(),
            log: log::directives(),
            memory_bytes,
        }
    }
}

/// What a child begins with.
pub struct Begun<T> {
    /// What the host says.
    pub from_host: FrameReader,
    /// What is told to it.
    pub to_host: FrameWriter,
    /// What it is to do.
    pub task: T,
    /// Which limits are in force already.
    pub limits: Vec<String>,
}

/// The child's side of its beginning: takes its limits upon itself, and hears what it is to do. To be called before any
/// other thread is started.
///
/// # Errors
/// [`Kind::Internal`] when there is no host at the other end, or one of another version.
pub fn begin<T: DeserializeOwned>() -> Result<Begun<T>> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::new(Kind::Internal, format!("this command is for the server's own use: {what}: {error}"))
    };
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed("there is no socket at its stdin", &error))?;
    confine::close_inherited(&socket);
    let to_host = UnixStream::from(socket);
    let from_host = to_host.try_clone().map_err(|error| failed("its socket cannot be used", &error))?;
    let mut from_host = FrameReader::new(from_host);
    let mut to_host = FrameWriter::new(to_host);
    let greeting: Greeting = from_host
        .receive()
        .map_err(|error| failed("nobody speaks to it", &error))?
        .ok_or_else(|| failed("nobody speaks to it", &"the other end is closed"))?;
    let own = Greeting::of_this_host(0);
    if (greeting.protocol, &greeting.version) != (own.protocol, &own.version) {
        let found = format!("protocol {} of {}", greeting.protocol, greeting.version);
        return Err(failed("the server is of another version", &found));
    }
    confine::leave_stopping_to_the_host();
    let limits = confine::limit(greeting.host_pid, greeting.memory_bytes)?;
    log::start_in_child(&greeting.log);
    to_host.send(&own).map_err(|error| failed("it cannot answer", &error))?;
    let task = from_host
        .receive()
        .map_err(|error| failed("its task is not understood", &error))?
        .ok_or_else(|| failed("it has no task", &"the other end is closed"))?;
    Ok(Begun { from_host, to_host, task, limits })
}
