//! Reads one JSON value character by character (RFC 8259), as far as it is one.
//!
//! What it passes on is valid JSON at every moment: models write line breaks into strings, which come out escaped. It
//! keeps no values, only how deep it is.

/// A JSON value that is being read.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    /// The lists (`[`) and objects (`{`) that are open.
    open: Vec<char>,
    place: Place,
}

/// What a character was to what is being read: a value here, calls in `object` and `call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A part of it; more must come.
    Goes,
    /// Its last.
    Done,
    /// No part of it: it was complete before.
    Ended,
    /// No part of it, and it is not complete.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    /// Behind `[`: a value or `]`.
    FirstItem,
    /// Behind `{`: a key or `}`.
    FirstKey,
    Key,
    Colon,
    AfterValue,
    Text {
        is_key: bool,
        escape: Escape,
    },
    Word {
        rest: &'static str,
    },
    Number(Number),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// So many hexadecimal digits are to come.
    Hex(u8),
}

/// The last part of a number that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Scan {
    /// Before the first character of a value.
    pub(super) fn new() -> Self {
        Scan { open: Vec::new(), place: Place::Value }
    }

    /// Takes a character, and appends it to `out` if it is a part of the value.
    pub(super) fn push(&mut self, c: char, out: &mut String) -> Step {
        if let Place::Number(number) = self.place {
            if let Some(next) = number.next(c) {
                self.place = Place::Number(next);
                out.push(c);
                return Step::Goes;
            }
            if !number.is_complete() {
                return Step::Broken;
            }
            if self.open.is_empty() {
                return Step::Ended;
            }
            self.place = Place::AfterValue;
        }
        let step = match self.place {
            Place::Text { is_key, escape } => return self.text(c, is_key, escape, out),
            Place::Word { rest } => self.word(c, rest),
            _ if matches!(c, ' ' | '\t' | '\n' | '\r') => Step::Goes,
            Place::Value => self.value(c),
            Place::FirstItem if c == ']' => self.close(),
            Place::FirstItem => self.value(c),
            Place::FirstKey if c == '}' => self.close(),
            Place::FirstKey | Place::Key => self.key(c),
            Place::Colon => self.to(c == ':', Place::Value),
            Place::AfterValue => self.after_value(c),
            Place::Number(_) => Step::Broken,
        };
        if step != Step::Broken {
            out.push(c);
        }
        step
    }

    #[cfg(test)]
    /// Whether the value may end here: only a number does not say so itself.
    pub(super) fn may_end(&self) -> bool {
        self.open.is_empty() && matches!(self.place, Place::Number(number) if number.is_complete())
    }

    fn value(&mut self, c: char) -> Step {
        self.place = match c {
            '{' => Place::FirstKey,
            '[' => Place::FirstItem,
            '"' => Place::Text { is_key: false, escape: Escape::None },
            't' => Place::Word { rest: "rue" },
            'f' => Place::Word { rest: "alse" },
            'n' => Place::Word { rest: "ull" },
            '-' => Place::Number(Number::Minus),
            '0' => Place::Number(Number::Zero),
            '1'..='9' => Place::Number(Number::Digits),
            _ => return Step::Broken,
        };
        if matches!(c, '{' | '[') {
            self.open.push(c);
        }
        Step::Goes
    }

    fn key(&mut self, c: char) -> Step {
        self.to(c == '"', Place::Text { is_key: true, escape: Escape::None })
    }

    fn after_value(&mut self, c: char) -> Step {
        match (c, self.open.last()) {
            (',', Some('{')) => self.to(true, Place::Key),
            (',', Some('[')) => self.to(true, Place::Value),
            ('}', Some('{')) | (']', Some('[')) => self.close(),
            _ => Step::Broken,
        }
    }

    fn close(&mut self) -> Step {
        self.open.pop();
        self.value_ended()
    }

    fn value_ended(&mut self) -> Step {
        self.place = Place::AfterValue;
        if self.open.is_empty() { Step::Done } else { Step::Goes }
    }

    fn to(&mut self, right: bool, place: Place) -> Step {
        if !right {
            return Step::Broken;
        }
        self.place = place;
        Step::Goes
    }

    fn word(&mut self, c: char, rest: &'static str) -> Step {
        match rest.strip_prefix(c) {
            Some("") => self.value_ended(),
            Some(rest) => self.to(true, Place::Word { rest }),
            None => Step::Broken,
        }
    }

    fn text(&mut self, c: char, is_key: bool, escape: Escape, out: &mut String) -> Step {
        let next = match (escape, c) {
            (Escape::None, '"') => {
                out.push(c);
                return if is_key { self.to(true, Place::Colon) } else { self.value_ended() };
            }
            (Escape::None, '\\') => Escape::Backslash,
            (Escape::None, _) => Escape::None,
            (Escape::Backslash, 'u') => Escape::Hex(4),
            (Escape::Backslash, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Escape::None,
            (Escape::Hex(1), _) if c.is_ascii_hexdigit() => Escape::None,
            (Escape::Hex(left), _) if c.is_ascii_hexdigit() => Escape::Hex(left - 1),
            (Escape::Backslash | Escape::Hex(_), _) => return Step::Broken,
        };
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{0}'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
        self.to(true, Place::Text { is_key, escape: next })
    }
}

