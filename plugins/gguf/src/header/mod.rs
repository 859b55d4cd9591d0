//! The header of a GGUF file, read by ourselves: what is wrong is said with the field and the byte, before llama.cpp,
//! which would answer with null, sees the file. Weights are never read.
//!
//! Specification: ggml's docs/gguf.md, versions 2 and 3, little-endian.

mod cursor;
#[cfg(test)]
pub(crate) mod tests;
mod types;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Seek};

use self::cursor::Cursor;
pub(crate) use self::cursor::HeaderError;
use self::types::tensor_type;
pub(crate) use self::types::{TensorType, file_type_name};

/// A header, whole and checked.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) metadata: HashMap<String, Value>,
    pub(crate) tensors: Vec<Tensor>,
}

/// A metadata value. Of arrays only the length is kept, except short ones of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// An array of so many elements; `numbers` where they are few and whole.
    Array {
        length: u64,
        numbers: Vec<u64>,
    },
}

/// One tensor's place and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Numbers of each dimension, the innermost first, as GGUF has it.
    pub(crate) shape: Vec<u64>,
    pub(crate) elements: u64,
    pub(crate) kind: TensorType,
    pub(crate) bytes: u64,
}

/// Longest key and tensor name: the specification says 65535 and 64, some files go beyond the latter.
const MAX_NAME_BYTES: u64 = 65535;
/// Longest text value: chat templates and licences are long, none is this long.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// Longest array of numbers that is kept: one number per layer.
const MAX_KEPT_NUMBERS: u64 = 1024;
/// llama.cpp's bound on a tensor's dimensions.
const MAX_DIMENSIONS: u32 = 4;

impl Header {
    /// Reads a header from the start of a source of `length` bytes.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub(crate) fn read(source: impl BufRead + Seek, length: u64) -> Result<Header, HeaderError> {
        let mut cursor = Cursor::new(source, length);
        let version = magic_and_version(&mut cursor)?;
        let tensor_count = cursor.u64("the number of tensors")?;
        let metadata_count = cursor.u64("the number of metadata entries")?;
        check_count(&cursor, "metadata entries", metadata_count, 8 + 4 + 1)?;
        check_count(&cursor, "tensors", tensor_count, 8 + 4 + 4 + 8)?;
        let mut metadata = HashMap::new();
        for _ in 0..metadata_count {
            let key = cursor.text("a metadata key", MAX_NAME_BYTES)?;
            let value = value(&mut cursor, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(cursor.error(format!("the metadata key `{key}` appears twice")));
            }
        }
        let alignment = alignment(&cursor, &metadata)?;
        let tensors = tensors(&mut cursor, tensor_count, alignment)?;
        Ok(Header { version, metadata, tensors })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        match *self.metadata.get(key)? {
            Value::Unsigned(number) => Some(number),
            Value::Signed(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    /// A number, or the largest of an array with one for each layer.
    pub(crate) fn largest(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Array { numbers, .. } => numbers.iter().copied().max(),
            _ => self.number(key),
        }
    }

    pub(crate) fn array_length(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Array { length, .. } => Some(*length),
            _ => None,
        }
    }
}

fn magic_and_version(cursor: &mut Cursor<impl BufRead + Seek>) -> Result<u32, HeaderError> {
    let magic: [u8; 4] = cursor.array("the magic")?;
    if &magic != b"GGUF" {
        let found = magic.escape_ascii();
        return Err(HeaderError {
            offset: 0,
            message: format!("the magic is `{found}`, where `GGUF` was expected"),
        });
    }
    let at = cursor.offset();
    let version = cursor.u32("the version")?;
    let wrong = |message: String| Err(HeaderError { offset: at, message });
    match version {
        2 | 3 => Ok(version),
        1 => wrong(
            "GGUF version 1 is not supported; convert the model again with a current llama.cpp".to_owned(),
        ),
        _ if (1..=3).contains(&version.swap_bytes()) => {
            wrong("the file is big-endian; convert the model again for little-endian machines".to_owned())
        }
        _ => wrong(format!("GGUF version {version} is not known; versions 2 and 3 are")),
    }
}

