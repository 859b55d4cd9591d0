//! Waits for the mark with which an answer begins a call. Within reasoning there are no calls, whatever it quotes.

use super::message::Offered;
use crate::text::StopMatcher;

/// Looks for the mark in text that arrives in pieces.
pub(super) struct Watch {
    mark: String,
    thinking: Option<(String, String)>,
    is_thinking: bool,
    matcher: StopMatcher,
}

/// Which of the texts that are looked for outside of reasoning it is.
const MARK: usize = 0;

impl Watch {
    pub(super) fn new(offered: &Offered) -> Self {
        let mut watch = Watch {
            mark: offered.mark.clone(),
            thinking: offered.thinking.clone(),
            is_thinking: offered.is_thinking,
            matcher: StopMatcher::new(Vec::new()),
        };
        watch.look();
        watch
    }

    /// Takes the next piece. Once the mark has come, what stands behind it; nothing is to be pushed after that.
    pub(super) fn push(&mut self, text: &str) -> Option<String> {
        for (at, character) in text.char_indices() {
            let end = at + character.len_utf8();
            let Some(found) = self.matcher.push(&text[at..end]).stop else { continue };
            if found == MARK && !self.is_thinking {
                return Some(text[end..].to_owned());
            }
            self.is_thinking = !self.is_thinking;
            self.look();
        }
        None
    }

    /// For what comes next.
    fn look(&mut self) {
        let texts = match (&self.thinking, self.is_thinking) {
            (Some((_, close)), true) => vec![close.clone()],
            (Some((open, _)), false) => vec![self.mark.clone(), open.clone()],
            (None, _) => vec![self.mark.clone()],
        };
        self.matcher = StopMatcher::new(texts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::constraint::Grammar;

    fn offered(thinking: bool, is_thinking: bool) -> Offered {
        Offered {
            mark: "<call>".to_owned(),
            thinking: thinking.then(|| ("<think>".to_owned(), "</think>".to_owned())),
            is_thinking,
            grammar: Grammar::JsonObject,
        }
    }

    /// What is found behind the mark, however the text is cut in two.
    fn check(offered: &Offered, text: &str, expected: Option<&str>) {
        for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
            let mut watch = Watch::new(offered);
            let first = watch.push(&text[..at]);
            let found = match first {
                Some(rest) => Some(rest + &text[at..]),
                None => watch.push(&text[at..]),
            };
            assert_eq!(found.as_deref(), expected, "{text:?} cut at {at}");
        }
    }

    #[test]
    fn the_mark_is_found_outside_of_reasoning() {
        check(&offered(false, false), "I look. <ca <call>\n{", Some("\n{"));
        check(&offered(false, false), "Nothing < call>", None);
        check(&offered(true, false), "<call>", Some(""));
        check(&offered(true, false), "<think>ä <call> or not?</think>\n<call>{", Some("{"));
        check(&offered(true, false), "<think><call>", None);
        check(&offered(true, true), "<call> or not?</think>x<call>{", Some("{"));
    }
}
