//! One model through an engine of its own, without HTTP: prefill and decode as `llama-bench` tells them apart, loading,
//! memory, energy, and which share of the machine's limits that is.
//!
//! What the engine adds (scheduling, sampling the best token, making text of it) is measured with it. Guesses of next tokens
//! are off: with random prompts they would be right as in no real answer.

mod generation;
mod shares;

use std::sync::Arc;
use std::time::Instant;

use self::generation::{Generation, tokens};
use super::energy::Meter;
use super::machine;
use super::options::ModelOptions;
use super::prompts::Words;
use super::recorder::Recorder;
use super::report::{Named, Unit};
use super::samples::Samples;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::models::{Entry, Loaded, Models, OnProgress};
use crate::plugins::Plugins;

/// Measures a model, in an engine that is started for it and ends with it.
///
/// # Errors
/// What loading the model fails of, and [`Kind::InvalidRequest`] for one that generates nothing.
pub async fn model(
    plugins: &Arc<Plugins>,
    config: &Config,
    (entry, on_load): (Entry, OnProgress),
    options: &ModelOptions,
    recorder: &mut Recorder,
) -> Result<()> {
    recorder.subject = entry.id.clone();
    recorder.plan(1 + cells(options).len() * options.runs as usize);
    let spec = entry.plugin.as_deref().and_then(|id| plugins.spec(id));
    let mut bandwidth = None;
    if let Some(spec) = &spec {
        recorder.used(&spec.id, &spec.version);
        if options.limits {
            bandwidth = Some(tokio::task::block_in_place(|| machine::limits(spec, options.runs, recorder)));
        }
    }
    let mut config = config.clone();
    config.engine.speculate = false;
    let models = Models::new(Arc::clone(plugins), &config);
    let Some(loaded) = load(&models, entry, on_load, recorder).await? else { return Ok(()) };
    if loaded.engine.longest_sequence() == 0 || !loaded.can(crate::models::capability::GENERATE) {
        let message = format!("model `{}` generates nothing: there is nothing to measure", loaded.id);
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    for cell in cells(options) {
        measure(&loaded, cell, options.runs, recorder).await?;
    }
    peak_memory(&loaded, recorder);
    if let Some(bandwidth) = bandwidth {
        shares::add(&loaded, &bandwidth, recorder);
    }
    let id = loaded.id.clone();
    drop(loaded);
    // Its process would otherwise end with ours.
    let _ = models.unload(&id).await;
    models.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// So many tokens of a prompt.
    Prefill(u32),
    /// So many tokens generated.
    Decode(u32),
}

/// One figure's circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    work: Work,
    depth: u32,
    sequences: u32,
}

fn cells(options: &ModelOptions) -> Vec<Cell> {
    let prefills =
        options.prompt_tokens.iter().filter(|&&count| count > 0).map(|&count| Work::Prefill(count));
    let decodes =
        options.generated_tokens.iter().filter(|&&count| count > 0).map(|&count| Work::Decode(count));
    let works: Vec<Work> = prefills.chain(decodes).collect();
    let mut cells = Vec::new();
    for &sequences in &options.sequences {
        for &depth in &options.depths {
            cells.extend(works.iter().map(|&work| Cell { work, depth, sequences }));
        }
    }
    cells
}

impl Cell {
    fn name(self) -> String {
        let Cell { work, depth, sequences } = self;
        match work {
            Work::Prefill(count) => format!("prefill.{count}.at{depth}.x{sequences}"),
            Work::Decode(count) => format!("decode.{count}.at{depth}.x{sequences}"),
        }
    }

    fn label(self) -> String {
        let what = match self.work {
            Work::Prefill(count) => format!("prefill of {count} tokens"),
            Work::Decode(count) => format!("decode of {count} tokens"),
        };
        let depth = if self.depth > 0 { format!(" behind {} others", self.depth) } else { String::new() };
        let together = if self.sequences > 1 {
            format!(", {} sequences together", self.sequences)
        } else {
            String::new()
        };
        format!("{what}{depth}{together}")
    }

    fn named(self) -> Named {
        let how = match self.work {
            Work::Prefill(_) => {
                "tokens of all prompts that were not computed before, from handing them to the engine to the first token \
                 chosen for the last; llama-bench's pp"
            }
            Work::Decode(_) => {
                "tokens of all sequences, from the first token of the last that began to the end of the first that ended; \
                 llama-bench's tg"
            }
        };
        Named::new(self.name(), self.label(), Unit::TokensPerSecond).how(how)
    }

    /// Why the engine has no room for it.
    fn obstacle(self, loaded: &Loaded) -> Option<String> {
        let longest = loaded.engine.longest_sequence();
        let (Work::Prefill(count) | Work::Decode(count)) = self.work;
        let needed = self.depth + count + 2;
        let most = loaded.engine.most_sequences();
        if needed > longest {
            return Some(format!("a sequence may be {longest} tokens long here, and this needs {needed}"));
        }
        (self.sequences as usize > most).then(|| {
            format!("the engine computes {most} sequences together at most ([engine] max_sequences)")
        })
    }
}