fn check_count(
    cursor: &Cursor<impl BufRead + Seek>,
    what: &str,
    count: u64,
    least_bytes: u64,
) -> Result<(), HeaderError> {
    let most = cursor.remaining() / least_bytes;
    if count <= most {
        return Ok(());
    }
    Err(cursor.error(format!("the header claims {count} {what}, but the file has room for at most {most}")))
}

fn value(cursor: &mut Cursor<impl BufRead + Seek>, key: &str) -> Result<Value, HeaderError> {
    let at = cursor.offset();
    let kind = cursor.u32(key)?;
    if kind == ARRAY {
        return array(cursor, key);
    }
    scalar(cursor, kind, key)?.ok_or_else(|| unknown_kind(at, kind, key))
}

fn unknown_kind(offset: u64, kind: u32, key: &str) -> HeaderError {
    HeaderError { offset, message: format!("`{key}` has the unknown value type {kind}") }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A value that is no array; `None` for a type that does not exist.
fn scalar(
    cursor: &mut Cursor<impl BufRead + Seek>,
    kind: u32,
    key: &str,
) -> Result<Option<Value>, HeaderError> {
    Ok(Some(match kind {
        0 => Value::Unsigned(u8::from_le_bytes(cursor.array(key)?).into()),
        1 => Value::Signed(i8::from_le_bytes(cursor.array(key)?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(cursor.array(key)?).into()),
        3 => Value::Signed(i16::from_le_bytes(cursor.array(key)?).into()),
        4 => Value::Unsigned(cursor.u32(key)?.into()),
        5 => Value::Signed(i32::from_le_bytes(cursor.array(key)?).into()),
        6 => Value::Float(f32::from_le_bytes(cursor.array(key)?).into()),
        7 => Value::Bool(cursor.array::<1>(key)?[0] != 0),
        TEXT => Value::Text(cursor.text(key, MAX_TEXT_BYTES)?),
        10 => Value::Unsigned(cursor.u64(key)?),
        11 => Value::Signed(i64::from_le_bytes(cursor.array(key)?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array(key)?)),
        _ => return Ok(None),
    }))
}

/// Bytes of an element of fixed size.
fn element_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn array(cursor: &mut Cursor<impl BufRead + Seek>, key: &str) -> Result<Value, HeaderError> {
    let at = cursor.offset();
    let kind = cursor.u32(key)?;
    let length = cursor.u64(key)?;
    let mut numbers = Vec::new();
    match (kind, element_bytes(kind)) {
        (TEXT, _) => {
            check_count(cursor, &format!("texts in `{key}`"), length, 8)?;
            for _ in 0..length {
                cursor.skip_text(key)?;
            }
        }
        (ARRAY, _) => {
            return Err(HeaderError { offset: at, message: format!("`{key}` is an array of arrays") });
        }
        (_, Some(bytes)) => {
            check_count(cursor, &format!("elements in `{key}`"), length, bytes)?;
            if length > MAX_KEPT_NUMBERS {
                cursor.skip(length * bytes, key)?;
            } else {
                for _ in 0..length {
                    numbers.extend(whole(scalar(cursor, kind, key)?));
                }
            }
        }
        (_, None) => return Err(unknown_kind(at, kind, key)),
    }
    Ok(Value::Array { length, numbers })
}

fn whole(value: Option<Value>) -> Option<u64> {
    match value? {
        Value::Unsigned(number) => Some(number),
        Value::Signed(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn alignment(
    cursor: &Cursor<impl BufRead + Seek>,
    metadata: &HashMap<String, Value>,
) -> Result<u64, HeaderError> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(&Value::Unsigned(alignment)) if alignment.is_power_of_two() && alignment <= 1 << 20 => {
            Ok(alignment)
        }
        Some(other) => {
            Err(cursor.error(format!("general.alignment must be a power of two; found {other:?}")))
        }
    }
}

/// A tensor's entry before its data's place is judged: the data begins only behind all entries.
struct Placed {
    tensor: Tensor,
    data_offset: u64,
    entry_offset: u64,
}

fn tensors(
    cursor: &mut Cursor<impl BufRead + Seek>,
    count: u64,
    alignment: u64,
) -> Result<Vec<Tensor>, HeaderError> {
    let mut names = HashSet::new();
    let mut placed = Vec::new();
    for _ in 0..count {
        let entry = tensor(cursor)?;
        if !names.insert(entry.tensor.name.clone()) {
            let message = format!("the tensor `{}` appears twice", entry.tensor.name);
            return Err(HeaderError { offset: entry.entry_offset, message });
        }
        placed.push(entry);
    }
    let data_start = cursor.offset().next_multiple_of(alignment);
    placed.into_iter().map(|entry| check_place(entry, data_start, alignment, cursor.length())).collect()
}

fn tensor(cursor: &mut Cursor<impl BufRead + Seek>) -> Result<Placed, HeaderError> {
    let entry_offset = cursor.offset();
    let name = cursor.text("a tensor's name", MAX_NAME_BYTES)?;
    let wrong = |message: String| HeaderError { offset: entry_offset, message };
    let dimensions = cursor.u32(&name)?;
    if dimensions > MAX_DIMENSIONS {
        return Err(wrong(format!(
            "the tensor `{name}` has {dimensions} dimensions; at most {MAX_DIMENSIONS} exist"
        )));
    }
    let mut shape = Vec::new();
    let mut elements: u64 = 1;
    let mut row = 1;
    for dimension in 0..dimensions {
        let size = cursor.u64(&name)?;
        shape.push(size);
        row = if dimension == 0 { size } else { row };
        elements = elements
            .checked_mul(size)
            .filter(|&elements| i64::try_from(elements).is_ok())
            .ok_or_else(|| wrong(format!("the tensor `{name}` has more elements than 64 bits can count")))?;
    }
    let kind_id = cursor.u32(&name)?;
    let kind = tensor_type(kind_id)
        .ok_or_else(|| wrong(format!("the tensor `{name}` has the unknown type {kind_id}")))?;
    if row % kind.block != 0 {
        let message = format!(
            "the tensor `{name}` has rows of {row}, no multiple of {}'s block {}",
            kind.name, kind.block
        );
        return Err(wrong(message));
    }
    let data_offset = cursor.u64(&name)?;
    let bytes = (elements / kind.block)
        .checked_mul(kind.bytes)
        .ok_or_else(|| wrong(format!("the tensor `{name}` has more bytes than 64 bits can count")))?;
    Ok(Placed { tensor: Tensor { name, shape, elements, kind, bytes }, data_offset, entry_offset })
}

fn check_place(entry: Placed, data_start: u64, alignment: u64, length: u64) -> Result<Tensor, HeaderError> {
    let Placed { tensor, data_offset, entry_offset } = entry;
    let wrong = |message: String| Err(HeaderError { offset: entry_offset, message });
    if data_offset % alignment != 0 {
        return wrong(format!(
            "the data of `{}` lies at {data_offset}, no multiple of {alignment}",
            tensor.name
        ));
    }
    let end = data_start.checked_add(data_offset).and_then(|start| start.checked_add(tensor.bytes));
    match end {
        Some(end) if end <= length => Ok(tensor),
        Some(end) => wrong(format!(
            "the data of `{}` ends at byte {end}, but the file has {length}: {} bytes are missing; copy or download \
             it again",
            tensor.name,
            end - length
        )),
        None => wrong(format!("the data of `{}` ends beyond what 64 bits can count", tensor.name)),
    }
}
