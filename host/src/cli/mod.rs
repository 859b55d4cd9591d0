//! The command line: from words to work to an exit code. The only place that writes to the terminal.
//!
//! Answers and tables go to stdout, everything else to stderr.

mod answer;
mod args;
mod bench;
mod chat;
mod inspect;
mod lists;
mod logging;
mod new_plugin;
mod output;
mod plugins;
mod progress;
mod ps;
mod resolve;
mod run;
mod serve;
mod settings;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Parser;

use self::args::{Cli, Command, Role};
use self::output::tell;
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::plugins::{bencher, prober, trial};
use crate::worker;

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// The thing failed, or was asked for wrongly.
    Error(Error),
    /// It was told already; only the exit code is left to say.
    Told,
    /// Nobody reads our output any more, as behind `| head`: no reason to complain.
    Closed,
}

/// The result of a command.
type Outcome<T = ()> = Result<T, Failure>;

/// Does what the process was started for, and ends it.
pub fn main() -> ! {
    let code = match dispatch(&Cli::parse()) {
        Ok(()) | Err(Failure::Closed) => 0,
        Err(Failure::Told) => 1,
        Err(Failure::Error(error)) => {
            tell(&complaint(&error));
            exit_code(&error)
        }
    };
    leave(code)
}

fn dispatch(cli: &Cli) -> Outcome {
    if let Command::Engine(engine) = &cli.command {
        match engine.role {
            Role::Model => worker::serve()?,
            Role::Probe => prober::serve()?,
            Role::Trial => trial::answer()?,
            Role::Bench => bencher::serve()?,
        }
        return Ok(());
    }
    let serves = matches!(cli.command, Command::Serve(_));
    let overrides = match &cli.command {
        Command::Serve(serve) => serve.extend(cli.common.overrides()),
        Command::Run(_)
        | Command::Models(_)
        | Command::Plugins(_)
        | Command::Inspect(_)
        | Command::Engine(_)
        | Command::Ps(_)
        | Command::Bench(_) => cli.common.overrides(),
    };
    let config = Config::load(overrides.clone())?;
    logging::start(cli.common.log.clone(), serves, config.server.log_format)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    match &cli.command {
        Command::Serve(_) => serve::serve(config, overrides),
        Command::Run(run) => run::run(&config, run),
        Command::Models(listing) => lists::models(&config, listing.json),
        Command::Plugins(command) => plugins::plugins(&config, command),
        Command::Inspect(inspect) => inspect::inspect(&config, inspect),
        Command::Bench(arguments) => bench::bench(&config, arguments),
        Command::Ps(arguments) => ps::ps(&config, arguments),
        // Begun above, before there was a log or a configuration.
        Command::Engine(_) => Ok(()),
    }
}

/// Ends the process without running destructors: an engine's thread may be in the middle of a step, and C++'s would
/// take the ground from under it. The system takes back memory and files all the same.
fn leave(code: i32) -> ! {
    let _ = io::stdout().flush();
    signal_hook::low_level::exit(code)
}

/// 2 for what the user can mend by typing something else, 1 for the rest.
fn exit_code(error: &Error) -> i32 {
    match error.kind {
        Kind::Configuration => 2,
        Kind::InvalidRequest
        | Kind::Unsupported
        | Kind::InvalidGrammar
        | Kind::ContextLengthExceeded
        | Kind::TemplateRefused
        | Kind::TemplateBroken
        | Kind::ModelNotFound
        | Kind::PluginUnavailable
        | Kind::LoadFailed
        | Kind::QueueFull
        | Kind::DeadlineExceeded
        | Kind::InsufficientMemory
        | Kind::EngineCrashed
        | Kind::EngineStopped
        | Kind::ModelTooLarge
        | Kind::RequestCrashes
        | Kind::ModelCooling
        | Kind::ShuttingDown
        | Kind::Internal => 1,
    }
}

/// An error for the person at the terminal: to them, unlike to a client, the detail is of use.
fn complaint(error: &Error) -> String {
    let mut text = format!("error: {}", error.message);
    for line in error.detail.iter().flat_map(|detail| detail.lines()) {
        let _ = write!(text, "\n    {line}");
    }
    text
}

/// A command line that is wrong in a way that clap cannot see.
fn usage(message: impl Into<String>) -> Failure {
    Failure::Error(Error::new(Kind::Configuration, message))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing to stdout: nothing else here gives a bare I/O error.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::Error(Error::new(Kind::Internal, format!("the output cannot be written: {error}")))
    }
}
