//! Frames over a socket: a length of four bytes, little end first, and a value in MessagePack.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A larger frame is no frame of ours. A request's body has its own bound, far below.
const MOST_BYTES: u32 = 256 << 20;

/// What has grown beyond this is given back after a frame.
const KEPT_BYTES: usize = 1 << 20;

/// The reading end.
pub struct FrameReader {
    stream: BufReader<UnixStream>,
    buffer: Vec<u8>,
}

/// The writing end. Each frame is written whole, by one call where the socket has room.
pub struct FrameWriter {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Reads frames from a socket.
    pub fn new(stream: UnixStream) -> Self {
        FrameReader { stream: BufReader::with_capacity(1 << 16, stream), buffer: Vec::new() }
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// The next frame; `None` when the other end has closed the socket between two.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidData`] for what is no frame of this type.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        let mut have = 0;
        while have < length.len() {
            match self.stream.read(&mut length[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = u32::from_le_bytes(length);
        if length > MOST_BYTES {
            return Err(invalid(format!("a frame of {length} bytes, where {MOST_BYTES} are the most")));
        }
        // As it comes, not as it is announced: memory is taken only for what is really sent.
        self.buffer.clear();
        let read = self.stream.by_ref().take(length.into()).read_to_end(&mut self.buffer)?;
        if read < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let value = rmp_serde::from_slice(&self.buffer);
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        value.map(Some).map_err(|error| invalid(format!("a frame that is not understood: {error}")))
    }
}

impl FrameWriter {
    /// Writes frames to a socket.
    pub fn new(stream: UnixStream) -> Self {
        FrameWriter { stream, buffer: Vec::new() }
    }

    /// Adds a frame to those that the next [`FrameWriter::flush`] writes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what cannot be written as a frame.
    pub fn add<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend([0; 4]);
        let encoded = rmp_serde::encode::write(&mut self.buffer, value);
        let length = self.buffer.len() - start - 4;
        let fits = u32::try_from(length).ok().filter(|length| *length <= MOST_BYTES);
        match (encoded, fits) {
            (Ok(()), Some(length)) => {
                self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
                Ok(())
            }
            (Ok(()), None) => {
                self.buffer.truncate(start);
                Err(invalid(format!("a frame of {length} bytes, where {MOST_BYTES} are the most")))
            }
            (Err(error), _) => {
                self.buffer.truncate(start);
                Err(invalid(format!("a frame that cannot be written: {error}")))
            }
        }
    }

    /// Writes what was added. Blocks while the other end does not read.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        written
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// As [`FrameWriter::add`] and [`FrameWriter::flush`].
    pub fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        self.add(value)?;
        self.flush()
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (FrameWriter, FrameReader) {
        let (a, b) = UnixStream::pair().unwrap();
        (FrameWriter::new(a), FrameReader::new(b))
    }

    #[test]
    fn what_is_sent_arrives_in_order_until_the_end() {
        let (mut writer, mut reader) = pair();
        let long = "x".repeat(100_000);
        let sent = [("a".to_owned(), 1.5_f32, None), (long, f32::MIN, Some(vec![0_u8, 255]))];
        let expected = sent.clone();
        let sending = std::thread::spawn(move || {
            writer.add(&sent[0]).unwrap();
            writer.add(&sent[1]).unwrap();
            writer.flush().unwrap();
        });
        for value in expected {
            assert_eq!(reader.receive::<(String, f32, Option<Vec<u8>>)>().unwrap(), Some(value));
        }
        assert_eq!(reader.receive::<String>().unwrap(), None);
        sending.join().unwrap();
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        let (mut writer, mut reader) = pair();
        writer.send(&"text").unwrap();
        let error = reader.receive::<u32>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        writer.stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(reader.receive::<u32>().unwrap_err().to_string().contains("4294967295"));
        let (mut writer, mut reader) = pair();
        writer.stream.write_all(&[200, 0, 0, 0, 1]).unwrap();
        drop(writer);
        assert_eq!(reader.receive::<u32>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
