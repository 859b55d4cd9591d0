//! `impetus plugins new`: a folder with a whole plugin of a tiny format, which builds, passes its tests and answers.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::args::NewPlugin;
use super::output::harmless;
use super::{Failure, Outcome, usage};
use crate::error::{Error, Kind};

/// Where each file goes, and what is in it.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../templates/plugin/Cargo.toml.txt")),
    (".gitignore", include_str!("../../templates/plugin/gitignore.txt")),
    ("README.md", include_str!("../../templates/plugin/README.md")),
    ("src/lib.rs", include_str!("../../templates/plugin/src/lib.rs")),
];

/// Writes the folder, which must not be there yet.
pub(super) fn create(new: &NewPlugin) -> Outcome {
    check_name(&new.name)?;
    let plugin_api = plugin_api(new.plugin_api.as_deref())?;
    let folder = Path::new(&new.name);
    let failed = |path: &Path, error: &io::Error| {
        Failure::Error(Error::new(Kind::Internal, format!("{} cannot be written: {error}", path.display())))
    };
    fs::create_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => usage(format!("{} is already there: choose another name", new.name)),
        _ => failed(folder, &error),
    })?;
    fs::create_dir(folder.join("src")).map_err(|error| failed(&folder.join("src"), &error))?;
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::write(&path, filled(text, &new.name, &plugin_api)).map_err(|error| failed(&path, &error))?;
    }
    let library = format!("libimpetus_plugin_{}{}", underscored(&new.name), std::env::consts::DLL_SUFFIX);
    let next = format!(
        "{0} is a whole plugin of the format `{0}`. Next:\n  cd {0}\n  cargo test\n  cargo build --release\n  \
         impetus plugins add target/release/{library}",
        new.name
    );
    Ok(writeln!(io::stdout().lock(), "{}", harmless(&next))?)
}

fn filled(text: &str, name: &str, plugin_api: &str) -> String {
    text.replace("@NAME@", name)
        .replace("@LIBRARY@", &underscored(name))
        .replace("@API_VERSION@", impetus_plugin_api::API_VERSION)
        .replace("@PLUGIN_API@", plugin_api)
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn check_name(name: &str) -> Outcome {
    let letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    let rest =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if letter && name.chars().all(rest) && name.len() <= 40 {
        return Ok(());
    }
    Err(usage(format!(
        "`{name}` cannot be a plugin's id: expected small letters, digits and `-`, a letter first, at most 40"
    )))
}

/// The crate that the plugin is built against: what was said, else the one that this program was built with.
fn plugin_api(said: Option<&Path>) -> Outcome<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-api");
    let folder: PathBuf = said.map_or(own, Path::to_owned);
    let found = folder.join("Cargo.toml").is_file().then(|| folder.canonicalize().ok()).flatten();
    let text = found.as_deref().and_then(Path::to_str).filter(|path| !path.contains(['"', '\\']));
    text.map(str::to_owned).ok_or_else(|| {
        usage(format!(
            "the crate impetus-plugin-api is not in {}: say with --plugin-api where its folder is (it is `plugin-api` in \
             the sources of Impetus)",
            folder.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_id() {
        for good in ["a", "my-format", "q4"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "4q", "My", "a b", "../x", "a_b", "a\"b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (name, text) in FILES {
            assert!(!filled(text, "x", "/api").contains('@'), "{name}");
        }
    }
}
