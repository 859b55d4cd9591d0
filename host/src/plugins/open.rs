//! Opens a library and checks what it brings: header, layout, identity; then starts it.
//!
//! `RootModule::load_from_*` is never used: it remembers one library per root type, so that the second plugin would
//! silently be the first. A library is never closed again: its code may still be referenced.

use std::path::Path;

use impetus_plugin_api::abi_stable::library::{AbiHeaderRef, LibraryError};
use impetus_plugin_api::abi_stable::std_types::{ROption, RStr};
use impetus_plugin_api::manifest::ROOT_SYMBOL;
use impetus_plugin_api::{API_VERSION, Extension, HostApi, LogLevel, PluginInfo, PluginRef};

use super::inspect::Manifest;
use super::record::{Refusal, State};

/// Opens the library whose manifest was read from the file, and proves that it is what the manifest says.
pub(super) fn open(path: &Path, manifest: &Manifest) -> Result<(PluginRef, PluginInfo), Refusal> {
    let header = header(path)?;
    let library = header.upgrade().map_err(|error| abi_mismatch(manifest, &error))?;
    if library.layout().is_none() {
        return Err(Refusal::new(
            State::AbiMismatch,
            "it switched the layout check off",
            "build it with impetus-plugin-api's `export_plugin!`",
        ));
    }
    let plugin = library.init_root_module::<PluginRef>().map_err(|error| abi_mismatch(manifest, &error))?;
    let info = plugin.info()();
    check_identity(manifest, plugin, &info)?;
    Ok((plugin, info))
}

