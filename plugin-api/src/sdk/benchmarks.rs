//! Benchmarks for authors: two safe traits, and the adapter that stands between them and the ABI.

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RVec};

use super::guard::{Poison, guard};
use crate::{
    AbiBenchmarks, AbiBenchmarks_TO, AbiWork, AbiWork_TO, BenchDevice, BenchTask, BenchmarksTable, Extension,
    PluginError, WorkBox,
};

/// What of a plugin the host may measure. The plugin's [`FormatPlugin::extension`](super::FormatPlugin::extension)
/// answers [`benchmarks`] to the name [`BENCHMARKS`](crate::BENCHMARKS).
///
/// ```
/// use impetus_plugin_api::{operation, sdk::*, BenchDevice, BenchTask, PluginError};
///
/// /// A device that multiplies.
/// struct Abacus;
///
/// impl Benchmarks for Abacus {
///     fn devices(&self) -> Vec<BenchDevice> {
///         vec![BenchDevice {
///             id: "abacus".into(),
///             kind: "cpu".into(),
///             name: "beads".into(),
///             memory_bytes: 0,
///             operations: vec![operation::PRODUCT_F32.into()].into(),
///         }]
///     }
///     fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
///         let (inner, columns) = (task.inner as usize, task.columns as usize);
///         Ok(Box::new(Product { row: vec![1.0; inner], weights: vec![0.5; inner * columns], rows: task.rows }))
///     }
/// }
///
/// struct Product {
///     row: Vec<f32>,
///     weights: Vec<f32>,
///     rows: u64,
/// }
///
/// impl Work for Product {
///     fn run(&mut self, times: u64) -> Result<(), PluginError> {
///         for _ in 0..times * self.rows {
///             for weights in self.weights.chunks_exact(self.row.len()) {
///                 std::hint::black_box(self.row.iter().zip(weights).map(|(a, b)| a * b).sum::<f32>());
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Benchmarks: Send + Sync + 'static {
    /// What the plugin computes on in this process, with its options as they are. None is no error.
    fn devices(&self) -> Vec<BenchDevice>;

    /// Gets everything ready that is not to be timed: memory, weights, threads. The work must go through the same code
    /// that models go through. The adapter has checked that the device has the operation and that none of its sizes is 0.
    ///
    /// # Errors
    /// [`UNSUPPORTED`](crate::ErrorCode::UNSUPPORTED) for what the device cannot do after all,
    /// [`OUT_OF_MEMORY`](crate::ErrorCode::OUT_OF_MEMORY) with the figures.
    fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError>;
}

/// A piece of work that can be done again and again.
pub trait Work: Send {
    /// Does it so many times, one after another, and returns when all is done, on the device too.
    ///
    /// # Errors
    /// Whatever fails; the host then reports no figure.
    fn run(&mut self, times: u64) -> Result<(), PluginError>;
}

/// What [`FormatPlugin::extension`](super::FormatPlugin::extension) answers to the name
/// [`BENCHMARKS`](crate::BENCHMARKS). The table lives as long as the process: hosts ask for it once.
pub fn benchmarks(benchmarks: impl Benchmarks) -> Extension {
    let benchmarks = AbiBenchmarks_TO::from_value(Adapter { benchmarks }, TD_Opaque);
    Extension::new(Box::leak(Box::new(BenchmarksTable { benchmarks })))
}

struct Adapter<B> {
    benchmarks: B,
}

impl<B: Benchmarks> AbiBenchmarks for Adapter<B> {
    fn devices(&self) -> RResult<RVec<BenchDevice>, PluginError> {
        guard("devices", || Ok(self.benchmarks.devices().into())).into()
    }

    fn prepare(&self, task: BenchTask<'_>) -> RResult<WorkBox, PluginError> {
        let prepare = || {
            check(&self.benchmarks.devices(), &task)?;
            let work = WorkAdapter { work: self.benchmarks.prepare(task)?, poison: Poison::default() };
            Ok(AbiWork_TO::from_value(work, TD_Opaque))
        };
        guard("prepare", prepare).into()
    }
}

