//! Structured output: what may come next under a JSON schema, a regular expression or a grammar, as a set of tokens.
//!
//! [`Grammars`] belongs to a model and is shared by its requests: the trie of its tokens and the slices of it that
//! llguidance keeps for JSON strings are made once. [`Constraint`] is one answer's place in a grammar. Everything is
//! safe Rust; no grammar ever reaches native code.
//!
//! Chooses nothing: the sampler sees logits in which the forbidden tokens are -∞. Starts no thread: grammars come from
//! strangers and may nest deeply, so that whoever calls this gives it a large stack ([`STACK_BYTES`]).

mod cache;
mod gbnf;
mod grammar;
mod numbers;
mod pattern;
mod refusal;
mod regex;
mod schema;
mod unions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Logger, Matcher, ParserFactory};

use self::cache::Cache;
pub use self::grammar::Grammar;
use self::grammar::bounded;
pub use self::pattern::{Free, Pattern, Schema};
pub use self::refusal::Refusal;

/// The stack of a thread on which grammars are compiled or followed. Only what is used of it is ever backed by memory.
pub const STACK_BYTES: usize = 256 << 20;

/// The trie refuses longer tokens; no answer needs one.
const MAX_TOKEN_BYTES: usize = 1_000;

/// All that the requests of one model share.
pub struct Grammars {
    factory: ParserFactory,
    vocab_size: usize,
    /// Tokens that steer a model and have no text in the trie.
    control: Vec<(u32, Vec<u8>)>,
    /// Grammars that were compiled lately, each at its beginning.
    cache: Mutex<Cache>,
}

/// One answer's place in its grammar.
pub struct Constraint {
    matcher: Matcher,
}

/// The tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// A bit for each token, the smallest id in the lowest bit of the first word.
    words: Vec<u32>,
}

/// Where a token led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Something may follow.
    Within,
    /// The text is complete, and nothing can follow.
    Complete,
}

