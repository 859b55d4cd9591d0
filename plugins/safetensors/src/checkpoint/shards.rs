//! The files of a checkpoint, one or many with an index, as one set of named tensors.

#![expect(unsafe_code, reason = "files are mapped")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impetus_plugin_api::{ErrorCode, PluginError};
use memmap2::{Advice, Mmap, MmapMut};

use super::header::{self, Entry};
use super::{Dtype, Matrix};

/// Every tensor of a folder, mapped. Nothing of the weights is read before it is used.
pub(crate) struct Checkpoint {
    tensors: BTreeMap<String, (Arc<Mmap>, Entry)>,
    /// Names that were asked for.
    used: RefCell<BTreeSet<String>>,
}

/// Where the contents of files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the files, mapped: nothing is copied, and other processes share it.
    Mapped,
    /// Copied to large pages, which are read faster: a processor finds small ones one by one.
    LargePages,
}

/// The output matrix, which some checkpoints hold again where it is the embedding.
pub(crate) const TIED: &str = "lm_head.weight";

const INDEX: &str = "model.safetensors.index.json";

impl Checkpoint {
    /// Maps the files and checks their headers.
    ///
    /// # Errors
    /// `NOT_FOUND` for a missing file, `CORRUPT_MODEL` with the file, the tensor and the figures.
    pub(crate) fn open(folder: &Path) -> Result<Self, PluginError> {
        Checkpoint::open_in(folder, Place::Mapped)
    }

    /// The same, with the files' contents where they are wanted.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and `OUT_OF_MEMORY` with the figure.
    pub(crate) fn open_in(folder: &Path, place: Place) -> Result<Self, PluginError> {
        let index = read_index(folder)?;
        let files = match &index {
            Some(index) => {
                let mut files: Vec<String> = index.values().cloned().collect();
                files.sort();
                files.dedup();
                check_strays(folder, &files)?;
                files
            }
            None => vec![only_file(folder)?],
        };
        let mut tensors = BTreeMap::new();
        for file in files {
            let (map, entries) = open_file(&folder.join(&file), &file, place)?;
            for entry in entries {
                check_indexed(index.as_ref(), &entry.name, &file)?;
                if let Some((_, twice)) = tensors.insert(entry.name.clone(), (Arc::clone(&map), entry)) {
                    return Err(corrupt(format!("tensor `{}` is in two files", twice.name)));
                }
            }
        }
        if let Some(index) = &index
            && let Some((name, file)) = index.iter().find(|(name, _)| !tensors.contains_key(*name))
        {
            return Err(corrupt(format!(
                "the index places tensor `{name}` in {file}, which does not have it"
            )));
        }
        Ok(Checkpoint { tensors, used: RefCell::default() })
    }

    /// The tensors that nobody asked for.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        let used = self.used.borrow().clone();
        self.tensors.keys().map(String::as_str).filter(move |name| !used.contains(*name))
    }

    /// Every tensor.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.tensors.values().map(|(_, entry)| entry)
    }

    /// A matrix by its name and its shape.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` when it is missing or has another shape, `UNSUPPORTED` for a type without kernels.
    pub(crate) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, PluginError> {
        self.shaped(name, &[rows, columns], (rows, columns))
    }

    /// Several matrices of one shape in one tensor, by its name: one below the other.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub(crate) fn matrices(&self, name: &str, shape: [usize; 3]) -> Result<Matrix, PluginError> {
        let [count, rows, columns] = shape;
        self.shaped(name, &shape, (count * rows, columns))
    }

    /// Whether there is such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A vector by its name and length, widened.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, PluginError> {
        Ok(self.shaped(name, &[length], (1, length))?.to_floats())
    }

    /// Where the output matrix is the embedding, one that is there all the same must be equal to it.
    ///
    /// # Errors
    /// `UNSUPPORTED` where it is another, so that it is not clear which of them counts.
    pub(crate) fn check_tied(&self, embedding: &str) -> Result<(), PluginError> {
        let bytes = |name: &str| self.tensors.get(name).map(|(map, entry)| &map[entry.range.clone()]);
        match (bytes(TIED), bytes(embedding)) {
            (Some(output), Some(embedding)) if output != embedding => Err(PluginError::unsupported(format!(
                "tensor `{TIED}` differs from the embedding, while `tie_word_embeddings` of config.json makes them one"
            ))),
            _ => Ok(()),
        }
    }

    /// A tensor's bytes and what its header says.
    pub(super) fn find(&self, name: &str) -> Option<(&[u8], &Entry)> {
        let (map, entry) = self.tensors.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some((&map[entry.range.clone()], entry))
    }

    /// The same of a tensor that must be there.
    ///
    /// # Errors
    /// `CORRUPT_MODEL` when it is not.
    pub(super) fn need(&self, name: &str) -> Result<(&[u8], &Entry), PluginError> {
        self.find(name).ok_or_else(|| corrupt(format!("tensor `{name}` is missing")))
    }

    fn shaped(&self, name: &str, shape: &[usize], flat: (usize, usize)) -> Result<Matrix, PluginError> {
        let (map, entry) =
            self.tensors.get(name).ok_or_else(|| corrupt(format!("tensor `{name}` is missing")))?;
        self.used.borrow_mut().insert(name.to_owned());
        if entry.shape != shape {
            return Err(corrupt(format!(
                "tensor `{name}` has the shape {:?}; config.json makes it {shape:?}",
                entry.shape
            )));
        }
        let dtype = Dtype::of(entry.dtype).ok_or_else(|| {
            PluginError::unsupported(format!(
                "tensor `{name}` is of type {:?}; supported are F32, F16 and BF16",
                entry.dtype
            ))
        })?;
        Ok(Matrix::mapped(map, entry.range.clone(), dtype, flat))
    }
}

