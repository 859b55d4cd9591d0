//! The format `fake`: a model file is lines of `key = value` that say how the plugin shall behave, and misbehave.
//!
//! Its tokens are bytes. The next token follows from all bytes of the sequence before it, so that sequences which get
//! mixed up are noticed. It is a real plugin, loaded through the same door as every other.

mod behaviour;
mod benchmarks;
mod crash;
mod embedder;
mod reader;

use std::sync::Arc;

use impetus_plugin_api::sdk::{FormatPlugin, Model, Progress, benchmarks, embeddings};
use impetus_plugin_api::*;

use crate::behaviour::Behaviour;
use crate::benchmarks::Devices;
use crate::reader::Reader;

/// The plugin, and how its options tell it to misbehave beyond its start.
struct Fake {
    aborts_in_probe: bool,
    options: String,
}

/// Does what the option `x` of plugins.toml says.
fn start_as_told(options_json: &str) -> Result<Fake, PluginError> {
    use std::io::Write;

    let told = |word: &str| options_json.contains(word);
    if told("refuse") {
        return Err(PluginError::invalid_argument("told to refuse to start"));
    }
    assert!(!told("panic"), "told to panic while starting");
    if told("hang") {
        loop {
            std::thread::park();
        }
    }
    while told("flood") {
        let _ = std::io::stderr().write_all(&[b'x'; 4096]);
    }
    if told("exit") {
        std::process::exit(3);
    }
    if told("abort_at_start") {
        let _ = std::io::stderr().write_all(b"told to abort\n");
        std::process::abort();
    }
    Ok(Fake { aborts_in_probe: told("abort_in_probe"), options: options_json.to_owned() })
}

impl FormatPlugin for Fake {
    type Model = Script;

    fn init(host: HostApi, options_json: &str) -> Result<Self, PluginError> {
        host.log(LogLevel::Info, "fake", "the fake plugin starts");
        start_as_told(options_json)
    }

    fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
        if self.aborts_in_probe {
            std::process::abort();
        }
        if input.is_dir || !input.path.ends_with(".fake") {
            return Ok(ProbeResult::not_mine());
        }
        let behaviour = Behaviour::parse(&String::from_utf8_lossy(input.head()))?;
        assert!(!behaviour.has("panic_in_probe"), "told to panic in probe");
        if behaviour.has("abort_in_probe") {
            std::process::abort();
        }
        if behaviour.has("hang_in_probe") {
            crash::hang();
        }
        if let Some(path) = behaviour.text("read_in_probe") {
            std::fs::read(path).map_err(|error| PluginError::internal(format!("cannot read: {error}")))?;
        }
        let bytes = behaviour.number("estimated_mib", 1) << 20;
        let embeds =
            if behaviour.has("generates_nothing") { r#", "capabilities": ["embeddings"]"# } else { "" };
        let summary = format!(
            r#"{{"architecture": "fake", "context_length": 512, "estimated_bytes": {bytes}{embeds}}}"#
        );
        let result = ProbeResult::exact("fake", summary);
        Ok(if behaviour.has("cannot_run") { result.cannot_run("told that it cannot run") } else { result })
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        let devices = Devices::told(&self.options).filter(|_| name == BENCHMARKS);
        devices.map(benchmarks)
    }

    fn load_model(&self, request: &LoadRequest<'_>, progress: Progress) -> Result<Script, PluginError> {
        let text = std::fs::read_to_string(request.path())
            .map_err(|error| PluginError::new(ErrorCode::NOT_FOUND, error.to_string()))?;
        // `{"say":"hello"}` as a line before the file's own.
        let own = request
            .options_json
            .trim_matches(['{', '}'])
            .replace("\":", "=")
            .replace('"', "")
            .replace(',', "\n");
        let behaviour = Behaviour::parse(&format!("{own}\n{text}"))?;
        if behaviour.has("fail_load") {
            return Err(
                PluginError::corrupt_model("tensor `a` was told to be broken").with_detail("line 1\nline 2")
            );
        }
        assert!(!behaviour.has("panic_in_load"), "told to panic while loading");
        if behaviour.has("abort_in_load") {
            std::process::abort();
        }
        if behaviour.has("hang_in_load") {
            crash::hang();
        }
        // What cannot be read here must not be read: the worker has no business there.
        if let Some(path) = behaviour.text("read") {
            std::fs::read(path).map_err(|error| PluginError::internal(format!("cannot read: {error}")))?;
        }
        if let Some(path) = behaviour.text("write") {
            std::fs::write(path, "x")
                .map_err(|error| PluginError::internal(format!("cannot write: {error}")))?;
        }
        if let Some(way) = behaviour.text("reach_out") {
            crash::reach_out(way)
                .map_err(|error| PluginError::internal(format!("no {way} for it: {error}")))?;
        }
        match progress.report(1.0) {
            Flow::Continue => Ok(Script { behaviour }),
            Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
        }
    }
}

