//! The root module: what the one exported symbol of a plugin library leads to.

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RResult, RSlice, RStr};

use crate::{
    Extension, HostApi, LoadRequest, ModelBox, PluginError, PluginInfo, ProbeInput, ProbeResult, ProgressBox,
};

/// The functions of a plugin. Written by [`export_plugin!`](crate::export_plugin), called by the host.
///
/// Frozen within a major: a field more or fewer is refused by the layout check. What comes later is an
/// [`Extension`].
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
pub struct PluginModule {
    /// The embedded manifest's bytes, as in the library file.
    pub manifest: extern "C" fn() -> RSlice<'static, u8>,
    /// Who the plugin is. Callable before `init`.
    pub info: extern "C" fn() -> PluginInfo,
    /// Called once, before everything below, with the host's services and the plugin's options (a JSON object).
    pub init: extern "C" fn(HostApi, RStr<'_>) -> RResult<(), PluginError>,
    /// Recognises a file from its headers.
    pub probe: extern "C" fn(&ProbeInput<'_>) -> RResult<ProbeResult, PluginError>,
    /// Loads a model, which then belongs to the host.
    pub load_model: extern "C" fn(&LoadRequest<'_>, ProgressBox) -> RResult<ModelBox, PluginError>,
    /// A named table beyond this struct.
    #[sabi(last_prefix_field)]
    pub extension: extern "C" fn(RStr<'_>) -> ROption<Extension>,
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "impetus_plugin";
    const NAME: &'static str = "impetus_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
