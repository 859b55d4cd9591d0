//! Text to tokens by the `tokenizers` crate, and each token's own bytes.
//!
//! What stands around a text is what tokenizer.json says: `add_bos_token` and `add_eos_token` of tokenizer_config.json are
//! not read, as `transformers` 5 does not read them where there is a tokenizer.json.

use std::path::Path;

use impetus_plugin_api::{ErrorCode, PluginError};
use serde_json::Value;
use tokenizers::Tokenizer;

/// A checkpoint's `tokenizer.json`.
pub(crate) struct Text {
    /// Control tokens are recognised in text.
    with_control: Tokenizer,
    /// Their text is text like any other.
    without_control: Tokenizer,
    /// What each token adds to a text; nothing for ids that the tokeniser does not have.
    bytes: Vec<Vec<u8>>,
    /// Special tokens, by id.
    control: Vec<(u32, String)>,
}

impl Text {
    /// Reads the file of a folder for a model with so many logits.
    ///
    /// # Errors
    /// `NOT_FOUND` without the file, `CORRUPT_MODEL` when it cannot be read or has tokens beyond the model.
    pub(crate) fn open(folder: &Path, vocab_size: usize) -> Result<Self, PluginError> {
        let json = std::fs::read(folder.join("tokenizer.json")).map_err(|error| {
            let message =
                format!("tokenizer.json cannot be read ({error}); fetch the whole folder of the checkpoint");
            PluginError::new(ErrorCode::NOT_FOUND, message)
        })?;
        let corrupt =
            |error: &dyn std::fmt::Display| PluginError::corrupt_model(format!("tokenizer.json: {error}"));
        let parsed: Value = serde_json::from_slice(&json).map_err(|error| corrupt(&error))?;
        let mut with_control = Tokenizer::from_bytes(&json).map_err(|error| corrupt(&error))?;
        // Both would change what is counted on: a prompt is as long as it is.
        with_control.with_truncation(None).map_err(|error| corrupt(&error))?;
        with_control.with_padding(None);
        let mut without_control = with_control.clone();
        without_control.set_encode_special_tokens(true);
        let added = with_control.get_added_tokens_decoder();
        let mut control: Vec<(u32, String)> = added
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, token)| (id, token.content.clone()))
            .collect();
        control.sort();
        let spelling = &Spelling::of(&parsed["decoder"]);
        let mut bytes = vec![Vec::new(); vocab_size];
        for (text, id) in with_control.get_vocab(true) {
            let place = bytes.get_mut(id as usize).ok_or_else(|| {
                corrupt(&format!("token {id} is beyond the model's vocabulary of {vocab_size}"))
            })?;
            *place = match added.get(&id) {
                // Control tokens are told by their text.
                Some(token) if token.special => text.into_bytes(),
                Some(_) => spelling.added(&text),
                None => spelling.bytes(&text),
            };
        }
        Ok(Text { with_control, without_control, bytes, control })
    }

    /// Text to token ids.
    ///
    /// # Errors
    /// `INTERNAL` with the tokeniser's words.
    pub(crate) fn encode(
        &self,
        text: &str,
        add_special: bool,
        control: bool,
    ) -> Result<Vec<u32>, PluginError> {
        let tokenizer = if control { &self.with_control } else { &self.without_control };
        let encoding = tokenizer
            .encode_fast(text, add_special)
            .map_err(|error| PluginError::internal(format!("the text could not be tokenised: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What a token adds to a text.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The id of a token's text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.with_control.token_to_id(text)
    }

    /// Special tokens, by id.
    pub(crate) fn control(&self) -> &[(u32, String)] {
        &self.control
    }
}

/// How a vocabulary writes bytes as text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spelling {
    /// GPT-2's: each byte is a printable character.
    Bytes,
    /// SentencePiece's: `▁` is a space, `<0x0A>` a byte.
    Pieces,
    /// BERT's: what begins with this (`##`) goes on with a word, all else begins one.
    Words(String),
}

impl Spelling {
    /// By the tokeniser's decoder, which may be a sequence of them.
    fn of(decoder: &Value) -> Self {
        if decoder["type"] == "WordPiece" {
            return Spelling::Words(decoder["prefix"].as_str().unwrap_or("##").to_owned());
        }
        let is_byte_level = |decoder: &Value| decoder["type"] == "ByteLevel";
        let parts = decoder["decoders"].as_array();
        if is_byte_level(decoder) || parts.is_some_and(|parts| parts.iter().any(is_byte_level)) {
            Spelling::Bytes
        } else {
            Spelling::Pieces
        }
    }

    /// What a token that was added to the vocabulary stands for: it is written as it reads, but where `▁` is a space.
    fn added(&self, text: &str) -> Vec<u8> {
        match self {
            Spelling::Pieces => text.replace('▁', " ").into_bytes(),
            Spelling::Bytes | Spelling::Words(_) => text.as_bytes().to_vec(),
        }
    }

    fn bytes(&self, text: &str) -> Vec<u8> {
        match self {
            Spelling::Bytes => match text.chars().map(byte_of).collect() {
                Some(bytes) => bytes,
                None => text.as_bytes().to_vec(),
            },
            Spelling::Pieces => match byte_piece(text) {
                Some(byte) => vec![byte],
                None => text.replace('▁', " ").into_bytes(),
            },
            Spelling::Words(prefix) => match text.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {text}").into_bytes(),
            },
        }
    }
}

