//! Finds stop strings in text that arrives in pieces, and holds back whatever may be the beginning of one. Ends nothing
//! itself: the caller reads [`Stopped::stop`]. Empty stop strings are passed over: they would end every answer before it
//! begins.
//!
//! The stop string that is complete first ends the text, for nothing after it is generated; of those complete at the
//! same character the longest, whose start is earliest. So the result depends on the text alone, never on its pieces.

use std::cmp::Reverse;

/// Looks for stop strings. All of the text up to the first one comes out, nothing of it, and nothing after it.
#[derive(Debug)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// The end of the text so far, as far as it may belong to a stop string.
    held: String,
    /// Which stop string was found.
    found: Option<usize>,
}

/// What a piece of text came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Text that is part of the answer for certain; may be empty.
    pub text: String,
    /// Which stop string ended the answer, empty ones not counted; nothing comes after it.
    pub stop: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these stop strings.
    pub fn new(stops: Vec<String>) -> Self {
        let patterns = stops.into_iter().filter(|stop| !stop.is_empty()).map(Pattern::new).collect();
        StopMatcher { patterns, held: String::new(), found: None }
    }

    /// Takes the next piece of text. Once a stop string was found, further pieces are dropped and it is told again.
    pub fn push(&mut self, text: &str) -> Stopped {
        if self.found.is_some() {
            return Stopped { text: String::new(), stop: self.found };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (place, byte) in text.bytes().enumerate() {
            let patterns = self.patterns.iter_mut().enumerate();
            let complete =
                patterns.filter_map(|(which, pattern)| Some((pattern.push(byte)?, Reverse(which))));
            if let Some((length, Reverse(which))) = complete.max() {
                self.found = Some(which);
                let start = before + place + 1 - length;
                let mut text = std::mem::take(&mut self.held);
                text.truncate(start);
                return Stopped { text, stop: self.found };
            }
        }
        let held = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - held);
        Stopped { text: std::mem::replace(&mut self.held, tail), stop: None }
    }

    /// The answer ends here without a stop string: gives the text held back.
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

/// A stop string with how much of it the text ends with (Knuth, Morris and Pratt 1977): each byte is looked at once,
/// and no text is searched again when the next piece comes.
///
/// Bytes do for text: a stop string begins with the first byte of a character, so that what is held back does too.
#[derive(Debug)]
struct Pattern {
    stop: String,
    /// For each length of a beginning, the length of the longest shorter beginning that ends it.
    fallbacks: Vec<usize>,
    /// The longest beginning that the text ends with, in bytes.
    matched: usize,
}

impl Pattern {
    fn new(stop: String) -> Self {
        let bytes = stop.as_bytes();
        let mut fallbacks = vec![0; bytes.len() + 1];
        let mut matched = 0;
        for place in 1..bytes.len() {
            while matched > 0 && bytes[place] != bytes[matched] {
                matched = fallbacks[matched];
            }
            matched += usize::from(bytes[place] == bytes[matched]);
            fallbacks[place + 1] = matched;
        }
        Pattern { stop, fallbacks, matched: 0 }
    }