async fn load(
    models: &Arc<Models>,
    entry: Entry,
    on_load: OnProgress,
    recorder: &mut Recorder,
) -> Result<Option<Arc<Loaded>>> {
    if !recorder.begin("loading the model") {
        return Ok(None);
    }
    let started = Instant::now();
    let stopper = recorder.stopper().clone();
    let Some(loaded) = stopper.or(models.open_entry(entry, on_load)).await else { return Ok(None) };
    let loaded = loaded?;
    let took = started.elapsed().as_secs_f64();
    let named = Named::new("loading.time", "loading", Unit::Seconds)
        .how("once, from starting its process to a context that answers; files that were in memory were read from there");
    recorder.found(named.measured([took].into_iter().collect()));
    Ok(Some(loaded))
}

async fn measure(loaded: &Loaded, cell: Cell, runs: u32, recorder: &mut Recorder) -> Result<()> {
    if let Some(why) = cell.obstacle(loaded) {
        recorder.add(cell.named().not_available(why));
        (0..runs).for_each(|_| recorder.step());
        return Ok(());
    }
    let (mut samples, mut joules) = (Samples::default(), Samples::default());
    let mut meter = Meter::open();
    let mut words = Words::new(u64::from(std::process::id()) ^ Instant::now().elapsed().as_nanos() as u64);
    let mut reason = None;
    let stopper = recorder.stopper().clone();
    // The first is not counted.
    for run in 0..=runs {
        if !recorder.begin(cell.label()) {
            break;
        }
        let Some(done) = stopper.or(once(loaded, cell, &mut words, &mut meter)).await else { break };
        match done? {
            Ok(found) if run > 0 => {
                samples.push(found.rate);
                found.joules_per_token.into_iter().for_each(|value| joules.push(value));
                recorder.step();
            }
            Ok(_) => {}
            Err(why) => {
                reason = Some(why);
                break;
            }
        }
    }
    recorder.add(match reason {
        Some(why) => cell.named().not_available(why),
        None => cell.named().measured(samples),
    });
    let energy = Named::new(
        format!("energy.{}", cell.name()),
        format!("energy, {}", cell.label()),
        Unit::JoulesPerToken,
    )
    .how("what all processor packages took meanwhile, this machine's other work included, by token");
    recorder.add(match meter {
        Ok(_) => energy.measured(joules),
        Err(why) => energy.not_available(why),
    });
    Ok(())
}

struct Found {
    rate: f64,
    joules_per_token: Option<f64>,
}

/// One run; or why it says nothing.
async fn once(
    loaded: &Loaded,
    cell: Cell,
    words: &mut Words,
    meter: &mut Result<Meter, String>,
) -> Result<Result<Found, String>> {
    let (engine, vocab_size) = (&loaded.engine, loaded.vocab_size());
    let mut prompts: Vec<Vec<u32>> =
        (0..cell.sequences).map(|_| tokens(words, cell.depth, vocab_size)).collect();
    if cell.depth > 0 {
        // They stay in the cache, and what follows goes on from there.
        Generation::of(engine, prompts.clone(), 1).await?;
    }
    let (more, max_tokens) = match cell.work {
        Work::Prefill(count) => (count, 1),
        Work::Decode(count) => (1, count + 1),
    };
    prompts.iter_mut().for_each(|prompt| prompt.extend(tokens(words, more, vocab_size)));
    let joules = |meter: &mut Result<Meter, String>| meter.as_mut().ok().and_then(Meter::joules);
    joules(meter);
    let done = Generation::of(engine, prompts, max_tokens).await?;
    let spent = joules(meter);
    let computed = done.computed_prompt_tokens();
    if computed > (more + 1) * cell.sequences {
        return Ok(Err(format!(
            "of the {} tokens that were to stand before, {} had to be computed again: the cache does not hold them all, or \
             the model's state cannot be gone on from",
            cell.depth * cell.sequences,
            computed - more * cell.sequences
        )));
    }
    let (rate, counted) = match cell.work {
        Work::Prefill(_) => (f64::from(computed) / done.seconds(), computed),
        Work::Decode(count) => match done.decode_rate() {
            Some((rate, least)) if least * 2 >= count => (rate, done.generated_tokens()),
            _ => return Ok(Err("the sequences did not run together for half of their tokens".to_owned())),
        },
    };
    Ok(Ok(Found { rate, joules_per_token: spent.map(|spent| spent / f64::from(counted)) }))
}

fn peak_memory(loaded: &Loaded, recorder: &mut Recorder) {
    let named = Named::new("loading.peak_memory", "peak memory of the process", Unit::Bytes).how(
        "the most that was in memory at once, mapped files included, until the end of the benchmark (VmHWM)",
    );
    let pid = loaded.worker.as_ref().map_or_else(std::process::id, |worker| worker.pid());
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let bytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    recorder.add(match bytes {
        Some(kibibytes) => named.measured([kibibytes as f64 * 1024.0].into_iter().collect()),
        None => named.not_available("the system does not tell it"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_measured_with_every_depth_and_number_of_sequences() {
        let options = ModelOptions {
            prompt_tokens: vec![512, 0],
            generated_tokens: vec![16],
            depths: vec![0, 100],
            sequences: vec![1, 4],
            ..ModelOptions::default()
        };
        let names: Vec<String> = cells(&options).into_iter().map(Cell::name).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[..3], ["prefill.512.at0.x1", "decode.16.at0.x1", "prefill.512.at100.x1"]);
        assert_eq!(names[7], "decode.16.at100.x4");
    }
}
