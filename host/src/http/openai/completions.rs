//! `POST /v1/completions`: whole prompts go on, each with `n` answers; choices are numbered prompt by prompt.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::answer::{self, Choice, Piece, PromptScores, Shape};
use super::generation::{self, Generation, about};
use super::known::Endpoint;
use super::logprobs::TextShape;
use super::params::{Delivery, MAX_CHOICES, MAX_LOGPROBS, Parameters};
use super::prompts;
use super::types::{Envelope, Stamp, TextChoice, UsageField};
use crate::engine::message::{FinishReason, Prompt, Request, Usage};
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::account::Account;
use crate::http::body::JsonBody;
use crate::http::error::Result;
use crate::http::fields::Fields;
use crate::http::sse::{Line, json};
use crate::models::Loaded;

const OBJECT: &str = "text_completion";

/// The original's default; clients of this old endpoint count on a short answer.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Answers.
#[utoipa::path(
    post, path = "/v1/completions", tag = "OpenAI", summary = "A prompt goes on",
    responses((status = 200, description = "whole, or with `stream` as server-sent events", content((Envelope<TextChoice> = "application/json"), (Envelope<TextChoice> = "text/event-stream"))))
)]
pub(crate) async fn handle(
    State(app): State<App>,
    Extension(account): Extension<Account>,
    JsonBody(fields): JsonBody,
) -> Result<Response> {
    let request = CompletionRequest::parse(fields)?;
    answer::respond(account, request.parameters.delivery, start(app, request)).await
}

async fn start(app: App, request: CompletionRequest) -> Result<(Generation, CompletionShape)> {
    let CompletionRequest { model, asked, mut prompts, suffix, mut parameters, logprobs, echo, best_of } =
        request;
    let model = generation::open_for(&app, &model, (Endpoint::Completions, &asked)).await?;
    if let Some(suffix) = suffix {
        prompts = between(prompts, &suffix, &model);
    }
    parameters.fill(&asked, &model.metadata().recommended);
    parameters.check_vocabulary(model.vocab_size())?;
    parameters.settle(&model);
    let told = parameters.choices as usize;
    parameters.choices = best_of;
    let choices_per_prompt = best_of as usize;
    let best = (choices_per_prompt > told).then_some(Best { of: choices_per_prompt, told });
    // Answers are compared by their log probabilities, whether these are told or not.
    let wanted = logprobs.or(best.map(|_| 0));
    let score = echo && logprobs.is_some();
    let requests = prompts.iter().flat_map(|prompt| parameters.requests(prompt, wanted));
    let requests = requests.map(|request| Request { prompt_logprobs: score, ..request }).collect();
    let throughout = parameters.delivery.includes_usage_throughout();
    let mut shape = CompletionShape {
        stamp: Stamp::new("cmpl", &model.id),
        include_usage: parameters.delivery.includes_usage(),
        so_far: None,
        logprobs: logprobs.map(|_| vec![TextShape::default(); prompts.len() * told]),
        echo: if echo { echoed(prompts, told, &model).await } else { Vec::new() },
        best,
    };
    let generation = Generation::start(model, requests, choices_per_prompt).await;
    let generation = generation.map_err(|error| about_prompt(error, choices_per_prompt))?;
    shape.so_far = throughout.then(|| generation.so_far());
    Ok((generation, shape))
}

/// Prompts whose answers stand before this text.
fn between(prompts: Vec<Prompt>, suffix: &str, model: &Loaded) -> Vec<Prompt> {
    let fill = |prompt| match (prompt, model.infill()) {
        (Prompt::Text(text), Some(infill)) => Prompt::Text(infill.prompt(&text, suffix)),
        (prompt, _) => prompt,
    };
    prompts.into_iter().map(fill).collect()
}

/// A list of prompts is one of the ways to ask for many answers; the engine knows only of `n`.
fn about_prompt(error: Error, choices_per_prompt: usize) -> Error {
    if choices_per_prompt == 1 && error.param.as_deref() == Some("n") {
        return Error { param: Some("prompt".to_owned()), ..error };
    }
    if error.kind == Kind::ContextLengthExceeded { about("prompt", error) } else { error }
}