/// Tensor names and their files, where there is an index.
fn read_index(folder: &Path) -> Result<Option<BTreeMap<String, String>>, PluginError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = match std::fs::read(folder.join(INDEX)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(corrupt(format!("{INDEX} cannot be read: {error}"))),
    };
    let index: Index =
        serde_json::from_slice(&text).map_err(|error| corrupt(format!("{INDEX} is no index: {error}")))?;
    // A name with a path in it could point anywhere on the disk.
    if let Some(file) = index
        .weight_map
        .values()
        .find(|file| Path::new(file).file_name().is_none_or(|name| name != file.as_str()))
    {
        return Err(corrupt(format!("{INDEX} names {file:?}, which is no file of this folder")));
    }
    Ok(Some(index.weight_map))
}

/// The one weight file of a folder without an index.
fn only_file(folder: &Path) -> Result<String, PluginError> {
    let named = weight_files(folder)?;
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(PluginError::new(ErrorCode::NOT_FOUND, "the folder has no .safetensors file")),
        many if many.iter().any(|file| file == "model.safetensors") => Ok("model.safetensors".to_owned()),
        many => Err(PluginError::new(
            ErrorCode::NOT_FOUND,
            format!("{INDEX} is missing, which says what is in which of {}", many.join(", ")),
        )),
    }
}

/// A part that the index does not know is of another download than the index. Other weights in the folder, under names
/// of their own (`consolidated.safetensors`), are nobody's.
///
/// # Errors
/// `CORRUPT_MODEL` with the part's name.
fn check_strays(folder: &Path, files: &[String]) -> Result<(), PluginError> {
    let stems: BTreeSet<&str> = files.iter().filter_map(|file| stem(file)).collect();
    let is_stray =
        |file: &String| !files.contains(file) && stem(file).is_some_and(|stem| stems.contains(stem));
    match weight_files(folder)?.into_iter().find(is_stray) {
        None => Ok(()),
        Some(file) => Err(corrupt(format!(
            "{file} is a part of which {INDEX} knows nothing: remove it, or fetch the index that belongs to it"
        ))),
    }
}

/// `model` of `model-00001-of-00002.safetensors`.
fn stem(file: &str) -> Option<&str> {
    let (rest, count) = file.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(count)).then_some(stem)
}

/// The `.safetensors` files of a folder, by name.
fn weight_files(folder: &Path) -> Result<Vec<String>, PluginError> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        PluginError::new(ErrorCode::NOT_FOUND, format!("the folder cannot be read: {error}"))
    })?;
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".safetensors") && !name.starts_with('.'))
        .collect();
    files.sort();
    Ok(files)
}

fn open_file(path: &PathBuf, name: &str, place: Place) -> Result<(Arc<Mmap>, Vec<Entry>), PluginError> {
    let open = || {
        let file = File::open(path)?;
        // SAFETY: the map is only read. Someone who shortens the file meanwhile ends this process with SIGBUS: that is
        // what every program that maps weights accepts, and it reads nothing outside the file.
        unsafe { Mmap::map(&file) }
    };
    let map = open().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            PluginError::new(ErrorCode::NOT_FOUND, format!("its part {name} is missing"))
        }
        _ => PluginError::new(ErrorCode::NOT_FOUND, format!("{name} cannot be mapped: {error}")),
    })?;
    let map = if place == Place::LargePages { in_large_pages(&map)? } else { map };
    let entries = header::read(&map)
        .map_err(|error| PluginError { message: format!("{name}: {}", error.message).into(), ..error })?;
    Ok((Arc::new(map), entries))
}

/// A copy in memory of its own.
///
/// # Errors
/// `OUT_OF_MEMORY` with the figure.
fn in_large_pages(map: &Mmap) -> Result<Mmap, PluginError> {
    let full = |error: std::io::Error| {
        let message = format!("no {} bytes of memory for a copy of the weights: {error}", map.len());
        PluginError::new(ErrorCode::OUT_OF_MEMORY, message)
    };
    let mut copy = MmapMut::map_anon(map.len().max(1)).map_err(full)?;
    // Where the system has none, small ones do.
    copy.advise(Advice::HugePage).ok();
    copy[..map.len()].copy_from_slice(map);
    copy.make_read_only().map_err(full)
}

fn check_indexed(
    index: Option<&BTreeMap<String, String>>,
    name: &str,
    file: &str,
) -> Result<(), PluginError> {
    match index.map(|index| index.get(name).map(String::as_str)) {
        None => Ok(()),
        Some(Some(place)) if place == file => Ok(()),
        Some(Some(place)) => {
            Err(corrupt(format!("tensor `{name}` is in {file}, but the index places it in {place}")))
        }
        Some(None) => Err(corrupt(format!("tensor `{name}` of {file} is not in the index"))),
    }
}

fn corrupt(message: String) -> PluginError {
    PluginError::corrupt_model(message)
}
