//! Reads a header's primitive pieces. Every claim of length is checked against the file before anything is read or
//! allocated, and every error says at which byte.

use std::fmt;
use std::io::{self, BufRead, Seek, SeekFrom};

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderError {
    /// Where in the file, in bytes from its start.
    pub(crate) offset: u64,
    /// What was expected and found.
    pub(crate) message: String,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.message, self.offset)
    }
}

impl std::error::Error for HeaderError {}

/// A place in a file of known length.
pub(crate) struct Cursor<R> {
    source: R,
    offset: u64,
    length: u64,
}

impl<R: BufRead + Seek> Cursor<R> {
    /// From the start of a source of this length.
    pub(crate) fn new(source: R, length: u64) -> Self {
        Cursor { source, offset: 0, length }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> HeaderError {
        HeaderError { offset: self.offset, message: message.into() }
    }

    /// `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], HeaderError> {
        self.check(N as u64, what)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(|error| self.read_error(what, &error))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, HeaderError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, HeaderError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and as many bytes of UTF-8, at most `most`.
    pub(crate) fn text(&mut self, what: &str, most: u64) -> Result<String, HeaderError> {
        let length = self.u64(what)?;
        if length > most {
            return Err(
                self.error(format!("{what} claims {length} bytes, where at most {most} are sensible"))
            );
        }
        self.check(length, what)?;
        let mut bytes = vec![0; length as usize];
        self.source.read_exact(&mut bytes).map_err(|error| self.read_error(what, &error))?;
        let text = String::from_utf8(bytes).map_err(|_| self.error(format!("{what} is not UTF-8")))?;
        self.offset += length;
        Ok(text)
    }

    /// A length and as many bytes, passed over.
    pub(crate) fn skip_text(&mut self, what: &str) -> Result<(), HeaderError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }

    /// Passes over bytes.
    pub(crate) fn skip(&mut self, bytes: u64, what: &str) -> Result<(), HeaderError> {
        self.check(bytes, what)?;
        let buffered = self.source.fill_buf().map(<[u8]>::len);
        let buffered = buffered.map_err(|error| self.read_error(what, &error))?;
        if bytes <= buffered as u64 {
            self.source.consume(bytes as usize);
        } else {
            let to = SeekFrom::Start(self.offset + bytes);
            self.source.seek(to).map_err(|error| self.read_error(what, &error))?;
        }
        self.offset += bytes;
        Ok(())
    }

    /// Whether so many bytes are still there.
    fn check(&self, bytes: u64, what: &str) -> Result<(), HeaderError> {
        let left = self.remaining();
        if bytes <= left {
            return Ok(());
        }
        Err(self.error(format!("the file ends within {what}: it needs {bytes} bytes and {left} are left; it is truncated or corrupt")))
    }

    fn read_error(&self, what: &str, error: &io::Error) -> HeaderError {
        self.error(format!("{what} cannot be read: {error}"))
    }
}
