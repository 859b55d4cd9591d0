//! The header of one safetensors file: every claim of it is checked before it is used.
//!
//! Format: 8 bytes of length (little endian), a JSON object of that length, the data. Each entry has a type, a shape
//! and the range of its data; the ranges together are exactly the data.
//! Source: <https://github.com/huggingface/safetensors#format>.

use std::fmt;
use std::ops::Range;

use impetus_plugin_api::PluginError;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};

/// As the reference implementation has it: a longer header is an attack.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Its bytes, counted from the file's beginning.
    pub(crate) range: Range<usize>,
}

impl Entry {
    /// Numbers in it. Known to fit, since its bytes do.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Reads the header of a whole file.
///
/// # Errors
/// `CORRUPT_MODEL` with the tensor at fault and the figures.
pub(super) fn read(file: &[u8]) -> Result<Vec<Entry>, PluginError> {
    let corrupt = |message: String| PluginError::corrupt_model(message);
    let short = || corrupt(format!("the file ends after {} bytes, within its header", file.len()));
    let length = file.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(short)?;
    if length > MAX_HEADER_BYTES {
        return Err(corrupt(format!(
            "the header claims {length} bytes; more than {MAX_HEADER_BYTES} is no header"
        )));
    }
    let start = 8 + length as usize;
    let json = file.get(8..start).ok_or_else(|| {
        corrupt(format!(
            "the header claims {length} bytes, but the file has only {} behind its length",
            file.len() - 8
        ))
    })?;
    let tensors = serde_json::Deserializer::from_slice(json)
        .deserialize_map(Tensors)
        .map_err(|error| corrupt(format!("the header is no sound JSON: {error}")))?;
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        entries.push(checked(name, &info, start, file.len())?);
    }
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    check_cover(&entries, start, file.len())?;
    Ok(entries)
}

fn checked(name: String, info: &TensorInfo, start: usize, file: usize) -> Result<Entry, PluginError> {
    let (from, to) = info.data_offsets;
    let data = file - start;
    if from > to || to > data {
        return Err(PluginError::corrupt_model(format!(
            "tensor `{name}` claims the bytes {from} to {to} of {data} bytes of data: the file is cut off, or its \
             header is wrong"
        )));
    }
    let elements = info.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let bits = elements.and_then(|elements| elements.checked_mul(info.dtype.bitsize()));
    if bits != (to - from).checked_mul(8) {
        return Err(PluginError::corrupt_model(format!(
            "tensor `{name}` of type {:?} and shape {:?} does not fill its {} bytes",
            info.dtype,
            info.shape,
            to - from
        )));
    }
    Ok(Entry { name, dtype: info.dtype, shape: info.shape.clone(), range: start + from..start + to })
}

/// The ranges follow each other without overlap or hole.
fn check_cover(entries: &[Entry], start: usize, file: usize) -> Result<(), PluginError> {
    let mut end = start;
    for entry in entries {
        if entry.range.start != end {
            let what = if entry.range.start < end {
                "overlaps the tensor before it"
            } else {
                "leaves a hole before it"
            };
            return Err(PluginError::corrupt_model(format!(
                "tensor `{}` begins at byte {} of the file in place of {end}: it {what}",
                entry.name, entry.range.start
            )));
        }
        end = entry.range.end;
    }
    if end != file {
        return Err(PluginError::corrupt_model(format!(
            "{} bytes behind the last tensor belong to none",
            file - end
        )));
    }
    Ok(())
}

/// The entries in order; a name that comes twice is an error, where a map would keep one silently.
struct Tensors;

impl<'de> Visitor<'de> for Tensors {
    type Value = Vec<(String, TensorInfo)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!("tensor `{name}` is there twice")));
            }
            let info = map
                .next_value()
                .map_err(|error| serde::de::Error::custom(format!("tensor `{name}`: {error}")))?;
            tensors.push((name, info));
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.extend(vec![0; data]);
        file
    }

    #[test]
    fn a_sound_file_is_read() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
                       "a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}"#;
        let entries = read(&file(json, 12)).unwrap();
        let start = 8 + json.len();
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(entries[1].range, start + 4..start + 12);
        assert_eq!((entries[0].dtype, entries[0].elements()), (Dtype::BF16, 2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |entry: &str| format!(r#"{{"w":{entry}}}"#);
        for (json, data, expected) in [
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 4, "tensor `w` claims the bytes 0 to 8 of 4"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), 8, "tensor `w` claims the bytes 8 to 0"),
            (one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), 8, "tensor `w` of type F32 and shape [3]"),
            (one(r#"{"dtype":"F32","shape":[9223372036854775807,8],"data_offsets":[0,8]}"#), 8, "does not fill"),
            (one(r#"{"dtype":"F99","shape":[2],"data_offsets":[0,8]}"#), 8, "tensor `w`: unknown variant"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 9, "1 bytes behind the last tensor"),
            (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#), 8, "leaves a hole"),
            ("[]".to_owned(), 0, "no sound JSON"),
            (
                r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
                    .to_owned(),
                1,
                "`w` is there twice",
            ),
            (
                r#"{"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#
                    .to_owned(),
                3,
                "`w` begins at",
            ),
        ] {
            let error = read(&file(&json, data)).unwrap_err();
            assert!(error.message.contains(expected), "{json}: {}", error.message);
        }
        for (bytes, expected) in [
            (vec![1, 2, 3], "ends after 3 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "is no header"),
            (100u64.to_le_bytes().to_vec(), "claims 100 bytes, but the file has only 0"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }

    /// Whatever a file says: a refusal, or tensors that lie within it and fill their bytes.
    #[test]
    fn no_header_leads_out_of_its_file() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
                       "a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}"#;
        let sound = file(json, 12);
        let (mut state, mut accepted) = (1u64, 0);
        let mut random = |below: usize| {
            // Xorshift (Marsaglia 2003): the same bytes in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = sound.clone();
            for _ in 0..=random(3) {
                let place = random(bytes.len());
                match random(4) {
                    0 => bytes[place] = random(256) as u8,
                    1 => bytes[place] = b"0123456789[]{},:\""[random(17)],
                    2 => bytes.truncate(place.max(1)),
                    _ => bytes.insert(place, b'9'),
                }
            }
            let Ok(entries) = read(&bytes) else { continue };
            accepted += 1;
            let mut end = 0;
            for entry in entries {
                assert!(entry.range.start >= end && entry.range.end <= bytes.len(), "{entry:?}");
                assert_eq!(entry.elements() * entry.dtype.bitsize(), entry.range.len() * 8, "{entry:?}");
                end = entry.range.end;
            }
        }
        assert!(accepted > 100, "{accepted} of the changed files were sound");
    }
}
