//! Any bytes as a GGUF file: a header or a refusal with a byte that lies in the file, without reading or reserving more
//! than the file has. The reader is compiled in by its path, for the plugin around it brings llama.cpp.

#![no_main]

#[path = "../../plugins/gguf/src/header/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the plugin uses all of it")]
mod header;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    match header::Header::read(Cursor::new(bytes), length) {
        Ok(read) => assert!(read.tensors.len() * 24 <= bytes.len()),
        Err(error) => assert!(error.offset <= length, "{error}"),
    }
});
