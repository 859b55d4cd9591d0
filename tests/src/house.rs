//! The house's absences: who must not know whom.

use std::path::Path;
use std::process::Command;

use impetus_tests::root;

/// No source below `folder` (of host/src) mentions any of the words.
fn check(folder: &str, forbidden: &[&str]) {
    let mut seen = 0;
    walk(&root().join("host/src").join(folder), &mut |path, text| {
        seen += 1;
        for word in forbidden {
            assert!(!text.contains(word), "{} must not know `{word}`", path.display());
        }
    });
    assert!(seen > 0, "{folder} has no sources: correct this test");
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, visit);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            visit(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_knows_only_what_it_may() {
    for pure in ["chat", "sampling", "text"] {
        check(
            pure,
            &["tokio::", "axum::", "impetus_plugin_api", "crate::http", "crate::engine", "crate::plugins"],
        );
    }
    for folder in ["engine", "models", "chat", "sampling", "text", "http"] {
        check(folder, &["abi_stable", "libloading", "impetus_plugin_api::"]);
    }
    for folder in ["engine", "models", "plugins"] {
        check(folder, &["axum", "crate::http", "crate::cli"]);
    }
}

#[test]
fn no_plugin_is_linked_into_the_host() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "impetus", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.starts_with("impetus v"), "{tree}");
    for library in ["llama-cpp", "candle", "safetensors", "tokenizers", "impetus-plugin-gguf"] {
        assert!(!tree.contains(library), "{library} in {tree}");
    }
}
