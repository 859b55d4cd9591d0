//! What a library says of itself, read from the file before any of its code runs.

use std::path::Path;

use impetus_plugin_api::manifest as contract;
use object::{
    Architecture, BinaryFormat, NameOrOrdinal, Object, ObjectKind, ObjectSection, ObjectSymbol, ReadCache,
    ReadRef,
};
use semver::Version;
use serde::Deserialize;

use super::record::{Refusal, State};

/// The embedded manifest. Keys that this version does not know are passed over: a newer plugin may say more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Manifest {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) target: String,
    pub(super) panic: String,
    pub(super) formats: Vec<ManifestFormat>,
    pub(super) cpu_features: Vec<String>,
}

/// One format of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ManifestFormat {
    pub(super) id: String,
    pub(super) extensions: Vec<String>,
    pub(super) priority: u32,
}

/// Reads the manifest of a library that this machine could run.
pub(super) fn manifest(path: &Path) -> Result<Manifest, Refusal> {
    let data = std::fs::File::open(path).map_err(|error| {
        Refusal::new(State::LoadFailed, format!("the library cannot be read: {error}"), COPY_AGAIN)
    })?;
    // Of libraries of many megabytes only what is looked at.
    let data = ReadCache::new(data);
    let file = object::File::parse(&data).map_err(|error| {
        Refusal::new(State::NotAPlugin, format!("it is not a sound library: {error}"), COPY_AGAIN)
    })?;
    check_platform(&file)?;
    if !has_root_symbol(&file) {
        return Err(Refusal::new(
            State::NotAPlugin,
            format!("it exports no `{}`", contract::ROOT_SYMBOL),
            "remove it from the plugin folder, or build it with impetus-plugin-api's `export_plugin!`",
        ));
    }
    parse(&file)
}

const COPY_AGAIN: &str = "copy the library again, whole, or remove it from the plugin folder";

fn parse<'data>(file: &object::File<'data, impl ReadRef<'data>>) -> Result<Manifest, Refusal> {
    let hint = "build it with impetus-plugin-api's `export_plugin!`";
    let broken = |reason: String| Refusal::new(State::NotAPlugin, reason, hint);
    let section = file
        .sections()
        .find(|section| section.name().is_ok_and(|name| name == contract::SECTION || name == "__impetus"))
        .ok_or_else(|| broken(format!("it has no manifest (link section `{}`)", contract::SECTION)))?;
    let bytes = section.data().map_err(|error| broken(format!("its manifest cannot be read: {error}")))?;
    serde_json::from_slice(bytes).map_err(|error| broken(format!("its manifest is not understood: {error}")))
}

fn has_root_symbol<'data>(file: &object::File<'data, impl ReadRef<'data>>) -> bool {
    let root = |name: &[u8]| name.strip_prefix(b"_").unwrap_or(name) == contract::ROOT_SYMBOL.as_bytes();
    let exported = |export: object::Export<'_>| match export.name() {
        NameOrOrdinal::Name(name) => root(name),
        NameOrOrdinal::Ordinal(_) => false,
    };
    file.dynamic_symbols().any(|symbol| symbol.is_definition() && symbol.name_bytes().is_ok_and(root))
        || file.exports().is_ok_and(|mut exports| exports.any(|export| export.is_ok_and(exported)))
}

fn check_platform<'data>(file: &object::File<'data, impl ReadRef<'data>>) -> Result<(), Refusal> {
    let unsupported = |what: &str, expected: String, found: String| {
        Err(Refusal::new(
            State::UnsupportedPlatform,
            format!("it is built for another {what}: expected {expected}, found {found}"),
            format!("get or build the plugin for {}", contract::TARGET),
        ))
    };
    if file.kind() != ObjectKind::Dynamic {
        let reason = format!("it is no dynamic library but {:?}", file.kind());
        return Err(Refusal::new(State::NotAPlugin, reason, COPY_AGAIN));
    }
    let (format, machine) = own_platform();
    if file.format() != format {
        return unsupported("system", format!("{format:?}"), format!("{:?}", file.format()));
    }
    if machine.is_some_and(|machine| machine != file.architecture()) {
        return unsupported(
            "processor",
            std::env::consts::ARCH.to_owned(),
            format!("{:?}", file.architecture()),
        );
    }
    Ok(())
}

/// What this host itself is; no machine where we have no name for it, and the loader then decides.
fn own_platform() -> (BinaryFormat, Option<Architecture>) {
    let format = match std::env::consts::OS {
        "macos" | "ios" => BinaryFormat::MachO,
        "windows" => BinaryFormat::Pe,
        _ => BinaryFormat::Elf,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        "riscv64" => Some(Architecture::Riscv64),
        _ => None,
    };
    (format, machine)
}