    /// Takes the next byte; gives the stop string's length when it is complete, after which nothing may be pushed.
    fn push(&mut self, byte: u8) -> Option<usize> {
        let bytes = self.stop.as_bytes();
        while self.matched > 0 && byte != bytes[self.matched] {
            self.matched = self.fallbacks[self.matched];
        }
        self.matched += usize::from(byte == bytes[self.matched]);
        (self.matched == bytes.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by plain search: the first end at which any stop string ends, the longest of those.
    fn plain(text: &str, stops: &[&str]) -> (String, Option<String>) {
        for end in 1..=text.len() {
            let ended = stops
                .iter()
                .filter(|stop| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes()));
            if let Some(stop) = ended.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some((*stop).to_owned()));
            }
        }
        (text.to_owned(), None)
    }

    /// Whether a stop string that is not complete could begin with the end of `text`, as a plain search sees it.
    fn pending(text: &str, stops: &[&str]) -> usize {
        let begins = |held: &str| stops.iter().any(|stop| stop.starts_with(held));
        text.char_indices().map(|(start, _)| &text[start..]).find(|held| begins(held)).map_or(0, str::len)
    }

    /// All splits of `text` at characters give what the plain search gives, and hold back no more than they must.
    fn check(text: &str, stops: &[&str]) {
        let (expected, stop) = plain(text, stops);
        let borders: Vec<usize> = text.char_indices().map(|(place, _)| place).skip(1).collect();
        for cuts in 0..1_u32 << borders.len() {
            let mut ends: Vec<usize> = borders
                .iter()
                .enumerate()
                .filter(|(bit, _)| cuts >> bit & 1 == 1)
                .map(|(_, end)| *end)
                .collect();
            ends.push(text.len());
            let context = format!("{text:?} cut at {ends:?}, stops {stops:?}");
            let named: Vec<String> =
                stops.iter().filter(|stop| !stop.is_empty()).map(|stop| (*stop).to_owned()).collect();
            let mut matcher = StopMatcher::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
            let (mut emitted, mut found, mut start) = (String::new(), None, 0);
            for end in ends {
                let piece = matcher.push(&text[start..end]);
                assert!(found.is_none() || piece.text.is_empty(), "text after a stop: {context}");
                emitted.push_str(&piece.text);
                found = piece.stop.map(|which| named[which].clone());
                assert!(expected.starts_with(&emitted), "{emitted:?} leaks: {context}");
                if found.is_none() {
                    assert_eq!(
                        emitted.len() + pending(&text[..end], stops),
                        end,
                        "holds back wrongly: {context}"
                    );
                }
                start = end;
            }
            emitted.push_str(&matcher.finish());
            assert_eq!((emitted, found), (expected.clone(), stop.clone()), "{context}");
        }
    }

    #[test]
    fn agrees_with_a_plain_search_on_every_short_text() {
        let sets: [&[&str]; 9] = [
            &[],
            &[""],
            &["aab"],
            &["abab", "bb"],
            &["aba", "ab"],
            &["aabb", "ab"],
            &["aaaa", "bab", "abb"],
            &["b"],
            &["baab", "aabaa", ""],
        ];
        for length in 0..=7 {
            for number in 0..1_u32 << length {
                let text: String =
                    (0..length).map(|bit| if number >> bit & 1 == 1 { 'b' } else { 'a' }).collect();
                for stops in sets {
                    check(&text, stops);
                }
            }
        }
    }

    #[test]
    fn agrees_with_a_plain_search_on_real_text() {
        let table: [(&str, &[&str]); 9] = [
            ("aaab", &["aab"]),
            ("Hello\nUser: x", &["User:", "\nUser:"]),
            ("one\n\ntwo", &["\n\n", "\n"]),
            ("終わり。続き", &["わり。続"]),
            ("終わり。終わる", &["終わる"]),
            ("🦀🦁🦀🦀", &["🦀🦀", "🦁🐯"]),
            ("é è ê ë", &["ë", "é!"]),
            ("</s", &["</s>"]),
            ("<|im_<|im_end|>", &["<|im_end|>"]),
        ];
        for (text, stops) in table {
            check(text, stops);
        }
    }

    #[test]
    fn the_answer_ends_before_the_stop_string() {
        let table: [(&str, &[&str], &str, Option<&str>); 6] = [
            ("aaab", &["aab"], "a", Some("aab")),
            ("a</s>b", &["</s>"], "a", Some("</s>")),
            ("xaby", &["a", "ab"], "x", Some("a")),
            ("abcd", &["abcd", "bc"], "a", Some("bc")),
            ("Hi\nUser:", &["User:", "\nUser:"], "Hi", Some("\nUser:")),
            ("nothing", &["nothings"], "nothing", None),
        ];
        for (text, stops, expected, stop) in table {
            check(text, stops);
            assert_eq!(plain(text, stops), (expected.to_owned(), stop.map(str::to_owned)));
        }
    }

    #[test]
    fn a_found_stop_is_told_again_and_nothing_follows() {
        let mut matcher = StopMatcher::new(["no", "", "END"].map(str::to_owned).into());
        assert_eq!(matcher.push("so EN"), Stopped { text: "so ".to_owned(), stop: None });
        assert_eq!(matcher.push("D more"), Stopped { text: String::new(), stop: Some(1) });
        assert_eq!(matcher.push("more"), Stopped { text: String::new(), stop: Some(1) });
        assert_eq!(matcher.finish(), "");
    }
}
