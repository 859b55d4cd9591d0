//! Matrix products: a plain loop of the host, and beside it the very kernels that plugins run models with.

use std::hint::black_box;

use super::kernels::Kernels;
use super::together::{Sampling, together};
use crate::bench::recorder::Recorder;
use crate::bench::report::{Named, Unit};
use crate::pinning;
use crate::plugins::bencher::{Device, Task};

/// Types of numbers, as operations of plugins name them.
pub(super) const ELEMENTS: [&str; 3] = ["f32", "bf16", "int8"];

/// Rows of activations of the plain loop: it is slow, and a rate is a rate.
const PLAIN_ROWS: usize = 16;

/// The host's own loop, for comparison.
pub(super) fn plain(recorder: &mut Recorder, sampling: Sampling, size: usize) {
    let cpus = pinning::allowed();
    for element in ELEMENTS {
        for (threads, of_threads) in super::thread_counts(cpus.len()) {
            let label = format!("{element}, plain loop ({}), {of_threads}", compiled_for());
            if !recorder.begin(format!("arithmetic: {label}")) {
                return;
            }
            let name = format!("arithmetic.{element}.plain.{}", of_threads.replace(' ', "_"));
            let how = format!(
                "{PLAIN_ROWS} rows by {size} columns of {size} numbers on each thread, in three nested loops without a \
                 trick, compiled as the host is: for {}",
                compiled_for()
            );
            let named = Named::new(name, label, Unit::OperationsPerSecond).how(how);
            let cpus = &cpus[..threads];
            let measured = match element {
                "f32" => together(cpus, sampling, recorder.stopper(), || {
                    plain_pass(size, |i| i as f32, |a: f32, b, sum: f32| sum + a * b)
                }),
                "bf16" => together(cpus, sampling, recorder.stopper(), || {
                    let widen = |bits: u16| f32::from_bits(u32::from(bits) << 16);
                    plain_pass(
                        size,
                        |i| 0x3f80 | (i as u16 & 0x7f),
                        move |a, b, sum: f32| sum + widen(a) * widen(b),
                    )
                }),
                _ => together(cpus, sampling, recorder.stopper(), || {
                    plain_pass(size, |i| i as i8, |a: i8, b, sum: i32| sum + i32::from(a) * i32::from(b))
                }),
            };
            if !measured.pinned {
                recorder.note_once(super::NOT_PINNED);
            }
            let operations = (2 * PLAIN_ROWS * size * size) as f64;
            recorder.found(named.measured(measured.passes_per_second.map(|passes| passes * operations)));
        }
    }
}

/// The widest instruction set that the compiler could use for the host's own code; the processor may have more.
fn compiled_for() -> &'static str {
    if cfg!(target_feature = "avx512f") {
        "avx512f"
    } else if cfg!(target_feature = "avx2") {
        "avx2"
    } else if cfg!(target_feature = "avx") {
        "avx"
    } else if cfg!(target_feature = "sse2") {
        "sse2"
    } else if cfg!(target_feature = "sve") {
        "sve"
    } else if cfg!(target_feature = "neon") {
        "neon"
    } else {
        "no vector instructions"
    }
}

/// A product as its definition has it.
fn plain_pass<T: Copy, S: Copy + Default>(
    size: usize,
    number: impl Fn(usize) -> T,
    add: impl Fn(T, T, S) -> S,
) -> impl FnMut() {
    let make = |count: usize| -> Vec<T> { (0..count).map(|i| number(i % 7)).collect() };
    let (a, b, mut c) = (make(PLAIN_ROWS * size), make(size * size), vec![S::default(); PLAIN_ROWS * size]);
    move || {
        let (a, b) = (black_box(&a), black_box(&b));
        for (row, sums) in a.chunks_exact(size).zip(c.chunks_exact_mut(size)) {
            for (column, sum) in b.chunks_exact(size).zip(sums) {
                *sum = row.iter().zip(column).fold(S::default(), |sum, (&a, &b)| add(a, b, sum));
            }
        }
        black_box(&mut c);
    }
}

/// A plugin's products on one device, by one thread and by all where it is a processor.
pub(super) fn products(
    recorder: &mut Recorder,
    (kernels, device): (&mut Kernels, &Device),
    sampling: Sampling,
    size: u32,
) {
    for element in ELEMENTS {
        let counts = match device.kind.as_str() {
            "cpu" => super::thread_counts(recorder.machine().logical_cpus),
            _ => vec![(1, String::new())],
        };
        for threads in counts {
            product(recorder, (&mut *kernels, device), sampling, (element, threads, size));
        }
    }
}

/// The same by all threads alone, in sizes of a prompt: what bounds a model; the figures' names by element.
pub(super) fn limit(recorder: &mut Recorder, (kernels, device): (&mut Kernels, &Device), sampling: Sampling) {
    let counts = super::thread_counts(recorder.machine().logical_cpus);
    let all = counts.last().cloned().unwrap_or((1, String::new()));
    for element in ELEMENTS {
        product(recorder, (&mut *kernels, device), sampling, (element, all.clone(), 1024));
    }
}

fn product(
    recorder: &mut Recorder,
    (kernels, device): (&mut Kernels, &Device),
    sampling: Sampling,
    (element, (threads, of_threads), size): (&str, (usize, String), u32),
) {
    let plugin = kernels.plugin();
    let label = format!("{element}, plugin {plugin} on {} ({})", device.id, device.name);
    let (name, label) = if device.kind == "cpu" {
        let end = of_threads.replace(' ', "_");
        // The device's id too: a plugin may know several processors.
        (format!("arithmetic.{element}.{plugin}.{}.{end}", device.id), format!("{label}, {of_threads}"))
    } else {
        (format!("devices.{plugin}.{}.{element}", device.id), label)
    };
    if !recorder.begin(label.clone()) {
        return;
    }
    let how = format!(
        "{size} rows by {size} columns of {size} numbers, through the plugin's own product; two operations for each \
         multiplication and addition"
    );
    let named = Named::new(name, label, Unit::OperationsPerSecond).how(how);
    let task = Task {
        device: device.id.clone(),
        operation: format!("product/{element}"),
        threads: threads as u32,
        rows: size.into(),
        inner: size.into(),
        columns: size.into(),
        bytes: 0,
    };
    let operations = 2.0 * f64::from(size).powi(3);
    let figure = kernels.figure(named, (device, &task), (sampling, operations), recorder);
    recorder.found(figure);
}
