//! One plugin's kernels in a child, started again where it crashed: what one piece of work does to it, the others do not feel.

use std::sync::Arc;
use std::time::Duration;

use super::NOT_PINNED;
use super::together::Sampling;
use crate::bench::recorder::Recorder;
use crate::bench::report::{Figure, Named};
use crate::bench::samples::Samples;
use crate::error::Result;
use crate::plugins::Spec;
use crate::plugins::bencher::{Bencher, Device, Task};

/// A plugin that is ready to be measured.
pub(super) struct Kernels {
    spec: Arc<Spec>,
    bencher: Bencher,
}

impl Kernels {
    /// Opens the plugin in a child.
    ///
    /// # Errors
    /// As [`Bencher::start`].
    pub(super) fn start(spec: &Arc<Spec>) -> Result<Kernels> {
        Ok(Kernels { spec: Arc::clone(spec), bencher: Bencher::start(spec)? })
    }

    /// The plugin's id.
    pub(super) fn plugin(&self) -> String {
        self.spec.id.clone()
    }

    /// What the plugin computes on; `None` where it offers no benchmarks.
    pub(super) fn devices(&self) -> Option<Vec<Device>> {
        self.bencher.devices.clone()
    }

    /// One figure: so many units of it are done each time.
    pub(super) fn figure(
        &mut self,
        named: Named,
        (device, task): (&Device, &Task),
        (sampling, units): (Sampling, f64),
        recorder: &mut Recorder,
    ) -> Figure {
        if !device.operations.contains(&task.operation) {
            let why = format!("the device does not offer the operation `{}`", task.operation);
            return named.not_available(why);
        }
        match self.seconds(task, sampling, recorder) {
            Ok(samples) => named.measured(samples.map(|seconds| units / seconds)),
            Err(error) => named.not_available(error.message),
        }
    }

    /// Seconds of one time, for each run; a first is not counted.
    fn seconds(&mut self, task: &Task, sampling: Sampling, recorder: &mut Recorder) -> Result<Samples> {
        if self.bencher.has_ended() {
            self.bencher = Bencher::start(&self.spec)?;
        }
        let bencher = &mut self.bencher;
        if !bencher.prepare(task)? {
            recorder.note_once(NOT_PINNED);
        }
        bencher.run(1, Duration::ZERO)?;
        let once = bencher.run(1, Duration::ZERO)?;
        let times = (sampling.least.as_secs_f64() / once.max(1e-9)).ceil().clamp(1.0, 1e12) as u64;
        let expected = Duration::from_secs_f64(once * times as f64);
        let mut samples = Samples::default();
        for _ in 0..sampling.runs {
            if recorder.stopper().is_asked() {
                break;
            }
            samples.push(bencher.run(times, expected)?);
        }
        Ok(samples)
    }
}
