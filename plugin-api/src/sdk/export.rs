//! `export_plugin!`: the manifest, the exported symbol and the root module of a plugin library.

use std::sync::OnceLock;

use abi_stable::std_types::{ROption, RResult, RStr};

use super::adapter::model_box;
use super::guard::guard;
use super::{FormatPlugin, Progress, log};
use crate::{
    Extension, FormatInfo, HostApi, LoadRequest, ModelBox, PluginError, PluginInfo, ProbeInput, ProbeResult,
    ProgressBox,
};

/// Makes a library a plugin: writes the manifest, exports the root symbol and wraps every call.
///
/// Once per library. The version and the licence are the crate's own (`CARGO_PKG_VERSION`, `CARGO_PKG_LICENSE`).
///
/// ```text
/// export_plugin! {
///     plugin: Parrot,                     // the type that implements FormatPlugin
///     id: "parrot",                       // a-z, 0-9, - and _
///     name: "Parrot: says its file again",
///     formats: [{ id: "parrot", extensions: ["parrot"], priority: 100 }],
/// }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (
        plugin: $plugin:ty,
        id: $id:literal,
        name: $name:literal,
        formats: [$({ id: $format:literal, extensions: [$($extension:literal),* $(,)?], priority: $priority:literal $(,)? }),+ $(,)?]
        $(,)?
    ) => {
        const _: () = {
            use $crate::__private::{self as p, manifest};

            const PARTS: &[&[&str]] = &[
                &[
                    "{\"manifest\":1,\"id\":\"", manifest::checked($id),
                    "\",\"version\":\"", manifest::checked(env!("CARGO_PKG_VERSION")),
                    "\",\"api_version\":\"", $crate::API_VERSION,
                    "\",\"target\":\"", manifest::TARGET,
                    "\",\"panic\":\"", manifest::PANIC,
                    "\",\"formats\":[",
                ],
                &[$(
                    "{\"id\":\"", manifest::checked($format), "\",\"extensions\":[",
                    $("\"", manifest::checked($extension), "\",",)*
                    "],\"priority\":", stringify!($priority), "},",
                )+],
                &["],\"cpu_features\":["],
                manifest::CPU_FEATURES,
                &["]}"],
            ];
            const LEN: usize = manifest::joined_len(PARTS);

            #[allow(unsafe_code)]
            #[used]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__impetus"))]
            #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".impetus.plugin"))]
            static MANIFEST: [u8; LEN] = manifest::joined::<LEN>(PARTS);

            static HOLDER: p::Holder<$plugin> = p::Holder::new(p::Description {
                id: $id,
                name: $name,
                version: env!("CARGO_PKG_VERSION"),
                license: env!("CARGO_PKG_LICENSE"),
                formats: &[$(($format, &[$($extension),*], $priority)),+],
            });

            extern "C" fn manifest_bytes() -> p::RSlice<'static, u8> {
                p::RSlice::from_slice(&MANIFEST)
            }
            extern "C" fn info() -> $crate::PluginInfo {
                HOLDER.info()
            }
            extern "C" fn init(host: $crate::HostApi, options: p::RStr<'_>) -> p::RResult<(), $crate::PluginError> {
                HOLDER.init(host, options)
            }
            extern "C" fn probe(
                input: &$crate::ProbeInput<'_>,
            ) -> p::RResult<$crate::ProbeResult, $crate::PluginError> {
                HOLDER.probe(input)
            }
            extern "C" fn load_model(
                request: &$crate::LoadRequest<'_>,
                progress: $crate::ProgressBox,
            ) -> p::RResult<$crate::ModelBox, $crate::PluginError> {
                HOLDER.load_model(request, progress)
            }
            extern "C" fn extension(name: p::RStr<'_>) -> p::ROption<$crate::Extension> {
                HOLDER.extension(name)
            }
            fn root() -> $crate::PluginRef {
                p::leak($crate::PluginModule { manifest: manifest_bytes, info, init, probe, load_model, extension })
            }
            extern "C" fn constructor() -> p::RootModuleResult {
                p::call_root_module_loader(root)
            }

            #[allow(unsafe_code)]
            #[unsafe(export_name = "impetus_plugin_root")]
            // SAFETY: `constructor` answers with a `PluginRef`, as `from_constructor` requires.
            pub static ROOT: p::LibHeader =
                unsafe { p::LibHeader::from_constructor::<$crate::PluginRef>(constructor, p::CheckTypeLayout::Yes) };
        };
    };
}

/// What the macro was told, for [`PluginInfo`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The plugin's id.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Its own version.
    pub version: &'static str,
    /// Its licence.
    pub license: &'static str,
    /// Formats: id, extensions, priority.
    pub formats: &'static [(&'static str, &'static [&'static str], u32)],
}

/// The plugin value of a library, made by `init`.
#[doc(hidden)]
pub struct Holder<P> {
    description: Description,
    plugin: OnceLock<P>,
}

impl<P: FormatPlugin> Holder<P> {
    /// An empty one.
    pub const fn new(description: Description) -> Self {
        Holder { description, plugin: OnceLock::new() }
    }

    /// [`PluginModule::info`](crate::PluginModule).
    pub fn info(&self) -> PluginInfo {
        let format = |&(id, extensions, priority): &(&str, &[&str], u32)| FormatInfo {
            id: id.into(),
            extensions: extensions.iter().map(|&text| text.into()).collect(),
            priority,
        };
        PluginInfo {
            id: self.description.id.into(),
            name: self.description.name.into(),
            version: self.description.version.into(),
            api_version: crate::API_VERSION.into(),
            license: self.description.license.into(),
            build: guard("build", || Ok(P::build())).unwrap_or_default().into(),
            formats: self.description.formats.iter().map(format).collect(),
        }
    }

    /// [`PluginModule::init`](crate::PluginModule).
    pub fn init(&self, host: HostApi, options: RStr<'_>) -> RResult<(), PluginError> {
        let start = || {
            if self.plugin.get().is_some() {
                return Err(PluginError::invalid_argument("init was called a second time"));
            }
            log::forward_to(host);
            let plugin = P::init(host, options.as_str())?;
            self.plugin
                .set(plugin)
                .map_err(|_| PluginError::invalid_argument("init was called twice at once"))
        };
        guard("init", start).into()
    }

    /// [`PluginModule::probe`](crate::PluginModule).
    pub fn probe(&self, input: &ProbeInput<'_>) -> RResult<ProbeResult, PluginError> {
        guard("probe", || self.started()?.probe(input)).into()
    }

    /// [`PluginModule::load_model`](crate::PluginModule).
    pub fn load_model(
        &self,
        request: &LoadRequest<'_>,
        progress: ProgressBox,
    ) -> RResult<ModelBox, PluginError> {
        let progress = Progress(progress);
        guard("load_model", || model_box(self.started()?.load_model(request, progress)?)).into()
    }

    /// [`PluginModule::extension`](crate::PluginModule).
    pub fn extension(&self, name: RStr<'_>) -> ROption<Extension> {
        guard("extension", || Ok(self.started()?.extension(name.as_str()))).unwrap_or(None).into()
    }

    fn started(&self) -> Result<&P, PluginError> {
        self.plugin
            .get()
            .ok_or_else(|| PluginError::invalid_argument("the plugin was not started: call init first"))
    }
}
