//! `tojson` and numbers as Python writes them: templates were written for `json.dumps` and `repr`.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Rest};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Deeper indentation than this is no template's wish.
const WIDEST_INDENT: usize = 16;

/// Hugging Face's filter: `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`, nothing escaped for HTML.
pub(super) fn tojson(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let mut positional = positional.0.into_iter();
    let mut option = |name: &str| -> Result<Option<Value>, Error> {
        let by_name: Option<Value> = options.get(name)?;
        Ok(positional.next().or(by_name).filter(|value| !value.is_none()))
    };
    let ascii = option("ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = option("indent")?.map(usize::try_from).transpose()?;
    let separators = option("separators")?.map(separators).transpose()?;
    let sorted = option("sort_keys")?.is_some_and(|value| value.is_true());
    options.assert_all_used()?;
    let indent = indent.map(|width| " ".repeat(width.min(WIDEST_INDENT)));
    // Python leaves no blank at a line's end.
    let default = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    let (comma, colon) = separators.unwrap_or(default);
    let formatter = Python { ascii, indent, comma, colon, depth: 0, has_value: false };
    write(value, formatter, sorted).map(Value::from).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(error)
    })
}

/// A float as `repr` has it: an exponent from 1e16 on and below 1e-4, with a sign and two digits.
pub(super) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        Ok(_) | Err(_) => {
            let plain = number.to_string();
            if plain.contains('.') { plain } else { plain + ".0" }
        }
    }
}

/// JSON as `json.dumps` writes it by default.
pub(super) fn dumps(value: &impl Serialize) -> String {
    let formatter = Python {
        ascii: false,
        indent: None,
        comma: ", ".to_owned(),
        colon: ": ".to_owned(),
        depth: 0,
        has_value: false,
    };
    write(value, formatter, false).unwrap_or_default()
}

fn separators(value: Value) -> Result<(String, String), Error> {
    let pair: Vec<String> = value.try_iter()?.map(|item| item.to_string()).collect();
    <[String; 2]>::try_from(pair).map(|[comma, colon]| (comma, colon)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, "tojson: `separators` must be two texts: (\",\", \":\")")
    })
}

fn write(value: &impl Serialize, formatter: Python, sorted: bool) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
    if sorted {
        let mut value = serde_json::to_value(value)?;
        value.sort_all_objects();
        value.serialize(&mut serializer)?;
    } else {
        value.serialize(&mut serializer)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Python {
    ascii: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
    depth: usize,
    /// The list or object that is being closed has something in it.
    has_value: bool,
}

impl Python {
    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.new_line(writer)?;
        }
        self.has_value = true;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.comma.as_bytes())?;
        }
        self.new_line(writer)
    }
}

impl Formatter for Python {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii || text.is_ascii() {
            return writer.write_all(text.as_bytes());
        }
        text.chars().try_for_each(|c| {
            // The private use area stays: the marks of cut-out control tokens must be found again.
            if c.is_ascii() || ('\u{e000}'..='\u{f8ff}').contains(&c) {
                return write!(writer, "{c}");
            }
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))
        })
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        let letter = match escape {
            CharEscape::Quote => b'"',
            CharEscape::ReverseSolidus => b'\\',
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => b'b',
            CharEscape::FormFeed => b'f',
            CharEscape::LineFeed => b'n',
            CharEscape::CarriageReturn => b'r',
            CharEscape::Tab => b't',
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(&[b'\\', letter])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_python_s() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e20, "1.5e+20"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn dumps_has_a_blank_behind_commas_and_colons() {
        let value = serde_json::json!({"b": [1, 2.5, null], "a": {}, "c": "é\u{1}\"\\/\n"});
        assert_eq!(dumps(&value), r#"{"b": [1, 2.5, null], "a": {}, "c": "é\u0001\"\\/\n"}"#);
    }
}
