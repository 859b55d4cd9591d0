//! How an encoder's rows become one vector, as the files of sentence-transformers beside the weights say.
//!
//! `modules.json` lists what is done one after another: the transformer, pooling, perhaps normalisation. A plain
//! checkpoint without it is pooled by the mean of its rows and not normalised, which is what sentence-transformers does
//! with one.

use std::path::Path;

use impetus_plugin_api::PluginError;
use serde_json::{Map, Value, json};

use crate::config::{Fields, object};

/// How rows become a vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pooling {
    pub(crate) mode: Mode,
    /// Vectors get the length 1.
    pub(crate) normalize: bool,
    /// Which beginnings of a vector are vectors of their own: `true`, or a list of lengths.
    pub(crate) matryoshka: Option<Value>,
    /// What people should know.
    pub(crate) notes: Vec<String>,
}

/// Which rows count, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Mean,
    /// The first row.
    Cls,
    Max,
    Last,
}

/// Names of `1_Pooling/config.json`, old and new.
const MODES: [(&str, &str, Option<Mode>); 7] = [
    ("pooling_mode_cls_token", "cls", Some(Mode::Cls)),
    ("pooling_mode_mean_tokens", "mean", Some(Mode::Mean)),
    ("pooling_mode_max_tokens", "max", Some(Mode::Max)),
    ("pooling_mode_lasttoken", "lasttoken", Some(Mode::Last)),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
    ("pooling_mode_none", "none", None),
];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Mean => "mean",
            Mode::Cls => "cls",
            Mode::Max => "max",
            Mode::Last => "last",
        }
    }

    /// A sequence's rows, `[tokens][width]` with at least one, to a vector.
    pub(crate) fn pool(self, rows: &[f32], width: usize) -> Vec<f32> {
        let each = || rows.chunks_exact(width);
        match self {
            Mode::Cls => rows[..width].to_vec(),
            Mode::Last => rows[rows.len() - width..].to_vec(),
            Mode::Mean => {
                let mut sum = vec![0.0f32; width];
                each().for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
                let share = width as f32 / rows.len() as f32;
                sum.iter_mut().for_each(|sum| *sum *= share);
                sum
            }
            Mode::Max => {
                let mut most = vec![f32::NEG_INFINITY; width];
                each().for_each(|row| most.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(*x)));
                most
            }
        }
    }
}

impl Pooling {
    /// Reads a folder; beside the pooling, the longest sequence that its files allow.
    ///
    /// # Errors
    /// `UNSUPPORTED` with the module or mode that is not supported, `CORRUPT_MODEL` for files that contradict themselves.
    pub(crate) fn read(
        folder: &Path,
        matryoshka: Option<Value>,
    ) -> Result<(Self, Option<usize>), PluginError> {
        let mut notes = Vec::new();
        let plain = Pooling { mode: Mode::Mean, normalize: false, matryoshka, notes: Vec::new() };
        let Some(modules) = modules(folder)? else {
            notes.push("no modules.json: pooled by the mean, not normalised".to_owned());
            return Ok((Pooling { notes, ..plain }, None));
        };
        prompts(folder, &mut notes)?;
        let (mut mode, mut normalize, mut longest) = (None, false, None);
        for (kind, path) in modules {
            match kind.as_str() {
                "Transformer" => longest = longest_of(&folder.join(path))?,
                "Pooling" if mode.is_none() && !normalize => mode = Some(mode_of(folder, &path)?),
                "Normalize" if mode.is_some() => normalize = true,
                other => {
                    return Err(PluginError::unsupported(format!(
                        "modules.json: the module `{other}` is not supported at its place; supported are Transformer, \
                         Pooling, Normalize"
                    )));
                }
            }
        }
        let mode = mode.ok_or_else(|| PluginError::unsupported("modules.json has no Pooling"))?;
        Ok((Pooling { mode, normalize, notes, ..plain }, longest))
    }

