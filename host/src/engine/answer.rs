//! One request's answer as it grows: logits become a token, tokens become whole text, text ends at a stop string.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::guide::{Guide, Left};
use super::lookup::Lookup;
use super::message::{Alternative, Event, FinishReason, Request, TokenLogprob, Usage};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Token;
use crate::sampling::constraint::Place;
use crate::sampling::{self, Breakers, SampleError, Sampler};
use crate::text::{Detokenizer, StopMatcher};

/// The state of an answer.
pub(super) struct Answer {
    sampler: Sampler,
    /// Texts over which DRY sees no repetition.
    breakers: Option<Breakers>,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    /// A stop string was found: what is still held back is no part of the answer.
    stopped: bool,
    logprobs: Option<u32>,
    /// What is known of the prompt's tokens, until it is told: where it was asked for.
    prompt: Option<PromptScores>,
    /// Log probabilities of tokens whose text is still held back.
    held: Vec<TokenLogprob>,
    /// Control tokens that are a part of the text.
    shown: Vec<u32>,
    told: Told,
    max_tokens: u32,
    usage: Usage,
    lookup: Lookup,
    guide: Option<Guide>,
    deadline: Option<Instant>,
}

/// How probable the tokens of a prompt are.
struct PromptScores {
    /// The bytes of the first.
    first: Vec<u8>,
    tokens: Vec<TokenLogprob>,
}

/// What a new token led to.
pub(super) enum Progress {
    /// The sequence goes on with this token.
    Goes(Token),
    /// The answer is complete.
    Ended(FinishReason),
    /// What its grammar allows is not known yet: the logits must be kept until then.
    Waits,
}

impl Answer {
    /// An answer to a prompt of these tokens.
    pub(super) fn new(request: &Request, prompt: &[Token], vocabulary: &Vocabulary) -> Self {
        let mut settings = request.sampling.clone();
        if request.ignore_eos {
            settings.banned.extend_from_slice(vocabulary.end_of_generation());
        }
        let breakers = settings.dry.as_ref().map(|dry| Breakers::new(&dry.breakers));
        let sampler = Sampler::new(settings, request.seed.unwrap_or_else(random_seed));
        let mut answer = Answer {
            sampler,
            breakers,
            detokenizer: Detokenizer::new(),
            stops: StopMatcher::new(request.stop.clone()),
            stopped: false,
            logprobs: request.logprobs,
            prompt: request.prompt_logprobs.then(|| PromptScores {
                first: prompt.first().map(|token| vocabulary.bytes(token.0).to_vec()).unwrap_or_default(),
                tokens: Vec::new(),
            }),
            held: Vec::new(),
            shown: if request.shown.is_empty() {
                Vec::new()
            } else {
                vocabulary.control_tokens(&request.shown)
            },
            told: Told::default(),
            max_tokens: request.max_tokens.unwrap_or(u32::MAX),
            usage: Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() },
            lookup: Lookup::new(prompt),
            guide: None,
            deadline: None,
        };
        for token in prompt {
            answer.sampler.observe_prompt(&[token.0]);
            answer.break_repetition(token.0, vocabulary);
        }
        answer
    }

    /// A token came, in the prompt or the answer: DRY must know whether a breaker ends with it.
    fn break_repetition(&mut self, token: u32, vocabulary: &Vocabulary) {
        if let Some(breakers) = &mut self.breakers
            && breakers.push(vocabulary.bytes(token))
        {
            self.sampler.end_repetition();
        }
    }

    /// The same, kept to a grammar.
    pub(super) fn guided(self, guide: Option<Guide>) -> Self {
        Answer { guide, ..self }
    }

    /// The same, to be ended by then.
    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Answer { deadline, ..self }
    }

    /// When it must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it has a token.
    pub(super) fn has_begun(&self) -> bool {
        self.usage.completion_tokens > 0
    }

    /// What it may go on with, by what it said before.
    pub(super) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// So many tokens that it may go on with are tried.
    pub(super) fn drafted(&mut self, tokens: usize) {
        self.usage.drafted_tokens += tokens as u32;
    }

    /// One of these came.
    pub(super) fn accepted(&mut self) {
        self.usage.accepted_tokens += 1;
    }

    /// The prompt begins to be computed, but for its first `cached_tokens` tokens, which the context holds. Gives what is
    /// known of its usage.
    pub(super) fn start(&mut self, cached_tokens: usize) -> Usage {
        self.usage.cached_tokens = cached_tokens as u32;
        self.usage
    }

    /// The prompt goes on with this token behind these logits.
    pub(super) fn score(&mut self, logits: &[f32], token: Token, vocabulary: &Vocabulary) {
        let top = self.logprobs.unwrap_or(0);
        if let Some(prompt) = &mut self.prompt {
            prompt.tokens.push(token_logprob(logits, token.0, top, vocabulary));
        }
    }

    /// Chooses the next token from its logits, and emits what text that gives.
    ///
    /// # Errors
    /// [`Kind::EngineCrashed`] when the logits allow no token at all, [`Kind::InvalidRequest`] when the request forbids
    /// those that they allow, [`Kind::InvalidGrammar`] when its grammar cannot be followed any further.
    pub(super) fn advance(
        &mut self,
        logits: &[f32],
        vocabulary: &Vocabulary,
        patience: Duration,
        mut emit: impl FnMut(Event),
    ) -> Result<Progress> {
        if let Some(PromptScores { first, tokens }) = self.prompt.take() {
            emit(Event::Prompt { first, tokens });
        }
        if self.max_tokens == 0 {
            return Ok(Progress::Ended(FinishReason::Length));
        }
        let (token, place) = match self.choose(logits, vocabulary, patience)? {
            Choice::Token(token, place) => (token, place),
            Choice::Nothing => return Ok(Progress::Ended(FinishReason::Stop)),
            Choice::Unknown => return Ok(Progress::Waits),
        };
        self.usage.completion_tokens += 1;
        self.break_repetition(token, vocabulary);
        self.lookup.push(Token(token));
        if vocabulary.ends(token) {
            return Ok(Progress::Ended(FinishReason::Stop));
        }
        if let Some(top) = self.logprobs {
            self.held.push(token_logprob(logits, token, top, vocabulary));
        }
        let text = self.detokenizer.push(vocabulary.text_bytes(token, &self.shown));
        if let Some(guide) = &mut self.guide {
            guide.hear(&text);
        }
        self.told.add_token(text.len());
        let stopped = self.stops.push(&text);
        self.emit_text(stopped.text, &mut emit);
        Ok(if let Some(stop) = stopped.stop {
            // The tokens of the stop string itself are no part of the answer.
            self.held.clear();
            self.stopped = true;
            Progress::Ended(FinishReason::StopString(stop as u32))
        } else if place == Place::Complete {
            Progress::Ended(FinishReason::Stop)
        } else if self.usage.completion_tokens >= self.max_tokens {
            Progress::Ended(FinishReason::Length)
        } else {
            Progress::Goes(Token(token))
        })
    }

    fn choose(&mut self, logits: &[f32], vocabulary: &Vocabulary, patience: Duration) -> Result<Choice> {
        let Some(guide) = &mut self.guide else {
            let token = self.sampler.sample(logits).map_err(no_token)?;
            return Ok(Choice::Token(token, Place::Within));
        };
        let masked = match guide.mask(logits, vocabulary.end_of_generation(), patience)? {
            Left::Logits(masked) => masked,
            Left::Nothing => return Ok(Choice::Nothing),
            Left::Unknown => return Ok(Choice::Unknown),
        };
        match self.sampler.sample(masked) {
            Ok(token) if vocabulary.ends(token) => Ok(Choice::Token(token, Place::Complete)),
            Ok(token) => Ok(Choice::Token(token, guide.commit(token)?)),
            // Only end tokens are banned: where nothing else is allowed, the text is complete.
            Err(SampleError::EveryTokenBanned { .. }) => Ok(Choice::Nothing),
            Err(error) => Err(no_token(error)),
        }
    }

    /// Emits what was held back, and the end.
    pub(super) fn finish(mut self, reason: FinishReason, mut emit: impl FnMut(Event)) {
        if !self.stopped {
            let last = self.stops.push(&self.detokenizer.finish());
            let rest = if last.stop.is_some() { String::new() } else { self.stops.finish() };
            self.emit_text(last.text + &rest, &mut emit);
            if !self.held.is_empty() {
                let tokens = std::mem::take(&mut self.held);
                emit(Event::Text { text: String::new(), tokens, told: self.usage.completion_tokens });
            }
        }
        emit(Event::Finished { reason, usage: self.usage });
    }

    fn emit_text(&mut self, text: String, emit: &mut impl FnMut(Event)) {
        if !text.is_empty() {
            let told = self.told.tell(text.len());
            emit(Event::Text { text, tokens: std::mem::take(&mut self.held), told });
        }
    }
}

