//! What was built against an older plugin-api of the same major still loads and runs.
//!
//! tests/fixtures has the crate of each version that must be kept; the example plugin in its documentation is built
//! against it, and loaded into today's host.

use std::path::{Path, PathBuf};
use std::process::Command;

use impetus_tests::{House, root};

use crate::layout::{cargo_build, copy, write_workspace};
use crate::plugins::records;

/// The example in a crate's documentation, without the lines that readers do not see.
fn example(documentation: &str) -> String {
    let lines = documentation
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.get(1..).unwrap_or(""));
    let code = lines.skip_while(|line| *line != "```").skip(1).take_while(|line| *line != "```");
    code.filter(|line| !line.starts_with("# ")).fold(String::new(), |text, line| text + line + "\n")
}

fn build(fixture: &Path) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let at = |below: &str| folder.path().join(below);
    copy(fixture, &at("plugin-api"));
    std::fs::rename(at("plugin-api/Cargo.toml.txt"), at("plugin-api/Cargo.toml")).unwrap();
    write_workspace(folder.path(), "\"plugin-api\", \"parrot\"");
    std::fs::create_dir_all(at("parrot/src")).unwrap();
    let documentation = std::fs::read_to_string(at("plugin-api/src/lib.rs")).unwrap();
    std::fs::write(at("parrot/src/lib.rs"), example(&documentation)).unwrap();
    let manifest = "[package]\nname = \"impetus-plugin-parrot\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[lib]\n\
                    crate-type = [\"cdylib\"]\n\n[dependencies]\nimpetus-plugin-api.workspace = true\n";
    std::fs::write(at("parrot/Cargo.toml"), manifest).unwrap();
    cargo_build(folder.path(), "parrot")
}

/// The version of plugin-api at each tag of the repository; none where there is no repository.
fn tagged_versions() -> Vec<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root()).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let version = |tag: &str| {
        let manifest = git(&["show", &format!("{tag}:plugin-api/Cargo.toml")]);
        let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    git(&["tag", "--list", "v*"]).lines().filter_map(version).collect()
}

#[test]
fn a_plugin_of_each_older_version_runs() {
    let fixtures =
        std::fs::read_dir(root().join("tests/fixtures")).unwrap().map(|entry| entry.unwrap().path());
    let is_api = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("plugin-api-1.");
    let kept: Vec<PathBuf> = fixtures.filter(is_api).collect();
    assert!(!kept.is_empty(), "no older version is kept: correct this test");
    for version in tagged_versions() {
        let is_kept = kept.iter().any(|path| path.ends_with(format!("plugin-api-{version}")));
        assert!(
            is_kept,
            "plugin-api {version} was tagged: tests/fixtures/plugin-api-1.0.0/README.md says how to keep it"
        );
    }
    for fixture in kept {
        let house = House::with(&[]).model("cracker.parrot", "Polly wants a cracker");
        std::fs::copy(build(&fixture), house.path("plugins/libparrot.so")).unwrap();
        let record = records(&house)[0].clone();
        assert_eq!(record["state"], "loaded", "{}: {record:#}", fixture.display());
        let answer = house.run(&["run", "cracker", "--raw", "--temperature", "0", "wants"]);
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "a cracker", "{}", fixture.display());
    }
}
