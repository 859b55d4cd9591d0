//! Hostile and sound headers, written by a small writer of our own.

use std::io::Cursor as Bytes;

use super::*;

/// Puts a GGUF file together.
#[derive(Default)]
pub(crate) struct Writer {
    metadata: Vec<u8>,
    metadata_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data_bytes: usize,
}

impl Writer {
    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.metadata_count += 1;
        self
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, TEXT, &text(value))
    }

    pub(crate) fn number(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    fn texts(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = TEXT.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(text(value)));
        self.entry(key, ARRAY, &bytes)
    }

    fn tensor_at(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|size| self.tensors.extend(size.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    /// A tensor of F32 behind the others.
    pub(crate) fn tensor(mut self, name: &str, dimensions: &[u64]) -> Self {
        let offset = self.data_bytes as u64;
        let bytes = dimensions.iter().product::<u64>() as usize * 4;
        self.data_bytes += bytes.next_multiple_of(32);
        self.tensor_at(name, dimensions, 0, offset)
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.metadata_count.to_le_bytes());
        file.extend(&self.metadata);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(32) + self.data_bytes, 0);
        file
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn sound() -> Writer {
    Writer::default()
        .text("general.architecture", "llama")
        .number("llama.context_length", 2048)
        .texts("tokenizer.ggml.tokens", &["<s>", "a", "日本"])
        .entry("llama.rope.freq_base", 6, &10000_f32.to_le_bytes())
        .tensor("token_embd.weight", &[8, 3])
        .tensor("output_norm.weight", &[8])
}

pub(crate) fn read(file: &[u8]) -> Result<Header, HeaderError> {
    Header::read(Bytes::new(file), file.len() as u64)
}

fn refusal(file: &[u8]) -> HeaderError {
    read(file).unwrap_err()
}

#[test]
fn a_sound_header_is_read() {
    let header = read(&sound().file()).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.text("general.architecture"), Some("llama"));
    assert_eq!(header.number("llama.context_length"), Some(2048));
    assert_eq!(header.array_length("tokenizer.ggml.tokens"), Some(3));
    assert_eq!(header.metadata["llama.rope.freq_base"], Value::Float(10000.0));
    let tensors: Vec<_> =
        header.tensors.iter().map(|t| (t.name.as_str(), t.elements, t.kind.name, t.bytes)).collect();
    assert_eq!(tensors, [("token_embd.weight", 24, "F32", 96), ("output_norm.weight", 8, "F32", 32)]);
}

#[test]
fn a_file_that_ends_anywhere_is_refused() {
    let file = sound().file();
    for length in 0..file.len() {
        let error = refusal(&file[..length]);
        assert!(error.offset <= length as u64, "{error}");
    }
    let cut = refusal(&file[..file.len() - 1]);
    assert!(
        cut.message.contains("`output_norm.weight`") && cut.message.contains("1 bytes are missing"),
        "{cut}"
    );
}

#[test]
fn no_changed_byte_brings_the_reader_down() {
    let file = sound().file();
    for at in 0..file.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] = value;
            // Whatever it answers: that it answers, and soon, is the point.
            let _ = read(&changed);
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let mut big_endian = sound().file();
    big_endian[4..8].copy_from_slice(&3_u32.to_be_bytes());
    let mut version = sound().file();
    version[4] = 9;
    let mut first = sound().file();
    first[4] = 1;
    let mut counts = sound().file();
    counts[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long_key = sound().file();
    long_key[24..32].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let base = || Writer::default().text("general.architecture", "llama");
    let huge_array = [4_u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
    let nested = [ARRAY.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat();
    for (file, offset, expected) in [
        (b"GGML....".to_vec(), 0, "the magic is `GGML`"),
        (vec![], 0, "the file ends within the magic"),
        (big_endian, 4, "big-endian"),
        (version, 4, "version 9 is not known"),
        (first, 4, "version 1 is not supported"),
        (counts, 24, "tensors, but the file has room"),
        (long_key, 32, "at most 65535"),
        (base().entry("x", 77, &[]).tensor("t", &[8]).file(), 78, "unknown value type 77"),
        (base().entry("x", ARRAY, &huge_array).file(), 94, "elements in `x`"),
        (base().entry("x", ARRAY, &nested).file(), 82, "array of arrays"),
        (base().text("general.architecture", "x").file(), 110, "appears twice"),
        (base().tensor("t", &[8]).tensor("t", &[8]).file(), 102, "the tensor `t` appears twice"),
        (base().tensor_at("t", &[8], 99, 0).file(), 69, "unknown type 99"),
        (base().tensor_at("t", &[33], 2, 0).file(), 69, "no multiple of Q4_0's block 32"),
        (base().tensor_at("t", &[1, 1, 1, 1, 1], 0, 0).file(), 69, "5 dimensions"),
        (base().tensor_at("t", &[u64::MAX, 2], 0, 0).file(), 69, "more elements"),
        (base().tensor_at("t", &[8], 0, 7).file(), 69, "no multiple of 32"),
        (base().tensor_at("t", &[8], 0, 32).file(), 69, "bytes are missing"),
        (base().tensor_at("t", &[8], 0, u64::MAX - 31).file(), 69, "beyond what 64 bits"),
        (base().number("general.alignment", 3).file(), 102, "power of two"),
    ] {
        let error = refusal(&file);
        assert!(error.message.contains(expected), "expected {expected:?}, found {error}");
        assert_eq!(error.offset, offset, "{error}");
    }
}
