//! What may be typed. Words alone: what they mean is checked where they are used.

mod plugins;
mod run;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

pub(super) use self::plugins::{NewPlugin, PluginsAction, PluginsCommand};
pub(super) use self::run::Run;
use super::bench::args::Bench;
use crate::config::{LogFormat, Overrides};

static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!("{} (plugin-api {})", env!("CARGO_PKG_VERSION"), impetus_plugin_api::API_VERSION)
});

const AFTER_HELP: &str = "\
Examples:
  impetus serve                            an OpenAI-compatible server on http://127.0.0.1:8484
  impetus models                           what can be served, and what cannot and why
  impetus run my-model                     chat in the terminal
  impetus run ./my.gguf \"Name a colour\"    one answer, from a file anywhere
  cat notes.txt | impetus run my-model     the prompt from a pipe
  impetus inspect ./my.gguf                what a model file is, without loading it
  impetus plugins                          what became of each plugin, and why
  impetus plugins add ./libmine.so         check a plugin and install it
  impetus bench machine                    what memory, processor and disk allow
  impetus bench model my-model             how fast it is on this machine
  impetus ps                               what a running server has loaded

Exit codes:
  0  it worked
  1  it failed: the model, the plugin or the system; the message says which
  2  the command line or plugins.toml is wrong";

/// Runs language models from files on this machine. Each model format is a plugin: a library in the plugin folder.
#[derive(Debug, Parser)]
#[command(name = "impetus", version = VERSION.as_str(), after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Settings file [default: plugins.toml in the working folder, where there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "For every command")]
    config: Option<PathBuf>,
    /// Search this folder for models, not the settings file's; may be given several times
    #[arg(long = "models", global = true, value_name = "DIR", help_heading = "For every command")]
    model_folders: Vec<PathBuf>,
    /// Load plugins from this folder, not the settings file's
    #[arg(long = "plugins", global = true, value_name = "DIR", help_heading = "For every command")]
    plugin_folder: Option<PathBuf>,
    /// Log to stderr: off, error, warn, info, debug or trace [env: IMPETUS_LOG]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "For every command")]
    pub(super) log: Option<String>,
    /// Write log lines for people or as JSON, not as the settings file says
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "For every command")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answer HTTP requests until stopped
    Serve(Serve),
    /// Chat with a model in the terminal, or get one answer
    Run(Box<Run>),
    /// List the models that were found, those that cannot be served with the reason
    Models(Listing),
    /// List, check, add and remove plugins
    Plugins(PluginsCommand),
    /// Say what a model file or folder is, or what is wrong with it, without loading it
    Inspect(Inspect),
    /// Measure the machine, a model or servers; keep and compare what was measured
    #[command(subcommand)]
    Bench(Bench),
    /// Say what a running server has loaded: processes, memory, speed
    Ps(Ps),
    /// What a server starts for itself: a process for a plugin's code
    #[command(hide = true)]
    Engine(EngineRole),
}

#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Address of the server [default: the one of the settings file, on this machine]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// An API key of the server, where it wants one
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EngineRole {
    #[command(subcommand)]
    pub(super) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(super) enum Role {
    /// Run the engine of one model
    Model,
    /// Look at model files
    Probe,
    /// Open a plugin, to see how that goes
    Trial,
    /// Measure a plugin's kernels
    Bench,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on [default: 127.0.0.1, this machine alone]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Port to listen on; 0 lets the system choose [default: 8484]
    #[arg(long)]
    port: Option<u16>,
    /// Listen beyond this machine although no API key is set: whoever reaches the address can use the server
    #[arg(long)]
    open: bool,
}

#[derive(Debug, Args)]
pub(super) struct Listing {
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The model file or folder; the id of a model also does
    pub(super) file: String,
    /// JSON instead of lines
    #[arg(long)]
    pub(super) json: bool,
}

impl Common {
    /// What these words say over the settings file.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            model_folders: self.model_folders.clone(),
            plugin_folder: self.plugin_folder.clone(),
            log_format: self.log_format,
            ..Overrides::default()
        }
    }
}

impl Serve {
    /// Adds what `serve` alone may say.
    pub(super) fn extend(&self, overrides: Overrides) -> Overrides {
        Overrides { host: self.host, port: self.port, open: self.open, ..overrides }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn folders_may_stand_before_and_after_the_command() {
        for line in [["impetus", "--models", "a", "serve"], ["impetus", "serve", "--models", "a"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.common.overrides().model_folders, [PathBuf::from("a")]);
        }
    }

    #[test]
    fn a_prompt_and_its_flags_are_read() {
        let line = ["impetus", "run", "m", "hi", "--temperature", "0", "--stop", "a", "--stop", "b"];
        let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!("not a run") };
        assert_eq!((run.prompt.as_deref(), run.stop.join(",")), (Some("hi"), "a,b".to_owned()));
        let settings = run.settings(&crate::sampling::Recommended::default());
        let top_k = settings.filters().unwrap().top_k;
        assert_eq!((settings.temperature, top_k, settings.repeat_penalty), (0.0, 40, 1.0));
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            &["impetus"][..],
            &["impetus", "run"],
            &["impetus", "run", "m", "--max-tokens", "0"],
            &["impetus", "run", "m", "--stop", ""],
            &["impetus", "run", "m", "--raw", "--system", "s"],
            &["impetus", "serve", "--host", "localhost:1"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
