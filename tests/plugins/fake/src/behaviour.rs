//! A model file: lines of `key = value`, or a key alone.

use impetus_plugin_api::PluginError;

use crate::CONTROL;

/// What a model file says.
pub(crate) struct Behaviour(Vec<(String, String)>);

impl Behaviour {
    /// # Errors
    /// `CORRUPT_MODEL` where the file says that it is.
    pub(crate) fn parse(text: &str) -> Result<Behaviour, PluginError> {
        let entry = |line: &str| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        };
        let behaviour = Behaviour(text.lines().map(entry).collect());
        if behaviour.has("corrupt") {
            return Err(PluginError::corrupt_model("told to be corrupt at byte 0"));
        }
        Ok(behaviour)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.text(key).is_some()
    }

    /// What is to be answered to every prompt, as tokens: the text of `answer`, in which `\\n` is a line break and the
    /// text of `control` the control token.
    pub(crate) fn answer(&self) -> Option<Vec<u32>> {
        let text = self.text("answer")?.replace("\\n", "\n");
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
        Some(match self.text("control") {
            None => bytes(&text),
            Some(control) => text.split(control).map(bytes).collect::<Vec<_>>().join(&CONTROL),
        })
    }

    /// The number behind a key; `otherwise` without it.
    pub(crate) fn number(&self, key: &str, otherwise: u32) -> u32 {
        self.text(key).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }
}
