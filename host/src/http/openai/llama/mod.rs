//! `POST /completion`, as llama.cpp's server has it: a prompt of texts and tokens goes on. For programs that were written for
//! that server; the fields by which tokens are chosen are those of `/v1/completions`, and so are their defaults.
//!
//! What the original takes and cannot be honoured here (`fields::NEUTRAL`) may be sent with the value that asks for nothing.

mod biases;
mod fields;
mod prompt;
mod settings;
mod shape;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use self::biases::Bias;
use self::prompt::Mixed;
use self::settings::GenerationSettings;
use self::shape::{Answers, LlamaShape};
use super::answer;
use super::generation::{self, Generation, about};
use super::known::{self, Endpoint};
use super::params::{Delivery, MAX_CHOICES, MAX_LOGPROBS, Parameters};
use crate::engine::message::Request;
use crate::engine::random_seed;
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::account::Account;
use crate::http::body::JsonBody;
use crate::http::error::Result;
use crate::http::fields::Fields;

/// Answers.
#[utoipa::path(
    post, path = "/completion", tag = "llama-server", summary = "A prompt goes on, as llama-server has it",
    responses((status = 200, description = "an object, or a list of them for several answers; with `stream` as server-sent events, each with `index` and `stop`", body = shape::Completion))
)]
pub(crate) async fn handle(
    State(app): State<App>,
    Extension(account): Extension<Account>,
    JsonBody(fields): JsonBody,
) -> Result<Response> {
    let request = LlamaRequest::parse(fields)?;
    answer::respond(account, request.parameters.delivery, start(app, request)).await
}

async fn start(app: App, request: LlamaRequest) -> Result<(Generation, LlamaShape)> {
    let LlamaRequest { model, asked, prompts, is_list, mut parameters, biases, probabilities, .. } = request;
    let model = generation::open_or_only(&app, model.as_deref()).await?;
    known::check(&model, Endpoint::Llama, &asked)?;
    parameters.fill(&asked, &model.metadata().recommended);
    biases::apply(biases, &mut parameters.sampling, &model).await?;
    parameters.check_vocabulary(model.vocab_size())?;
    parameters.settle(&model);
    // It is told, so that the same answer can be had again.
    let seed = *parameters.seed.get_or_insert_with(|| u64::from(random_seed() as u32));
    let streams = parameters.delivery != Delivery::Whole;
    let wants_tokens = streams || request.return_tokens;
    // An answer's token ids come with its log probabilities.
    let logprobs = (probabilities > 0 || wants_tokens).then_some(probabilities);
    let (mut requests, mut texts) = (Vec::new(), Vec::new());
    for prompt in prompts {
        texts.push(prompt.text(&model).await);
        let prompt = prompt.resolve(&model).await?;
        let afresh = request.afresh;
        requests.extend(
            parameters.requests(&prompt, logprobs).into_iter().map(|request| Request { afresh, ..request }),
        );
    }
    let choices_per_prompt = parameters.choices as usize;
    let answers = Answers {
        model: model.id.clone(),
        settings: GenerationSettings::of(&parameters, seed, probabilities, model.context_tokens()),
        prompts: texts,
        choices_per_prompt,
        is_list: is_list || choices_per_prompt > 1,
        wants_tokens,
        wants_probabilities: probabilities > 0,
        response_fields: request.response_fields,
    };
    let generation = Generation::start(model, requests, choices_per_prompt).await;
    let generation = generation.map_err(|error| match error.kind {
        Kind::ContextLengthExceeded => about("prompt", error),
        _ => error,
    })?;
    let shape = LlamaShape::new(answers, &generation.so_far());
    Ok((generation, shape))
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct LlamaRequest {
    model: Option<String>,
    /// The fields that say something.
    asked: Vec<String>,
    prompts: Vec<Mixed>,
    /// Whether the answer is a list though it may have one alone.
    is_list: bool,
    parameters: Parameters,
    biases: Vec<Bias>,
    /// Alternatives told for each token; 0 tells none, and no probabilities.
    probabilities: u32,
    return_tokens: bool,
    afresh: bool,
    response_fields: Vec<String>,
}

impl LlamaRequest {
    pub(super) fn parse(mut fields: Fields) -> Result<Self> {
        let asked = fields.names();
        let model = fields.text("model")?;
        let (prompts, is_list) = prompt::take(&mut fields)?;
        let biases = biases::take(&mut fields)?;
        let tokens = fields::tokens(&mut fields)?;
        let choices = fields.count("n_cmpl", 1..=MAX_CHOICES)?;
        // The original's word for a seed that is drawn.
        if fields.peek("seed").is_some_and(|seed| seed.as_i64() == Some(-1)) {
            fields.value("seed");
        }
        let mut parameters = Parameters::take(&mut fields)?;
        match (parameters.max_tokens, tokens) {
            (Some(one), Some(Some(other))) if one != other => return Err(differ("n_predict", "max_tokens")),
            (_, Some(tokens)) => parameters.max_tokens = tokens,
            (_, None) => {}
        }
        if let Some(choices) = choices {
            if parameters.choices != choices && asked.iter().any(|name| name == "n") {
                return Err(differ("n_cmpl", "n"));
            }
            parameters.choices = choices;
        }
        let probabilities = fields.count("n_probs", 0..=MAX_LOGPROBS)?.unwrap_or(0);
        let return_tokens = fields.flag("return_tokens")?.unwrap_or(false);
        let afresh = !fields.flag("cache_prompt")?.unwrap_or(true);
        let response_fields = fields::response_fields(&mut fields)?;
        fields::refuse_what_asks_for_something(&mut fields)?;
        fields.finish()?;
        Ok(LlamaRequest {
            model,
            asked,
            prompts,
            is_list,
            parameters,
            biases,
            probabilities,
            return_tokens,
            afresh,
            response_fields,
        })
    }
}

fn differ(name: &str, other: &str) -> crate::http::error::Failure {
    let message = format!("`{name}` is another name of `{other}`, and the two differ: send one");
    Error::invalid(name, message).into()
}

#[cfg(test)]
mod tests;
