//! Devices that are as the options say: one that works, at a speed that can be chosen, and one of which nothing can be
//! measured.

use std::time::{Duration, Instant};

use impetus_plugin_api::sdk::{Benchmarks, Work};
use impetus_plugin_api::{BenchDevice, BenchTask, PluginError, operation};

/// What the option `x` says of them.
pub(crate) struct Devices {
    options: String,
}

impl Devices {
    /// None where the options do not speak of benchmarks.
    pub(crate) fn told(options: &str) -> Option<Devices> {
        options.contains("bench").then(|| Devices { options: options.to_owned() })
    }
}

impl Benchmarks for Devices {
    fn devices(&self) -> Vec<BenchDevice> {
        let device = |id: &str, kind: &str, operations: &[&str]| BenchDevice {
            id: id.into(),
            kind: kind.into(),
            name: format!("a fake {kind}").into(),
            memory_bytes: 0,
            operations: operations.iter().map(|&name| name.into()).collect(),
        };
        let both = [operation::PRODUCT_F32, operation::COPY_TO_DEVICE];
        let mut devices = vec![device("fake0", "cpu", &both)];
        if self.options.contains("silent gpu") {
            devices.push(device("fake1", "gpu", &[]));
        }
        if self.options.contains("broken gpu") {
            devices.push(device("fake1", "gpu", &both));
        }
        devices
    }

    fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
        if task.device == "fake1" {
            return Err(PluginError::unsupported("told that this device multiplies nothing"));
        }
        if self.options.contains("abort in run") {
            return Ok(Box::new(Aborting));
        }
        let slower = if self.options.contains("slow") { 8 } else { 1 };
        Ok(Box::new(Waiting(Duration::from_millis(slower))))
    }
}

/// Takes so long each time.
struct Waiting(Duration);

impl Work for Waiting {
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        for _ in 0..times {
            let started = Instant::now();
            while started.elapsed() < self.0 {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}

struct Aborting;

impl Work for Aborting {
    fn run(&mut self, _: u64) -> Result<(), PluginError> {
        std::process::abort()
    }
}