/// `<0x0A>`
fn byte_piece(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte that a character stands for in GPT-2's vocabulary: printable Latin-1 is itself, the other bytes are the
/// characters from U+0100 on, in order.
fn byte_of(character: char) -> Option<u8> {
    let is_itself = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_itself(byte).then_some(byte),
        Err(_) => (0..=255u8).filter(|&byte| !is_itself(byte)).nth(code.checked_sub(0x100)? as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_both_ways() {
        assert_eq!(Spelling::Bytes.bytes("Ġhi"), b" hi");
        assert_eq!(Spelling::Bytes.bytes("Ċ"), b"\n");
        assert_eq!(Spelling::Bytes.bytes("Ã¤"), "ä".as_bytes());
        assert_eq!(Spelling::Pieces.bytes("▁hi▁"), b" hi ");
        assert_eq!(Spelling::Pieces.bytes("<0x0A>"), b"\n");
        assert_eq!(Spelling::Pieces.bytes("<0x0>"), b"<0x0>");
        assert_eq!(Spelling::Pieces.added("▁▁code"), b"  code");
        assert_eq!(Spelling::Bytes.added("▁ ▁"), "▁ ▁".as_bytes());
        let words = Spelling::of(&serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true}));
        assert_eq!(
            (words.bytes("play").as_slice(), words.bytes("##ing").as_slice()),
            (&b" play"[..], &b"ing"[..])
        );
        let all: std::collections::BTreeSet<u8> =
            (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(all.len(), 256);
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
        plain: Vec<u32>,
        decoded: String,
    }

    /// Pieces with byte fallback, spaces at the ends and in runs, control tokens' texts and added tokens, all as
    /// `transformers` has them (`tests/oracles/tokenizers_of_pieces.py`): its tokenizer.json adds no end token, whatever
    /// `add_eos_token` of tokenizer_config.json says.
    #[test]
    fn texts_become_the_tokens_that_transformers_makes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/pieces");
        let cases = std::fs::read(folder.join("answers.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
        let text = Text::open(&folder, 1024).unwrap();
        assert!(cases.len() >= 12 && cases.iter().any(|case| case.plain.contains(&(3 + 0xf0))), "no bytes");
        for Case { text: written, ids, plain, decoded } in cases {
            assert_eq!(text.encode(&written, true, true).unwrap(), ids, "{written:?}");
            assert_eq!(text.encode(&written, false, true).unwrap(), plain, "{written:?}");
            let bytes: Vec<u8> = plain.iter().flat_map(|&id| text.bytes(id).to_vec()).collect();
            let told = String::from_utf8(bytes).unwrap();
            // The decoder takes the space away that the normaliser put before the text.
            assert_eq!(told.strip_prefix(' ').unwrap_or(&told), decoded, "{written:?}");
        }
    }
}
