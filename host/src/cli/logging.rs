//! Logs, to stderr. The one place that reads an environment variable.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{Outcome, usage};
use crate::child::{CHILD_TARGET, keep_directives};
use crate::config::LogFormat;

/// Says the same as `--log`, which comes before it.
const VARIABLE: &str = "IMPETUS_LOG";

/// For a server: what it does. Which plugins were loaded stands in what it prints at the start; what the plugins
/// themselves say comes through `open`.
const WHEN_SERVING: &str = "info,impetus::plugins=error,impetus::plugins::open=info,impetus::child=info";

/// For a command that ends with its own words on what went wrong.
const ELSE: &str = "error,impetus::models=off,impetus::plugins=off";

/// Starts logging, as `--log` says, else the environment, else as fits the command.
pub(super) fn start(said: Option<String>, serves: bool, format: LogFormat) -> Outcome {
    let said = said.or_else(|| std::env::var(VARIABLE).ok()).filter(|said| !said.is_empty());
    let directives = said.as_deref().unwrap_or(if serves { WHEN_SERVING } else { ELSE });
    keep_directives(directives);
    // What children say was filtered by them.
    let filter = EnvFilter::try_new(format!("{directives},{CHILD_TARGET}=trace")).map_err(|error| {
        usage(format!(
            "the log level `{directives}` is not understood ({error}): \
             use off, error, warn, info, debug or trace, or pairs as in `impetus::engine=debug`"
        ))
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
