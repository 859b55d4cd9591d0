//! What a model can do, by name: one record for each model, the same names for every format.
//!
//! `/v1/models` shows the record, `http/openai/known.rs` says which field of a request needs which of these and refuses
//! the others, and docs/capabilities.md is written from both. What the host does for every model that generates text
//! stands in `OF_TEXT`; what a plugin or a chat template decides is found out when the model is loaded.

use crate::chat::ChatTemplate;
use crate::plugins::model::Capabilities;

/// Goes on from a prompt: whatever the plugin's own name for it says.
pub const GENERATE: &str = "generate";

/// Makes vectors of texts, through the contract's `embeddings/1`.
pub const EMBEDDINGS: &str = "embeddings";

/// Fills the gap between two texts.
pub const INFILL: &str = "infill";

/// Goes on from a chat.
pub const CHAT: &str = "chat";

/// Sees images. Nothing in the contract hands a plugin any: whatever is sent is refused before a model is looked at.
pub const VISION: &str = "vision";

/// What each capability means, in the order in which they are told.
pub const MEANINGS: [(&str, &str); 29] = [
    (GENERATE, "goes on from a prompt"),
    (EMBEDDINGS, "makes vectors of texts"),
    (INFILL, "has control tokens for what stands between two texts"),
    (CHAT, "brings a chat template that works"),
    (
        "tools",
        "its template has a form of its own for tool calls, which is read back; others are told how to call",
    ),
    ("reasoning", "its template marks reasoning, which is told apart from the answer"),
    (VISION, "sees images: parts of type `image_url` and `input_image`"),
    ("temperature", "sampling with a temperature; 0 is greedy"),
    ("top_k", "sampling from the best k tokens"),
    ("top_p", "nucleus sampling"),
    ("min_p", "sampling from tokens near the best one"),
    ("top_n_sigma", "sampling from tokens within some deviations of the best logit"),
    ("typical_p", "locally typical sampling"),
    ("xtc", "leaving out the most probable tokens at random"),
    ("dynatemp", "a temperature that follows the entropy"),
    ("mirostat", "keeping the surprise level, mirostat 1 and 2"),
    ("dry", "a penalty on repeated sequences"),
    ("penalties", "repeat, presence and frequency penalties"),
    ("logit_bias", "biases for single tokens"),
    ("seed", "the same answer for the same seed"),
    ("stop", "stop strings, and answers that pass over end tokens"),
    ("choices", "several answers to one prompt"),
    ("logprobs", "log probabilities of the answer's tokens"),
    ("json", "answers that are JSON, or instances of a schema"),
    ("regex", "answers that match an expression, or are one of several texts"),
    ("grammar", "answers that follow a GBNF or Lark grammar"),
    ("partial_seq_rm", "its cache can be cut anywhere: beginnings that prompts share are computed once"),
    ("seq_cp", "its cache can be copied: prompts that run at once share their beginnings"),
    ("recurrent", "keeps a state in place of a cache"),
];

/// What the host itself does for every model that generates text.
const OF_TEXT: [&str; 19] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_n_sigma",
    "typical_p",
    "xtc",
    "dynatemp",
    "mirostat",
    "dry",
    "penalties",
    "logit_bias",
    "seed",
    "stop",
    "choices",
    "logprobs",
    "json",
    "regex",
    "grammar",
];

/// A model's record: by what its plugin says, whether it offers an embedder, and its chat template where it has one that
/// works, and whether it has tokens for filling gaps.
pub(super) fn record(
    found: Capabilities,
    embeds: bool,
    fills: bool,
    template: Option<&ChatTemplate>,
) -> Vec<String> {
    let of_plugin = Capabilities::NAMED.iter().filter(|(capability, _)| found.has(*capability));
    let mut names: Vec<&str> = of_plugin.map(|(_, name)| *name).collect();
    if names.contains(&GENERATE) {
        names.extend(OF_TEXT);
    }
    if fills && names.contains(&GENERATE) {
        names.push(INFILL);
    }
    if embeds {
        names.push(EMBEDDINGS);
    }
    // A template is of use only to what goes on from it.
    if let Some(template) = template.filter(|_| found.has(Capabilities::GENERATE)) {
        let known = [
            (CHAT, true),
            // A model that is only told how to call may or may not do it: nothing is promised.
            ("tools", template.manner().has_tools() && !template.manner().is_generic()),
            ("reasoning", template.manner().has_reasoning()),
        ];
        names.extend(known.into_iter().filter(|(_, can)| *can).map(|(name, _)| name));
    }
    in_order(names)
}

/// What is known of a record before the model is loaded: by what its headers say of it, where they say anything, and
/// whether it brings a chat template. What its plugin or its template decides comes to it then; nothing goes.
pub(super) fn of_headers(said: &[String], chat_template: Option<bool>) -> Vec<String> {
    let mut names: Vec<&str> = said.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.push(GENERATE);
    }
    if names.contains(&GENERATE) {
        names.extend(OF_TEXT);
        names.extend(chat_template.unwrap_or(false).then_some(CHAT));
    }
    in_order(names)
}

fn in_order(mut names: Vec<&str>) -> Vec<String> {
    let place = |name: &str| MEANINGS.iter().position(|(known, _)| *known == name);
    names.sort_by_key(|name| place(name).unwrap_or(MEANINGS.len()));
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_meaning_and_a_model_that_generates_has_them_all() {
        let of_plugin = Capabilities::NAMED.iter().map(|(_, name)| *name);
        for name in OF_TEXT.into_iter().chain(of_plugin) {
            assert!(MEANINGS.iter().any(|(known, _)| *known == name), "`{name}` is not in MEANINGS");
        }
        let found = record(Capabilities::GENERATE, false, false, None);
        assert_eq!(found[0], GENERATE);
        assert_eq!(found.len(), 1 + OF_TEXT.len());
        assert_eq!(record(Capabilities::default(), false, true, None), Vec::<String>::new());
        assert_eq!(record(Capabilities::default(), true, false, None), [EMBEDDINGS]);
    }

    #[test]
    fn headers_promise_nothing_that_a_loaded_model_lacks() {
        let loaded = record(Capabilities::GENERATE, false, false, None);
        assert_eq!(of_headers(&[], None), loaded);
        assert!(of_headers(&[], Some(true)).contains(&CHAT.to_owned()));
        assert_eq!(of_headers(&[EMBEDDINGS.to_owned()], Some(true)), [EMBEDDINGS]);
        let both = of_headers(&[EMBEDDINGS.to_owned(), GENERATE.to_owned()], None);
        assert_eq!(both, record(Capabilities::GENERATE, true, false, None));
    }

    /// `messages.rs` refuses images whatever the model: where this fails, it must ask the model.
    #[test]
    fn nobody_sees_images() {
        let all = Capabilities::NAMED.iter().fold(Capabilities::default(), |all, (one, _)| all.with(*one));
        assert!(!record(all, true, true, None).contains(&VISION.to_owned()));
    }
}