impl Grammars {
    /// For a vocabulary with these bytes, by id; a token without bytes is never allowed. `ends` are the tokens that end an
    /// answer: allowed wherever the text is complete.
    ///
    /// # Errors
    /// When the vocabulary cannot be put into a trie.
    pub fn new(mut tokens: Vec<Vec<u8>>, ends: &[u32]) -> Result<Self, Refusal> {
        // 0xFF marks special tokens in the trie, and no text has it.
        for bytes in &mut tokens {
            if bytes.len() > MAX_TOKEN_BYTES || bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
                bytes.clear();
            }
        }
        let build = || {
            let first = ends.first().copied().unwrap_or(llguidance::toktrie::INVALID_TOKEN);
            let trie = TokTrie::from(&TokRxInfo::new(tokens.len() as u32, first), &tokens);
            let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) };
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        };
        let built = catch_unwind(AssertUnwindSafe(build));
        let mut factory = built
            .map_err(|_| Refusal::of_vocabulary("it panicked"))?
            .map_err(|error| Refusal::of_vocabulary(&error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // Up to 2 kB each, for every grammar that is in use.
        limits.max_lexer_states = 30_000;
        Ok(Grammars { factory, vocab_size: tokens.len(), control: Vec::new(), cache: Mutex::default() })
    }

    /// The same with the texts of control tokens: patterns may ask for them by these.
    #[must_use]
    pub fn with_control(self, control: Vec<(u32, Vec<u8>)>) -> Self {
        Grammars { control, ..self }
    }

    /// The beginning of an answer under this grammar. Compiles it, unless that was done lately.
    ///
    /// # Errors
    /// What is wrong with the grammar, and where.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint, Refusal> {
        let key = grammar.key();
        if let Some(matcher) = self.cache().find(&key) {
            return Ok(Constraint { matcher });
        }
        let init = GrammarInit::Serialized(self.lower(grammar)?);
        let mut limits = self.factory.limits().clone();
        grammar.limit(&mut limits, self.vocab_size);
        let (quiet, capabilities) = (Logger::new(0, 0), InferenceCapabilities::default());
        let parser = self.factory.create_parser_from_init_ext(init, quiet, capabilities, limits);
        let parser = parser.map_err(|error| self.refusal(grammar, &error))?;
        let is_own = matches!(grammar, Grammar::Pattern(_));
        if !is_own && parser.parser.grammar().lexer_spec().special_token_rx.is_some() {
            return Err(Refusal::of_token_names());
        }
        let matcher = Matcher::new(Ok(parser));
        self.cache().keep(key, &matcher);
        Ok(Constraint { matcher })
    }

    fn lower(&self, grammar: &Grammar) -> Result<TopLevelGrammar, Refusal> {
        Ok(match grammar {
            Grammar::JsonObject => TopLevelGrammar::from_json_schema(schema::any_object()),
            Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema::prepare(schema)?),
            Grammar::Regex(regex) => TopLevelGrammar::from_regex(regex::unanchored(bounded(regex)?)?),
            Grammar::Choice(texts) => TopLevelGrammar::from_regex(bounded(&regex::choice(texts))?),
            Grammar::Lark(lark) => TopLevelGrammar::from_lark(bounded(lark)?.to_owned()),
            Grammar::Gbnf(gbnf) => TopLevelGrammar::from_lark(gbnf::to_lark(bounded(gbnf)?)?),
            Grammar::Pattern(pattern) => pattern::lower(pattern, |text| self.token(text))?,
        })
    }

    /// The token with this text.
    fn token(&self, text: &str) -> Option<u32> {
        let control = self.control.iter().find(|(_, bytes)| bytes == text.as_bytes()).map(|(id, _)| *id);
        let trie = self.factory.tok_env().tok_trie();
        control.or_else(|| trie.token_id_at_bytes(text.as_bytes()))
    }

    /// Of several schemas, the one at fault is found by trying each.
    fn refusal(&self, grammar: &Grammar, error: &anyhow::Error) -> Refusal {
        let Grammar::Pattern(pattern) = grammar else { return Refusal::of_grammar(grammar, error) };
        let of_one = |schema: &Schema| {
            let refusal = self.constraint(&Grammar::JsonSchema(schema.schema.clone())).err()?;
            Some(refusal.of_field(&schema.field))
        };
        let found = pattern.schemas().into_iter().find_map(of_one);
        found.unwrap_or_else(|| Refusal::of_grammar(grammar, error))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Constraint {
    /// What may come next. Takes from microseconds to some milliseconds.
    ///
    /// # Errors
    /// When the grammar is too ambiguous or too large to be followed here; the answer cannot go on.
    pub fn allowed(&mut self) -> Result<Allowed, Refusal> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| Refusal::on_the_way(&error))?;
        Ok(Allowed { words: mask.into() })
    }

    /// Goes on by a token that was allowed.
    ///
    /// # Errors
    /// As [`Constraint::allowed`].
    pub fn commit(&mut self, token: u32) -> Result<Place, Refusal> {
        self.matcher.consume_token(token).map_err(|error| Refusal::on_the_way(&error))?;
        Ok(if self.matcher.is_stopped() { Place::Complete } else { Place::Within })
    }

    /// Goes on by a text.
    ///
    /// # Errors
    /// As [`Constraint::allowed`], and when the text is not allowed here.
    pub fn commit_text(&mut self, text: &str) -> Result<Place, Refusal> {
        let environment = self.matcher.tok_env().map_err(|error| Refusal::on_the_way(&error))?;
        let mut place = Place::Within;
        for token in environment.tok_trie().greedy_tokenize(text.as_bytes()) {
            place = self.commit(token)?;
        }
        Ok(place)
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    /// As [`Constraint::allowed`].
    pub fn may_end(&mut self) -> Result<bool, Refusal> {
        self.matcher.is_accepting().map_err(|error| Refusal::on_the_way(&error))
    }
}

impl Allowed {
    /// Whether this token may come next.
    pub fn has(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32).copied().unwrap_or(0);
        word >> (token % 32) & 1 == 1
    }

    /// Copies `logits`, with -∞ for every token that may not come.
    pub fn apply(&self, logits: &[f32], masked: &mut Vec<f32>) {
        masked.clear();
        masked.reserve(logits.len());
        let (mut words, mut chunks) = (self.words.iter(), logits.chunks(32));
        for (chunk, word) in chunks.by_ref().zip(words.by_ref()) {
            match *word {
                0 => masked.extend(std::iter::repeat_n(f32::NEG_INFINITY, chunk.len())),
                u32::MAX => masked.extend_from_slice(chunk),
                word => masked.extend(
                    chunk
                        .iter()
                        .enumerate()
                        .map(|(bit, logit)| if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY }),
                ),
            }
        }
        masked.resize(logits.len(), f32::NEG_INFINITY);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
