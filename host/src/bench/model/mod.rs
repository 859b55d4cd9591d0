//! One model through an engine of its own, without HTTP: prefill and decode as `llama-bench` tells them apart, loading,
//! memory, energy, and which share of the machine's limits that is.
//!
//! What the engine adds (scheduling, sampling the best token, making text of it) is measured with it. Guesses of next tokens
//! are off: with random prompts they would be right as in no real answer.

mod generation;
mod shares;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::generation::{Generation, tokens};
use super::energy::Meter;
use super::options::ModelOptions;
use super::prompts::Words;
use super::recorder::Recorder;
use super::report::{Named, Unit};
use super::samples::Samples;
use super::subject::Subject;
use super::{machine, perplexity};
use crate::config::Config;
use crate::engine::message::Question;
use crate::error::{Error, Kind, Result};
use crate::models::{Entry, Loaded, Models};
use crate::plugins::Plugins;

/// Loading takes long and scatters little: so many times at most, however many samples the other figures have.
const LOADS: u32 = 3;

/// A text whose perplexity is to be measured afterwards, and the tokens of its windows.
pub type Text<'a> = (&'a str, u32);

/// Measures a model, in an engine that is started for it and ends with it. A text is looked at and not measured: whether it
/// is long enough is found out before anything takes its time.
///
/// # Errors
/// What loading the model fails of, and [`Kind::InvalidRequest`] for one that generates nothing or a text that is too short.
/// What was found until then is in the recorder.
pub async fn model(
    plugins: &Arc<Plugins>,
    config: &Config,
    (entry, text): (Entry, Option<Text<'_>>),
    options: &ModelOptions,
    recorder: &mut Recorder,
) -> Result<()> {
    recorder.subject = entry.id.clone();
    recorder.of_model(Subject::of(&entry));
    recorder.plan(loads(options) as usize + cells(options).len() * options.runs as usize);
    let spec = entry.plugin.as_deref().and_then(|id| plugins.spec(id));
    let mut bandwidth = None;
    if let Some(spec) = &spec {
        recorder.used(spec);
        if options.limits {
            bandwidth = Some(tokio::task::block_in_place(|| machine::limits(spec, options.runs, recorder)));
        }
    }
    let mut config = config.clone();
    config.engine.speculate = false;
    let models = Models::new(Arc::clone(plugins), &config);
    let Some(loaded) = load(&models, &entry, loads(options), recorder).await? else { return Ok(()) };
    recorder.of_model(Subject::of(&entry).loaded(&loaded));
    let done = of_loaded(&loaded, text, options, recorder).await;
    peak_memory(&loaded, recorder);
    if let Some(bandwidth) = bandwidth {
        shares::add(&Subject::of(&entry).loaded(&loaded), &bandwidth, recorder);
    }
    drop(loaded);
    // Its process would otherwise end with ours.
    models.unload_entry(&entry.id).await;
    models.shutdown(Duration::from_secs(5)).await;
    done
}

fn loads(options: &ModelOptions) -> u32 {
    options.runs.min(LOADS)
}

/// Every cell, until one fails.
async fn of_loaded(
    loaded: &Loaded,
    text: Option<Text<'_>>,
    options: &ModelOptions,
    recorder: &mut Recorder,
) -> Result<()> {
    if loaded.engine.longest_sequence() == 0 || !loaded.can(crate::models::capability::GENERATE) {
        let message = format!("model `{}` generates nothing: there is nothing to measure", loaded.id);
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    if let Some((text, window)) = text {
        let question = Question::Tokens { text: text.to_owned(), add_special: false, parse_special: false };
        perplexity::check(loaded.tokens(question).await?.len(), window, loaded.context_tokens())?;
    }
    // One source for all: no prompt begins as another does, of whichever cell.
    let mut words = Words::anew();
    for cell in cells(options) {
        measure(loaded, cell, (options.runs, &mut words), recorder).await?;
    }
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

    fn energy(self) -> Named {
        let (name, label) = (format!("energy.{}", self.name()), format!("energy, {}", self.label()));
        Named::new(name, label, Unit::JoulesPerToken)
            .how("what all processor packages took meanwhile, this machine's other work included, by token")
    }

    /// Why a run in which so many tokens of prompts were computed says nothing: what was to stand before was not in the cache,
    /// or what was to be computed was.
    fn wrongly_cached(self, computed: u32) -> Option<String> {
        let Cell { work, depth, sequences } = self;
        let more = match work {
            Work::Prefill(count) => count * sequences,
            Work::Decode(_) => sequences,
        };
        // A last token of what stands before may have to be computed once more.
        if computed > more + sequences {
            return Some(format!(
                "of the {} tokens that were to stand before, {} had to be computed again: the cache does not hold them all, or \
                 the model's state cannot be gone on from",
                depth * sequences,
                computed - more
            ));
        }
        // A first token or two may be those of another prompt by chance.
        (matches!(work, Work::Prefill(_)) && computed < more / 4 * 3).then(|| {
            format!("of {more} tokens {computed} were computed, the others were in the cache: prompts were not all new")
        })
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

/// Loads it so often, each time anew, and keeps the last; `None` where it is to stop.
async fn load(
    models: &Arc<Models>,
    entry: &Entry,
    times: u32,
    recorder: &mut Recorder,
) -> Result<Option<Arc<Loaded>>> {
    let named = Named::new("loading.time", "loading", Unit::Seconds).how(format!(
        "from starting its process to a context that answers, {LOADS} times at most; files that were in memory were read from \
         there"
    ));
    let (mut samples, mut last) = (Samples::default(), None);
    let stopper = recorder.stopper().clone();
    for _ in 0..times {
        if !recorder.begin("loading the model") {
            break;
        }
        if let Some(before) = last.take() {
            drop::<Arc<Loaded>>(before);
            models.unload_entry(&entry.id).await;
        }
        let started = Instant::now();
        let opening = models.open_entry(entry.clone(), recorder.within_step());
        let Some(loaded) = stopper.or(opening).await else { break };
        let took = started.elapsed().as_secs_f64();
        match loaded {
            Ok(loaded) => last = Some(loaded),
            Err(error) => {
                if !samples.values().is_empty() {
                    recorder.add(named.measured(samples));
                }
                return Err(error);
            }
        }
        samples.push(took);
        recorder.step();
    }
    recorder.add(named.measured(samples));
    Ok(last)
}

async fn measure(
    loaded: &Loaded,
    cell: Cell,
    (runs, words): (u32, &mut Words),
    recorder: &mut Recorder,
) -> Result<()> {
    if let Some(why) = cell.obstacle(loaded) {
        recorder.add(cell.named().not_available(why));
        (0..runs).for_each(|_| recorder.step());
        return Ok(());
    }
    let (mut samples, mut joules) = (Samples::default(), Samples::default());
    let mut meter = Meter::open();
    let (mut reason, mut failure) = (None, None);
    let stopper = recorder.stopper().clone();
    // The first is not counted.
    for run in 0..=runs {
        if !recorder.begin(cell.label()) {
            break;
        }
        let Some(done) = stopper.or(once(loaded, cell, words, &mut meter)).await else { break };
        match done {
            Ok(Ok(found)) if run > 0 => {
                samples.push(found.rate);
                found.joules_per_token.into_iter().for_each(|value| joules.push(value));
                recorder.step();
            }
            Ok(Ok(_)) => {}
            Ok(Err(why)) => {
                reason = Some(why);
                break;
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // What was measured before a failure stays.
    let failed = failure.as_ref().filter(|_| samples.values().is_empty()).map(|error| error.message.clone());
    recorder.add(match reason.or(failed) {
        Some(why) => cell.named().not_available(why),
        None => cell.named().measured(samples),
    });
    recorder.add(match meter {
        Ok(_) => cell.energy().measured(joules),
        Err(why) => cell.energy().not_available(why),
    });
    failure.map_or(Ok(()), Err)
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
    if let Some(why) = cell.wrongly_cached(computed) {
        return Ok(Err(why));
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
    let Some(pid) = loaded.worker.as_ref().map(|worker| worker.pid()) else {
        let why =
            "the model runs in this process, whose most is that of everything here (isolation = \"none\")";
        recorder.add(named.not_available(why));
        return;
    };
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

    #[test]
    fn a_run_counts_where_the_cache_held_what_it_should_and_no_more() {
        let prefill = Cell { work: Work::Prefill(100), depth: 50, sequences: 2 };
        let decode = Cell { work: Work::Decode(100), depth: 50, sequences: 2 };
        for (cell, computed, expected) in [
            (prefill, 200, None),
            (prefill, 202, None),
            (prefill, 203, Some("of the 100 tokens that were to stand before, 3 had to be computed again")),
            (prefill, 198, None),
            (prefill, 149, Some("of 200 tokens 149 were computed")),
            (decode, 2, None),
            (decode, 102, Some("100 had to be computed again")),
        ] {
            let found = cell.wrongly_cached(computed);
            let as_expected = expected
                .map_or(found.is_none(), |words| found.as_ref().is_some_and(|found| found.contains(words)));
            assert!(as_expected, "{cell:?} {computed}: {found:?}");
        }
    }
}
