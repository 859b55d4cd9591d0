//! `impetus plugins add | remove | enable | disable | pin | new`: files change, and plugins.toml keeps its comments.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use impetus_tests::{House, file_name, library};

use crate::plugins::records;

/// Runs a command of `impetus plugins`; gives its exit code, and all that it said.
fn run(house: &House, arguments: &[&str]) -> (i32, String) {
    let output = house.run(&[&["plugins"], arguments].concat());
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

fn config(house: &House) -> String {
    std::fs::read_to_string(house.path("plugins.toml")).unwrap()
}

#[test]
fn a_plugin_is_added_with_its_hash_and_removed_again() {
    let house = House::with(&[]).config("# a comment of mine\n[plugin.fake] # the fake one\n# keep = \"me\"");
    let before = config(&house);
    let (code, said) = run(&house, &["add", library("fake").to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let record = records(&house)[0].clone();
    assert_eq!(record["state"], "loaded", "{record:#}");
    let after = config(&house);
    let hash = record["sha256"].as_str().unwrap();
    assert!(
        after.contains(&format!("sha256 = \"{hash}\"")) && after.contains("version = \"1.0.0\""),
        "{after}"
    );
    for line in before.lines() {
        assert!(after.contains(line), "`{line}` is gone from:\n{after}");
    }
    assert!(run(&house, &["add", library("fake").to_str().unwrap()]).0 == 0, "again: an upgrade to the same");

    // Another file of that name is not the one that was added.
    let path = house.path(&format!("plugins/{}", file_name("fake")));
    let mut changed = std::fs::read(&path).unwrap();
    changed.push(0);
    std::fs::write(&path, changed).unwrap();
    assert_eq!(records(&house)[0]["state"], "hash_mismatch");
    let (code, said) = run(&house, &["pin", "fake"]);
    assert_eq!((code, &records(&house)[0]["state"]), (0, &"loaded".into()), "{said}");

    let (code, said) = run(&house, &["remove", "fake"]);
    assert_eq!((code, path.exists()), (0, false), "{said}");
    assert!(!config(&house).contains("sha256") && config(&house).contains("# a comment of mine"));
}

/// Opens a pipe for writing as soon as somebody reads it.
fn when_it_is_read(pipe: &Path) -> File {
    const O_NONBLOCK: i32 = 0o4000;

    let started = Instant::now();
    loop {
        match OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(pipe) {
            Ok(writer) => return writer,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(60), "nobody reads it: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_pin_of_a_plugin_is_there_before_its_library() {
    let house = House::with(&[]);
    let (text, pipe) = (config(&house), house.path("plugins.toml"));
    std::fs::remove_file(&pipe).unwrap();
    // Whoever reads plugins.toml waits for us.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let source = library("fake");
    let mut adding = house.command(&["plugins", "add", source.to_str().unwrap()]).spawn().unwrap();
    when_it_is_read(&pipe).write_all(text.as_bytes()).unwrap();
    // It is read a first time to know the folder; once there is something in that, it is about to be edited.
    let folder = house.path("plugins");
    let started = Instant::now();
    while std::fs::read_dir(&folder).unwrap().next().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is copied");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut edit = when_it_is_read(&pipe);
    let in_place = folder.join(file_name("fake"));
    assert!(!in_place.exists(), "it is there without its pin");
    edit.write_all(text.as_bytes()).unwrap();
    drop(edit);
    assert!(adding.wait().unwrap().success());
    assert!(in_place.exists() && config(&house).contains("sha256 = "), "{}", config(&house));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
}

#[test]
fn what_does_not_pass_is_not_added() {
    let house = House::with(&[]);
    std::fs::write(house.path("libx.so"), "no library").unwrap();
    let before = config(&house);
    let (code, said) = run(&house, &["add", "libx.so"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("not_a_plugin") && said.contains("hint: "), "{said}");
    assert_eq!((records(&house).len(), config(&house)), (0, before));
    let left = std::fs::read_dir(house.path("plugins")).unwrap().count();
    assert_eq!(left, 0, "nothing is left in the folder");
}

#[test]
fn a_plugin_is_disabled_and_enabled() {
    let house = House::with(&["fake"]);
    assert_eq!(run(&house, &["disable", "fake"]).0, 0);
    assert_eq!(records(&house)[0]["state"], "disabled");
    assert_eq!(run(&house, &["enable", "fake"]).0, 0);
    assert_eq!(records(&house)[0]["state"], "loaded");
    let (code, said) = run(&house, &["disable", "nobody"]);
    assert_eq!(code, 2);
    assert!(said.contains("no plugin `nobody`; there is: fake"), "{said}");
}

#[test]
fn a_new_plugin_is_not_made_over_something_or_under_a_wrong_name() {
    let house = House::with(&[]);
    assert_eq!(run(&house, &["new", "Poems"]).0, 2);
    assert_eq!(run(&house, &["new", "poems"]).0, 0);
    assert!(std::fs::read_to_string(house.path("poems/src/lib.rs")).unwrap().contains("id: \"poems\""));
    let (code, said) = run(&house, &["new", "poems"]);
    assert_eq!(code, 2);
    assert!(said.contains("already there"), "{said}");
}
