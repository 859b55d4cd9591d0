//! The frozen layout: a plugin built against another plugin-api is refused before any of its own code runs.
//!
//! The other plugin-apis are copies of the real one with a field more or fewer, or another version; the fake plugin is
//! built against each. Cargo's lock file and its cache make this work without a network.

use std::path::{Path, PathBuf};
use std::process::Command;

use impetus_tests::{House, file_name, root, target_folder};
use serde_json::Value;

use crate::plugins::{records, replaced as replaced_bytes};

/// What is changed in a copy of plugin-api.
struct Change {
    version: &'static str,
    /// File below `plugin-api/src`, text, replacement.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const A_FIELD_MORE: &[(&str, &str, &str)] = &[
    ("info.rs", "pub build: RString,", "pub build: RString,\n    /// More.\n    pub homepage: RString,"),
    (
        "sdk/export.rs",
        "license: self.description.license.into(),",
        "license: self.description.license.into(), homepage: \"\".into(),",
    ),
];

const A_FIELD_FEWER: &[(&str, &str, &str)] = &[
    ("info.rs", "pub build: RString,", ""),
    ("sdk/export.rs", "build: guard(\"build\", || Ok(P::build())).unwrap_or_default().into(),", ""),
];

const LAYOUT_CHECK_OFF: &[(&str, &str, &str)] =
    &[("sdk/export.rs", "p::CheckTypeLayout::Yes", "p::CheckTypeLayout::No")];

/// Its constructor panics in a file of one name, and in a file of another it says another id.
const TRICKS: &[(&str, &str, &str)] = &[
    (
        "sdk/export.rs",
        "fn root() -> $crate::PluginRef {",
        "fn root() -> $crate::PluginRef { assert!(!p::lies_in(\"libpanics\"), \"told to panic\");",
    ),
    (
        "sdk/export.rs",
        "id: self.description.id.into(),",
        "id: if crate::__private::lies_in(\"libcontests\") { \"twin\" } else { self.description.id }.into(),",
    ),
    (
        "lib.rs",
        "/// Makes the root module live for ever.",
        "/// Whether the library's file has this name.\n    pub fn lies_in(name: &str) -> bool {\n        \
         std::fs::read_to_string(\"/proc/self/maps\").is_ok_and(|maps| maps.contains(name))\n    }\n    /// Leaks.",
    ),
];

/// Builds the fake plugin against a changed plugin-api.
fn build(change: &Change) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let at = |below: &str| folder.path().join(below);
    copy(&root().join("plugin-api"), &at("plugin-api"));
    copy(&root().join("tests/plugins/fake"), &at("fake"));
    write_workspace(folder.path(), "\"plugin-api\", \"fake\"");
    let version = format!("path = \"plugin-api\", version = \"{}\"", change.version);
    let workspace = std::fs::read_to_string(at("Cargo.toml")).unwrap();
    std::fs::write(
        at("Cargo.toml"),
        replaced(&workspace, "path = \"plugin-api\", version = \"1.0.0\"", &version),
    )
    .unwrap();
    let manifest = std::fs::read_to_string(at("plugin-api/Cargo.toml")).unwrap();
    let version = format!("version = \"{}\"", change.version);
    std::fs::write(at("plugin-api/Cargo.toml"), replaced(&manifest, "version = \"1.0.0\"", &version))
        .unwrap();
    for (file, from, to) in change.edits {
        let path = at("plugin-api/src").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, replaced(&text, from, to)).unwrap();
    }
    cargo_build(folder.path(), "fake")
}

/// The repository's workspace with these members, and its lock file.
pub(crate) fn write_workspace(folder: &Path, members: &str) {
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let line = |beginning: &str| workspace.lines().find(|line| line.starts_with(beginning)).unwrap();
    let (all, defaults) = (line("members = "), line("default-members = "));
    let workspace = workspace.replace(all, &format!("members = [{members}]")).replace(defaults, "");
    std::fs::write(folder.join("Cargo.toml"), workspace).unwrap();
}

/// Builds a plugin of such a workspace; gives its library.
pub(crate) fn cargo_build(folder: &Path, plugin: &str) -> PathBuf {
    let target = target_folder().join("layout");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "-p", &format!("impetus-plugin-{plugin}")])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{plugin}: {}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(file_name(plugin))
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not there any more: correct this test");
    text.replace(from, to)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_plugin_of_another_layout_is_refused_and_the_side_to_upgrade_is_named() {
    for (name, change, state, hint) in [
        ("the same", Change { version: "1.0.0", edits: &[] }, "loaded", ""),
        (
            "a field more",
            Change { version: "1.0.0", edits: A_FIELD_MORE },
            "abi_mismatch",
            "upgrade the plugin",
        ),
        (
            "a field fewer",
            Change { version: "1.0.0", edits: A_FIELD_FEWER },
            "abi_mismatch",
            "upgrade the plugin",
        ),
        (
            "newer, a field more",
            Change { version: "1.1.0", edits: A_FIELD_MORE },
            "abi_mismatch",
            "upgrade impetus",
        ),
        (
            "the layout check off",
            Change { version: "1.0.0", edits: LAYOUT_CHECK_OFF },
            "abi_mismatch",
            "build it with",
        ),
        ("a newer major", Change { version: "2.0.0", edits: &[] }, "incompatible_api", "upgrade impetus"),
        ("an older major", Change { version: "0.9.0", edits: &[] }, "incompatible_api", "upgrade the plugin"),
    ] {
        let house = House::with(&[]);
        std::fs::copy(build(&change), house.path("plugins/libfake.so")).unwrap();
        let output = house.run(&["plugins", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let record = listed.get("plugins").unwrap_or(&listed)[0].clone();
        assert_eq!(record["state"], state, "{name}: {record:#}");
        assert!(record["hint"].as_str().unwrap_or_default().starts_with(hint), "{name}: {record:#}");
    }
}

#[test]
fn a_constructor_that_panics_and_a_contested_format_cost_nobody_else() {
    let library = std::fs::read(build(&Change { version: "1.0.0", edits: TRICKS })).unwrap();
    let house = House::with(&[]);
    std::fs::write(house.path("plugins/libpanics.so"), &library).unwrap();
    let panicking = records(&house)[0].clone();
    assert_eq!(panicking["state"], "load_failed", "{panicking:#}");
    assert!(panicking["reason"].as_str().unwrap().contains("root module"), "{panicking:#}");
    std::fs::remove_file(house.path("plugins/libpanics.so")).unwrap();

    // Two ids, one format: the manifest of the second says what its code says in a file of that name.
    let twin = replaced_bytes(&library, b"\"id\":\"fake\",\"version", b"\"id\":\"twin\",\"version");
    std::fs::write(house.path("plugins/liboriginal.so"), &library).unwrap();
    std::fs::write(house.path("plugins/libcontests.so"), &twin).unwrap();
    let states = |house: &House| {
        let mut states: Vec<_> =
            records(house).iter().map(|r| (r["id"].clone(), r["state"].clone())).collect();
        states.sort_by_key(|(id, _)| id.to_string());
        states
    };
    let expected = |fake: &str, twin: &str| -> [(Value, Value); 2] {
        [("fake".into(), fake.into()), ("twin".into(), twin.into())]
    };
    assert_eq!(states(&house), expected("loaded", "duplicate_format"));
    let house = house.config("[formats]\nfake = \"twin\"");
    assert_eq!(states(&house), expected("duplicate_format", "loaded"));
    let loser = records(&house).into_iter().find(|record| record["id"] == "fake").unwrap();
    assert_eq!(loser["reason"], "all its formats are run by: twin");
}
