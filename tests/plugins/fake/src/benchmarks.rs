//! Devices that are as the options say: one that works, at a speed that can be chosen, one that really computes and copies,
//! and one of which nothing can be measured.

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
        if self.options.contains("working gpu") {
            let copies = [operation::PRODUCT_F32, operation::COPY_TO_DEVICE, operation::COPY_FROM_DEVICE];
            devices.push(device("fake2", "gpu", &copies));
        }
        if self.options.contains("second cpu") {
            devices.push(device("fake3", "cpu", &both));
        }
        devices
    }

    fn prepare(&self, task: BenchTask<'_>) -> Result<Box<dyn Work>, PluginError> {
        if task.device == "fake1" {
            return Err(PluginError::unsupported("told that this device multiplies nothing"));
        }
        if task.device == "fake2" {
            return Ok(match task.operation.as_str() {
                operation::PRODUCT_F32 => Box::new(Product::new(&task)),
                operation::COPY_TO_DEVICE => Box::new(Copy::new(task.bytes, true)),
                _ => Box::new(Copy::new(task.bytes, false)),
            });
        }
        if self.options.contains("abort in run") && task.device == "fake0" {
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

/// A product as its definition has it; each run checks that it came out right.
struct Product {
    a: Vec<f32>,
    b: Vec<f32>,
    inner: usize,
}

impl Product {
    fn new(task: &BenchTask<'_>) -> Self {
        let numbers = |count: u64, number: f32| vec![number; count as usize];
        Product {
            a: numbers(task.rows * task.inner, 2.0),
            b: numbers(task.columns * task.inner, 0.5),
            inner: task.inner as usize,
        }
    }
}

impl Work for Product {
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        for _ in 0..times {
            for row in self.a.chunks_exact(self.inner) {
                for column in std::hint::black_box(&self.b).chunks_exact(self.inner) {
                    let sum: f32 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                    // Sums of ones are exact.
                    if (sum - self.inner as f32).abs() > 0.5 {
                        return Err(PluginError::internal(format!("{} ones add up to {sum}", self.inner)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bytes between two places, of which one stands for the device's memory; each run checks that they arrived.
struct Copy {
    here: Vec<u8>,
    there: Vec<u8>,
    to_device: bool,
    run: u8,
}

impl Copy {
    fn new(bytes: u64, to_device: bool) -> Self {
        Copy { here: vec![1; bytes as usize], there: vec![2; bytes as usize], to_device, run: 0 }
    }
}

impl Work for Copy {
    fn run(&mut self, times: u64) -> Result<(), PluginError> {
        for _ in 0..times {
            self.run = self.run.wrapping_add(1);
            let (from, to) = match self.to_device {
                true => (&mut self.here, &mut self.there),
                false => (&mut self.there, &mut self.here),
            };
            from.fill(self.run);
            to.copy_from_slice(from);
            if to.last() != Some(&self.run) {
                return Err(PluginError::internal("what was copied did not arrive"));
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
