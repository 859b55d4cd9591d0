//! docs/writing-a-plugin.md, followed to the letter: its commands run as they stand, in a folder outside the repository,
//! with nothing of the workspace but plugin-api. Only the port is another, since 8484 may be taken.

use std::net::TcpListener;
use std::process::Command;

use impetus_tests::{root, target_folder};

/// The guide's commands, each followed by an echo of a line that separates their outputs.
fn script(guide: &str, port: u16) -> String {
    let blocks = guide.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let script: String = blocks.map(|block| format!("{block}echo; echo '=== end of block'\n")).collect();
    script.replace("8484", &port.to_string())
}

#[test]
fn the_guide_leads_from_nothing_to_a_chat() {
    let guide = std::fs::read_to_string(root().join("docs/writing-a-plugin.md")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    // What is built in between is shared with the next run of this test; what comes out is where the guide says.
    let built = target_folder().join("guide");
    let path = format!("{}:{}", target_folder().display(), std::env::var("PATH").unwrap());
    let script = script(&guide, port);
    let output = Command::new("bash")
        .args(["-euc", &format!("set -m; trap 'kill %1 2>/dev/null || true' EXIT\n{script}")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env("CARGO_BUILD_BUILD_DIR", built)
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let all = format!("{said}\n--- stderr\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{all}");
    let blocks: Vec<&str> = said.split("=== end of block").collect();
    let says = |block: usize, words: &[&str]| {
        for word in words {
            assert!(blocks[block].contains(word), "block {block} does not say `{word}`:\n{all}");
        }
    };
    says(1, &["test result: ok. 5 passed"]);
    says(2, &["haiku  0.1.0    loaded  haiku"]);
    says(3, &["poems", "available", "A frog jumps into the pond.\nSplash! Silence again."]);
    says(4, &["being crossed, how pleasing, with\\nsandals in my hands.", "data: {", "data: [DONE]"]);
    says(5, &["0.2.0"]);
    says(6, &["removed"]);
}