#[expect(unsafe_code, reason = "opening a library runs its code: this is the border")]
fn header(path: &Path) -> Result<AbiHeaderRef, Refusal> {
    let failed = |error: libloading::Error| {
        let text = error_chain(&error);
        Refusal::new(State::LoadFailed, format!("the system cannot open it: {text}"), hint_for(&text))
    };
    // SAFETY: the file passed the trust check, so its initialisers are code that the user chose to run.
    let library = unsafe { open_now_local(path) }.map_err(failed)?;
    // SAFETY: the manifest was found in the file, so the symbol is the `LibHeader` that `export_plugin!` wrote. It
    // starts with an `AbiHeader`, which `upgrade` judges before anything behind it is touched.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) };
    let header = header.map(|symbol| *symbol).map_err(failed)?;
    std::mem::forget(library);
    Ok(header)
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "opening a library runs its code: this is the border")]
unsafe fn open_now_local(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    // SAFETY: the caller answers for the library's initialisers.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
#[expect(unsafe_code, reason = "opening a library runs its code: this is the border")]
unsafe fn open_now_local(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller answers for the library's initialisers.
    unsafe { libloading::Library::new(path) }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn hint_for(text: &str) -> &'static str {
    if text.contains("cannot open shared object file") {
        "install the missing library, or get a plugin that is linked statically"
    } else {
        "build the plugin on this machine, or get one for this system's version"
    }
}

/// abi_stable's own text is many lines: the first that says something is the reason, all of it the detail.
fn abi_mismatch(manifest: &Manifest, error: &LibraryError) -> Refusal {
    let detail = error.to_string();
    if let LibraryError::RootModule { .. } = error {
        let reason = "its root module could not be made: the plugin's code failed while it was opened";
        return Refusal::new(State::LoadFailed, reason, "report it to the plugin's author")
            .with_detail(detail);
    }
    let found = &manifest.api_version;
    let reason = match error {
        LibraryError::InvalidAbiHeader(_) => "it is built with another version of abi_stable".to_owned(),
        _ => format!("its plugin-api {found} lays out types differently from this host's {API_VERSION}"),
    };
    let hint = match (semver::Version::parse(found), semver::Version::parse(API_VERSION)) {
        (Ok(theirs), Ok(ours)) if theirs > ours => "upgrade impetus: the plugin is newer".to_owned(),
        (Ok(theirs), Ok(ours)) if theirs < ours => {
            "upgrade the plugin: it is older than this host".to_owned()
        }
        _ => format!("upgrade the plugin: rebuild it against the published plugin-api {API_VERSION}"),
    };
    Refusal::new(State::AbiMismatch, reason, hint).with_detail(detail)
}

/// The running code must say what the file said: id, version, contract, formats.
fn check_identity(manifest: &Manifest, plugin: PluginRef, info: &PluginInfo) -> Result<(), Refusal> {
    let differs = |what: &str, manifest: &str, code: &str| {
        Err(Refusal::new(
            State::ManifestMismatch,
            format!("its manifest says {what} `{manifest}`, its code `{code}`"),
            "do not trust this library; get it from its author again",
        ))
    };
    let embedded: Option<Manifest> = serde_json::from_slice(plugin.manifest()().as_slice()).ok();
    if embedded.as_ref() != Some(manifest) {
        return differs("one thing in the file", &manifest.id, "another when running");
    }
    let pairs = [
        ("id", &manifest.id, info.id.as_str()),
        ("version", &manifest.version, info.version.as_str()),
        ("api_version", &manifest.api_version, info.api_version.as_str()),
    ];
    for (what, in_manifest, in_code) in pairs {
        if in_manifest != in_code {
            return differs(what, in_manifest, in_code);
        }
    }
    let in_manifest: Vec<&str> = manifest.formats.iter().map(|format| format.id.as_str()).collect();
    let in_code: Vec<&str> = info.formats.iter().map(|format| format.id.as_str()).collect();
    if in_manifest != in_code {
        return differs("formats", &in_manifest.join(", "), &in_code.join(", "));
    }
    Ok(())
}

/// Calls the plugin's `init` with the host's services and its options from plugins.toml, a JSON object.
pub(super) fn start(plugin: PluginRef, id: &str, options: &str) -> Result<(), Refusal> {
    let hint = format!("correct [plugin.{id}.options] in plugins.toml");
    plugin.init()(host_api(id), options.into()).into_result().map_err(|error| {
        let refusal =
            Refusal::new(State::InitFailed, format!("it refused to start: {}", error.message), hint);
        match error.detail {
            ROption::RSome(detail) => refusal.with_detail(detail),
            ROption::RNone => refusal,
        }
    })
}

/// The handle is the plugin's id, which lives as long as the process, as the plugin does.
fn host_api(id: &str) -> HostApi {
    let handle: &'static PluginHandle = Box::leak(Box::new(PluginHandle { id: id.to_owned() }));
    HostApi {
        handle: std::ptr::from_ref(handle) as usize,
        max_log_level: max_log_level(),
        log,
        thread_budget,
        extension,
    }
}

struct PluginHandle {
    id: String,
}

fn max_log_level() -> LogLevel {
    use tracing::level_filters::LevelFilter;

    match LevelFilter::current().into_level() {
        Some(tracing::Level::TRACE) => LogLevel::Trace,
        Some(tracing::Level::DEBUG) => LogLevel::Debug,
        Some(tracing::Level::INFO) => LogLevel::Info,
        Some(tracing::Level::WARN) => LogLevel::Warn,
        Some(tracing::Level::ERROR) | None => LogLevel::Error,
    }
}

#[expect(unsafe_code, reason = "the handle comes back across the border as a number")]
extern "C" fn log(handle: usize, level: LogLevel, target: RStr<'_>, message: RStr<'_>) {
    // SAFETY: `handle` is the address of a leaked `PluginHandle`: the contract gives the plugin no other, and no host
    // service takes a handle that a plugin made up.
    let plugin = unsafe { &*(handle as *const PluginHandle) }.id.as_str();
    let (target, message) = (target.as_str(), message.as_str());
    match level {
        LogLevel::Error => tracing::error!(plugin, "{target}: {message}"),
        LogLevel::Warn => tracing::warn!(plugin, "{target}: {message}"),
        LogLevel::Info => tracing::info!(plugin, "{target}: {message}"),
        LogLevel::Debug => tracing::debug!(plugin, "{target}: {message}"),
        LogLevel::Trace => tracing::trace!(plugin, "{target}: {message}"),
    }
}

extern "C" fn thread_budget(_: usize) -> u32 {
    std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32)
}

extern "C" fn extension(_: usize, _: RStr<'_>) -> ROption<Extension> {
    ROption::RNone
}
