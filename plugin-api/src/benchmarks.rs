//! The extension [`BENCHMARKS`]: a plugin names its devices and lets the host measure the very code that its models run on.
//! What crosses the border for it.
//!
//! [`FormatPlugin::extension`](crate::sdk::FormatPlugin::extension) gives a table with one object. The host asks it for
//! devices, has it prepare a piece of work, runs that as often as it likes and looks at its own clock: no plugin ever
//! says how fast it is.

// sabi_trait expands to impls that newer compilers call non-local.
#![allow(non_local_definitions, missing_docs, clippy::undocumented_unsafe_blocks)]

use abi_stable::std_types::{RBox, RResult, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::PluginError;

/// The extension's name; the number is its own major.
pub const BENCHMARKS: &str = "benchmarks/1";

/// Names of operations that the host asks for. Others are ignored by a host that does not know them.
pub mod operation {
    /// `C = A Bᵀ` in 32-bit floats: [`rows`](super::BenchTask::rows) of `A` by
    /// [`columns`](super::BenchTask::columns) rows of `B`, each [`inner`](super::BenchTask::inner) long.
    pub const PRODUCT_F32: &str = "product/f32";
    /// The same with `B` in brain floats.
    pub const PRODUCT_BF16: &str = "product/bf16";
    /// The same with `B` in whole numbers of eight bits with scales.
    pub const PRODUCT_INT8: &str = "product/int8";
    /// [`bytes`](super::BenchTask::bytes) from the host's memory to the device's.
    pub const COPY_TO_DEVICE: &str = "copy/to_device";
    /// The other way.
    pub const COPY_FROM_DEVICE: &str = "copy/from_device";
}

/// Something that a plugin computes on.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct BenchDevice {
    /// Names it in tasks; unique among the plugin's devices.
    pub id: RString,
    /// `cpu`, `gpu` or another word.
    pub kind: RString,
    /// For people: what it is, and the instruction set or library in use.
    pub name: RString,
    /// Bytes of memory of its own; 0 where it has none or nothing is known.
    pub memory_bytes: u64,
    /// What can be measured on it: names of [`operation`].
    pub operations: RVec<RString>,
}

/// A piece of work to prepare. What an operation does not use is 0.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct BenchTask<'a> {
    /// One of the plugin's devices.
    pub device: RStr<'a>,
    /// One of the device's operations.
    pub operation: RStr<'a>,
    /// Threads to compute with, where the device is a processor.
    pub threads: u32,
    /// Rows of the activations.
    pub rows: u64,
    /// Numbers of a row that are multiplied and added.
    pub inner: u64,
    /// Rows of the weights: numbers of a row of the result.
    pub columns: u64,
    /// Bytes to copy.
    pub bytes: u64,
}

/// Prepared work across the border; authors implement [`sdk::Work`](crate::sdk::Work) instead.
#[sabi_trait]
pub trait AbiWork: Send {
    /// See [`sdk::Work::run`](crate::sdk::Work::run).
    #[sabi(last_prefix_field)]
    fn run(&mut self, times: u64) -> RResult<(), PluginError>;
}

/// Work that the host owns and drops through its own table.
pub type WorkBox = AbiWork_TO<'static, RBox<()>>;

/// What can be measured, across the border; authors implement [`sdk::Benchmarks`](crate::sdk::Benchmarks) instead.
#[sabi_trait]
pub trait AbiBenchmarks: Send + Sync {
    /// See [`sdk::Benchmarks::devices`](crate::sdk::Benchmarks::devices).
    fn devices(&self) -> RResult<RVec<BenchDevice>, PluginError>;
    /// See [`sdk::Benchmarks::prepare`](crate::sdk::Benchmarks::prepare).
    #[sabi(last_prefix_field)]
    fn prepare(&self, task: BenchTask<'_>) -> RResult<WorkBox, PluginError>;
}

/// What [`BENCHMARKS`] names.
#[repr(C)]
#[derive(StableAbi)]
pub struct BenchmarksTable {
    /// Lives as long as the process.
    pub benchmarks: AbiBenchmarks_TO<'static, RBox<()>>,
}
