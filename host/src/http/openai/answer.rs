//! How events become an answer, in one piece or as a stream. What its JSON looks like is the endpoint's business: its
//! [`Shape`].

use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};

use super::generation::{Events, Generation, Tally};
use super::params::Delivery;
use crate::engine::message::{Event, FinishReason, TokenLogprob, Usage};
use crate::error::Error;
use crate::http::account::Account;
use crate::http::error::{Failure, Result};
use crate::http::sse::{self, Line};

/// How long a stream waits for its first event before it begins all the same, with comments: a large model loads for
/// minutes, and clients and proxies do not wait so long in silence. A refusal that comes later is told in the stream.
const PATIENCE: Duration = Duration::from_secs(15);

/// An endpoint's words: the lines of a stream, or one JSON text.
pub(super) trait Shape: Send + 'static {
    /// Before a choice's first piece.
    fn opening(&mut self, index: usize) -> Vec<Line>;
    /// How probable the tokens of a choice's prompt are, before its first piece; where that was asked for.
    fn prompt(&mut self, _index: usize, _scores: PromptScores) -> Vec<Line> {
        Vec::new()
    }
    /// A piece of a choice.
    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Line>;
    /// After a choice's last piece.
    fn ending(&mut self, index: usize, reason: FinishReason, usage: Usage) -> Vec<Line>;
    /// After all choices.
    fn closing(&mut self, usage: Usage) -> Vec<Line>;
    /// Everything at once.
    fn whole(self, choices: Vec<Choice>, usage: Usage) -> String;

    /// The last of a stream that failed after its opening.
    fn failed(&mut self, failure: &Failure) -> Vec<Line> {
        vec![Line::failure(failure)]
    }
    /// All of a stream that failed before it.
    fn refused(failure: &Failure) -> Line {
        Line::failure(failure)
    }
}

/// A piece of an answer, as the engine gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenLogprob>,
    /// Tokens of the answer so far.
    pub(super) told: u32,
}

/// How probable the tokens of a prompt are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PromptScores {
    /// The bytes of the first, before which nothing is.
    pub(super) first: Vec<u8>,
    /// Those behind it.
    pub(super) tokens: Vec<TokenLogprob>,
}

/// When an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    begun: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Clock {
    /// The request was accepted.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Clock { begun: now, first: None, last: now }
    }

    /// A piece came, or the end.
    pub(super) fn hear(&mut self) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
    }

    /// From the request to the first piece.
    pub(super) fn to_first(self) -> Duration {
        self.first.unwrap_or(self.last) - self.begun
    }

    /// From there to the end.
    pub(super) fn after_first(self) -> Duration {
        self.last - self.first.unwrap_or(self.last)
    }
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) prompt: Option<PromptScores>,
    pub(super) pieces: Vec<Piece>,
    pub(super) reason: FinishReason,
    pub(super) usage: Usage,
    pub(super) clock: Clock,
}

impl Choice {
    /// One that has not begun.
    pub(super) fn new() -> Self {
        Choice {
            prompt: None,
            pieces: Vec::new(),
            reason: FinishReason::Stop,
            usage: Usage::default(),
            clock: Clock::start(),
        }
    }

    /// Its text, and the tokens behind it.
    pub(super) fn joined(self) -> (String, Vec<TokenLogprob>) {
        let mut whole = (String::new(), Vec::new());
        for piece in self.pieces {
            whole.0.push_str(&piece.text);
            whole.1.extend(piece.tokens);
        }
        whole
    }
}

/// Waits for a generation to start, and answers with what it gives.
pub(super) async fn respond<S: Shape>(
    account: Account,
    delivery: Delivery,
    starting: impl Future<Output = Result<(Generation, S)>> + Send + 'static,
) -> Result<Response> {
    if delivery == Delivery::Whole {
        let (generation, shape) = starting.await?;
        let json = whole(&account, generation, shape).await?;
        return Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response());
    }
    let mut starting = Box::pin(starting);
    if let Ok(started) = tokio::time::timeout(PATIENCE, &mut starting).await {
        let (generation, shape) = started?;
        return Ok(sse::respond(lines(account, generation, shape)));
    }
    let late = async move {
        match starting.await {
            Ok((generation, shape)) => lines(account, generation, shape).left_stream(),
            Err(failure) => {
                account.failed(&failure, StatusCode::OK);
                stream::iter([S::refused(&failure)]).right_stream()
            }
        }
    };
    let lines = stream::iter([Line::Comment]).chain(stream::once(late).flatten());
    Ok(sse::respond(lines))
}

