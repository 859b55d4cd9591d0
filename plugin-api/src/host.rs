//! What the host gives a plugin: a log, a thread budget, room for extensions.

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RStr};

use crate::Extension;

/// How important a log line is, most important first.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd and may fail later.
    Warn,
    /// Something that a person running the host wants to know.
    Info,
    /// For someone who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

/// The host's services. Every function may be called from any thread, for as long as the process lives.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct HostApi {
    /// Names the plugin to the host; to be passed as the first argument of every function here.
    pub handle: usize,
    /// Lines less important than this are dropped by the host: a plugin need not build them.
    pub max_log_level: LogLevel,
    /// Hands over one log line: handle, level, target (a module path), message. The host copies what it keeps.
    pub log: extern "C" fn(usize, LogLevel, RStr<'_>, RStr<'_>),
    /// How many compute threads the plugin may run at once, at least 1.
    pub thread_budget: extern "C" fn(usize) -> u32,
    /// A named service of the host beyond this struct, such as `"name/1"`; none is defined in 1.0.
    pub extension: extern "C" fn(usize, RStr<'_>) -> ROption<Extension>,
}

impl HostApi {
    /// Writes one line into the host's log.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        if level <= self.max_log_level {
            (self.log)(self.handle, level, target.into(), message.into());
        }
    }

    /// How many compute threads the plugin may run at once, at least 1.
    pub fn thread_budget(&self) -> usize {
        (self.thread_budget)(self.handle).max(1) as usize
    }

    /// Looks up a named service of the host.
    pub fn extension(&self, name: &str) -> Option<Extension> {
        (self.extension)(self.handle, name.into()).into_option()
    }
}
