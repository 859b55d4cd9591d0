//! Folders of several files whose index and parts do not fit together.

use std::path::Path;

use serde_json::{Value, json};

use super::Checkpoint;
use super::shards::TIED;

/// A file with one float for each name.
fn write(path: &Path, names: &[&str]) {
    let entry = |(i, name): (usize, &&str)| {
        ((*name).to_owned(), json!({"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}))
    };
    let header = Value::Object(names.iter().enumerate().map(entry).collect()).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    (0..names.len()).for_each(|i| bytes.extend((i as f32).to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

/// The tensors of a folder with these parts and this index, or what is wrong with it.
fn open(parts: &[(&str, &[&str])], index: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    parts.iter().for_each(|(file, names)| write(&folder.path().join(file), names));
    let map: Value = index.iter().map(|&(name, file)| (name.to_owned(), Value::from(file))).collect();
    let text = json!({"metadata": {"total_size": 8}, "weight_map": map}).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).map_err(|error| error.message.into_string())?;
    Ok(checkpoint.entries().map(|entry| entry.name.clone()).collect())
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

#[test]
fn parts_are_one_checkpoint() {
    let index = [("a", ONE), ("b", TWO)];
    assert_eq!(open(&[(ONE, &["a"]), (TWO, &["b"])], &index).unwrap(), ["a", "b"]);
    // What others keep beside the parts is nobody's business.
    let beside = open(&[(ONE, &["a"]), (TWO, &["b"]), ("consolidated.safetensors", &["z"])], &index);
    assert_eq!(beside.unwrap(), ["a", "b"]);
}

#[test]
fn parts_that_do_not_fit_their_index_are_refused_by_name() {
    let index = [("a", ONE), ("b", TWO)];
    let third = "model-00003-of-00003.safetensors";
    for (parts, index, expected) in [
        (&[(ONE, &["a"][..])][..], &index[..], format!("its part {TWO} is missing")),
        (&[(ONE, &["a", "c"]), (TWO, &["b"])], &index, format!("tensor `c` of {ONE} is not in the index")),
        (&[(ONE, &[]), (TWO, &["b"])], &index, format!("places tensor `a` in {ONE}, which does not have it")),
        (
            &[(ONE, &["a", "b"]), (TWO, &[])],
            &index,
            format!("tensor `b` is in {ONE}, but the index places it in {TWO}"),
        ),
        (
            &[(ONE, &["a"]), (TWO, &["a", "b"])],
            &index,
            format!("tensor `a` is in {TWO}, but the index places it in {ONE}"),
        ),
        (
            &[(ONE, &["a"]), (TWO, &["b"]), (third, &["c"])],
            &index,
            format!("{third} is a part of which model.safetensors.index.json knows nothing"),
        ),
        (&[(ONE, &["a"])], &[("a", ONE), ("b", "../b.safetensors")], "\"../b.safetensors\"".to_owned()),
        (&[(ONE, &["a"])], &[("a", ONE), ("b", "/etc/passwd")], "\"/etc/passwd\"".to_owned()),
        (&[(ONE, &["a"])], &[("a", "..")], "\"..\"".to_owned()),
    ] {
        let error = open(parts, index).unwrap_err();
        assert!(error.contains(&expected), "{expected}: {error}");
    }
}

#[test]
fn an_index_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join(ONE), &["a"]);
    write(&folder.path().join(TWO), &["b"]);
    let refused = || Checkpoint::open(folder.path()).err().unwrap().message.into_string();
    assert!(refused().contains("model.safetensors.index.json is missing"), "{}", refused());
    for text in ["[]", "{\"weight_map\": {\"a\": 1}}", "{"] {
        std::fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
        assert!(refused().contains("is no index"), "{}", refused());
    }
}

/// Two tensors that are said to be one and are not: which of them counts, nobody knows.
#[test]
fn a_second_output_matrix_must_be_the_embedding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &["embedding", TIED]);
    let error = Checkpoint::open(folder.path()).unwrap().check_tied("embedding").unwrap_err();
    assert!(error.message.contains("tensor `lm_head.weight` differs"), "{}", error.message);
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes.copy_within(end - 8..end - 4, end - 4);
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(folder.path()).unwrap().check_tied("embedding").unwrap();
    Checkpoint::open(folder.path()).unwrap().check_tied("elsewhere").unwrap();
}
