//! The format `@NAME@`: a model is a text, and which characters follow which in it.
//!
//! A whole plugin to begin from. It is three traits: [`FormatPlugin`] knows the files, [`Model`] is one file in memory,
//! shared by threads, and [`Context`] is the working state of one thread. The host does the rest: scheduling, sampling,
//! chat templates, structured output, HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use impetus_plugin_api::{export_plugin, sdk::*, *};

/// How many characters before the next one count. More: closer to the text; fewer: freer.
const ORDER: usize = 8;
/// Sequences that one context holds at once, and the length that each may have.
const SLOTS: u32 = 8;
const LONGEST: u32 = 4096;
/// The logit of what never followed.
const NEVER: f32 = -30.0;

struct Plugin;

impl FormatPlugin for Plugin {
    type Model = Counts;

    /// Called once. The options are those of `[plugin.@NAME@.options]` in plugins.toml; a plugin refuses what it does not
    /// know, so that nobody believes in an option that does nothing.
    fn init(_host: HostApi, options_json: &str) -> Result<Self, PluginError> {
        match options_json {
            "{}" => Ok(Plugin),
            options => {
                Err(PluginError::invalid_argument(format!("it takes no options, but was given {options}")))
            }
        }
    }

    /// Is this file ours? From its name and its first 64 KiB; the weights are not read here.
    fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
        if input.is_dir || !input.path.ends_with(".@NAME@") {
            return Ok(ProbeResult::not_mine());
        }
        let summary = format!(
            r#"{{"architecture": "character n-grams", "context_length": {LONGEST}, "chat_template": true}}"#
        );
        let result = ProbeResult::exact("@NAME@", summary);
        Ok(if input.head().is_empty() { result.cannot_run("the file is empty") } else { result })
    }

    fn load_model(&self, request: &LoadRequest<'_>, progress: Progress) -> Result<Counts, PluginError> {
        let text = std::fs::read_to_string(request.path()).map_err(|error| {
            PluginError::corrupt_model(format!("it cannot be read as UTF-8 text: {error}"))
        })?;
        match progress.report(0.5) {
            Flow::Continue => Counts::of(&text),
            Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
        }
    }
}

/// A model: how often each token followed each run of up to [`ORDER`] tokens.
///
/// Token ids 0 to 255 are bytes, so that every text can be told to the model; the characters of its own text that are
/// longer than a byte come next; the last id ends an answer.
struct Counts {
    followers: HashMap<Vec<u32>, HashMap<u32, u32>>,
    long_characters: Vec<char>,
}

impl Counts {
    /// An empty line ends a passage, and so an answer may end there.
    fn of(text: &str) -> Result<Counts, PluginError> {
        if text.trim().is_empty() {
            return Err(PluginError::corrupt_model("the file has no text: write some into it"));
        }
        let mut long_characters: Vec<char> = text.chars().filter(|character| !character.is_ascii()).collect();
        long_characters.sort_unstable();
        long_characters.dedup();
        let mut counts = Counts { followers: HashMap::new(), long_characters };
        for passage in text.split("\n\n").filter(|passage| !passage.trim().is_empty()) {
            let mut tokens = counts.tokens(passage);
            tokens.push(counts.end());
            for (at, &next) in tokens.iter().enumerate() {
                for length in 0..=ORDER.min(at) {
                    let before = tokens[at - length..at].to_vec();
                    *counts.followers.entry(before).or_default().entry(next).or_default() += 1;
                }
            }
        }
        Ok(counts)
    }

    fn end(&self) -> u32 {
        256 + self.long_characters.len() as u32
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        for character in text.chars() {
            match self.long_characters.binary_search(&character) {
                Ok(place) => tokens.push(256 + place as u32),
                Err(_) => tokens.extend(character.to_string().bytes().map(u32::from)),
            }
        }
        tokens
    }

    /// Log-probabilities of what comes next, after the longest end of `said` that the text contains.
    fn logits(&self, said: &[u32]) -> Vec<f32> {
        let longest = (0..=ORDER.min(said.len())).rev();
        let followers = longest.filter_map(|length| self.followers.get(&said[said.len() - length..])).next();
        let mut logits = vec![NEVER; self.vocab_size() as usize];
        for (&token, &count) in followers.into_iter().flatten() {
            logits[token as usize] = (count as f32).ln();
        }
        logits
    }
}

impl Model for Counts {
    type Context = Reader;

    /// A chat is its messages, line by line; the answer is what the text says after them.
    fn metadata_json(&self) -> String {
        format!(
            r#"{{"architecture": "character n-grams", "context_length": {LONGEST},
                "chat_template": "{{% for message in messages %}}{{{{ message.content }}}}\n{{% endfor %}}"}}"#
        )
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::GENERATE.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
    }

    fn vocab_size(&self) -> u32 {
        self.end() + 1
    }

    fn tokenize(&self, text: &str, _: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
        Ok(self.tokens(text).into_iter().map(Token).collect())
    }

    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
        if let Ok(byte) = u8::try_from(token.0) {
            return Ok(vec![byte]);
        }
        let character = self.long_characters.get(token.0 as usize - 256);
        Ok(character.map(|character| character.to_string().into_bytes()).unwrap_or_default())
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        token.0 == self.end()
    }

    fn new_context(self: Arc<Self>, _params_json: &str) -> Result<Reader, PluginError> {
        Ok(Reader { counts: self, sequences: vec![Vec::new(); SLOTS as usize], logits: Vec::new() })
    }
}