impl Number {
    fn next(self, c: char) -> Option<Number> {
        match (self, c) {
            (Number::Minus, '0') => Some(Number::Zero),
            (Number::Minus | Number::Digits, '0'..='9') => Some(Number::Digits),
            (Number::Zero | Number::Digits, '.') => Some(Number::Point),
            (Number::Point | Number::Fraction, '0'..='9') => Some(Number::Fraction),
            (Number::Zero | Number::Digits | Number::Fraction, 'e' | 'E') => Some(Number::Exponent),
            (Number::Exponent, '+' | '-') => Some(Number::ExponentSign),
            (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, '0'..='9') => {
                Some(Number::ExponentDigits)
            }
            _ => None,
        }
    }

    fn is_complete(self) -> bool {
        matches!(self, Number::Zero | Number::Digits | Number::Fraction | Number::ExponentDigits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was passed on, and how it ended; a value that could still go on is `Goes`.
    fn scan(text: &str) -> (String, Step) {
        let (mut scan, mut out) = (Scan::new(), String::new());
        for c in text.chars() {
            let step = scan.push(c, &mut out);
            if step != Step::Goes {
                return (out, step);
            }
        }
        let step = if scan.may_end() { Step::Done } else { Step::Goes };
        (out, step)
    }

    #[test]
    fn values_end_where_they_end() {
        for value in [
            "{}",
            "[]",
            "\"\"",
            "0",
            "-0",
            "12",
            "1.50",
            "-2e8",
            "2E+8",
            "2.5e-10",
            "true",
            "false",
            "null",
            r#"{"a": [1, 2.5, {"b": null}], "c": "\"\\\/\b\u00e9\ud83d", "": {}}"#,
            "[ [ ], { } ,\n\"é\", -1 ]",
        ] {
            assert_eq!(scan(value), (value.to_owned(), Step::Done), "{value}");
            let behind = scan(&format!("{value} x"));
            assert!(matches!(behind.1, Step::Done | Step::Ended) && behind.0 == value, "{value}: {behind:?}");
        }
    }

    #[test]
    fn what_is_no_json_breaks_where_it_stops_being_any() {
        for (text, passed) in [
            ("x", ""),
            ("{a", "{"),
            ("{\"a\" 1", "{\"a\" "),
            ("{\"a\": 1 2", "{\"a\": 1 "),
            ("{\"a\": 1,}", "{\"a\": 1,"),
            ("[1,]", "[1,"),
            ("[1}", "[1"),
            ("{\"a\": 01}", "{\"a\": 0"),
            ("[-a", "[-"),
            ("[1.]", "[1."),
            ("[tru]", "[tru"),
            ("\"\\x\"", "\"\\"),
            ("\"\\u00g0", "\"\\u00"),
            ("{\"a\": True}", "{\"a\": "),
        ] {
            assert_eq!(scan(text), (passed.to_owned(), Step::Broken), "{text}");
        }
        assert_eq!(scan("{\"a\": [1").1, Step::Goes);
    }

    #[test]
    fn line_breaks_in_strings_come_out_escaped() {
        let (out, step) = scan("{\"a\": \"x\ny\tz\u{1}\"}");
        assert_eq!((out.as_str(), step), (r#"{"a": "x\ny\tz\u0001"}"#, Step::Done));
    }

    #[test]
    fn it_agrees_with_the_library_on_every_short_text() {
        let alphabet = ['{', '}', '[', ']', '"', 'a', ':', ',', '1', '-', '.', ' '];
        for number in 0..alphabet.len().pow(5) {
            let digits = (0..5).map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]);
            let text: String = digits.collect();
            let text = text.trim();
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            let (out, step) = scan(text);
            assert_eq!(step == Step::Done && out == text, valid, "{text:?}");
        }
    }
}
