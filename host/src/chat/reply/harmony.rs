//! Answers of gpt-oss (OpenAI's harmony format): messages one after another, each with a channel and perhaps a recipient
//! in its head. `analysis` is reasoning, what goes to `functions.…` is a call, the rest is content.

use super::Delta;
use super::scan::{Scan, Step};

const MESSAGE: &str = "<|message|>";

/// What ends a message; the tokens of the other two ends end the answer.
const ENDS: [&str; 4] = ["<|end|>", "<|start|>", "<|call|>", "<|return|>"];

/// With what a head begins.
const HEADS: [&str; 5] = ["<|start|>", "<|channel|>", "to=", "assistant", MESSAGE];

/// Texts of tokens that must be seen in the answer.
pub(super) const MARKS: [&str; 5] = ["<|start|>", "<|end|>", "<|channel|>", "<|constrain|>", MESSAGE];

/// Reads one answer.
#[derive(Debug, Clone)]
pub(super) struct Harmony {
    /// Calls beyond these are dropped; where none are wanted, what goes to a tool is content.
    most_calls: usize,
    made: usize,
    held: String,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Head,
    Reasoning,
    Content,
    Call {
        scan: Scan,
        text: String,
    },
    /// The call is complete, or one too many; nothing of it belongs to the answer up to the message's end.
    AfterCall,
}

impl Harmony {
    /// Whether a template is of this kind.
    pub(super) fn is_of(template: &str) -> bool {
        template.contains("<|channel|>") && template.contains(MESSAGE)
    }

    /// Behind `<|start|>assistant`, with which the prompt ends.
    pub(super) fn new(most_calls: usize) -> Self {
        Harmony { most_calls, made: 0, held: String::new(), place: Place::Head }
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.place, Place::Reasoning)
    }

    pub(super) fn push(&mut self, text: &str, is_end: bool) -> Vec<Delta> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(is_end, &mut out) {}
        out
    }

    /// Whether there may be more to decide.
    fn step(&mut self, is_end: bool, out: &mut Vec<Delta>) -> bool {
        if matches!(self.place, Place::Head) {
            return self.head(is_end, out);
        }
        let (end, mark) = self.end_of_message(is_end);
        let body: String = self.held.drain(..end).collect();
        self.body(&body, out);
        if let Some(mark) = mark {
            self.held.drain(..mark);
        }
        if mark.is_some() || (is_end && self.held.is_empty()) {
            self.cut_off(out);
        }
        if mark.is_some() {
            self.place = Place::Head;
        }
        mark.is_some()
    }

    fn head(&mut self, is_end: bool, out: &mut Vec<Delta>) -> bool {
        let said = self.held.trim_start();
        let is_head = HEADS.iter().any(|head| said.starts_with(head));
        if let Some(at) = self.held.find(MESSAGE).filter(|_| is_head) {
            let head: String = self.held.drain(..at + MESSAGE.len()).collect();
            self.open(&head, out);
            return true;
        }
        // Nothing, too, is the beginning of one.
        let may_become_head = is_head || HEADS.iter().any(|head| head.starts_with(said));
        if may_become_head && !is_end {
            return false;
        }
        // Not this format at all: a tuned model may have lost it.
        self.place = Place::Content;
        !self.held.is_empty()
    }

    fn open(&mut self, head: &str, out: &mut Vec<Delta>) {
        let behind = |mark: &str| {
            let word = head.split_once(mark)?.1;
            let end = word.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(word.len());
            Some(&word[..end])
        };
        let function = behind("to=functions.").filter(|name| !name.is_empty() && self.most_calls > 0);
        self.place = match (function, behind("<|channel|>")) {
            (Some(_), _) if self.made >= self.most_calls => Place::AfterCall,
            (Some(name), _) => {
                self.made += 1;
                out.push(Delta::Call { name: name.to_owned() });
                Place::Call { scan: Scan::new(), text: String::new() }
            }
            (None, Some("analysis")) => Place::Reasoning,
            (None, _) => Place::Content,
        };
    }

    /// Where the message's text ends as far as it is known, and the length of the mark there.
    fn end_of_message(&self, is_end: bool) -> (usize, Option<usize>) {
        for (at, _) in self.held.char_indices() {
            let rest = &self.held[at..];
            if let Some(mark) = ENDS.iter().find(|mark| rest.starts_with(**mark)) {
                return (at, Some(mark.len()));
            }
            if !is_end && ENDS.iter().any(|mark| mark.starts_with(rest)) {
                return (at, None);
            }
        }
        (self.held.len(), None)
    }

    fn body(&mut self, body: &str, out: &mut Vec<Delta>) {
        match &mut self.place {
            Place::Reasoning => out.push(Delta::Reasoning(body.to_owned())),
            Place::Content => out.push(Delta::Content(body.to_owned())),
            Place::Call { .. } => {
                for (at, c) in body.char_indices() {
                    if self.argument(c, out) {
                        return self.body(&body[at + c.len_utf8()..], out);
                    }
                    if matches!(self.place, Place::Content) {
                        return self.body(&body[at..], out);
                    }
                }
            }
            Place::Head | Place::AfterCall => {}
        }
    }

    /// Takes a character of a call's arguments; whether they are complete with it.
    fn argument(&mut self, c: char, out: &mut Vec<Delta>) -> bool {
        let Place::Call { scan, text } = &mut self.place else { return false };
        let before = text.len();
        let is_first = text.trim().is_empty();
        let step = if is_first && !c.is_whitespace() && c != '{' { Step::Broken } else { scan.push(c, text) };
        if text.len() > before && !text.trim().is_empty() {
            out.push(Delta::Arguments(text[before..].to_owned()));
        }
        match step {
            Step::Goes => false,
            Step::Done => {
                self.place = Place::AfterCall;
                true
            }
            Step::Ended | Step::Broken => {
                let text = std::mem::take(text);
                out.push(Delta::Broken { text, rest: String::new() });
                self.made -= 1;
                self.place = Place::Content;
                false
            }
        }
    }

    /// The message ends: arguments that are not complete are none.
    fn cut_off(&mut self, out: &mut Vec<Delta>) {
        if let Place::Call { text, .. } = &mut self.place {
            let text = std::mem::take(text);
            out.push(match text.trim() {
                // A function without arguments.
                "" => Delta::Arguments("{}".to_owned()),
                _ => Delta::Broken { text, rest: String::new() },
            });
            self.place = Place::AfterCall;
        }
    }
}
