//! Makes whole UTF-8 of the bytes of tokens, which may end in the middle of a character. Knows no tokenizer: the bytes
//! come ready.

/// Holds back the bytes of a character that is not complete yet.
///
/// Whatever the pieces, the texts given out, joined, are `String::from_utf8_lossy` of all the bytes, joined: bytes
/// that can be no UTF-8 become U+FFFD, one for each maximal part as the Unicode standard recommends (section 3.9).
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// The beginning of one character: at most three bytes.
    held: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer that has seen nothing yet.
    pub fn new() -> Self {
        Detokenizer::default()
    }

    /// Takes the next bytes and gives the text that is complete with them; empty when a character's end is missing.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut done = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            if is_incomplete(chunk.invalid()) && done + chunk.invalid().len() == self.held.len() {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            done += chunk.invalid().len();
        }
        self.held.drain(..done);
        text
    }

    /// The answer ends here: gives U+FFFD for a character that never became whole, else nothing.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Whether more bytes could make a character of these, which are no UTF-8 as they are.
fn is_incomplete(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `bytes` cut where `cuts` has a bit, and checks every promise on the way.
    fn check(bytes: &[u8], cuts: u64) {
        let whole = String::from_utf8_lossy(bytes);
        let mut detokenizer = Detokenizer::new();
        let (mut text, mut start) = (String::new(), 0);
        for end in 1..=bytes.len() {
            if end == bytes.len() || cuts >> (end - 1) & 1 == 1 {
                text.push_str(&detokenizer.push(&bytes[start..end]));
                assert!(
                    detokenizer.held.len() <= 3,
                    "{bytes:02x?} cut {cuts:b}: holds {:02x?}",
                    detokenizer.held
                );
                assert!(whole.starts_with(&text), "{bytes:02x?} cut {cuts:b}: {text:?} of {whole:?}");
                start = end;
            }
        }
        text.push_str(&detokenizer.finish());
        assert_eq!(text, whole, "{bytes:02x?} cut {cuts:b}");
        assert_eq!(detokenizer.finish(), "", "finished twice");
    }

    #[test]
    fn every_split_of_real_and_broken_text() {
        let table: [&[u8]; 12] = [
            b"",
            b"plain ascii",
            "žluťoučký".as_bytes(),
            "漢字かな".as_bytes(),
            "🦀 👩‍🚀".as_bytes(),
            "a\u{301}\u{10ffff}".as_bytes(),
            b"\xff\xfe ok",
            b"\xe6\xbc alone",
            b"cut \xf0\x9f\xa6",
            b"\xf0\x9f\xa6\xf0\x9f\xa6\x80",
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xc0\xaf\xe0\x80\xaf\xf5\x80",
        ];
        for bytes in table {
            for cuts in 0..1_u64 << bytes.len().saturating_sub(1) {
                check(bytes, cuts);
            }
        }
    }

    /// All strings of four bytes from those at the borders of the encoding's cases, in all splits.
    #[test]
    fn every_split_of_every_border_case() {
        let alphabet = [b'a', 0x80, 0x90, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe1, 0xed, 0xf0, 0xf1, 0xf4, 0xf5];
        let total = alphabet.len().pow(4);
        for number in 0..total {
            let mut rest = number;
            let bytes = [(); 4].map(|()| {
                let byte = alphabet[rest % alphabet.len()];
                rest /= alphabet.len();
                byte
            });
            for cuts in 0..8 {
                check(&bytes, cuts);
            }
        }
    }

    #[test]
    fn text_comes_as_soon_as_it_is_whole() {
        let mut detokenizer = Detokenizer::new();
        let table: [(&[u8], &str); 7] = [
            (b"a\xf0", "a"),
            (b"\x9f\xa6", ""),
            (b"", ""),
            (b"\x80b", "🦀b"),
            (b"\xe6\xbc", ""),
            (b"x", "\u{fffd}x"),
            (b"\xff", "\u{fffd}"),
        ];
        for (bytes, text) in table {
            assert_eq!(detokenizer.push(bytes), text, "{bytes:02x?}");
        }
    }
}
