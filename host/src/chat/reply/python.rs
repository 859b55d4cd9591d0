//! Calls written as Python: `[get_weather(city="Paris", days=3)]`. Literals only; nothing is run.

use serde_json::{Map, Value};

use super::cursor::Cursor;
use super::{Tool, object};
use crate::chat::json::dumps;

type Calls = Option<Vec<(String, String)>>;

/// A list of calls, or calls line by line; a list of JSON too.
pub(super) fn calls(text: &str, tools: &[Tool]) -> Calls {
    let text = text.trim();
    if text.starts_with("[{") {
        return object::take(text);
    }
    let inner = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let mut reader = Reader { text: Cursor::new(inner.unwrap_or(text).trim()) };
    let mut calls = Vec::new();
    while !reader.text.rest.is_empty() {
        calls.push(reader.call(tools)?);
        reader.text.skip();
        while reader.text.eat(",") || reader.text.eat(";") {
            reader.text.skip();
        }
    }
    Some(calls)
}

/// The same, of known tools only, perhaps within `print`.
pub(super) fn known(text: &str, tools: &[Tool]) -> Calls {
    let text = text.trim();
    let inner = text.strip_prefix("print(").and_then(|inner| inner.strip_suffix(')'));
    let found = calls(inner.unwrap_or(text), tools)?;
    let is_known = |name: &str| tools.iter().any(|tool| tool.name == name);
    found.iter().all(|(name, _)| is_known(name)).then_some(found)
}

/// Llama's way with its own tools: `brave_search.call(query="…")`.
pub(super) fn method(text: &str, tools: &[Tool]) -> Calls {
    let found = calls(text, tools)?;
    let without =
        |(name, arguments): (String, String)| Some((name.strip_suffix(".call")?.to_owned(), arguments));
    found.into_iter().map(without).collect()
}

struct Reader<'a> {
    text: Cursor<'a>,
}

impl<'a> Reader<'a> {
    fn call(&mut self, tools: &[Tool]) -> Option<(String, String)> {
        let name = self.word()?.to_owned();
        self.text.skip();
        if !self.text.eat("(") {
            return None;
        }
        let properties = tools.iter().find(|tool| tool.name == name).and_then(|tool| {
            tool.parameters.get("properties").and_then(Value::as_object).map(|properties| properties.keys())
        });
        let mut positions = properties.into_iter().flatten();
        let mut arguments = Map::new();
        self.text.skip();
        while !self.text.eat(")") {
            let before = self.text.rest;
            let key = self.word().map(str::to_owned);
            self.text.skip();
            let key = match key {
                Some(key) if self.text.eat("=") => key,
                // An argument without a name has that of its place.
                _ => {
                    self.text.rest = before;
                    positions.next()?.clone()
                }
            };
            arguments.insert(key, self.value()?);
            self.next(")")?;
        }
        Some((name, dumps(&arguments)))
    }

    fn value(&mut self) -> Option<Value> {
        self.text.skip();
        self.text.descend()?;
        let value = match self.text.rest.chars().next()? {
            quote @ ('"' | '\'') => self.text(quote)?.into(),
            '[' => self.list("[", "]")?,
            '(' => self.list("(", ")")?,
            '{' => self.dict()?,
            _ => self.literal()?,
        };
        self.text.ascend();
        Some(value)
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Value> {
        self.text.eat(open);
        let mut items = Vec::new();
        self.text.skip();
        while !self.text.eat(close) {
            items.push(self.value()?);
            self.next(close)?;
        }
        Some(items.into())
    }

    fn dict(&mut self) -> Option<Value> {
        self.text.eat("{");
        let mut object = Map::new();
        self.text.skip();
        while !self.text.eat("}") {
            let quote = self.text.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let key = self.text(quote)?;
            self.text.skip();
            if !self.text.eat(":") {
                return None;
            }
            object.insert(key, self.value()?);
            self.next("}")?;
        }
        Some(object.into())
    }

    fn literal(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
        let end = self.text.rest.find(|c| !is_part(c)).unwrap_or(self.text.rest.len());
        match self.text.advance(end) {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            number => serde_json::from_str::<serde_json::Number>(number).ok().map(Value::Number),
        }
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let triple = quote.to_string().repeat(3);
        let close = if self.text.rest.starts_with(&triple) { triple } else { quote.to_string() };
        self.text.eat(&close);
        let mut text = String::new();
        while !self.text.eat(&close) {
            let c = self.text.rest.chars().next()?;
            self.text.advance(c.len_utf8());
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escaped = self.text.rest.chars().next()?;
            self.text.advance(escaped.len_utf8());
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'x' => text.push(self.hex(2)?),
                'u' => text.push(self.hex(4)?),
                '\\' | '\'' | '"' => text.push(escaped),
                '\n' => {}
                _ => text.extend(['\\', escaped]),
            }
        }
        Some(text)
    }

    fn hex(&mut self, digits: usize) -> Option<char> {
        let code = u32::from_str_radix(self.text.rest.get(..digits)?, 16).ok()?;
        self.text.advance(digits);
        char::from_u32(code)
    }

    /// Passes over a comma; nothing where neither it nor the end stands here.
    fn next(&mut self, close: &str) -> Option<()> {
        self.text.skip();
        let goes_on = self.text.eat(",");
        self.text.skip();
        (goes_on || self.text.rest.starts_with(close)).then_some(())
    }

    /// A name, with its dots.
    fn word(&mut self) -> Option<&'a str> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let end = self.text.rest.find(|c| !is_part(c)).unwrap_or(self.text.rest.len());
        let begins = self.text.rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
        (begins && end > 0).then(|| self.text.advance(end))
    }
}