/// Each choice's prompt; what is no token of the model, the engine refuses.
async fn echoed(prompts: Vec<Prompt>, choices_per_prompt: usize, model: &Loaded) -> Vec<String> {
    let mut texts = Vec::with_capacity(prompts.len() * choices_per_prompt);
    for prompt in prompts {
        let text = match prompt {
            Prompt::Text(text) => text,
            Prompt::Tokens(tokens) => {
                let bytes = model.token_bytes(tokens).await.unwrap_or_default().concat();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Prompt::Chat(_) => String::new(),
        };
        texts.extend(std::iter::repeat_n(text, choices_per_prompt));
    }
    texts
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct CompletionRequest {
    model: String,
    /// The fields that say something.
    asked: Vec<String>,
    prompts: Vec<Prompt>,
    /// What follows the answer, which fills the gap before it.
    suffix: Option<String>,
    parameters: Parameters,
    logprobs: Option<u32>,
    echo: bool,
    /// Answers computed for each prompt, of which `n` are told.
    best_of: u32,
}

impl CompletionRequest {
    pub(super) fn parse(mut fields: Fields) -> Result<Self> {
        let mut asked = fields.names();
        let model = fields.required_text("model")?;
        let prompts = prompts::take(&mut fields, "prompt")?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        let only_prompt = echo && takes_nothing(&mut fields);
        let mut parameters = Parameters::take(&mut fields)?;
        parameters.max_tokens.get_or_insert(if only_prompt { 0 } else { DEFAULT_MAX_TOKENS });
        let logprobs = fields.count("logprobs", 0..=MAX_LOGPROBS)?;
        let best_of = best_of(&mut fields, &parameters)?;
        let suffix = suffix(&mut fields, echo, &prompts)?;
        // An empty one asks nothing of a model.
        asked.retain(|name| name != "suffix" || suffix.is_some());
        fields.finish()?;
        Ok(CompletionRequest { model, asked, prompts, suffix, parameters, logprobs, echo, best_of })
    }
}

/// A text that follows the answer.
fn suffix(fields: &mut Fields, echo: bool, prompts: &[Prompt]) -> Result<Option<String>> {
    let Some(suffix) = fields.text("suffix")?.filter(|suffix| !suffix.is_empty()) else { return Ok(None) };
    let refused = |message: &str| Err(Error::unsupported("suffix", message).into());
    if echo {
        return refused("`suffix` with `echo` is not supported: the answer stands between the two");
    }
    if !prompts.iter().all(|prompt| matches!(prompt, Prompt::Text(_))) {
        return refused(
            "`suffix` with a `prompt` of tokens is not supported: write the control tokens among these",
        );
    }
    Ok(Some(suffix))
}

/// Whether no token is wanted, as programs say that only want to know how probable a text is. Takes the field then.
fn takes_nothing(fields: &mut Fields) -> bool {
    let nothing = fields.peek("max_tokens").is_some_and(|value| value.as_u64() == Some(0));
    nothing && fields.value("max_tokens").is_some()
}

/// How many answers are computed for each prompt.
fn best_of(fields: &mut Fields, parameters: &Parameters) -> Result<u32> {
    let choices = parameters.choices;
    match fields.count("best_of", 1..=MAX_CHOICES)? {
        Some(best_of) if best_of < choices => {
            let message = format!("`best_of` must be at least `n`, which is {choices}; found {best_of}");
            Err(Error::invalid("best_of", message).into())
        }
        Some(best_of) if best_of > choices && parameters.delivery != Delivery::Whole => {
            let message = format!(
                "`best_of` above `n` ({choices}) cannot be streamed: which answers are best is known at their end"
            );
            Err(Error::invalid("best_of", message).into())
        }
        best_of => Ok(best_of.unwrap_or(choices)),
    }
}

/// Of so many answers to each prompt, so many are told: those whose tokens are the most probable on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Best {
    of: usize,
    told: usize,
}

impl Best {
    fn choose(self, choices: Vec<Choice>) -> Vec<Choice> {
        let mut choices = choices.into_iter();
        let mut best = Vec::new();
        while choices.len() > 0 {
            let mut of_prompt: Vec<Choice> = choices.by_ref().take(self.of).collect();
            of_prompt.sort_by(|a, b| mean_logprob(b).total_cmp(&mean_logprob(a)));
            best.extend(of_prompt.into_iter().take(self.told));
        }
        best
    }
}

/// An answer without tokens says nothing, and so nothing improbable.
fn mean_logprob(choice: &Choice) -> f32 {
    let tokens = || choice.pieces.iter().flat_map(|piece| &piece.tokens);
    let sum: f32 = tokens().map(|token| token.chosen.logprob).sum();
    sum / tokens().count().max(1) as f32
}

/// The JSON of this endpoint.
struct CompletionShape {
    stamp: Stamp,
    include_usage: bool,
    /// What each choice took so far, where every piece tells it.
    so_far: Option<Vec<Usage>>,
    /// One for each choice, where log probabilities were asked for.
    logprobs: Option<Vec<TextShape>>,
    /// Each choice's prompt, where it is to stand before the answer.
    echo: Vec<String>,
    /// Where more answers were computed than are told.
    best: Option<Best>,
}

impl CompletionShape {
    fn chunk(&self, choice: TextChoice) -> Line {
        let index = choice.index;
        let mut envelope = self.streamed(vec![choice]);
        if let Some(usage) = self.so_far.as_ref().and_then(|so_far| so_far.get(index)) {
            envelope.usage = UsageField::told(*usage, 0);
        }
        Line::Data(json(&envelope))
    }

    fn streamed(&self, choices: Vec<TextChoice>) -> Envelope<'_, TextChoice> {
        let mut envelope = self.stamp.envelope(OBJECT, choices);
        envelope.usage = if self.include_usage { UsageField::Null } else { UsageField::Absent };
        envelope
    }
}

