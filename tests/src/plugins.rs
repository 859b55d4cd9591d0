//! The load pipeline with real libraries, and what the command line says of it.

use std::os::unix::fs::PermissionsExt;

use impetus_tests::{House, file_name, library};
use serde_json::Value;

/// The records of `impetus plugins --json`.
pub(crate) fn records(house: &House) -> Vec<Value> {
    let output = house.run(&["plugins", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    match serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")) {
        Value::Array(records) => records,
        Value::Object(mut object) => object.remove("plugins").unwrap().as_array().unwrap().clone(),
        other => panic!("{other}"),
    }
}

/// The one plugin's state; a refused one must say why and what to do.
fn state(house: &House) -> String {
    let records = records(house);
    assert_eq!(records.len(), 1, "{records:?}");
    let state = records[0]["state"].as_str().unwrap().to_owned();
    if state != "loaded" {
        assert!(records[0]["reason"].as_str().is_some_and(|text| !text.is_empty()), "{records:?}");
        assert!(records[0]["hint"].as_str().is_some_and(|text| !text.is_empty()), "{records:?}");
    }
    state
}

#[test]
fn two_plugins_load_side_by_side() {
    let house = House::with(&["gguf", "fake"]).smollm2().model("tiny.fake", "end_at = 9");
    let states: Vec<_> = records(&house).iter().map(|r| (r["id"].clone(), r["state"].clone())).collect();
    assert_eq!(states, [("fake".into(), "loaded".into()), ("gguf".into(), "loaded".into())]);
    let models = String::from_utf8(house.run(&["models"]).stdout).unwrap();
    assert!(models.contains("tiny") && models.contains("SmolLM2"), "{models}");
}

#[test]
fn each_state_has_a_library_that_deserves_it() {
    let fake = || House::with(&["fake"]);
    assert_eq!(state(&fake()), "loaded");
    assert_eq!(state(&fake().config("[plugin.fake]\nenabled = false")), "disabled");
    assert_eq!(state(&fake().config("[plugin.fake.options]\nx = \"refuse\"")), "init_failed");
    assert_eq!(state(&fake().config("[plugin.fake.options]\nx = \"panic\"")), "init_failed");
    let pin = format!("[plugin.fake]\nsha256 = \"{}\"", "0".repeat(64));
    assert_eq!(state(&fake().config(&pin)), "hash_mismatch");

    let writable = fake();
    let path = writable.path(&format!("plugins/{}", file_name("fake")));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(state(&writable), "untrusted");

    let whole = std::fs::read(library("fake")).unwrap();
    for (content, expected) in [
        (whole[..whole.len() / 2].to_vec(), "not_a_plugin"),
        (b"not a library".to_vec(), "not_a_plugin"),
        (with_machine(&whole, 243), "unsupported_platform"),
        (replaced(&whole, b"\"api_version\":\"1.", b"\"api_version\":\"2."), "incompatible_api"),
        (replaced(&whole, b"\"api_version\":\"1.", b"\"api_version\":\"0."), "incompatible_api"),
    ] {
        let house = House::with(&[]);
        std::fs::write(house.path("plugins/libx.so"), content).unwrap();
        assert_eq!(state(&house), expected);
    }
}

/// An ELF file whose header says another machine.
fn with_machine(library: &[u8], machine: u16) -> Vec<u8> {
    let mut changed = library.to_vec();
    changed[18..20].copy_from_slice(&machine.to_le_bytes());
    changed
}

pub(crate) fn replaced(library: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut changed = library.to_vec();
    let at =
        changed.windows(from.len()).position(|window| window == from).expect("the bytes are in the file");
    changed[at..at + to.len()].copy_from_slice(to);
    changed
}

#[test]
fn a_second_library_of_one_id_is_refused() {
    let house = House::with(&["fake"]);
    std::fs::copy(library("fake"), house.path("plugins/libzz.so")).unwrap();
    let states: Vec<_> = records(&house).iter().map(|record| record["state"].clone()).collect();
    assert_eq!(states, ["loaded", "duplicate_plugin"]);
}

#[test]
fn a_wrong_option_of_the_gguf_plugin_is_named() {
    // This build has no GPU backend: layers that could go nowhere are refused, not ignored.
    for (option, word) in [("thread = 2", "thread"), ("gpu_layers = 1", "gpu_layers")] {
        let house = House::with(&["gguf"]).config(&format!("[plugin.gguf.options]\n{option}"));
        assert_eq!(state(&house), "init_failed");
        assert!(records(&house)[0]["reason"].as_str().unwrap().contains(word));
    }
}

#[test]
fn a_broken_model_file_is_inspected_with_the_place() {
    let house = House::with(&["gguf"]).model("broken.gguf", b"GGUF\x09\x00\x00\x00");
    let output = house.run(&["inspect", "models/broken.gguf"]);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("`broken.gguf`") && text.contains("version 9") && text.contains("byte 4"),
        "{text}"
    );
}
