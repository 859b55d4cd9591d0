//! Who a plugin is. The macro fills it in from the same words as the embedded manifest.

use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec};

/// A plugin's identity. Must equal its manifest.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// Short, unique, stable: `gguf`. Lower-case letters, digits, `-` and `_`.
    pub id: RString,
    /// For people: `GGUF through llama.cpp`.
    pub name: RString,
    /// The plugin's own version (semver), apart from the contract's.
    pub version: RString,
    /// The version of this crate that the plugin was built with.
    pub api_version: RString,
    /// SPDX expression.
    pub license: RString,
    /// What it was built with and for, one line: `llama.cpp b1234, cpu`.
    pub build: RString,
    /// The formats that it can run.
    pub formats: RVec<FormatInfo>,
}

/// One format of a plugin.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct FormatInfo {
    /// Name of the format: `gguf`.
    pub id: RString,
    /// File name endings without the dot, lower case; the host asks `probe` about files that bear one.
    pub extensions: RVec<RString>,
    /// Where two plugins offer a format, the higher priority has it; the usual value is 100.
    pub priority: u32,
}
