//! A model in one file, or split over several: `NAME-00001-of-00003.gguf` and those after it. The first part has the
//! metadata; every part has tensors of its own, all of which count.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use impetus_plugin_api::{ErrorCode, PluginError};

use crate::header::Header;

/// The header of the model that begins with this file, with the tensors of all its parts.
///
/// # Errors
/// What is wrong, with which file and where in it.
pub(crate) fn read_model(path: &Path) -> Result<Header, PluginError> {
    let mut header = read_file(path)?;
    let count = header.number("split.count").unwrap_or(1);
    if count < 2 {
        return Ok(header);
    }
    let number = header.number("split.no").unwrap_or(0) + 1;
    if number != 1 {
        let message = format!("it is part {number} of {count} of a model: name the first part");
        return Err(PluginError::invalid_argument(message));
    }
    for part in 2..=count {
        let other = part_path(path, part, count)?;
        header.tensors.extend(read_file(&other)?.tensors);
    }
    Ok(header)
}

/// llama.cpp finds the parts by their names, and only by these.
fn part_path(first: &Path, part: u64, count: u64) -> Result<PathBuf, PluginError> {
    let name = name_of(first);
    let ending = format!("-00001-of-{count:05}.gguf");
    match name.strip_suffix(&ending) {
        Some(stem) => Ok(first.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf"))),
        None => Err(PluginError::corrupt_model(format!(
            "it is the first of {count} parts, so its name must end in `{ending}`; found `{name}`: rename it as it was"
        ))),
    }
}

fn read_file(path: &Path) -> Result<Header, PluginError> {
    let name = name_of(path);
    let failed = |error: std::io::Error| {
        PluginError::new(ErrorCode::NOT_FOUND, format!("`{name}` cannot be opened: {error}"))
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Header::read(BufReader::with_capacity(1 << 16, file), length)
        .map_err(|error| PluginError::corrupt_model(format!("`{name}` is no sound GGUF file: {error}")))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::tests::Writer;

    fn part(number: u32, count: u32) -> Writer {
        Writer::default()
            .text("general.architecture", "llama")
            .number("split.no", number - 1)
            .number("split.count", count)
            .tensor(&format!("part{number}"), &[8])
    }

    #[test]
    fn the_tensors_of_all_parts_count_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("m-00001-of-00002.gguf"), part(1, 2).file()).unwrap();
        let refusal = |name: &str| read_model(&file(name)).unwrap_err().message;
        assert!(refusal("m-00001-of-00002.gguf").contains("`m-00002-of-00002.gguf` cannot be opened"));

        std::fs::write(file("m-00002-of-00002.gguf"), part(2, 2).file()).unwrap();
        let header = read_model(&file("m-00001-of-00002.gguf")).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["part1", "part2"]);
        assert!(refusal("m-00002-of-00002.gguf").contains("part 2 of 2"));

        std::fs::write(file("renamed.gguf"), part(1, 2).file()).unwrap();
        assert!(refusal("renamed.gguf").contains("-00001-of-00002.gguf"));
    }
}