impl Shape for CompletionShape {
    fn opening(&mut self, index: usize) -> Vec<Line> {
        // With log probabilities it waits for those of its tokens.
        let echo = self.echo.get(index).filter(|_| self.logprobs.is_none()).cloned();
        let chunk = |text| self.chunk(TextChoice { text, index, logprobs: None, finish_reason: None });
        echo.map(chunk).into_iter().collect()
    }

    fn prompt(&mut self, index: usize, scores: PromptScores) -> Vec<Line> {
        let text = self.echo.get(index).cloned().unwrap_or_default();
        let logprobs = self.logprobs.as_mut().map(|shapes| shapes[index].prompt(&scores));
        vec![self.chunk(TextChoice { text, index, logprobs, finish_reason: None })]
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Line> {
        if let Some(so_far) = &mut self.so_far {
            so_far[index].completion_tokens = piece.told;
        }
        let logprobs = self.logprobs.as_mut().map(|shapes| shapes[index].push(&piece.tokens));
        vec![self.chunk(TextChoice { text: piece.text, index, logprobs, finish_reason: None })]
    }

    fn ending(&mut self, index: usize, reason: FinishReason, usage: Usage) -> Vec<Line> {
        if let Some(so_far) = &mut self.so_far {
            so_far[index] = usage;
        }
        let choice =
            TextChoice { text: String::new(), index, logprobs: None, finish_reason: Some(reason.name()) };
        vec![self.chunk(choice)]
    }

    fn closing(&mut self, usage: Usage) -> Vec<Line> {
        let mut envelope = self.streamed(Vec::new());
        envelope.usage = UsageField::told(usage, 0);
        let usage = self.include_usage.then(|| Line::Data(json(&envelope)));
        usage.into_iter().chain([Line::Done]).collect()
    }

    fn whole(mut self, choices: Vec<Choice>, usage: Usage) -> String {
        let choices = match self.best {
            Some(best) => best.choose(choices),
            None => choices,
        };
        let choice = |(index, choice): (usize, Choice)| {
            let finish_reason = Some(choice.reason.name());
            let scores = choice.prompt.clone();
            let (text, tokens) = choice.joined();
            let text = self.echo.get(index).cloned().unwrap_or_default() + &text;
            let logprobs = self.logprobs.as_mut().map(|shapes| {
                let prompt = scores.map(|scores| shapes[index].prompt(&scores)).unwrap_or_default();
                prompt.and(shapes[index].push(&tokens))
            });
            TextChoice { text, index, logprobs, finish_reason }
        };
        let choices = choices.into_iter().enumerate().map(choice).collect();
        let mut envelope = self.stamp.envelope(OBJECT, choices);
        envelope.usage = UsageField::told(usage, 0);
        json(&envelope)
    }
}

#[cfg(test)]
#[path = "completions_tests.rs"]
mod tests;