    /// As the host reads it.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({"pooling": self.mode.name(), "normalized": self.normalize});
        if let Some(matryoshka) = &self.matryoshka {
            metadata["matryoshka"] = matryoshka.clone();
        }
        metadata
    }

    /// A sequence's rows to its vector.
    pub(crate) fn vector(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let mut vector = self.mode.pool(rows, width);
        if self.normalize {
            let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            // As the reference: a vector of zeros stays one.
            let length = squares.sqrt().max(1e-12);
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
        vector
    }
}

/// `matryoshka_dimensions` and `is_matryoshka` of config.json, as vLLM reads them.
pub(crate) fn matryoshka(fields: &Fields<'_>) -> Option<Value> {
    let all = fields.value("is_matryoshka").filter(|told| **told == Value::Bool(true)).cloned();
    fields.value("matryoshka_dimensions").filter(|lengths| lengths.is_array()).cloned().or(all)
}

/// Kinds and paths of `modules.json`, in order.
fn modules(folder: &Path) -> Result<Option<Vec<(String, String)>>, PluginError> {
    let text = match std::fs::read(folder.join("modules.json")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(corrupt(format!("modules.json cannot be read: {error}"))),
    };
    let list: Vec<Map<String, Value>> = serde_json::from_slice(&text)
        .map_err(|error| corrupt(format!("modules.json is no list: {error}")))?;
    let module = |module: &Map<String, Value>| {
        known(module, "modules.json", &["idx", "name", "path", "type", "kwargs"])?;
        if module.get("kwargs").is_some_and(|told| told != &json!([]) && told != &json!({})) {
            return Err(PluginError::unsupported("modules.json: modules with `kwargs` are not supported"));
        }
        let text = |name: &str| module.get(name).and_then(Value::as_str);
        let (Some(kind), Some(path)) = (text("type"), text("path")) else {
            return Err(corrupt("modules.json has a module without `type` and `path`".to_owned()));
        };
        // A path with more in it could point anywhere on the disk.
        if !path.is_empty() && Path::new(path).file_name().is_none_or(|name| name != path) {
            return Err(corrupt(format!("modules.json names {path:?}, which is no folder of this one")));
        }
        let kind = kind.rsplit('.').next().unwrap_or(kind);
        Ok((kind.to_owned(), path.to_owned()))
    };
    Ok(Some(list.iter().map(module).collect::<Result<_, _>>()?))
}

/// `max_seq_length` of the transformer's own file, under its names over the years.
fn longest_of(folder: &Path) -> Result<Option<usize>, PluginError> {
    let names = ["bert", "roberta", "distilbert", "camembert", "xlm-roberta"];
    for name in names {
        let file = format!("sentence_{name}_config.json");
        let Some(told) = object(folder, &file)? else { continue };
        known(&told, &file, &TRANSFORMER.map(|(key, _)| key))?;
        for (key, allowed) in TRANSFORMER {
            let Some(value) = told.get(key).filter(|value| !value.is_null()) else { continue };
            let allowed: Value = serde_json::from_str(allowed).unwrap_or_default();
            if !allowed.is_null() && *value != allowed {
                return Err(PluginError::unsupported(format!(
                    "{file}: `{key}` is {value}; supported is {allowed}"
                )));
            }
        }
        let Some(longest) = told.get("max_seq_length").filter(|longest| !longest.is_null()) else {
            return Ok(None);
        };
        let longest = longest.as_u64().and_then(|longest| usize::try_from(longest).ok());
        return longest
            .map(Some)
            .ok_or_else(|| corrupt(format!("{file}: `max_seq_length` must be a whole number")));
    }
    Ok(None)
}

