//! The frozen layout: a plugin built against another plugin-api is refused before any of its own code runs.
//!
//! The other plugin-apis are copies of the real one with a field more or fewer, or another version; the fake plugin is
//! built against each. Cargo's lock file and its cache make this work without a network.

use std::path::{Path, PathBuf};
use std::process::Command;

use impetus_tests::{House, file_name, root, target_folder};
use serde_json::Value;

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

/// Builds the fake plugin against a changed plugin-api.
fn build(name: &str, change: &Change) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let at = |below: &str| folder.path().join(below);
    copy(&root().join("plugin-api"), &at("plugin-api"));
    copy(&root().join("tests/plugins/fake"), &at("fake"));
    std::fs::copy(root().join("Cargo.lock"), at("Cargo.lock")).unwrap();
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find(|line| line.starts_with("members = ")).unwrap();
    let defaults = workspace.lines().find(|line| line.starts_with("default-members = ")).unwrap();
    let workspace = workspace.replace(members, "members = [\"plugin-api\", \"fake\"]").replace(defaults, "");
    let version = format!("path = \"plugin-api\", version = \"{}\"", change.version);
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
    let target = target_folder().join("layout");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "-p", "impetus-plugin-fake"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(file_name("fake"))
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not there any more: correct this test");
    text.replace(from, to)
}

fn copy(from: &Path, to: &Path) {
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
        ("a newer major", Change { version: "2.0.0", edits: &[] }, "incompatible_api", "upgrade impetus"),
    ] {
        let house = House::with(&[]);
        std::fs::copy(build(name, &change), house.path("plugins/libfake.so")).unwrap();
        let output = house.run(&["plugins", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let record = listed.get("plugins").unwrap_or(&listed)[0].clone();
        assert_eq!(record["state"], state, "{name}: {record:#}");
        assert!(record["hint"].as_str().unwrap_or_default().starts_with(hint), "{name}: {record:#}");
    }
}