/// Whether what the manifest says can run here: contract version, target, unwinding, processor features.
pub(super) fn check_manifest(manifest: &Manifest) -> Result<(), Refusal> {
    check_api_version(&manifest.api_version)?;
    if manifest.target != contract::TARGET {
        return Err(Refusal::new(
            State::UnsupportedPlatform,
            format!("it is built for {}, this host for {}", manifest.target, contract::TARGET),
            format!("get or build the plugin for {}", contract::TARGET),
        ));
    }
    if manifest.panic != "unwind" {
        return Err(Refusal::new(
            State::UnsupportedPlatform,
            format!(
                "it is built with panic = \"{}\": a panic in it would end the whole process",
                manifest.panic
            ),
            "build it with panic = \"unwind\" in its Cargo profile",
        ));
    }
    check_processor(manifest, processor_has)
}

fn check_processor(manifest: &Manifest, has: fn(&str) -> bool) -> Result<(), Refusal> {
    let features = manifest.cpu_features.iter().map(String::as_str);
    let missing: Vec<&str> = features.filter(|feature| !has(feature)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        State::UnsupportedPlatform,
        format!("it needs processor features that this machine lacks: {}", missing.join(", ")),
        "build it on this machine, or with a lower `-C target-cpu`",
    ))
}

fn check_api_version(found: &str) -> Result<(), Refusal> {
    let ours = impetus_plugin_api::API_VERSION;
    let incompatible = |hint: String| {
        let reason = format!("it is built for plugin-api {found}; this host speaks {ours}");
        Err(Refusal::new(State::IncompatibleApi, reason, hint))
    };
    let (Ok(found_version), Ok(our_version)) = (Version::parse(found), Version::parse(ours)) else {
        return incompatible("rebuild the plugin against the published impetus-plugin-api".to_owned());
    };
    if found_version.major == our_version.major {
        return Ok(());
    }
    if found_version > our_version {
        incompatible("upgrade impetus, or use an older version of the plugin".to_owned())
    } else {
        incompatible(format!("upgrade the plugin: it must be built against plugin-api {}", our_version.major))
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn processor_has(feature: &str) -> bool {
    // A feature that is not in the contract's list cannot be asked about; the plugin's own start then decides.
    macro_rules! detected {
        ($($name:tt),*) => { match feature { $($name => std::arch::is_x86_feature_detected!($name),)* _ => true } };
    }
    impetus_plugin_api::__with_cpu_features!(detected)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
fn processor_has(_: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Manifest {
        let text = format!(
            r#"{{"manifest":1,"id":"x","version":"1.2.3","api_version":"{}","target":"{}","panic":"unwind",
                "formats":[{{"id":"x","extensions":["x" ],"priority":100}} ],"cpu_features":[],"later":"more"}}"#,
            impetus_plugin_api::API_VERSION,
            contract::TARGET
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_sound_manifest_passes() {
        assert_eq!(check_manifest(&sound()), Ok(()));
    }

    #[test]
    fn each_refusal_says_which_side_to_upgrade() {
        for (api_version, hint) in
            [("2.0.0", "upgrade impetus"), ("0.9.0", "upgrade the plugin"), ("next", "rebuild the plugin")]
        {
            let refusal =
                check_manifest(&Manifest { api_version: api_version.into(), ..sound() }).unwrap_err();
            assert_eq!(refusal.state, State::IncompatibleApi);
            assert!(refusal.hint.starts_with(hint), "{api_version}: {}", refusal.hint);
            assert!(refusal.reason.contains(api_version));
        }
    }

    #[test]
    fn what_cannot_run_here_is_refused_by_name() {
        let foreign = Manifest { target: "riscv64gc-unknown-none-elf".into(), ..sound() };
        assert_eq!(check_manifest(&foreign).unwrap_err().state, State::UnsupportedPlatform);
        let aborting = Manifest { panic: "abort".into(), ..sound() };
        assert!(check_manifest(&aborting).unwrap_err().reason.contains("panic"));
    }

    #[test]
    fn processor_features_that_are_missing_are_named() {
        let features = ["sse3", "avx2", "avx512f"].map(str::to_owned).to_vec();
        let wants = Manifest { cpu_features: features, ..sound() };
        assert_eq!(check_processor(&wants, |_| true), Ok(()));
        let refusal = check_processor(&wants, |feature| feature == "sse3").unwrap_err();
        assert_eq!(refusal.state, State::UnsupportedPlatform);
        assert!(refusal.reason.ends_with("lacks: avx2, avx512f"), "{}", refusal.reason);
    }

    #[test]
    fn what_is_no_library_is_no_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libx.so");
        for content in [&b""[..], b"hello", b"\x7fELF\x02\x01\x01\x00\x00\x00"] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(manifest(&file).unwrap_err().state, State::NotAPlugin);
        }
        let own_program = std::env::current_exe().unwrap();
        let refusal = manifest(&own_program).unwrap_err();
        assert_eq!(refusal.state, State::NotAPlugin);
    }
}
