//! What may be shown to whoever asks: text of plugins and of the system without the folders of this machine.
//!
//! Our own messages name no paths; this is for words that others wrote.

use std::path::Path;

/// The words without a slash that a path may have between two parts of it: folders' names have spaces.
const MOST_WORDS: usize = 2;

/// The same text with every absolute path cut down to its last part. Paths of our own API stay. Where it cannot be told
/// whether a word belongs to a path before it, it goes: better a word less than a folder more.
pub(crate) fn without_paths(text: &str) -> String {
    let text = text.replace("file://localhost/", "/").replace("file:///", "/");
    let mut public = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = start_of_path(rest) {
        let (before, path) = rest.split_at(at);
        let (path, after) = path.split_at(end_of_path(before, path));
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

/// Where a path ends that begins a text, with this before it: at its quotation mark, or with its last word.
fn end_of_path(before: &str, path: &str) -> usize {
    let quote = before.chars().next_back().filter(|quote| "\"'`".contains(*quote));
    if let Some(end) = quote.and_then(|quote| path.find(quote)) {
        return end;
    }
    let mut end = path.find(ends_word).unwrap_or(path.len());
    if is_ours(&path[..end]) {
        return end;
    }
    while let Some(more) = goes_on(&path[end..]) {
        end += more;
    }
    end
}

/// How much of what stands behind a path still belongs to it: words up to one with a slash within.
fn goes_on(rest: &str) -> Option<usize> {
    let mut at = 0;
    for _ in 0..=MOST_WORDS {
        let word = rest[at..].strip_prefix(' ')?;
        let word = &word[..word.find(ends_word).unwrap_or(word.len())];
        if word.is_empty() || word.starts_with('/') {
            return None;
        }
        at += 1 + word.len();
        if word.contains('/') {
            return Some(at);
        }
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
        check("file:///home/me/a.so: no such file", "a.so: no such file");
        check("open 'file://localhost/home/me/a.so'", "open 'a.so'");
        check("/srv/my big models/of mine/a b.gguf: short", "a b.gguf: short");
        check("`/srv/my very own big folder/x y.gguf` is short", "`x y.gguf` is short");
        check("neither /a/b nor /c d/e", "neither b nor e");
        check("https://example.org/a/b stays", "https://example.org/a/b stays");
    }
}