/// The tokens of each sequence, and the logits of the last batch's rows.
struct Reader {
    counts: Arc<Counts>,
    sequences: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
}

impl Context for Reader {
    fn limits(&self) -> ContextLimits {
        ContextLimits {
            total_tokens: SLOTS * LONGEST,
            sequence_tokens: LONGEST,
            max_sequences: SLOTS,
            batch_tokens: 512,
        }
    }

    /// Each row is the next token of its sequence. Those who call have checked that ids and lengths are in range.
    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
        self.logits.clear();
        for row in 0..batch.tokens.len() {
            let sequence = &mut self.sequences[batch.sequences[row].0 as usize];
            sequence.truncate(batch.positions[row].0 as usize);
            sequence.push(batch.tokens[row].0);
            let wanted = batch.wants_logits[row];
            self.logits.push(if wanted { self.counts.logits(sequence) } else { Vec::new() });
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
        Ok(&self.logits[row])
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
        let tokens = &mut self.sequences[sequence.0 as usize];
        let end = tokens.len().min(range.end.0 as usize);
        tokens.drain(end.min(range.start.0 as usize)..end);
        Ok(())
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
        let source = &self.sequences[from.0 as usize];
        let copy = source[..source.len().min(range.end.0 as usize)].to_vec();
        self.sequences[to.0 as usize] = copy;
        Ok(())
    }

    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
        self.sequences[sequence.0 as usize].len().checked_sub(1).map(|last| Position(last as u32))
    }

    fn clear(&mut self) -> Result<(), PluginError> {
        self.sequences.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

export_plugin! {
    plugin: Plugin,
    id: "@NAME@",
    name: "@NAME@: character n-grams of a text",
    formats: [{ id: "@NAME@", extensions: ["@NAME@"], priority: 100 }],
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "the cat sat on the mat\n\nthe dog saw a käse";

    /// What follows a prompt when the likeliest token is taken each time.
    fn answer(text: &str, prompt: &str) -> String {
        let model = Arc::new(Counts::of(text).unwrap());
        let mut context = Arc::clone(&model).new_context("{}").unwrap();
        let mut tokens =
            model.tokenize(prompt, TokenizeOptions { add_special: true, parse_special: true }).unwrap();
        let mut bytes = Vec::new();
        let mut position = 0;
        loop {
            for token in &tokens {
                let (tokens, positions) = ([*token], [Position(position)]);
                let batch = Batch {
                    tokens: tokens[..].into(),
                    positions: positions[..].into(),
                    sequences: [SeqId(3)][..].into(),
                    wants_logits: [true][..].into(),
                };
                context.decode(batch).unwrap();
                position += 1;
            }
            let logits = context.logits(0).unwrap();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            tokens = vec![Token(best as u32)];
            if model.is_end_of_generation(tokens[0]) {
                return String::from_utf8(bytes).unwrap();
            }
            bytes.extend(model.token_bytes(tokens[0]).unwrap());
        }
    }

    #[test]
    fn it_goes_on_as_the_text_does_and_ends_with_the_passage() {
        assert_eq!(answer(TEXT, "the cat sat on the m"), "at");
        assert_eq!(answer(TEXT, "dog saw"), " a käse");
    }

    #[test]
    fn what_it_never_read_does_not_stop_it() {
        assert_eq!(answer(TEXT, "漢字 dog saw"), " a käse");
    }

    #[test]
    fn text_becomes_tokens_and_text_again() {
        let model = Counts::of(TEXT).unwrap();
        for text in ["", "the cat", "käse", "漢字"] {
            let bytes: Vec<u8> = model
                .tokens(text)
                .into_iter()
                .flat_map(|token| model.token_bytes(Token(token)).unwrap())
                .collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }

    #[test]
    fn sequences_are_cut_and_copied() {
        let mut context = Arc::new(Counts::of(TEXT).unwrap()).new_context("{}").unwrap();
        context.sequences[0] = vec![1, 2, 3, 4];
        context.seq_cp(SeqId(0), SeqId(1), PosRange::new(Position(0), Position(3))).unwrap();
        context.seq_rm(SeqId(0), PosRange::from(Position(1))).unwrap();
        assert_eq!((&context.sequences[0][..], &context.sequences[1][..]), (&[1][..], &[1, 2, 3][..]));
        assert_eq!(context.seq_pos_max(SeqId(1)), Some(Position(2)));
        context.clear().unwrap();
        assert_eq!(context.seq_pos_max(SeqId(1)), None);
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(Counts::of(" \n").is_err());
    }
}
