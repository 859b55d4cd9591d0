//! Calls as Gemma 4 and FunctionGemma write them: `call:name{key:<|"|>text<|"|>,other:[1,true]}`.

use serde_json::{Map, Value};

use super::Tool;
use crate::chat::json::dumps;

const QUOTES: [&str; 2] = ["<|\"|>", "<escape>"];

/// Deeper than any call; a text of nothing but brackets must not exhaust the stack.
const DEEPEST: usize = 64;

/// Takes a call apart.
pub(super) fn take(block: &str, _: &[Tool]) -> Option<Vec<(String, String)>> {
    let (name, _) = block.trim().strip_prefix("call:")?.split_once('{')?;
    let mut reader = Reader { rest: &block.trim()["call:".len() + name.len()..], depth: 0 };
    let arguments = reader.value()?;
    let is_all = reader.rest.trim().is_empty() && !name.trim().is_empty();
    is_all.then(|| vec![(name.trim().to_owned(), dumps(&arguments))])
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Option<Value> {
        self.rest = self.rest.trim_start();
        if let Some(text) = self.quoted() {
            return text.map(Value::from);
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = if self.eat("{") {
            self.object()?
        } else if self.eat("[") {
            self.list()?
        } else {
            let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
            let word = self.advance(end).trim();
            serde_json::from_str(word).unwrap_or_else(|_| word.into())
        };
        self.depth -= 1;
        Some(value)
    }

    fn object(&mut self) -> Option<Value> {
        let mut object = Map::new();
        self.rest = self.rest.trim_start();
        if self.eat("}") {
            return Some(object.into());
        }
        loop {
            self.rest = self.rest.trim_start();
            let key = match self.quoted() {
                Some(key) => key?,
                None => {
                    let end = self.rest.find([':', ',', '}'])?;
                    self.advance(end).trim().to_owned()
                }
            };
            self.rest = self.rest.trim_start();
            if !self.eat(":") {
                return None;
            }
            object.insert(key, self.value()?);
            match self.next_or_end("}")? {
                true => {}
                false => return Some(object.into()),
            }
        }
    }

    fn list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        self.rest = self.rest.trim_start();
        if self.eat("]") {
            return Some(items.into());
        }
        loop {
            items.push(self.value()?);
            match self.next_or_end("]")? {
                true => {}
                false => return Some(items.into()),
            }
        }
    }

    /// Whether a comma comes, and not the end; nothing where neither does.
    fn next_or_end(&mut self, end: &str) -> Option<bool> {
        self.rest = self.rest.trim_start();
        if self.eat(",") {
            return Some(true);
        }
        self.eat(end).then_some(false)
    }

    /// A quoted text, if one begins here; nothing within where its end is missing.
    fn quoted(&mut self) -> Option<Option<String>> {
        let quote = QUOTES.into_iter().find(|quote| self.rest.starts_with(quote))?;
        self.eat(quote);
        let Some(end) = self.rest.find(quote) else { return Some(None) };
        let text = self.advance(end).to_owned();
        self.eat(quote);
        Some(Some(text))
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (before, behind) = self.rest.split_at(bytes);
        self.rest = behind;
        before
    }
}
