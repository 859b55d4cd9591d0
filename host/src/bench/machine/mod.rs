//! What the machine allows: memory, arithmetic, disk, and the devices of plugins.

mod arithmetic;
mod disk;
mod kernels;
mod memory;
mod together;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::kernels::Kernels;
use self::together::Sampling;
use super::options::{MachineOptions, Part};
use super::recorder::Recorder;
use super::report::{Named, Unit};
use crate::models::{Entry, Models};
use crate::plugins::bencher::{Device, Task};
use crate::plugins::{Plugins, Spec};

/// Bytes of a copy between the host and a device.
const COPIED: u64 = 64 << 20;

/// What a reader should know where threads are not pinned.
const NOT_PINNED: &str =
    "threads could not be kept to processors of their own: the system may have moved them about";

/// Measures the machine. Blocks, for some seconds.
pub fn machine(plugins: &Plugins, models: &Models, options: &MachineOptions, recorder: &mut Recorder) {
    recorder.subject = "this machine".to_owned();
    let sampling = Sampling { runs: options.runs, least: Duration::from_millis(options.milliseconds.into()) };
    let wanted = |part| options.parts.contains(&part);
    if wanted(Part::Memory) {
        recorder.plan(memory::steps(recorder.machine()));
    }
    if wanted(Part::Disk) {
        recorder.plan(disk::STEPS);
    }
    if wanted(Part::Arithmetic) {
        recorder.plan(arithmetic::ELEMENTS.len() * thread_counts(recorder.machine().logical_cpus).len());
    }
    let asked = if wanted(Part::Arithmetic) || wanted(Part::Devices) {
        ask(plugins, options, recorder)
    } else {
        Vec::new()
    };
    if wanted(Part::Memory) {
        memory::measure(recorder, sampling);
    }
    if wanted(Part::Arithmetic) {
        arithmetic::plain(recorder, sampling, options.size as usize);
    }
    let heard = of_plugins(asked, options, sampling, recorder);
    if wanted(Part::Disk) {
        match file_of(models, options.model.as_deref()) {
            Ok(path) => disk::measure(recorder, &path, options.runs),
            Err(why) => disk::nothing(recorder, &why),
        }
    }
    if wanted(Part::Devices) && !recorder.stopper().is_asked() {
        no_device(&heard, recorder);
    }
}

/// Bandwidth and arithmetic as far as they are limits of a model: all threads, main memory, the plugin's kernels. The name
/// of the bandwidth.
pub(super) fn limits(spec: &Arc<Spec>, runs: u32, recorder: &mut Recorder) -> String {
    let sampling = Sampling { runs, least: Duration::from_millis(100) };
    recorder.plan(1);
    let bandwidth = memory::limit(recorder, sampling);
    match Kernels::start(spec) {
        Ok(mut kernels) => {
            let devices = kernels.devices().unwrap_or_default();
            for device in devices.iter().filter(|device| device.kind == "cpu") {
                recorder.plan(arithmetic::ELEMENTS.len());
                arithmetic::limit(recorder, (&mut kernels, device), sampling);
            }
        }
        Err(error) => recorder.note(format!("plugin {} could not be measured: {}", spec.id, error.message)),
    }
    bandwidth
}

/// Numbers of threads to measure with, and their names.
fn thread_counts(cpus: usize) -> Vec<(usize, String)> {
    let mut counts = vec![(1, "1 thread".to_owned())];
    if cpus > 1 {
        counts.push((cpus, "all threads".to_owned()));
    }
    counts
}

/// A plugin that was asked for its devices.
struct Asked {
    spec: Arc<Spec>,
    /// Or why it could not be asked.
    kernels: Result<Kernels, String>,
}

fn ask(plugins: &Plugins, options: &MachineOptions, recorder: &mut Recorder) -> Vec<Asked> {
    let mut all = Vec::new();
    for spec in plugins.running() {
        if !recorder.begin(format!("asking plugin {} for its devices", spec.id)) {
            break;
        }
        recorder.used(&spec);
        let kernels = Kernels::start(&spec).map_err(|error| error.message);
        let devices = kernels.as_ref().ok().and_then(Kernels::devices).unwrap_or_default();
        recorder
            .plan(devices.iter().map(|device| steps(device, options, recorder.machine().logical_cpus)).sum());
        all.push(Asked { spec, kernels });
    }
    all
}

