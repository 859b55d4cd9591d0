//! `impetus bench`: measures the machine, a model in a process of its own, or servers by their addresses, and writes what was
//! measured. Ctrl-C ends a measurement with what it has; a second one ends the program.

pub(super) mod args;
mod bar;
mod report;
mod targets;

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::args::{Bench, BenchMachine, BenchModel, BenchPerplexity, BenchServe, Keep};
use self::bar::Bar;
use super::output::{Table, tell};
use super::progress::Progress;
use super::run::runtime;
use super::{Outcome, resolve, usage};
use crate::bench::{self, Options, Perplexity, Recorder, Report, Stopper, Subject};
use crate::config::Config;
use crate::error::{self, Error};
use crate::http::{self, App};
use crate::models::{Entry, Models, OnProgress};
use crate::plugins::Plugins;
use crate::plugins::model::Model;

/// Measures, or says what was measured before.
pub(super) fn bench(config: &Config, arguments: &Bench) -> Outcome {
    match arguments {
        Bench::Machine(arguments) => machine(config, arguments),
        Bench::Model(arguments) => model(config, arguments),
        Bench::Perplexity(arguments) => perplexity(config, arguments),
        Bench::Serve(arguments) => serve(config, arguments),
        Bench::History(arguments) => report::history(config, arguments),
        Bench::Compare(arguments) => report::compare(config, arguments),
    }
}

/// What came of a benchmark: what it found, and whether it came to its end.
type Measured = (Report, error::Result<()>);

/// Begins a benchmark that can be stopped and shows how far it is.
///
/// # Errors
/// For options out of bounds, and for one that failed before it had found anything.
fn measure(
    options: &Options,
    told: Value,
    work: impl AsyncFnOnce(&mut Recorder) -> error::Result<()>,
) -> Outcome<Measured> {
    options.check().map_err(|error| usage(error.message))?;
    let (stopper, bar) = (Stopper::default(), Bar::start());
    let mut recorder = Recorder::new(options.kind(), told, stopper.clone(), bar.listener());
    let runtime = runtime()?;
    stop_at_interrupts(&runtime, stopper);
    let done = runtime.block_on(work(&mut recorder));
    bar.finish();
    if let Err(error) = &done {
        if !recorder.has_found() {
            return Err(error.clone().into());
        }
        recorder.broke_off(error);
    }
    Ok((recorder.report(), done))
}

/// The first Ctrl-C asks to stop, the second ends the program.
fn stop_at_interrupts(runtime: &Runtime, stopper: Stopper) {
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
            tell("stopping; once more ends at once");
            let _ = tokio::signal::ctrl_c().await;
            super::leave(130);
        }
    });
}

/// Gives what was found, and says then what it failed of.
fn give(config: &Config, (report, done): Measured, keep: &Keep) -> Outcome {
    let given = report::give(config, &report, keep);
    done?;
    given
}

fn machine(config: &Config, arguments: &BenchMachine) -> Outcome {
    let options = Options::Machine(arguments.options());
    let Options::Machine(wanted) = &options else { return Ok(()) };
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let found = measure(&options, bench::told(&options, None), async |recorder| {
        tokio::task::block_in_place(|| bench::machine(&plugins, &models, wanted, recorder));
        Ok(())
    })?;
    give(config, found, &arguments.keep)
}

fn model(config: &Config, arguments: &BenchModel) -> Outcome {
    let text = arguments.perplexity.as_deref().map(text_of).transpose()?;
    let (wanted, window) = (arguments.options(), arguments.window);
    let options = Options::Model(wanted.clone());
    let mut told = bench::told(&options, Some(config));
    if let Some((path, text)) = arguments.perplexity.as_deref().zip(text.as_deref()) {
        // No tokeniser makes more tokens than there are bytes.
        if text.len() < window as usize {
            let bytes = text.len();
            return Err(usage(format!(
                "{} is {bytes} bytes, which are less than a window of {window} tokens: give a longer text",
                path.display()
            )));
        }
        told["perplexity"] = bench::told_text(path, text, window);
    }
    let text = text.as_deref().map(|text| (text, window));
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let entry = resolve::model(&models, &arguments.model)?;
    if !entry.is_servable() {
        return Err(entry.refusal().into());
    }
    let found = measure(&options, told, async |recorder| {
        bench::model(&plugins, config, (entry.clone(), text), &wanted, recorder).await?;
        let Some(text) = text.filter(|_| !recorder.stopper().is_asked()) else { return Ok(()) };
        tokio::task::block_in_place(|| {
            // Beside the bar of the benchmark there is no room for another.
            let model = open_here(config, &models, &entry, Arc::new(|_| ()))?;
            bench::record_perplexity(&model, text, recorder)
        })
    })?;
    give(config, found, &arguments.keep)
}

