//! `impetus bench`: measures a model in this process, or servers by their addresses, and prints what was measured.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::args::{Bench, BenchModel, BenchPerplexity, BenchServe};
use super::output::{Table, tell};
use super::progress::Progress;
use super::run::{load_model, runtime};
use super::{Outcome, resolve, usage};
use crate::bench::{self, Comparison, Load, Metric, Samples, Speeds, Target};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::models::Models;
use crate::plugins::Plugins;

/// Measures.
pub(super) fn bench(config: &Config, arguments: &Bench) -> Outcome {
    match arguments {
        Bench::Model(arguments) => model(config, arguments),
        Bench::Perplexity(arguments) => perplexity(config, arguments),
        Bench::Serve(arguments) => serve(arguments),
    }
}

fn model(config: &Config, arguments: &BenchModel) -> Outcome {
    let wanted = Speeds {
        prompt_tokens: arguments.prompt,
        generated_tokens: arguments.generate,
        depth: arguments.depth,
        runs: arguments.runs,
    };
    let runtime = runtime()?;
    // Random prompts lead to answers that repeat themselves: guesses would be right as in no real answer.
    let mut config = config.clone();
    config.engine.speculate = false;
    let models = Models::new(Plugins::load(&config), &config);
    let loaded = runtime.block_on(load_model(&models, &arguments.model))?;
    let told = |run| tell(&format!("run {run} of {}", wanted.runs));
    let vocab_size = loaded.vocab_size();
    let figures = runtime.block_on(bench::speeds(&loaded.engine, vocab_size, wanted, told))?;
    if arguments.json {
        let report = json!({ "version": env!("CARGO_PKG_VERSION"), "model": loaded.id, "measured": wanted, "samples": figures });
        return print(&report);
    }
    let mut table = Table::new(&["WHAT", "TOKENS/S", "SCATTER"]);
    let rows = [
        (format!("prefill of {} tokens", wanted.prompt_tokens), &figures.prefill_tokens_per_second),
        (
            format!("decode of {} tokens at depth {}", wanted.generated_tokens, wanted.depth),
            &figures.decode_tokens_per_second,
        ),
    ];
    for (what, samples) in rows {
        table.row(vec![what, figure(samples.median(), 1.0, 1), scatter(samples)], Vec::new());
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

fn perplexity(config: &Config, arguments: &BenchPerplexity) -> Outcome {
    let text = std::fs::read_to_string(&arguments.text)
        .map_err(|error| usage(format!("{} cannot be read as a text: {error}", arguments.text.display())))?;
    // It works on a context of its own, without an engine: the plugin must be open here.
    let mut config = config.clone();
    config.run_in_process();
    let models = Models::new(Plugins::load(&config), &config);
    let entry = resolve::model(&models, &arguments.model)?;
    let progress = Progress::start(&entry.id);
    let model = models.load_here(&entry, progress.listener());
    progress.finish(model.is_ok());
    let model = model?;
    let told = |done: usize, all: usize| {
        if done.is_multiple_of(10) || done == all {
            tell(&format!("window {done} of {all}"));
        }
    };
    let found = bench::perplexity(&model, &text, arguments.window, told)?;
    if arguments.json {
        let report = json!({ "version": env!("CARGO_PKG_VERSION"), "model": entry.id, "measured": found });
        return print(&report);
    }
    let mut table = Table::new(&["PERPLEXITY", "STANDARD ERROR", "TOKENS", "WINDOW"]);
    let figures = [format!("{:.4}", found.perplexity), format!("{:.4}", found.standard_error)];
    let counts = [found.tokens.to_string(), found.window.to_string()];
    table.row(figures.into_iter().chain(counts).collect(), Vec::new());
    Ok(table.write(&mut io::stdout().lock())?)
}

fn serve(arguments: &BenchServe) -> Outcome {
    let mut targets = vec![target(arguments, &arguments.url, arguments.body.as_deref())?];
    if arguments.against.is_some() || arguments.against_body.is_some() {
        let url = arguments.against.as_ref().unwrap_or(&arguments.url);
        targets.push(target(arguments, url, arguments.against_body.as_deref())?);
    }
    let load = Load {
        clients: arguments.clients,
        requests: arguments.requests.unwrap_or(arguments.clients * 2),
        prompt_words: arguments.prompt_words,
        shared_words: arguments.shared_words,
        turns: arguments.turns,
        max_tokens: arguments.max_tokens,
        rounds: arguments.rounds,
        seed: arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) << 32),
    };
    let told = |round| tell(&format!("round {round} of {}", load.rounds));
    let measured = runtime()?.block_on(bench::measure(&targets, load, told));
    let comparison = measured.map_err(|message| Error::new(Kind::Internal, message))?;
    if arguments.json {
        print(&json!({
            "version": env!("CARGO_PKG_VERSION"), "targets": targets, "load": load,
            "samples": comparison.figures, "errors": comparison.errors,
        }))?;
    } else {
        write_comparison(&targets, &comparison)?;
    }
    for (target, errors) in targets.iter().zip(&comparison.errors) {
        for (error, times) in errors {
            tell(&format!("{}: {times} requests failed: {error}", target.url));
        }
    }
    if comparison.errors.iter().all(|errors| errors.is_empty()) { Ok(()) } else { Err(super::Failure::Told) }
}

