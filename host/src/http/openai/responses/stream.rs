//! How a response is told: its events as the answer grows, or the whole at once; and what is kept of it at its end.

use std::sync::Arc;
use std::time::SystemTime;

use super::super::answer::{Choice, Piece, Shape};
use super::super::chat::Started;
use super::super::chat_shape::Answer;
use super::super::generation::Generation;
use super::super::logprobs;
use super::items;
use super::output::{Output, new_id};
use super::store::{Kept, Store, Turn};
use super::types::{
    Asked, Event, IncompleteDetails, Item, OfResponse, Refusal, Response, ResponseError, Status, UsageBody,
};
use crate::chat::{Delta, Message, Reply};
use crate::engine::message::{FinishReason, Usage};
use crate::http::error::Failure;
use crate::http::sse::{Line, json};

/// The endpoint's shape.
pub(super) struct ResponseShape {
    id: String,
    created_at: u64,
    model: String,
    asked: Asked,
    logprobs: bool,
    answer: Option<Answer>,
    output: Output,
    /// The same for the chat that goes on from here.
    reply: Reply,
    end: End,
    keeping: Option<Keeping>,
}

/// What becomes of a response at its end.
pub(super) struct Keeping {
    pub(super) store: Arc<Store>,
    /// What was said before, and what the request added.
    pub(super) history: Vec<Turn>,
    pub(super) input: Vec<Message>,
}

/// How far a response is.
struct End {
    status: Status,
    completed_at: Option<u64>,
    usage: Option<(Usage, u32)>,
    error: Option<(&'static str, String)>,
}

impl ResponseShape {
    /// The shape of a chat that has started.
    pub(super) fn new(
        started: Started,
        asked: Asked,
        streams: bool,
        logprobs: bool,
        keeping: Option<Keeping>,
    ) -> (Generation, Self) {
        let end = End { status: Status::InProgress, completed_at: None, usage: None, error: None };
        let shape = ResponseShape {
            id: new_id("resp"),
            created_at: now(),
            model: started.model,
            asked,
            logprobs,
            answer: started.answers.into_iter().next(),
            output: Output::new(started.ids, streams),
            reply: Reply::default(),
            end,
            keeping,
        };
        (started.generation, shape)
    }

    fn read(&mut self, piece: Piece) {
        let Some(answer) = &mut self.answer else { return };
        let deltas = answer.read(piece);
        self.add(deltas);
    }

    /// Tokens belong to the text that was told with them; those of reasoning and calls are told nowhere.
    fn add(&mut self, deltas: Vec<Delta>) {
        let Some(answer) = self.answer.as_mut().filter(|_| !deltas.is_empty()) else { return };
        let mut tokens = logprobs::chat(&std::mem::take(&mut answer.tokens)).content;
        for delta in deltas {
            self.reply.add(delta.clone());
            let says = matches!(delta, Delta::Content(_) | Delta::Broken { .. });
            let tokens = if says && self.logprobs { std::mem::take(&mut tokens) } else { Vec::new() };
            self.output.add(delta, tokens);
        }
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        let deltas = self.answer.as_mut().map(|answer| answer.finish(usage)).unwrap_or_default();
        self.add(deltas);
        let status = match reason {
            FinishReason::Stop | FinishReason::StopString(_) => Status::Completed,
            FinishReason::Length => Status::Incomplete,
        };
        self.output.finish(status);
        let reasoning_tokens = self.answer.as_ref().map_or(0, |answer| answer.reasoning_tokens);
        let completed_at = (status == Status::Completed).then(now);
        self.end = End { status, completed_at, usage: Some((usage, reasoning_tokens)), error: None };
        if let Some(Keeping { store, mut history, input }) = self.keeping.take() {
            history.push(Arc::new(input.into_iter().chain([self.said()]).collect()));
            store.put(self.id.clone(), Kept { json: self.json().into(), history });
        }
    }

    /// The answer as a message of the chat.
    fn said(&mut self) -> Message {
        let ids = self.output.items().iter().filter_map(|item| match item {
            Item::FunctionCall { call_id, status, .. } if *status != Status::Incomplete => Some(call_id),
            Item::FunctionCall { .. } | Item::Message { .. } | Item::Reasoning { .. } => None,
        });
        let reply = std::mem::take(&mut self.reply);
        let calls = reply.calls.iter().zip(ids);
        let calls = calls.map(|(call, id)| items::call(id, &call.name, &call.arguments)).collect();
        items::answer(reply.content, reply.reasoning, calls)
    }

    fn json(&mut self) -> String {
        let told = self.end.told(&self.id, &self.model, self.created_at, &self.asked);
        json(&Response { output: self.output.items(), ..told })
    }

    fn event(&mut self, kind: &'static str) {
        let told = self.end.told(&self.id, &self.model, self.created_at, &self.asked);
        let (output, lines) = self.output.parts();
        lines.push(kind, OfResponse { response: Response { output, ..told } });
    }
}

impl End {
    /// The response, but for its output.
    fn told<'a>(&self, id: &'a str, model: &'a str, created_at: u64, asked: &'a Asked) -> Response<'a> {
        let cut = self.status == Status::Incomplete;
        Response {
            id,
            object: "response",
            created_at,
            completed_at: self.completed_at,
            status: self.status,
            error: self.error.clone().map(|(code, message)| ResponseError { code, message }),
            incomplete_details: cut.then_some(IncompleteDetails { reason: "max_output_tokens" }),
            model,
            output: &[],
            usage: self.usage.map(|(usage, reasoning)| UsageBody::told(usage, reasoning)),
            asked,
        }
    }
}

impl Shape for ResponseShape {
    fn opening(&mut self, _: usize) -> Vec<Line> {
        self.event("response.created");
        self.event("response.in_progress");
        self.output.lines()
    }

    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Line> {
        self.read(piece);
        self.output.lines()
    }

    fn ending(&mut self, _: usize, reason: FinishReason, usage: Usage) -> Vec<Line> {
        self.finish(reason, usage);
        let cut = self.end.status == Status::Incomplete;
        self.event(if cut { "response.incomplete" } else { "response.completed" });
        self.output.lines()
    }

    /// The last event says that it was the last.
    fn closing(&mut self, _: Usage) -> Vec<Line> {
        Vec::new()
    }

    fn whole(mut self, choices: Vec<Choice>, _: Usage) -> String {
        for choice in choices {
            choice.pieces.into_iter().for_each(|piece| self.read(piece));
            self.finish(choice.reason, choice.usage);
        }
        self.json()
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Line> {
        let error = failure.body().error;
        let code = match error.kind {
            "server_error" => "server_error",
            "rate_limit_error" => "rate_limit_exceeded",
            _ => "invalid_prompt",
        };
        self.output.close(Status::Incomplete);
        self.end.status = Status::Failed;
        self.end.error = Some((code, error.message));
        self.event("response.failed");
        self.output.lines()
    }

    fn refused(failure: &Failure) -> Line {
        let error = failure.body().error;
        let body = Refusal { code: error.code, message: error.message, param: error.param };
        Line::Named("error", json(&Event { kind: "error", sequence_number: 0, body }))
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
