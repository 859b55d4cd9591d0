//! Reads calls written as JSON: `{"name": …, "arguments": {…}}`, or a list of these. The arguments come out while they
//! are being written.

use super::scan::{Scan, Step};
use super::{Delta, Reply, Tool};

/// Calls that are being read.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    place: Place,
    in_list: bool,
    /// OpenAI's own shape: the call lies within `"function"`.
    nested: bool,
    key: String,
    name: Option<String>,
    arguments: Given,
    scan: Scan,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A call or a list of calls.
    Begin,
    /// Behind `[` or a comma in the list.
    Item,
    AfterItem,
    Key,
    InKey,
    Colon,
    Value,
    InName,
    /// Passed on as they come.
    InArguments,
    /// Kept: they came before the name, or as text.
    InHeldArguments,
    InOther,
    AfterValue,
}

/// What is known of a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Nothing,
    Held(String),
    Passed,
}

impl Calls {
    pub(super) fn new() -> Self {
        Calls {
            place: Place::Begin,
            in_list: false,
            nested: false,
            key: String::new(),
            name: None,
            arguments: Given::Nothing,
            scan: Scan::new(),
            value: String::new(),
        }
    }

    /// Takes a character. Where `known` is given, a call of no known tool is none.
    pub(super) fn push(&mut self, c: char, known: Option<&[Tool]>, out: &mut Vec<Delta>) -> Step {
        match self.place {
            Place::InKey => self.in_key(c),
            Place::InName | Place::InArguments | Place::InHeldArguments | Place::InOther => {
                self.in_value(c, known, out)
            }
            _ if c.is_whitespace() => Step::Goes,
            Place::Begin | Place::Item => self.begin(c),
            Place::AfterItem => match c {
                ',' => self.to(Place::Item),
                ']' => Step::Done,
                _ => Step::Ended,
            },
            Place::Key if c == '}' => self.close(out),
            Place::Key if c == '"' => {
                self.start(Place::InKey);
                self.in_key(c)
            }
            Place::Colon if c == ':' => self.to(Place::Value),
            Place::Value => self.begin_value(c, known, out),
            Place::AfterValue => match c {
                ',' => self.to(Place::Key),
                '}' => self.close(out),
                // The call itself is whole; models forget a closing brace.
                _ if self.is_whole() => Step::Ended,
                _ => Step::Broken,
            },
            Place::Key | Place::Colon => Step::Broken,
        }
    }

    fn begin(&mut self, c: char) -> Step {
        match c {
            '[' if self.place == Place::Begin => {
                self.in_list = true;
                self.to(Place::Item)
            }
            '{' => {
                (self.nested, self.name, self.arguments) = (false, None, Given::Nothing);
                self.to(Place::Key)
            }
            _ => Step::Broken,
        }
    }

    fn in_key(&mut self, c: char) -> Step {
        match self.scan.push(c, &mut self.value) {
            Step::Goes => Step::Goes,
            Step::Done => {
                self.key = text_of(&self.value);
                self.to(Place::Colon)
            }
            Step::Ended | Step::Broken => Step::Broken,
        }
    }

    fn begin_value(&mut self, c: char, known: Option<&[Tool]>, out: &mut Vec<Delta>) -> Step {
        let place = match (self.key.as_str(), c) {
            ("function", '{') if !self.nested => {
                self.nested = true;
                return self.to(Place::Key);
            }
            ("name" | "function" | "tool_name", '"') if self.name.is_none() => Place::InName,
            ("arguments" | "parameters", '{') if self.name.is_some() && self.arguments == Given::Nothing => {
                Place::InArguments
            }
            ("arguments" | "parameters", '{' | '"') if self.arguments == Given::Nothing => {
                Place::InHeldArguments
            }
            // Marked or not, a call has one of these first; anything else before the name is some other object.
            ("id" | "type" | "arguments" | "parameters" | "tool_call_id", _) => Place::InOther,
            _ if self.name.is_some() => Place::InOther,
            _ => return Step::Broken,
        };
        self.start(place);
        self.in_value(c, known, out)
    }

    fn in_value(&mut self, c: char, known: Option<&[Tool]>, out: &mut Vec<Delta>) -> Step {
        let before = self.value.len();
        let step = self.scan.push(c, &mut self.value);
        if self.place == Place::InArguments && self.value.len() > before {
            out.push(Delta::Arguments(self.value[before..].to_owned()));
        }
        match step {
            Step::Goes => Step::Goes,
            Step::Broken => Step::Broken,
            Step::Done | Step::Ended => {
                if self.end_value(known, out) == Step::Broken {
                    return Step::Broken;
                }
                self.place = Place::AfterValue;
                if step == Step::Ended { self.push(c, known, out) } else { Step::Goes }
            }
        }
    }

    /// A value is complete.
    fn end_value(&mut self, known: Option<&[Tool]>, out: &mut Vec<Delta>) -> Step {
        match self.place {
            Place::InName => {
                let name = text_of(&self.value);
                let is_unknown = known.is_some_and(|tools| tools.iter().all(|tool| tool.name != name));
                if name.is_empty() || is_unknown {
                    return Step::Broken;
                }
                out.push(Delta::Call { name: name.clone() });
                self.name = Some(name);
            }
            Place::InArguments => self.arguments = Given::Passed,
            Place::InHeldArguments => {
                let is_text = self.value.starts_with('"');
                let text = if is_text { text_of(&self.value) } else { self.value.clone() };
                if is_text && !is_object(&text) {
                    return Step::Broken;
                }
                self.arguments = Given::Held(text);
            }
            _ => {}
        }
        if let (Some(_), Given::Held(text)) = (&self.name, &self.arguments) {
            out.push(Delta::Arguments(text.clone()));
            self.arguments = Given::Passed;
        }
        Step::Goes
    }

    /// An object ends.
    fn close(&mut self, out: &mut Vec<Delta>) -> Step {
        if self.nested {
            self.nested = false;
            return self.to(Place::AfterValue);
        }
        if self.name.is_none() {
            return Step::Broken;
        }
        if self.arguments == Given::Nothing {
            out.push(Delta::Arguments("{}".to_owned()));
            self.arguments = Given::Passed;
        }
        if self.in_list { self.to(Place::AfterItem) } else { Step::Done }
    }

    fn start(&mut self, place: Place) {
        self.place = place;
        self.scan = Scan::new();
        self.value.clear();
    }

    fn to(&mut self, place: Place) -> Step {
        self.place = place;
        Step::Goes
    }

    /// Whether the last call is whole, whatever else was to come.
    pub(super) fn is_whole(&self) -> bool {
        self.name.is_some() && self.arguments == Given::Passed
    }

    /// Whether a call of a list has just ended.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::AfterItem
    }
}

/// Calls that are there whole; nothing where they are none.
pub(super) fn take(text: &str) -> Option<Vec<(String, String)>> {
    let (mut calls, mut deltas) = (Calls::new(), Vec::new());
    let mut status = Step::Goes;
    for c in text.trim().chars() {
        if status != Step::Goes {
            return None;
        }
        status = calls.push(c, None, &mut deltas);
    }
    if !calls.is_whole() {
        return None;
    }
    let mut reply = Reply::default();
    deltas.into_iter().for_each(|delta| reply.add(delta));
    Some(reply.calls.into_iter().map(|call| (call.name, call.arguments)).collect())
}

/// A JSON string's text.
fn text_of(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_default()
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}