/// What comes next.
enum Choice {
    /// This token, and where it leads in the answer's grammar.
    Token(u32, Place),
    /// Nothing: the answer is complete.
    Nothing,
    /// What may come is not known yet.
    Unknown,
}

/// Counts tokens whose text has been told to its end: some text is held back, as it may belong to a stop string or to a
/// character that is not whole.
#[derive(Default)]
struct Told {
    /// Where the texts of tokens end that are not told, in bytes of the answer.
    ends: VecDeque<usize>,
    made_bytes: usize,
    told_bytes: usize,
    tokens: u32,
}

impl Told {
    fn add_token(&mut self, bytes: usize) {
        self.made_bytes += bytes;
        self.ends.push_back(self.made_bytes);
    }

    fn tell(&mut self, bytes: usize) -> u32 {
        self.told_bytes += bytes;
        while self.ends.front().is_some_and(|&end| end <= self.told_bytes) {
            self.ends.pop_front();
            self.tokens += 1;
        }
        self.tokens
    }
}

fn no_token(error: SampleError) -> Error {
    match error {
        SampleError::NoLogit { .. } => Error::new(
            Kind::EngineCrashed,
            format!("no token can be chosen from the model's logits: {error}"),
        ),
        SampleError::EveryTokenBanned { .. } => Error::invalid("ignore_eos", error.to_string()),
    }
}

fn token_logprob(logits: &[f32], token: u32, top: u32, vocabulary: &Vocabulary) -> TokenLogprob {
    let of =
        |token: u32, logprob: f32| Alternative { token, bytes: vocabulary.bytes(token).to_vec(), logprob };
    let found = sampling::log_probabilities(logits, token, top as usize);
    TokenLogprob {
        chosen: of(token, found.logprob),
        top: found.top.into_iter().map(|(token, logprob)| of(token, logprob)).collect(),
    }
}

/// A seed that nobody chose: the standard library's own source of randomness for its hash maps.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one("seed")
}
