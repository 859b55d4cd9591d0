//! What may be typed behind `impetus plugins`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Listing;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct PluginsCommand {
    #[command(flatten)]
    pub(in crate::cli) listing: Listing,
    #[command(subcommand)]
    pub(in crate::cli) action: Option<PluginsAction>,
}

/// What can be done with plugins. A running server takes over at once what is done here.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PluginsAction {
    /// List the plugins that were found, those that are not loaded with the reason; so does no command at all
    List(Listing),
    /// Take one library through all checks, the last of which runs its code in a process of its own
    Check(CheckPlugin),
    /// Check a library, copy it into the plugin folder, and record its version and hash in plugins.toml
    Add {
        /// The library
        file: PathBuf,
    },
    /// Take a plugin's library out of the plugin folder, and its pin out of plugins.toml
    Remove(PluginId),
    /// Load a plugin again that was disabled
    Enable(PluginId),
    /// Leave a plugin's library where it is, and do not load it
    Disable(PluginId),
    /// Trust a plugin's file as it is now: record its version and hash in plugins.toml
    Pin(PluginId),
    /// Make a folder with a whole plugin of a tiny format, to begin from
    New(NewPlugin),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckPlugin {
    /// The library
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) listing: Listing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PluginId {
    /// The plugin's id (see `impetus plugins`)
    pub(in crate::cli) id: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NewPlugin {
    /// Id of the plugin, of its format and of the folder: small letters, digits and `-`
    pub(in crate::cli) name: String,
    /// The folder of the crate impetus-plugin-api [default: the one this program was built with]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) plugin_api: Option<PathBuf>,
}
