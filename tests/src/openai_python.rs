//! The official Python library as a client; `make test` fetches it.

use std::process::Command;

use impetus_tests::{House, SMOLLM2, root, target_folder};

const MINILM: &str = "all-MiniLM-L6-v2";

#[test]
fn the_official_library_gets_what_it_promises() {
    let target = target_folder().parent().unwrap().to_owned();
    let packages = target.join("clients");
    assert!(packages.join("openai").exists(), "the openai library is missing: run `make test`");
    let house = House::with(&["gguf", "safetensors"]).smollm2();
    std::os::unix::fs::symlink(target.join("checkpoints").join(MINILM), house.path("models").join(MINILM))
        .unwrap();
    let server = house.serve();
    let mut client = Command::new("python3");
    client.arg(root().join("tests/oracles/openai_client.py")).args([&server.address, SMOLLM2, MINILM]);
    let output = client.env("PYTHONPATH", &packages).output().expect("python3 runs");
    let (said, cause) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{cause}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok: ")).count(), 9, "{said}");
}
