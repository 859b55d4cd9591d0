//! Model files under a folder, by their endings; the shards of one model count as one, and so does a folder that a
//! plugin takes for a model.

use std::path::{Path, PathBuf};

use super::Found;

/// How deep folders are searched: deeper ones are no place for models but a loop of links.
const MAX_DEPTH: usize = 8;

/// What is looked for, and whether a folder (that has such a file in it) is a model as a whole.
pub(super) struct Wanted<'a> {
    pub(super) extensions: &'a [String],
    pub(super) is_model: &'a dyn Fn(&Path) -> bool,
}

/// Models below `root`: files with one of the endings and folders, in order of their ids.
pub(super) fn models_below(root: &Path, wanted: &Wanted<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    walk(root, root, MAX_DEPTH, wanted, &mut found);
    found.sort_by(|a: &Found, b: &Found| a.id.cmp(&b.id));
    found
}

fn walk(root: &Path, folder: &Path, depth: usize, wanted: &Wanted<'_>, found: &mut Vec<Found>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::debug!("the model folder {} cannot be read: {error}", folder.display());
            return;
        }
    };
    let mut files = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                walk(root, &path, depth - 1, wanted, found);
            }
        } else if has_ending(&path, wanted.extensions) {
            files.push(path);
        }
    }
    if !files.is_empty() && folder != root && (wanted.is_model)(folder) {
        found.push(Found { id: id_below(root, folder), path: folder.to_owned() });
        return;
    }
    let whole = files.into_iter().filter(|path| !is_later_shard(path));
    found.extend(whole.map(|path| Found { id: id_below(root, &path), path }));
}

fn has_ending(path: &Path, extensions: &[String]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| extensions.contains(&ending))
}

/// The name in requests: the path below the root with `/`; of a file, without the ending and a first shard's number.
pub(super) fn id_below(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
    let below = below.map(Path::to_owned).or_else(|| path.file_name().map(PathBuf::from)).unwrap_or_default();
    let below = if path.is_dir() { below } else { below.with_extension("") };
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let id = parts.join("/");
    match shard(&id) {
        Some((stem, _, _)) => stem.to_owned(),
        None => id,
    }
}

/// `NAME-00002-of-00003` is shard 2 of 3 of `NAME`.
fn shard(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() || !five_digits(number) || !five_digits(count) {
        return None;
    }
    Some((name, number.parse().ok()?, count.parse().ok()?))
}

fn is_later_shard(path: &Path) -> bool {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    stem.as_deref().and_then(shard).is_some_and(|(_, number, _)| number > 1)
}

/// Every file of the model that is this folder or begins with this file.
pub(super) fn shards_of(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        return entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let Some((name, _, count)) = shard(&stem) else { return vec![path.to_owned()] };
    let ending = path.extension().map(|ending| ending.to_string_lossy()).unwrap_or_default();
    (1..=count)
        .map(|number| path.with_file_name(format!("{name}-{number:05}-of-{count:05}.{ending}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_subfolders_and_shards_are_one_model() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("org/.cache")).unwrap();
        for file in [
            "b.gguf",
            "A.GGUF",
            "notes.txt",
            ".hidden.gguf",
            "org/m-00001-of-00002.gguf",
            "org/m-00002-of-00002.gguf",
            "org/.cache/x.gguf",
            "org/half.gguf.part",
        ] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let extensions = ["gguf".to_owned()];
        let found = models_below(root.path(), &Wanted { extensions: &extensions, is_model: &|_| false });
        let ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, ["A", "b", "org/m"]);
        assert_eq!(
            shards_of(&found[2].path),
            ["org/m-00001-of-00002.gguf", "org/m-00002-of-00002.gguf"].map(|file| root.path().join(file))
        );
    }

    #[test]
    fn a_folder_may_be_a_model_and_its_files_are_none_then() {
        let root = tempfile::tempdir().unwrap();
        for file in ["top.st", "org/Model-1.5/a.st", "org/Model-1.5/config.json", "org/loose/b.st"] {
            std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let extensions = ["st".to_owned()];
        let is_model = |folder: &Path| folder.join("config.json").exists();
        let found = models_below(root.path(), &Wanted { extensions: &extensions, is_model: &is_model });
        let ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, ["org/Model-1.5", "org/loose/b", "top"]);
        assert_eq!(shards_of(&found[0].path).len(), 2);
    }

    #[test]
    fn a_version_in_a_name_is_no_ending() {
        let id = id_below(Path::new("/models"), Path::new("/models/SmolLM2-135M-Instruct.Q4_1.gguf"));
        assert_eq!(id, "SmolLM2-135M-Instruct.Q4_1");
        assert_eq!(
            id_below(Path::new("/models"), Path::new("/models")),
            "models",
            "the root itself has a name"
        );
    }

    #[test]
    fn what_only_looks_like_a_shard_is_none() {
        assert_eq!(shard("m-00001-of-00002"), Some(("m", 1, 2)));
        for name in ["m-1-of-2", "-00001-of-00002", "m-0000a-of-00002", "m"] {
            assert_eq!(shard(name), None, "{name}");
        }
    }
}
