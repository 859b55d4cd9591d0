//! What may be shown to whoever asks: text of plugins and of the system without the folders of this machine.
//!
//! Our own messages name no paths; this is for words that others wrote.

use std::path::Path;

/// The same text with every absolute path cut down to its last part. Paths of our own API stay.
pub(crate) fn without_paths(text: &str) -> String {
    let mut public = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = start_of_path(rest) {
        let (before, path) = rest.split_at(at);
        let end = path.find(ends_word).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        public.push_str(before);
        public.push_str(if is_ours(path) { path } else { last_part(path) });
        rest = after;
    }
    public + rest
}

/// The last part of a path, as far as it is text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a word begins that looks like an absolute path: a slash, a name.
fn start_of_path(text: &str) -> Option<usize> {
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        let names =
            text[at + character.len_utf8()..].starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
        if character == '/' && names && ends_word(before) {
            return Some(at);
        }
        before = character;
    }
    None
}

fn ends_word(character: char) -> bool {
    character.is_whitespace() || "\"'`()[]{}<>,;:=".contains(character)
}

fn is_ours(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/api/")
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_lose_their_folders_and_nothing_else_changes() {
        let check = |text: &str, expected: &str| assert_eq!(without_paths(text), expected);
        check("", "");
        check("no path in here, and/or 1/2", "no path in here, and/or 1/2");
        check("/a/b/c.so: cannot open", "c.so: cannot open");
        check("the folder /srv/plugins/ is writable by others", "the folder plugins is writable by others");
        check("found `/a/b` and (/c/d.gguf)", "found `b` and (d.gguf)");
        check("use /v1/completions, see /api/plugins", "use /v1/completions, see /api/plugins");
        check("models/a/b.gguf", "models/a/b.gguf");
        check("überall /größe/käse.gguf", "überall käse.gguf");
    }
}
