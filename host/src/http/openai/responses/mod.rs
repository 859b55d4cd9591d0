//! `POST /v1/responses`, `GET` and `DELETE /v1/responses/{id}`: OpenAI's Responses API over the same chats as
//! `/v1/chat/completions`. No tools run here, nothing is computed in the background, nothing outlives the process.
//!
//! A request's further fields, any that chat completions know too (`temperature`, `top_p`, `top_k`, `seed`, `stop`,
//! `grammar` …), mean what they mean there. These are its own:
//!
//! | field | what becomes of it |
//! |---|---|
//! | `input` | required: a text, or messages, `function_call`, `function_call_output` and `reasoning` items, whose parts are text |
//! | `instructions` | the system message, before one that the input begins with; not handed on by `previous_response_id` |
//! | `previous_response_id` | a response that was kept: the chat goes on from its end |
//! | `store` | kept unless `false`: `[server] kept_responses` and `kept_response_bytes` say how many; the oldest goes first |
//! | `max_output_tokens` | from 1, reasoning included; absent: what the context has room for |
//! | `tools` | functions, flat; kept to their schemas only with `strict: true` |
//! | `tool_choice`, `parallel_tool_calls` | as in chat completions, a function flat: `{"type": "function", "name": …}` |
//! | `text.format` | `text`, `json_object`, `json_schema` |
//! | `text.verbosity` | only `medium` |
//! | `reasoning.effort` | the template's variable `reasoning_effort`; refused where it has none |
//! | `reasoning.summary` | refused: reasoning comes whole, as a `reasoning` item's content |
//! | `include` | only `message.output_text.logprobs` |
//! | `top_logprobs` | 0 to 20; above 0 it includes them |
//! | `metadata` | told back |
//! | `truncation` | only `disabled` |
//! | `background` | only `false` |
//! | `stream_options` | with `stream`; `include_obfuscation` only `false` |
//!
//! A stream ends with `response.completed`, `response.incomplete` or `response.failed`, and has no `[DONE]`.

pub(crate) mod events;
mod items;
mod output;
mod request;
mod store;
mod stream;
mod types;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};

use self::request::ResponseRequest;
pub(crate) use self::store::Store;
use self::stream::{Keeping, ResponseShape};
use self::types::Deleted;
use super::answer;
use super::chat;
use super::generation::Generation;
use super::params::Delivery;
use crate::error::Error;
use crate::http::App;
use crate::http::account::Account;
use crate::http::body::JsonBody;
use crate::http::error::{Failure, Result, WireKind};

/// Whether this is a request, where no response is kept: for the fuzz target, and for tests.
#[cfg(any(fuzzing, test))]
pub(super) fn parse_alone(fields: super::super::fields::Fields) -> Result<()> {
    ResponseRequest::parse(fields, &Store::new(0, 0)).map(|_| ())
}

/// Answers.
#[utoipa::path(
    post, path = "/v1/responses", tag = "OpenAI", summary = "A response",
    responses((status = 200, description = "whole, or with `stream` as typed events", content((types::Response = "application/json"), (String = "text/event-stream"))))
)]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(account): Extension<Account>,
    Extension(store): Extension<Arc<Store>>,
    JsonBody(fields): JsonBody,
) -> Result<Response> {
    let request = ResponseRequest::parse(fields, &store)?;
    answer::respond(account, request.chat.parameters.delivery, start(app, store, request)).await
}

async fn start(app: App, store: Arc<Store>, request: ResponseRequest) -> Result<(Generation, ResponseShape)> {
    let ResponseRequest { chat, mut asked, history, input } = request;
    let streams = chat.parameters.delivery != Delivery::Whole;
    let logprobs = chat.logprobs.is_some();
    let keeping = asked.store.then_some(Keeping { store, history, input });
    let started = chat::begin(&app, chat).await?;
    asked.tell(&started.sampling);
    Ok(ResponseShape::new(started, asked, streams, logprobs, keeping))
}

/// A response that was kept.
#[utoipa::path(
    get, path = "/v1/responses/{id}", tag = "OpenAI", summary = "A response that was kept",
    params(("id" = String, Path, description = "its id")),
    responses((status = 200, description = "as it was", body = types::Response))
)]
pub(crate) async fn one(
    Extension(store): Extension<Arc<Store>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    if let Some(name) = query.as_deref().and_then(|query| query.split(['=', '&']).next())
        && !name.is_empty()
    {
        let message =
            format!("`{name}` is not supported: a response that was kept comes whole and as it was");
        return Err(Error::unsupported(name, message).into());
    }
    match store.get(&id) {
        Some(kept) => {
            Ok(([(header::CONTENT_TYPE, "application/json")], kept.json.to_string()).into_response())
        }
        None => Err(no_such(&id)),
    }
}

/// Forgets a response.
#[utoipa::path(
    delete, path = "/v1/responses/{id}", tag = "OpenAI", summary = "Forgets a response",
    params(("id" = String, Path, description = "its id")),
    responses((status = 200, description = "it is forgotten", body = Deleted))
)]
pub(crate) async fn delete(
    Extension(store): Extension<Arc<Store>>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>> {
    match store.delete(&id) {
        true => Ok(Json(Deleted { id, object: "response", deleted: true })),
        false => Err(no_such(&id)),
    }
}

fn no_such(id: &str) -> Failure {
    let message = format!(
        "there is no response `{id}`: it was never kept, is not finished, was deleted, or made room for newer ones"
    );
    Failure::wire_at(WireKind::NoSuchResponse, "id", message)
}
