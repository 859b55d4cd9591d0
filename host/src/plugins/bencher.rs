//! A child that opens one plugin and runs its kernels for a benchmark: one that crashes or hangs there ends the child.
//!
//! The clock stands here, not in the plugin: it says what it can do, never how fast it is.

use std::time::{Duration, Instant};

use impetus_plugin_api::abi_stable::std_types::RVec;
use impetus_plugin_api::{self as api, BENCHMARKS, BenchmarksTable};
use serde::{Deserialize, Serialize};

use super::library::Library;
use super::record::Refusal;
use super::spec::Spec;
use crate::child::{self, Begun, Child, FrameReader, FrameWriter, confine};
use crate::error::{Error, Kind, Result};
use crate::pinning;

/// How long opening a plugin, or getting a piece of work ready, may take.
const PREPARING: Duration = Duration::from_secs(60);

/// How long a piece of work may take beyond what it is expected to.
const WORKING: Duration = Duration::from_secs(60);

/// Something that a plugin computes on, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Names it in tasks.
    pub id: String,
    /// `cpu`, `gpu` or another word.
    pub kind: String,
    /// For people.
    pub name: String,
    /// Bytes of memory of its own; 0 where nothing is known.
    pub memory_bytes: u64,
    /// What can be measured on it.
    pub operations: Vec<String>,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// One of the plugin's devices.
    pub device: String,
    /// One of its operations.
    pub operation: String,
    /// Threads to compute with; they are kept to as many processors, where the system allows that.
    pub threads: u32,
    /// Rows of the activations.
    pub rows: u64,
    /// Numbers of a row.
    pub inner: u64,
    /// Rows of the weights.
    pub columns: u64,
    /// Bytes to copy.
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Prepare(Task),
    Run(u64),
}

/// The host's side: a plugin in a child, ready to be measured.
pub struct Bencher {
    /// What it computes on; `None` where the plugin offers no benchmarks.
    pub devices: Option<Vec<Device>>,
    child: Child,
    reader: FrameReader,
    writer: FrameWriter,
    ended: bool,
}

impl Bencher {
    /// Opens the plugin in a child of its own.
    ///
    /// # Errors
    /// [`Kind::PluginUnavailable`] when it cannot be opened, or crashes there.
    pub fn start(spec: &Spec) -> Result<Bencher> {
        let name = format!("benchmarks of plugin {}", spec.id);
        let (child, reader, writer) = Child::start("bench", &name, spec.memory_bytes)?;
        let mut bencher = Bencher { devices: None, child, reader, writer, ended: false };
        bencher.devices = bencher.ask(spec, PREPARING)?;
        Ok(bencher)
    }

    /// Gets a piece of work ready, in place of the one before. Whether its threads are kept to as many processors.
    ///
    /// # Errors
    /// What the plugin refuses; [`Kind::PluginUnavailable`] when it crashed or hung over it.
    pub fn prepare(&mut self, task: &Task) -> Result<bool> {
        self.ask(&Order::Prepare(task.clone()), PREPARING)
    }

    /// Does the work so many times; the seconds of one time.
    ///
    /// # Errors
    /// As [`Bencher::prepare`].
    pub fn run(&mut self, times: u64, expected: Duration) -> Result<f64> {
        self.ask(&Order::Run(times), expected + WORKING)
    }

    /// Whether its child is gone: it answers nothing any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
        patience: Duration,
    ) -> Result<T> {
        let failed = |what: String| Error::new(Kind::PluginUnavailable, what);
        let _ = self.reader.stream().set_read_timeout(Some(patience));
        let heard = self.writer.send(question).and_then(|()| self.reader.receive::<Result<T>>());
        match heard {
            Ok(Some(answer)) => answer,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                self.ended = true;
                self.child.kill();
                Err(failed(format!("the plugin did not answer within {} s", patience.as_secs())))
            }
            Ok(None) | Err(_) => {
                self.ended = true;
                Err(failed(format!("the plugin crashed: its process {}", self.child.end().told())))
            }
        }
    }
}

/// The child's side: opens the plugin and works as told until nobody asks any more.
///
/// # Errors
/// When there is no host.
pub fn serve() -> Result<()> {
    let Begun { mut from_host, mut to_host, task: spec, .. } = child::begin::<Spec>()?;
    confine::confine(&spec.folders(), spec.confinement);
    let gone = |error: std::io::Error| Error::new(Kind::Internal, format!("the host is gone: {error}"));
    let opened = Library::open(&spec);
    let table = opened.as_ref().map_err(cannot_open).and_then(|(library, _)| table(*library));
    let devices = table.as_ref().map_err(Error::clone).and_then(|table| table.map(devices).transpose());
    to_host.send(&devices).map_err(gone)?;
    let Ok(Some(table)) = table else { return Ok(()) };
    let mut work = None;
    while let Some(order) = from_host.receive::<Order>().map_err(gone)? {
        match order {
            Order::Prepare(task) => {
                let prepared = prepare(table, &task);
                let told = prepared.as_ref().map(|(_, pinned)| *pinned).map_err(Error::clone);
                work = prepared.ok().map(|(work, _)| work);
                to_host.send(&told).map_err(gone)?;
            }
            Order::Run(times) => to_host.send(&timed(work.as_mut(), times)).map_err(gone)?,
        }
    }
    Ok(())
}

fn table(library: Library) -> Result<Option<&'static BenchmarksTable>> {
    let Some(offered) = library.extension(BENCHMARKS) else { return Ok(None) };
    offered.table::<BenchmarksTable>(BENCHMARKS).map(Some).map_err(refused)
}

fn devices(table: &BenchmarksTable) -> Result<Vec<Device>> {
    let found: RVec<api::BenchDevice> = table.benchmarks.devices().into_result().map_err(refused)?;
    let device = |device: api::BenchDevice| Device {
        id: device.id.into(),
        kind: device.kind.into(),
        name: device.name.into(),
        memory_bytes: device.memory_bytes,
        operations: device.operations.into_iter().map(Into::into).collect(),
    };
    Ok(found.into_iter().map(device).collect())
}

fn prepare(table: &BenchmarksTable, task: &Task) -> Result<(api::WorkBox, bool)> {
    // Threads that the plugin starts now inherit it.
    let pinned = pinning::keep_to(task.threads as usize);
    let Task { threads, rows, inner, columns, bytes, .. } = *task;
    let (device, operation) = (task.device.as_str().into(), task.operation.as_str().into());
    let task = api::BenchTask { device, operation, threads, rows, inner, columns, bytes };
    let work = table.benchmarks.prepare(task).into_result().map_err(refused)?;
    Ok((work, pinned))
}

fn timed(work: Option<&mut api::WorkBox>, times: u64) -> Result<f64> {
    let work = work.ok_or_else(|| Error::new(Kind::Internal, "no work was prepared: this is a bug"))?;
    let started = Instant::now();
    work.run(times).into_result().map_err(refused)?;
    Ok(started.elapsed().as_secs_f64() / times as f64)
}

fn refused(error: api::PluginError) -> Error {
    Error::new(Kind::PluginUnavailable, error.message.as_str()).with_detail(error.detail.unwrap_or_default())
}

fn cannot_open(refusal: &Refusal) -> Error {
    Error::new(Kind::PluginUnavailable, format!("it is {}: {}", refusal.state, refusal.reason))
}