fn perplexity(config: &Config, arguments: &BenchPerplexity) -> Outcome {
    let text = text_of(&arguments.text)?;
    let models = Models::new(Plugins::load(config), config);
    let entry = resolve::model(&models, &arguments.model)?;
    let progress = Progress::start(&entry.id);
    let model = open_here(config, &models, &entry, progress.listener());
    progress.finish(model.is_ok());
    let model = model?;
    let (runtime, stopper) = (runtime()?, Stopper::default());
    stop_at_interrupts(&runtime, stopper.clone());
    let goes_on = |done: usize, all: usize| {
        if done.is_multiple_of(10) || done == all || stopper.is_asked() {
            tell(&format!("window {done} of {all}"));
        }
        !stopper.is_asked()
    };
    let found = bench::perplexity(&model, &text, arguments.window, goes_on)?;
    if arguments.json {
        return report::print(
            &json!({ "version": env!("CARGO_PKG_VERSION"), "model": entry.id, "measured": found }),
        );
    }
    let Perplexity { perplexity, standard_error, tokens, window, .. } = found;
    let mut table = Table::new(&["PERPLEXITY", "STANDARD ERROR", "TOKENS", "WINDOW"]);
    let figures = [format!("{perplexity:.4}"), format!("{standard_error:.4}")];
    let counts = [tokens.to_string(), window.to_string()];
    table.row(figures.into_iter().chain(counts).collect(), Vec::new());
    Ok(table.write(&mut io::stdout().lock())?)
}

/// It works on a context of its own, without an engine: the plugin must be open here.
fn open_here(
    config: &Config,
    models: &Models,
    entry: &Entry,
    progress: OnProgress,
) -> error::Result<Arc<Model>> {
    // A library begins once in a process.
    if models.is_open_here(entry) {
        return models.load_here(entry, progress);
    }
    let mut config = config.clone();
    config.run_in_process();
    Models::new(Plugins::load(&config), &config).load_here(entry, progress)
}

fn text_of(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path)
        .map_err(|error| usage(format!("{} cannot be read as a text: {error}", path.display())))
}

fn serve(config: &Config, arguments: &BenchServe) -> Outcome {
    let named = targets::named(arguments)?;
    let options = Options::Serve(arguments.options(&named.model));
    let Options::Serve(wanted) = &options else { return Ok(()) };
    let own = if named.url.is_none() { Some(app(config, &named.model)?) } else { None };
    let mut told = bench::told(&options, own.as_ref().map(|_| config));
    told["targets"] = named.told();
    let found = measure(&options, told, async |recorder| {
        // Open as long as it is loaded.
        let door = match &own {
            Some((app, entry)) => {
                recorder.of_model(Subject::of(entry));
                if let Some(spec) = entry.plugin.as_deref().and_then(|id| app.plugins.spec(id)) {
                    recorder.used(&spec);
                }
                Some(http::privately(app).await.map_err(|error| {
                    let message = format!("no port on this machine can be opened: {error}");
                    Error::new(error::Kind::Internal, message)
                })?)
            }
            None => None,
        };
        recorder.subject = named.subject();
        bench::serve(&named.targets(door.as_ref()), wanted, recorder).await
    })?;
    let failed = found.0.requests.iter().any(|request| request.error.is_some());
    give(config, found, &arguments.keep)?;
    if failed { Err(super::Failure::Told) } else { Ok(()) }
}

/// What serves a model of this machine for the time of a benchmark, and the model.
fn app(config: &Config, model: &str) -> Outcome<(App, Entry)> {
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let entry = models.find(model)?;
    if !entry.is_servable() {
        return Err(entry.refusal().into());
    }
    Ok((App { plugins, models, config: Arc::new(config.clone()) }, entry))
}