/// What the transformer's own file may say: any value for null, or this one alone.
const TRANSFORMER: [(&str, &str); 6] = [
    ("max_seq_length", "null"),
    // The tokeniser would do it.
    ("do_lower_case", "false"),
    ("transformer_task", "\"feature-extraction\""),
    ("modality_config", r#"{"text":{"method":"forward","method_output_name":"last_hidden_state"}}"#),
    ("module_output_name", "\"token_embeddings\""),
    ("processing_kwargs", "{}"),
];

/// # Errors
/// `UNSUPPORTED` with a key that is not of these: it may change the vectors.
fn known(object: &Map<String, Value>, file: &str, keys: &[&str]) -> Result<(), PluginError> {
    match object.iter().find(|(key, value)| !value.is_null() && !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => Err(PluginError::unsupported(format!(
            "{file}: `{key}` is not understood, and may change the vectors"
        ))),
    }
}

fn mode_of(folder: &Path, path: &str) -> Result<Mode, PluginError> {
    let file = format!("{path}/config.json");
    let config = object(&folder.join(path), "config.json")?
        .ok_or_else(|| corrupt(format!("{file} is missing: modules.json names it")))?;
    let mut keys = vec!["pooling_mode", "word_embedding_dimension", "embedding_dimension", "include_prompt"];
    keys.extend(MODES.map(|(old, _, _)| old));
    known(&config, &file, &keys)?;
    // Without it the tokens of a text's beginning would not count.
    if let Some(told) = config.get("include_prompt").filter(|told| *told != &Value::Bool(true)) {
        return Err(PluginError::unsupported(format!(
            "{file}: `include_prompt` is {told}; supported is true"
        )));
    }
    if let Some(told) = config.get("pooling_mode").filter(|told| !told.is_string()) {
        return Err(corrupt(format!("{file}: `pooling_mode` must be a text; found {told}")));
    }
    let told = config.get("pooling_mode").and_then(Value::as_str);
    let mut found = Vec::new();
    for (old, new, mode) in MODES {
        let flag = match config.get(old) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                return Err(corrupt(format!("{file}: `{old}` must be true or false; found {other}")));
            }
        };
        if flag || told == Some(new) {
            found.push((old, mode));
        }
    }
    match found.as_slice() {
        [(_, Some(mode))] => Ok(*mode),
        [(name, None)] => Err(PluginError::unsupported(format!(
            "{file}: `{name}` is not supported; supported are cls, mean, max and last"
        ))),
        [] => Err(PluginError::unsupported(format!(
            "{file} has no pooling mode that is known{}",
            told.map(|told| format!("; found `{told}`")).unwrap_or_default()
        ))),
        _ => {
            Err(PluginError::unsupported(format!("{file}: several pooling modes together are not supported")))
        }
    }
}

/// Texts that sentence-transformers can put before what it embeds: only told, as a client writes them itself.
fn prompts(folder: &Path, notes: &mut Vec<String>) -> Result<(), PluginError> {
    let config = object(folder, "config_sentence_transformers.json")?.unwrap_or_default();
    // How vectors are compared, and what wrote the file, changes none.
    let harmless = ["__version__", "model_type", "similarity_fn_name"];
    let read = ["prompts", "default_prompt_name", "truncate_dim"];
    known(&config, "config_sentence_transformers.json", &[harmless, read].concat())?;
    let text = |name: &str| config.get(name).and_then(Value::as_str);
    if let Some(default) = text("default_prompt_name") {
        return Err(PluginError::unsupported(format!(
            "config_sentence_transformers.json: the prompt `{default}` would be put before every text, which is not supported"
        )));
    }
    if config.get("truncate_dim").is_some_and(|told| !told.is_null()) {
        return Err(PluginError::unsupported(
            "config_sentence_transformers.json: `truncate_dim` is not supported; ask for `dimensions` instead",
        ));
    }
    let prompts = config.get("prompts").and_then(Value::as_object);
    let named: Vec<String> = prompts
        .into_iter()
        .flatten()
        .filter(|(_, prompt)| prompt.as_str().is_some_and(|prompt| !prompt.is_empty()))
        .map(|(name, prompt)| format!("{name}: {prompt}"))
        .collect();
    if !named.is_empty() {
        notes.push(format!(
            "trained with texts before what it embeds, which the caller writes: {}",
            named.join(", ")
        ));
    }
    Ok(())
}