/// The id of the token that ends an answer.
pub(crate) const END: u32 = 256;
/// The id of the control token whose text the file may name.
pub(crate) const CONTROL: u32 = 257;
/// Bytes, the end and the control token.
pub(crate) const VOCABULARY: u32 = 258;

/// A model file's words.
pub(crate) struct Script {
    pub(crate) behaviour: Behaviour,
}

impl Model for Script {
    type Context = Reader;

    fn metadata_json(&self) -> String {
        if self.behaviour.has("broken_metadata") {
            return "not JSON".to_owned();
        }
        let template = match self.behaviour.text("template") {
            _ if self.behaviour.has("no_template") => "null".to_owned(),
            Some(template) => format!("{template:?}"),
            None => "\"{% for m in messages %}{{ m.content }}{% endfor %}\"".to_owned(),
        };
        let control = match self.behaviour.text("control").filter(|text| !text.is_empty()) {
            Some(text) => format!(r#"[{{"id": {CONTROL}, "text": {text:?}}}]"#),
            // All of one id: what matters is that the host finds their texts.
            None if self.behaviour.has("infill") => {
                let one = |text: &str| format!(r#"{{"id": {CONTROL}, "text": "<|fim_{text}|>"}}"#);
                format!("[{}]", ["prefix", "suffix", "middle"].map(one).join(", "))
            }
            None => "[]".to_owned(),
        };
        let facts = ["weight_bytes", "parameters", "experts", "gpu_layers"];
        let told = facts.map(|key| (key, self.behaviour.number(key, 0)));
        let facts: String = told
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(key, value)| format!(r#", "{key}": {value}"#))
            .collect();
        format!(
            r#"{{"architecture": "fake", "context_length": 512, "chat_template": {template}, "control_tokens": {control}{facts}}}"#
        )
    }

    fn capabilities(&self) -> Capabilities {
        if self.behaviour.has("generates_nothing") {
            return Capabilities::default();
        }
        if self.behaviour.has("recurrent") {
            return Capabilities::GENERATE.with(Capabilities::RECURRENT);
        }
        Capabilities::GENERATE.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
    }

    fn vocab_size(&self) -> u32 {
        VOCABULARY
    }

    fn tokenize(&self, text: &str, _: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        if self.behaviour.text("abort_on").is_some_and(|word| text.contains(word)) {
            std::process::abort();
        }
        if self.behaviour.text("hang_on").is_some_and(|word| text.contains(word)) {
            crash::hang();
        }
        if self.behaviour.has("lie_in_tokenize") {
            return Ok(vec![Token(9999)]);
        }
        Ok(text.bytes().map(|byte| Token(byte.into())).collect())
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        match self.behaviour.text("control") {
            Some(control) if token.0 == CONTROL => Ok(control.as_bytes().to_vec()),
            _ => Ok(u8::try_from(token.0).into_iter().collect()),
        }
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        token.0 == END
    }

    fn new_context(self: Arc<Self>, params_json: &str) -> Result<Reader, PluginError> {
        if self.behaviour.has("generates_nothing") {
            return Err(PluginError::unsupported("told to generate nothing"));
        }
        Ok(Reader::new(self, params_json))
    }

    fn extension(&self, name: &str) -> Option<Extension> {
        (name == EMBEDDINGS && self.behaviour.has("embeddings")).then(embeddings::<Self>)
    }
}

export_plugin! {
    plugin: Fake,
    id: "fake",
    name: "Fake: behaves as its model file says",
    formats: [{ id: "fake", extensions: ["fake"], priority: 100 }],
}
