//! Recognising a file: the host reads its head once and asks every plugin that might know it.

use std::path::Path;

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RSlice, RStr, RString};

/// What a plugin is asked about. Borrowed for the call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct ProbeInput<'a> {
    /// Absolute path of a file, or of a folder where a model is one. UTF-8: the host refuses other paths by name.
    pub path: RStr<'a>,
    /// Whether the path is a folder.
    pub is_dir: bool,
    /// The first 64 KiB of the file (less where it is shorter; empty for a folder), read by the host.
    pub head: RSlice<'a, u8>,
}

impl<'a> ProbeInput<'a> {
    /// The path as the standard library has it.
    pub fn path(&self) -> &'a Path {
        Path::new(self.path.as_str())
    }

    /// The file's first bytes.
    pub fn head(&self) -> &'a [u8] {
        self.head.as_slice()
    }
}

/// What a plugin says about a file, from its headers alone: `probe` never reads weights.
///
/// `summary_json` is an object; every key is optional, and the host shows what is there:
/// `architecture`, `name`, `quantization` (strings), `parameters`, `context_length`, `vocab_size`,
/// `estimated_bytes` (memory to load and run with default options), `chat_template` (bool: is there one), `license`,
/// `capabilities` (list of strings, for a model that does anything but generate text: `["embeddings"]`).
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// 0: not mine; 100: exactly mine. The highest score wins, then priority.
    pub score: u32,
    /// The format's id, one of those in [`PluginInfo`](crate::PluginInfo). Empty when the score is 0.
    pub format: RString,
    /// See above. `{}` when the score is 0.
    pub summary_json: RString,
    /// Why the file cannot be run although it is mine: "architecture `mamba2` is not supported by safetensors 1.0.0".
    pub obstacle: ROption<RString>,
}

impl ProbeResult {
    /// The file is of no format that this plugin knows.
    pub fn not_mine() -> Self {
        ProbeResult { score: 0, format: RString::new(), summary_json: "{}".into(), obstacle: ROption::RNone }
    }

    /// The file is mine and can be run. `summary_json`: see [`ProbeResult`].
    pub fn exact(format: &str, summary_json: impl Into<String>) -> Self {
        let summary_json: String = summary_json.into();
        ProbeResult {
            score: 100,
            format: format.into(),
            summary_json: summary_json.into(),
            obstacle: ROption::RNone,
        }
    }

    /// The same, but it cannot be run, for this reason.
    #[must_use]
    pub fn cannot_run(mut self, reason: impl Into<String>) -> Self {
        let reason: String = reason.into();
        self.obstacle = ROption::RSome(reason.into());
        self
    }
}
