//! Calls as Gemma 4 and FunctionGemma write them: `call:name{key:<|"|>text<|"|>,other:[1,true]}`.

use serde_json::{Map, Value};

use super::Tool;
use super::cursor::Cursor;
use crate::chat::json::dumps;

const QUOTES: [&str; 2] = ["<|\"|>", "<escape>"];

/// Takes a call apart.
pub(super) fn take(block: &str, _: &[Tool]) -> Option<Vec<(String, String)>> {
    let (name, _) = block.trim().strip_prefix("call:")?.split_once('{')?;
    let mut reader = Reader { text: Cursor::new(&block.trim()["call:".len() + name.len()..]) };
    let arguments = reader.value()?;
    let is_all = reader.text.rest.trim().is_empty() && !name.trim().is_empty();
    is_all.then(|| vec![(name.trim().to_owned(), dumps(&arguments))])
}

struct Reader<'a> {
    text: Cursor<'a>,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Option<Value> {
        self.text.skip();
        if let Some(text) = self.quoted() {
            return text.map(Value::from);
        }
        self.text.descend()?;
        let value = if self.text.eat("{") {
            self.object()?
        } else if self.text.eat("[") {
            self.list()?
        } else {
            let end = self.text.rest.find([',', '}', ']']).unwrap_or(self.text.rest.len());
            let word = self.text.advance(end).trim();
            serde_json::from_str(word).unwrap_or_else(|_| word.into())
        };
        self.text.ascend();
        Some(value)
    }

    fn object(&mut self) -> Option<Value> {
        let mut object = Map::new();
        self.text.skip();
        if self.text.eat("}") {
            return Some(object.into());
        }
        loop {
            self.text.skip();
            let key = match self.quoted() {
                Some(key) => key?,
                None => {
                    let end = self.text.rest.find([':', ',', '}'])?;
                    self.text.advance(end).trim().to_owned()
                }
            };
            self.text.skip();
            if !self.text.eat(":") {
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
        self.text.skip();
        if self.text.eat("]") {
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
        self.text.skip();
        if self.text.eat(",") {
            return Some(true);
        }
        self.text.eat(end).then_some(false)
    }

    /// A quoted text, if one begins here; nothing within where its end is missing.
    fn quoted(&mut self) -> Option<Option<String>> {
        let quote = QUOTES.into_iter().find(|quote| self.text.rest.starts_with(quote))?;
        self.text.eat(quote);
        let Some(end) = self.text.rest.find(quote) else { return Some(None) };
        let text = self.text.advance(end).to_owned();
        self.text.eat(quote);
        Some(Some(text))
    }
}
