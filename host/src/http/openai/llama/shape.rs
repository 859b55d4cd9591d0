//! The answer's JSON: one object for each answer, or pieces of them.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::answer::{Choice, Clock, Piece, Shape};
use super::settings::GenerationSettings;
use crate::engine::message::{Alternative, FinishReason, TokenLogprob, Usage};
use crate::http::sse::{Line, json};

/// What all answers to a request have in common.
pub(super) struct Answers {
    pub(super) model: String,
    /// Of the first answer; each of a prompt's further answers has the next seed.
    pub(super) settings: GenerationSettings,
    /// Each prompt as text.
    pub(super) prompts: Vec<String>,
    pub(super) choices_per_prompt: usize,
    pub(super) is_list: bool,
    pub(super) wants_tokens: bool,
    pub(super) wants_probabilities: bool,
    /// Empty: all.
    pub(super) response_fields: Vec<String>,
}

/// The words of this endpoint.
pub(super) struct LlamaShape {
    answers: Answers,
    so_far: Vec<SoFar>,
}

/// A streamed answer, as far as it has come.
struct SoFar {
    usage: Usage,
    clock: Clock,
    has_new_line: bool,
}

/// An answer; of a stream the last piece, whose text came before.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaCompletion)]
pub(super) struct Completion {
    index: usize,
    content: String,
    /// With `return_tokens`.
    tokens: Vec<u32>,
    /// Of a stream's other pieces false; they have `index`, `content`, `tokens` and the two counts beside it.
    stop: bool,
    model: String,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    /// Of the prompt, those that were not computed again.
    tokens_cached: u32,
    generation_settings: GenerationSettings,
    prompt: String,
    has_new_line: bool,
    /// The context's end cut the answer off.
    truncated: bool,
    /// `eos`, `limit` or `word`
    stop_type: &'static str,
    stopping_word: String,
    timings: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Probability>>,
}

/// A piece of a stream.
#[derive(Debug, Serialize)]
struct CompletionPiece {
    index: usize,
    content: String,
    tokens: Vec<u32>,
    stop: bool,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Probability>>,
}

/// How long it took, as the server saw it: the prompt from the request's acceptance to the first piece of text, waiting
/// included; the rest from there on. The first token comes out of the prompt, so that the others' speed is without it.
#[derive(Debug, Serialize, ToSchema)]
struct Timings {
    cache_n: u32,
    prompt_n: u32,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl Timings {
    fn of(usage: Usage, clock: Clock) -> Self {
        let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let later = usage.completion_tokens.saturating_sub(1);
        let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let (prompt_ms, predicted_ms) = (milliseconds(clock.to_first()), milliseconds(clock.after_first()));
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        Timings {
            cache_n: usage.cached_tokens,
            prompt_n: computed,
            prompt_ms,
            prompt_per_token_ms: share(prompt_ms, computed.into()),
            prompt_per_second: share(1e3 * f64::from(computed), prompt_ms),
            predicted_n: usage.completion_tokens,
            predicted_ms,
            predicted_per_token_ms: share(predicted_ms, later.into()),
            predicted_per_second: share(1e3 * f64::from(later), predicted_ms),
        }
    }
}

/// A token that came, or could have come.
#[derive(Debug, Serialize, ToSchema)]
struct Candidate {
    id: u32,
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl From<&Alternative> for Candidate {
    fn from(alternative: &Alternative) -> Self {
        Candidate {
            id: alternative.token,
            token: String::from_utf8_lossy(&alternative.bytes).into_owned(),
            bytes: alternative.bytes.clone(),
            // JSON has no infinity.
            logprob: alternative.logprob.max(f32::MIN),
        }
    }
}

/// A token of the answer, before any sampling.
#[derive(Debug, Serialize, ToSchema)]
struct Probability {
    #[serde(flatten)]
    chosen: Candidate,
    top_logprobs: Vec<Candidate>,
}

impl From<&TokenLogprob> for Probability {
    fn from(token: &TokenLogprob) -> Self {
        Probability {
            chosen: Candidate::from(&token.chosen),
            top_logprobs: token.top.iter().map(Candidate::from).collect(),
        }
    }
}

impl Answers {
    fn probabilities(&self, tokens: &[TokenLogprob]) -> Option<Vec<Probability>> {
        self.wants_probabilities.then(|| tokens.iter().map(Probability::from).collect())
    }