fn write_comparison(targets: &[Target], comparison: &Comparison) -> Outcome {
    const LINES: [(Metric, &str, f64, usize); 8] = [
        (Metric::OutputTokensPerSecond, "output tokens/s", 1.0, 1),
        (Metric::RequestsPerSecond, "requests/s", 1.0, 2),
        (Metric::TtftP50, "TTFT p50, ms", 1e3, 0),
        (Metric::TtftP95, "TTFT p95, ms", 1e3, 0),
        (Metric::ItlP50, "ITL p50, ms", 1e3, 1),
        (Metric::ItlP99, "ITL p99, ms", 1e3, 1),
        (Metric::LatencyP50, "latency p50, ms", 1e3, 0),
        (Metric::LatencyP95, "latency p95, ms", 1e3, 0),
    ];
    let mut headings = vec!["MEDIAN OF ROUNDS"];
    for target in targets {
        headings.extend([target.url.as_str(), "SCATTER"]);
    }
    if targets.len() > 1 {
        headings.push("RATIO");
    }
    let mut table = Table::new(&headings);
    let none = Samples::default();
    for (metric, name, scale, digits) in LINES {
        let mut cells = vec![name.to_owned()];
        for figures in &comparison.figures {
            let samples = figures.get(&metric).unwrap_or(&none);
            cells.extend([figure(samples.median(), scale, digits), scatter(samples)]);
        }
        if targets.len() > 1 {
            cells.push(figure(comparison.ratio(metric), 1.0, 3));
        }
        table.row(cells, Vec::new());
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

fn figure(value: Option<f64>, scale: f64, digits: usize) -> String {
    value.map_or_else(|| "not available".to_owned(), |value| format!("{:.digits$}", value * scale))
}

/// The interquartile range as a share of the median.
fn scatter(samples: &Samples) -> String {
    let share = samples.interquartile_range().zip(samples.median()).map(|(range, median)| range / median);
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn target(arguments: &BenchServe, url: &str, body: Option<&str>) -> Outcome<Target> {
    let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
    if !arguments.remote && !is_loopback(&url) {
        return Err(usage(format!(
            "{url} is not this machine: load on somebody's server is not for tests; say --remote if it is yours"
        )));
    }
    let body: Map<String, Value> = serde_json::from_str(body.unwrap_or("{}"))
        .map_err(|error| usage(format!("--body and --against-body must be JSON objects: {error}")))?;
    Ok(Target { url, model: arguments.model.clone(), body })
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn print(report: &Value) -> Outcome {
    Ok(writeln!(io::stdout().lock(), "{report:#}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:8484", true),
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://192.168.0.1", false),
            ("http://localhost.example.org", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}