fn check(devices: &[BenchDevice], task: &BenchTask<'_>) -> Result<(), PluginError> {
    let operation = task.operation.as_str();
    let device = devices.iter().find(|device| device.id == task.device);
    let has = device.is_some_and(|device| device.operations.iter().any(|own| own.as_str() == operation));
    if !has {
        let message = format!("there is no operation `{operation}` of a device `{}` here", task.device);
        return Err(PluginError::unsupported(message));
    }
    let is_product = operation.starts_with("product/");
    let sizes: &[u64] = if is_product { &[task.rows, task.inner, task.columns] } else { &[task.bytes] };
    if sizes.contains(&0) {
        return Err(PluginError::invalid_argument(format!(
            "`{operation}` of nothing: its sizes are {sizes:?}"
        )));
    }
    Ok(())
}

struct WorkAdapter {
    work: Box<dyn Work>,
    poison: Poison,
}

impl AbiWork for WorkAdapter {
    fn run(&mut self, times: u64) -> RResult<(), PluginError> {
        let work = &mut self.work;
        self.poison.guard("run", || work.run(times)).into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{BENCHMARKS, ErrorCode, operation};

    struct Counting(Arc<AtomicU64>);

    impl Benchmarks for Counting {
        fn devices(&self) -> Vec<BenchDevice> {
            let operations = vec![operation::PRODUCT_F32.into(), operation::COPY_TO_DEVICE.into()].into();
            vec![BenchDevice {
                id: "x".into(),
                kind: "cpu".into(),
                name: "x".into(),
                memory_bytes: 0,
                operations,
            }]
        }
        fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
            assert!(task.bytes != 13, "told to panic");
            Ok(Box::new(Counter(Arc::clone(&self.0))))
        }
    }

    struct Counter(Arc<AtomicU64>);

    impl Work for Counter {
        fn run(&mut self, times: u64) -> Result<(), PluginError> {
            assert!(times != 13, "told to panic");
            self.0.fetch_add(times, Ordering::Relaxed);
            Ok(())
        }
    }

    fn task<'a>(device: &'a str, operation: &'a str, bytes: u64) -> BenchTask<'a> {
        let (device, operation) = (device.into(), operation.into());
        BenchTask { device, operation, threads: 1, rows: 1, inner: 1, columns: 0, bytes }
    }

    #[test]
    fn work_crosses_the_border_and_panics_do_not() {
        let ran = Arc::new(AtomicU64::new(0));
        let extension = benchmarks(Counting(Arc::clone(&ran)));
        let table = extension.table::<BenchmarksTable>(BENCHMARKS).unwrap();
        assert_eq!(table.benchmarks.devices().unwrap()[0].id, "x");
        let prepare = |task| table.benchmarks.prepare(task).into_result();
        let code = |task| prepare(task).err().map(|error| error.code);
        assert_eq!(code(task("y", operation::COPY_TO_DEVICE, 1)), Some(ErrorCode::UNSUPPORTED));
        assert_eq!(code(task("x", operation::COPY_FROM_DEVICE, 1)), Some(ErrorCode::UNSUPPORTED));
        assert_eq!(code(task("x", operation::COPY_TO_DEVICE, 0)), Some(ErrorCode::INVALID_ARGUMENT));
        assert_eq!(code(task("x", operation::PRODUCT_F32, 1)), Some(ErrorCode::INVALID_ARGUMENT));
        assert_eq!(code(task("x", operation::COPY_TO_DEVICE, 13)), Some(ErrorCode::PANICKED));
        let mut work = prepare(task("x", operation::COPY_TO_DEVICE, 1)).unwrap();
        work.run(3).unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 3);
        assert_eq!(work.run(13).unwrap_err().code, ErrorCode::PANICKED);
        assert_eq!(work.run(1).unwrap_err().code, ErrorCode::POISONED);
    }
}