async fn whole<S: Shape>(account: &Account, generation: Generation, shape: S) -> Result<String, Error> {
    let mut tally = generation.tally();
    let mut choices = vec![Choice::new(); generation.choices()];
    let mut events = generation.into_events(account);
    while let Some((index, event)) = events.next().await {
        match event {
            Event::Accepted { .. } | Event::Vector { .. } => {}
            Event::Prompt { first, tokens } => choices[index].prompt = Some(PromptScores { first, tokens }),
            Event::Text { text, tokens, told } => {
                choices[index].clock.hear();
                choices[index].pieces.push(Piece { text, tokens, told });
            }
            Event::Finished { reason, usage } => {
                choices[index].clock.hear();
                (choices[index].reason, choices[index].usage) = (reason, usage);
                tally.add(index, usage);
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Ok(shape.whole(choices, tally.total()))
}

fn lines<S: Shape>(
    account: Account,
    generation: Generation,
    mut shape: S,
) -> impl Stream<Item = Line> + Send + 'static {
    let ready = (0..generation.choices()).flat_map(|index| shape.opening(index)).collect();
    let tally = generation.tally();
    let script = Script { shape, tally, ready, ended: false };
    let events = generation.into_events(&account);
    stream::unfold((account, events, script), |(account, mut events, mut script)| async move {
        let line = next_line(&account, &mut events, &mut script).await?;
        Some((line, (account, events, script)))
    })
}

async fn next_line<S: Shape>(account: &Account, events: &mut Events, script: &mut Script<S>) -> Option<Line> {
    loop {
        if let Some(line) = script.ready.pop_front() {
            return Some(line);
        }
        if script.ended {
            return None;
        }
        match events.next().await {
            Some((_, Event::Failed(error))) => {
                // The other choices end with this one: nobody could tell a half answer from a whole one.
                events.cancel();
                let failure = Failure::from(error);
                account.failed(&failure, StatusCode::OK);
                script.fail(&failure);
            }
            Some((index, event)) => script.push(index, event),
            None => script.end(),
        }
    }
}

/// What a stream says, line by line. Pure.
struct Script<S> {
    shape: S,
    tally: Tally,
    /// Lines that can be sent now.
    ready: VecDeque<Line>,
    ended: bool,
}

impl<S: Shape> Script<S> {
    fn push(&mut self, index: usize, event: Event) {
        match event {
            Event::Accepted { .. } | Event::Vector { .. } => {}
            Event::Prompt { first, tokens } => {
                self.ready.extend(self.shape.prompt(index, PromptScores { first, tokens }));
            }
            Event::Text { text, tokens, told } => {
                self.ready.extend(self.shape.piece(index, Piece { text, tokens, told }));
            }
            Event::Finished { reason, usage } => {
                self.tally.add(index, usage);
                self.ready.extend(self.shape.ending(index, reason, usage));
            }
            Event::Failed(error) => self.fail(&Failure::from(error)),
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.ready.extend(self.shape.failed(failure));
        self.ended = true;
    }

    fn end(&mut self) {
        self.ready.extend(self.shape.closing(self.tally.total()));
        self.ended = true;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::error::Kind;

    /// What a stream of these events says, after its openings; `[DONE]` as a string.
    pub(in crate::http::openai) fn script(
        shape: impl Shape,
        choices: usize,
        events: &[(usize, Event)],
    ) -> Vec<Value> {
        let mut script = Script { shape, tally: Tally::new(1), ready: VecDeque::new(), ended: false };
        for index in 0..choices {
            let opening = script.shape.opening(index);
            script.ready.extend(opening);
        }
        for (index, event) in events {
            if !script.ended {
                script.push(*index, event.clone());
            }
        }
        if !script.ended {
            script.end();
        }
        let said = |line| match line {
            Line::Data(json) | Line::Named(_, json) => serde_json::from_str(&json).unwrap(),
            Line::Comment => Value::Null,
            Line::Done => Value::from("[DONE]"),
        };
        script.ready.into_iter().map(said).collect()
    }

    struct Plain;

    impl Shape for Plain {
        fn opening(&mut self, _: usize) -> Vec<Line> {
            Vec::new()
        }
        fn piece(&mut self, index: usize, piece: Piece) -> Vec<Line> {
            vec![Line::Data(format!("\"{index} {}\"", piece.text))]
        }
        fn ending(&mut self, index: usize, _: FinishReason, _: Usage) -> Vec<Line> {
            vec![Line::Data(format!("\"{index} ends\""))]
        }
        fn closing(&mut self, _: Usage) -> Vec<Line> {
            vec![Line::Done]
        }
        fn whole(self, choices: Vec<Choice>, _: Usage) -> String {
            format!("{choices:?}")
        }
    }

    fn text(text: &str) -> Event {
        Event::Text { text: text.to_owned(), tokens: Vec::new(), told: 1 }
    }

    #[test]
    fn a_stream_ends_with_done_once() {
        let finished = Event::Finished { reason: FinishReason::Stop, usage: Usage::default() };
        let said = script(Plain, 1, &[(0, text("a")), (0, finished)]);
        assert_eq!(said, ["0 a", "0 ends", "[DONE]"]);
    }

    #[test]
    fn after_an_error_nothing_is_said() {
        let failed = Event::Failed(Error::new(Kind::EngineCrashed, "lost"));
        let said = script(Plain, 2, &[(0, text("a")), (1, failed), (0, text("b"))]);
        assert_eq!(said.len(), 2);
        assert_eq!(said[1]["error"]["code"], "engine_crashed");
    }
}