fn corrupt(message: String) -> PluginError {
    PluginError::corrupt_model(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_pooled() {
        let rows = [1.0, 8.0, 3.0, 2.0, 5.0, 2.0];
        assert_eq!(Mode::Mean.pool(&rows, 2), [3.0, 4.0]);
        assert_eq!(Mode::Cls.pool(&rows, 2), [1.0, 8.0]);
        assert_eq!(Mode::Last.pool(&rows, 2), [5.0, 2.0]);
        assert_eq!(Mode::Max.pool(&rows, 2), [5.0, 8.0]);
        let pooling = Pooling { mode: Mode::Mean, normalize: true, matryoshka: None, notes: Vec::new() };
        assert_eq!(pooling.vector(&rows, 2), [0.6, 0.8]);
        assert_eq!(pooling.vector(&[0.0, 0.0], 2), [0.0, 0.0]);
    }

    #[test]
    fn what_the_files_say_is_done_or_refused() {
        let pooling = |files: &[(&str, Value)]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
            files
                .iter()
                .for_each(|(name, json)| std::fs::write(folder.path().join(name), json.to_string()).unwrap());
            Pooling::read(folder.path(), None).map_err(|error| error.message.into_string())
        };
        let module = |kind: &str, path: &str| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
        let list = |kinds: &[(&str, &str)]| {
            let all: Vec<Value> = kinds.iter().map(|(kind, path)| module(kind, path)).collect();
            ("modules.json", Value::from(all))
        };
        let usual = || list(&[("Transformer", ""), ("Pooling", "1_Pooling")]);
        let mode = |json| ("1_Pooling/config.json", json);
        let (plain, longest) = pooling(&[]).unwrap();
        assert_eq!((plain.mode, plain.normalize, longest), (Mode::Mean, false, None));
        assert!(plain.notes[0].contains("no modules.json"));
        let normal = list(&[("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]);
        let cls = mode(json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}));
        let (found, longest) =
            pooling(&[normal, cls.clone(), ("sentence_bert_config.json", json!({"max_seq_length": 64}))])
                .unwrap();
        assert_eq!((found.mode, found.normalize, longest), (Mode::Cls, true, Some(64)));
        let (found, _) = pooling(&[usual(), mode(json!({"pooling_mode": "lasttoken"}))]).unwrap();
        assert_eq!((found.mode, found.normalize), (Mode::Last, false));
        let check = |files: &[(&str, Value)], words: &str| {
            let error = pooling(files).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        let both = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true});
        check(&[usual(), mode(both)], "several");
        check(&[usual(), mode(json!({"pooling_mode_weightedmean_tokens": true}))], "weightedmean");
        check(&[usual(), mode(json!({}))], "no pooling mode");
        check(&[usual()], "1_Pooling/config.json is missing");
        check(
            &[list(&[("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]), cls.clone()],
            "`Dense`",
        );
        check(&[list(&[("Transformer", "../x")])], "../x");
        check(&[list(&[("Transformer", "")])], "no Pooling");
        let prompt = ("config_sentence_transformers.json", json!({"default_prompt_name": "query"}));
        check(&[usual(), cls.clone(), prompt], "`query`");
        let lower = ("sentence_bert_config.json", json!({"do_lower_case": true}));
        check(&[usual(), cls.clone(), lower], "do_lower_case");
        // What nobody here reads may change the vectors.
        let unknown = json!({"pooling_mode": "cls", "pooling_mode_by_moon": true});
        check(&[usual(), mode(unknown)], "`pooling_mode_by_moon` is not understood");
        check(&[usual(), mode(json!({"pooling_mode_cls_token": "yes"}))], "must be true or false");
        let without = json!({"pooling_mode": "mean", "include_prompt": false});
        check(&[usual(), mode(without)], "`include_prompt` is false");
        for (key, value) in [("query_expansion", json!(true)), ("transformer_task", json!("fill-mask"))] {
            let file = ("sentence_bert_config.json", json!({key: value}));
            check(&[usual(), cls.clone(), file], key);
        }
        let longest = ("sentence_bert_config.json", json!({"max_seq_length": "many"}));
        check(&[usual(), cls.clone(), longest], "`max_seq_length` must be");
        let backend = ("config_sentence_transformers.json", json!({"ink": "red"}));
        check(&[usual(), cls, backend], "`ink`");
    }
}