fn steps(device: &Device, options: &MachineOptions, cpus: usize) -> usize {
    let products = arithmetic::ELEMENTS.len();
    match device.kind.as_str() {
        "cpu" if options.parts.contains(&Part::Arithmetic) => products * thread_counts(cpus).len(),
        "cpu" => 0,
        _ if options.parts.contains(&Part::Devices) => products + COPIES.len(),
        _ => 0,
    }
}

/// What was heard of devices beside the processor.
#[derive(Default)]
struct Heard {
    found: usize,
    /// Each plugin, and what it said.
    asked: Vec<String>,
}

fn of_plugins(
    asked: Vec<Asked>,
    options: &MachineOptions,
    sampling: Sampling,
    recorder: &mut Recorder,
) -> Heard {
    let mut heard = Heard::default();
    for Asked { spec, kernels } in asked {
        let mut kernels = match kernels {
            Ok(kernels) => kernels,
            Err(why) => {
                recorder.note(format!("plugin {} could not be measured: {why}", spec.id));
                heard.asked.push(format!("{} (could not be asked)", spec.id));
                continue;
            }
        };
        let Some(devices) = kernels.devices() else {
            recorder.note(format!("plugin {} offers no benchmarks", spec.id));
            heard.asked.push(format!("{} (offers no benchmarks)", spec.id));
            continue;
        };
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        heard.asked.push(format!(
            "{} (devices: {})",
            spec.id,
            if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
        ));
        for device in &devices {
            let processor = device.kind == "cpu";
            let part = if processor { Part::Arithmetic } else { Part::Devices };
            heard.found += usize::from(!processor);
            if !options.parts.contains(&part) {
                continue;
            }
            arithmetic::products(recorder, (&mut kernels, device), sampling, options.size);
            if !processor {
                copies(recorder, (&mut kernels, device), sampling);
            }
        }
    }
    heard
}

const COPIES: [(&str, &str); 2] = [("to_device", "to"), ("from_device", "from")];

fn copies(recorder: &mut Recorder, (kernels, device): (&mut Kernels, &Device), sampling: Sampling) {
    let plugin = kernels.plugin();
    for (way, word) in COPIES {
        let label = format!("copy {word} {} ({}), plugin {plugin}", device.id, device.name);
        if !recorder.begin(label.clone()) {
            return;
        }
        let name = format!("devices.{plugin}.{}.copy_{way}", device.id);
        let how = format!("{COPIED} bytes between the host's memory and the device's, through the plugin");
        let named = Named::new(name, label, Unit::BytesPerSecond).how(how);
        let task = Task {
            device: device.id.clone(),
            operation: format!("copy/{way}"),
            threads: 1,
            rows: 0,
            inner: 0,
            columns: 0,
            bytes: COPIED,
        };
        let figure = kernels.figure(named, (device, &task), (sampling, COPIED as f64), recorder);
        recorder.found(figure);
    }
}

fn no_device(heard: &Heard, recorder: &mut Recorder) {
    if heard.found > 0 {
        return;
    }
    let asked = if heard.asked.is_empty() {
        "no plugin is loaded".to_owned()
    } else {
        format!("asked: {}", heard.asked.join(", "))
    };
    let named = Named::new("devices.gpu", "graphics cards and other devices", Unit::OperationsPerSecond);
    recorder.add(named.not_available(format!("no GPU device reported by any loaded plugin; {asked}")));
}

/// The file to read: this model's, or the largest that can be served.
fn file_of(models: &Models, wanted: Option<&str>) -> Result<PathBuf, String> {
    let entry = match wanted {
        Some(id) => models.find(id).map_err(|error| error.message)?,
        None => {
            let largest =
                models.servable().into_iter().max_by_key(|entry| largest_file(entry).map(|(bytes, _)| bytes));
            largest.ok_or_else(|| "there is no model that can be served".to_owned())?
        }
    };
    let file = largest_file(&entry).ok_or_else(|| format!("the model `{}` has no file to read", entry.id))?;
    Ok(file.1)
}

/// The file of a model that is a file; the largest one of a folder.
fn largest_file(entry: &Entry) -> Option<(u64, PathBuf)> {
    let size = |path: &PathBuf| {
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
    };
    if let Some(bytes) = size(&entry.path) {
        return Some((bytes, entry.path.clone()));
    }
    let files = std::fs::read_dir(&entry.path).ok()?.filter_map(|file| Some(file.ok()?.path()));
    files.filter_map(|path| Some((size(&path)?, path))).max_by_key(|(bytes, _)| *bytes)
}
