//! Each state of a plugin is reached by a real library that deserves it, and each refusal says why and what to do.

use std::os::unix::fs::{PermissionsExt, symlink};

use impetus_tests::{House, file_name, library};
use serde_json::Value;

use crate::plugins::{records, replaced};

/// The one plugin's record; a refused one must say why and what to do.
fn record(house: &House) -> Value {
    let records = records(house);
    assert_eq!(records.len(), 1, "{records:?}");
    if records[0]["state"] != "loaded" {
        for key in ["reason", "hint"] {
            assert!(records[0][key].as_str().is_some_and(|text| !text.is_empty()), "{records:?}");
        }
    }
    records[0].clone()
}

/// The record has this state, and its reason says this.
fn check(house: &House, state: &str, words: &str) {
    let record = record(house);
    assert_eq!(record["state"], state, "{record:#}");
    assert!(record["reason"].as_str().unwrap().contains(words), "{record:#}");
}

fn fake() -> House {
    House::with(&["fake"])
}

/// A house whose only library is the fake plugin with other bytes.
fn patched(from: &[u8], to: &[u8]) -> House {
    let house = House::with(&[]);
    let whole = std::fs::read(library("fake")).unwrap();
    std::fs::write(house.path("plugins/libx.so"), replaced(&whole, from, to)).unwrap();
    house
}

#[test]
fn a_file_that_others_could_have_written_is_untrusted() {
    let set_mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let house = fake();
    set_mode(&house.path(&format!("plugins/{}", file_name("fake"))), 0o666);
    check(&house, "untrusted", "the library can be written by every user (mode 666)");

    let house = fake();
    set_mode(&house.path("plugins"), 0o777);
    check(&house, "untrusted", "its folder can be written by every user (mode 777)");

    let house = fake();
    set_mode(&house.path(""), 0o777);
    check(&house, "untrusted", "on its way can be written by every user");
}

#[test]
fn a_link_out_of_the_folder_is_untrusted_unless_it_is_named() {
    let house = House::with(&[]);
    std::fs::create_dir(house.path("elsewhere")).unwrap();
    std::fs::copy(library("fake"), house.path("elsewhere/libfake.so")).unwrap();
    symlink(house.path("elsewhere/libfake.so"), house.path("plugins/libfake.so")).unwrap();
    check(&house, "untrusted", "link out of the plugin folder");
    let house = house.config("[plugin.fake]\npath = \"elsewhere/libfake.so\"");
    assert_eq!(record(&house)["state"], "loaded");
}

#[test]
fn what_is_no_plugin_is_said_so() {
    check(
        &patched(b"\0impetus_plugin_root\0", b"\0impetus_plugin_r00t\0"),
        "not_a_plugin",
        "impetus_plugin_root",
    );
    check(&patched(b"\0.impetus.plugin\0", b"\0.impetus.plugim\0"), "not_a_plugin", "no manifest");
    check(&patched(b"{\"manifest\":1,", b"{\"manifest\"=1,"), "not_a_plugin", "manifest is not understood");
}

#[test]
fn libraries_that_the_system_lacks_are_named() {
    check(&patched(b"\0libgcc_s.so.1\0", b"\0libgcc_q.so.1\0"), "load_failed", "libgcc_q.so.1");
}

#[test]
fn another_identity_than_the_manifests_is_a_mismatch() {
    let house = patched(b"\"version\":\"1.0.0\",\"api", b"\"version\":\"9.0.0\",\"api");
    check(&house, "manifest_mismatch", "its manifest says version `9.0.0`, its code `1.0.0`");
}

#[test]
fn another_version_than_the_recorded_one_is_refused() {
    let house = fake().config("[plugin.fake]\nversion = \"0.9.0\"");
    check(&house, "hash_mismatch", "says version 0.9.0, but the file is version 1.0.0");
}

#[test]
fn what_a_plugin_does_while_it_is_opened_costs_its_row_alone() {
    for (option, state, words) in [
        ("abort_at_start", "crashed", "SIGABRT"),
        ("exit", "crashed", "exit code 3"),
        ("abort_in_probe", "crashed", "when it was asked about a file"),
        ("flood", "quarantined", "KiB of output"),
        ("hang", "quarantined", "it hung for 15 seconds"),
    ] {
        let house = House::with(&["fake"]).config(&format!("[plugin.fake.options]\nx = \"{option}\""));
        check(&house, state, words);
    }
}

#[test]
fn a_crash_is_remembered_until_something_changes_and_a_check_tries_again() {
    let crashing = "[plugin.fake.options]\nx = \"abort_at_start\"";
    let house = fake().config(crashing);
    let first = record(&house);
    assert!(first["detail"].as_str().unwrap().contains("told to abort"), "{first:#}");
    let cache = house.path("cache/impetus/plugins");
    let files = || std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(files().len(), 1);
    // What is remembered is believed: this is how it is seen that no second trial was made.
    let text = std::fs::read_to_string(&files()[0]).unwrap();
    std::fs::write(&files()[0], text.replace("SIGABRT", "REMEMBERED")).unwrap();
    check(&house, "crashed", "REMEMBERED");
    std::fs::set_permissions(&files()[0], PermissionsExt::from_mode(0o666)).unwrap();
    check(&house, "crashed", "SIGABRT");
    std::fs::write(&files()[0], "{").unwrap();
    check(&house, "crashed", "SIGABRT");

    let text = std::fs::read_to_string(&files()[0]).unwrap();
    std::fs::write(&files()[0], text.replace("SIGABRT", "REMEMBERED")).unwrap();
    let path = format!("plugins/{}", file_name("fake"));
    let checked = house.run(&["plugins", "check", &path, "--json"]);
    let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((checked.status.code(), &said["plugins"][0]["state"]), (Some(1), &"crashed".into()));
    check(&house, "crashed", "SIGABRT");
    assert_eq!(record(&house.config(""))["state"], "loaded");
}

#[test]
fn a_sound_library_is_checked_wherever_it_lies() {
    let house = House::with(&[]);
    let path = library("fake");
    let output = house.run(&["plugins", "check", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("fake") && text.contains("loaded"), "{text}");
    assert!(records(&house).is_empty(), "a check installs nothing");
}