    fn tokens(&self, tokens: &[TokenLogprob]) -> Vec<u32> {
        let wanted = if self.wants_tokens { tokens } else { &[] };
        wanted.iter().map(|token| token.chosen.token).collect()
    }

    fn completion(&self, index: usize, reason: FinishReason, usage: Usage, clock: Clock) -> Completion {
        let mut generation_settings = self.settings.clone();
        // As the engine was told.
        generation_settings.seed += (index % self.choices_per_prompt) as u64;
        let fills = usage.prompt_tokens + usage.completion_tokens >= generation_settings.n_ctx;
        let (stop_type, stopping_word) = match reason {
            FinishReason::Stop => ("eos", String::new()),
            FinishReason::StopString(stop) => ("word", generation_settings.stop_string(stop)),
            FinishReason::Length => ("limit", String::new()),
        };
        Completion {
            index,
            content: String::new(),
            tokens: Vec::new(),
            stop: true,
            model: self.model.clone(),
            tokens_predicted: usage.completion_tokens,
            tokens_evaluated: usage.prompt_tokens,
            tokens_cached: usage.cached_tokens,
            prompt: self.prompts.get(index / self.choices_per_prompt).cloned().unwrap_or_default(),
            has_new_line: false,
            truncated: reason == FinishReason::Length && fills,
            stop_type,
            stopping_word,
            timings: Timings::of(usage, clock),
            completion_probabilities: None,
            generation_settings,
        }
    }

    /// Its JSON, or what is wanted of it.
    fn told(&self, completion: &Completion) -> String {
        let whole = json(completion);
        if self.response_fields.is_empty() {
            return whole;
        }
        // From the text, for a value made of an `f32` has the digits of an `f64`.
        let whole: Value = serde_json::from_str(&whole).unwrap_or_default();
        let found = |name: &String| {
            let value = name.split('/').try_fold(&whole, |value, key| value.get(key))?;
            Some((name.clone(), value.clone()))
        };
        Value::Object(self.response_fields.iter().filter_map(found).collect::<Map<_, _>>()).to_string()
    }
}

impl LlamaShape {
    /// For answers of which this is known.
    pub(super) fn new(answers: Answers, so_far: &[Usage]) -> Self {
        let of = |&usage: &Usage| SoFar { usage, clock: Clock::start(), has_new_line: false };
        LlamaShape { answers, so_far: so_far.iter().map(of).collect() }
    }
}

impl Shape for LlamaShape {
    fn opening(&mut self, _: usize) -> Vec<Line> {
        Vec::new()
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Line> {
        let so_far = &mut self.so_far[index];
        so_far.clock.hear();
        so_far.has_new_line |= piece.text.contains('\n');
        so_far.usage.completion_tokens = piece.told;
        let piece = CompletionPiece {
            index,
            tokens: self.answers.tokens(&piece.tokens),
            completion_probabilities: self.answers.probabilities(&piece.tokens),
            content: piece.text,
            stop: false,
            tokens_predicted: piece.told,
            tokens_evaluated: so_far.usage.prompt_tokens,
        };
        vec![Line::Data(json(&piece))]
    }

    fn ending(&mut self, index: usize, reason: FinishReason, usage: Usage) -> Vec<Line> {
        let so_far = &mut self.so_far[index];
        so_far.clock.hear();
        let has_new_line = so_far.has_new_line;
        let completion = self.answers.completion(index, reason, usage, so_far.clock);
        vec![Line::Data(self.answers.told(&Completion { has_new_line, ..completion }))]
    }

    /// The last piece of each answer says `stop`; nothing comes after it.
    fn closing(&mut self, _: Usage) -> Vec<Line> {
        Vec::new()
    }

    fn whole(self, choices: Vec<Choice>, _: Usage) -> String {
        let one = |(index, choice): (usize, Choice)| {
            let completion = self.answers.completion(index, choice.reason, choice.usage, choice.clock);
            let (content, tokens) = choice.joined();
            self.answers.told(&Completion {
                has_new_line: content.contains('\n'),
                content,
                tokens: self.answers.tokens(&tokens),
                completion_probabilities: self.answers.probabilities(&tokens),
                ..completion
            })
        };
        let mut all: Vec<String> = choices.into_iter().enumerate().map(one).collect();
        if self.answers.is_list { format!("[{}]", all.join(",")) } else { all.swap_remove(0) }
    }
}
