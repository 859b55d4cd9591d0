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

use self::args::{Bench, BenchMachine, BenchModel, BenchPerplexity, BenchServe};
use self::bar::Bar;
use super::output::{Table, tell};
use super::progress::Progress;
use super::run::runtime;
use super::{Outcome, resolve, usage};
use crate::bench::{self, Options, Perplexity, Recorder, Report, Stopper};
use crate::config::Config;
use crate::error::{self, Error};
use crate::http::{self, App};
use crate::models::{Entry, Models};
use crate::plugins::Plugins;

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

/// Begins a benchmark that can be stopped and shows how far it is.
fn measure(
    options: &Options,
    told: Value,
    work: impl AsyncFnOnce(&mut Recorder) -> error::Result<()>,
) -> Outcome<Report> {
    options.check().map_err(|error| usage(error.message))?;
    let (stopper, bar) = (Stopper::default(), Bar::start());
    let mut recorder = Recorder::new(options.kind(), told, stopper.clone(), bar.listener());
    let runtime = runtime()?;
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
            tell("stopping; once more ends at once");
            let _ = tokio::signal::ctrl_c().await;
            super::leave(130);
        }
    });
    let done = runtime.block_on(work(&mut recorder));
    bar.finish();
    done?;
    Ok(recorder.report())
}

fn machine(config: &Config, arguments: &BenchMachine) -> Outcome {
    let options = Options::Machine(arguments.options());
    let Options::Machine(wanted) = &options else { return Ok(()) };
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let found = measure(&options, told(&options), async |recorder| {
        tokio::task::block_in_place(|| bench::machine(&plugins, &models, wanted, recorder));
        Ok(())
    })?;
    report::give(config, &found, &arguments.keep)
}

fn model(config: &Config, arguments: &BenchModel) -> Outcome {
    let text = arguments.perplexity.as_deref().map(text_of).transpose()?;
    let wanted = arguments.options();
    let options = Options::Model(wanted.clone());
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let entry = resolve::model(&models, &arguments.model)?;
    if !entry.is_servable() {
        return Err(entry.refusal().into());
    }
    let found = measure(&options, told(&options), async |recorder| {
        let loading: crate::models::OnProgress = Arc::new(|_| ());
        bench::model(&plugins, config, (entry.clone(), loading), &wanted, recorder).await?;
        let Some(text) = &text else { return Ok(()) };
        tokio::task::block_in_place(|| quality(config, &entry, text, recorder))
    })?;
    report::give(config, &found, &arguments.keep)
}

/// The perplexity, beside the speed.
fn quality(config: &Config, entry: &Entry, text: &str, recorder: &mut Recorder) -> error::Result<()> {
    const WINDOW: u32 = 512;
    let stopper = recorder.stopper().clone();
    let stops = move || stopper.is_asked();
    if stops() {
        return Ok(());
    }
    let model = open_here(config, entry)?;
    let found = bench::perplexity(&model, text, WINDOW, |_, _| !stops())?;
    bench::perplexity_figures(&found).into_iter().for_each(|figure| recorder.add(figure));
    Ok(())
}

fn perplexity(config: &Config, arguments: &BenchPerplexity) -> Outcome {
    let text = text_of(&arguments.text)?;
    let models = Models::new(Plugins::load(config), config);
    let entry = resolve::model(&models, &arguments.model)?;
    let model = open_here(config, &entry)?;
    let told = |done: usize, all: usize| {
        if done.is_multiple_of(10) || done == all {
            tell(&format!("window {done} of {all}"));
        }
        true
    };
    let found = bench::perplexity(&model, &text, arguments.window, told)?;
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
fn open_here(config: &Config, entry: &Entry) -> error::Result<Arc<crate::plugins::model::Model>> {
    let mut config = config.clone();
    config.run_in_process();
    let models = Models::new(Plugins::load(&config), &config);
    let progress = Progress::start(&entry.id);
    let model = models.load_here(entry, progress.listener());
    progress.finish(model.is_ok());
    model
}

fn text_of(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path)
        .map_err(|error| usage(format!("{} cannot be read as a text: {error}", path.display())))
}

fn serve(config: &Config, arguments: &BenchServe) -> Outcome {
    let named = targets::named(arguments)?;
    let options = Options::Serve(arguments.options(&named.model));
    let Options::Serve(wanted) = &options else { return Ok(()) };
    let app = if named.url.is_none() { Some(app(config, &named.model)?) } else { None };
    let mut told = told(&options);
    told["targets"] = named.told();
    let found = measure(&options, told, async |recorder| {
        // Open as long as it is loaded.
        let own = match &app {
            Some(app) => Some(http::privately(app).await.map_err(|error| {
                Error::new(error::Kind::Internal, format!("no port on this machine can be opened: {error}"))
            })?),
            None => None,
        };
        recorder.subject = named.subject();
        bench::serve(&named.targets(own.as_ref()), wanted, recorder).await
    })?;
    report::give(config, &found, &arguments.keep)?;
    let failed = found.requests.iter().any(|request| request.error.is_some());
    if failed { Err(super::Failure::Told) } else { Ok(()) }
}

/// What serves a model of this machine for the time of a benchmark.
fn app(config: &Config, model: &str) -> Outcome<App> {
    let plugins = Plugins::load(config);
    let models = Models::new(Arc::clone(&plugins), config);
    let entry = models.find(model)?;
    if !entry.is_servable() {
        return Err(entry.refusal().into());
    }
    Ok(App { plugins, models, config: Arc::new(config.clone()) })
}

fn told(options: &Options) -> Value {
    serde_json::to_value(options).unwrap_or_default()
}
