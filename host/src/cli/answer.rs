//! One answer, streamed to stdout as it comes, and how fast it came.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::output::harmless;
use super::{Outcome, usage};
use crate::engine::message::{Event, FinishReason, Prompt, Request, Usage};
use crate::error::Error;
use crate::models::Loaded;
use crate::sampling::{Recommended, Settings};

use super::args::Run;

/// What was said, and how it ended.
pub(super) struct Answer {
    /// The whole text.
    pub(super) text: String,
    /// How it ended.
    pub(super) end: End,
    prompt_tokens: u32,
    completion_tokens: u32,
    first_text_after: Option<Duration>,
    took: Duration,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By the model or a stop string.
    Complete,
    /// By `--max-tokens` or the context's end.
    Length,
    /// By the user.
    Stopped,
}

/// The engine's request that the command line asks for.
///
/// # Errors
/// A sampling setting out of its range, by its flag.
pub(super) fn request(arguments: &Run, recommended: &Recommended, prompt: Prompt) -> Outcome<Request> {
    Ok(Request {
        prompt,
        max_tokens: arguments.max_tokens,
        stop: arguments.stop.clone(),
        ignore_eos: false,
        sampling: checked(arguments.settings(recommended))?,
        seed: arguments.seed,
        logprobs: None,
        structure: None,
        offered: None,
        priority: 0,
        time_limit_ms: None,
        prompt_logprobs: false,
        afresh: false,
        shown: Vec::new(),
    })
}

/// The settings, if each is in its range.
pub(super) fn checked(settings: Settings) -> Outcome<Settings> {
    match settings.validate() {
        Ok(()) => Ok(settings),
        Err(invalid) => {
            let flag = format!("--{}", invalid.field.replace('_', "-"));
            Err(usage(invalid.message.replacen(invalid.field, &flag, 1)))
        }
    }
}

/// Writes the answer to stdout until it ends or `stop` completes; the request is cancelled then.
pub(super) async fn stream(
    loaded: &Loaded,
    request: Request,
    stop: impl Future<Output = ()>,
) -> Outcome<Answer> {
    let mut stop = pin!(stop);
    let mut out = Screen::new();
    let started = Instant::now();
    let mut answer = Answer::new();
    let mut events = loaded.engine.submit(request)?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut stop => break,
        };
        match event {
            Some(Event::Accepted { prompt_tokens }) => answer.prompt_tokens = prompt_tokens,
            Some(Event::Prompt { .. } | Event::Vector { .. }) => {}
            Some(Event::Text { text, .. }) => {
                answer.first_text_after = answer.first_text_after.or(Some(started.elapsed()));
                out.write(&text)?;
                answer.text.push_str(&text);
            }
            Some(Event::Finished { reason, usage }) => answer.finish(reason, usage),
            Some(Event::Failed(error)) => {
                out.end_line()?;
                return Err(error.into());
            }
            None => break,
        }
    }
    answer.took = started.elapsed();
    out.end_line()?;
    Ok(answer)
}

impl Answer {
    fn new() -> Self {
        Answer {
            text: String::new(),
            end: End::Stopped,
            prompt_tokens: 0,
            completion_tokens: 0,
            first_text_after: None,
            took: Duration::ZERO,
        }
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        self.completion_tokens = usage.completion_tokens;
        self.end = match reason {
            FinishReason::Stop | FinishReason::StopString(_) => End::Complete,
            FinishReason::Length => End::Length,
        };
    }

    /// How fast it was, in a line.
    pub(super) fn stats(&self) -> String {
        let first = self.first_text_after.unwrap_or(self.took);
        // The first token comes out of the prompt's own computation: what follows it is the speed of writing.
        let (rest, seconds) = (self.completion_tokens.saturating_sub(1), (self.took - first).as_secs_f64());
        let speed = if rest > 0 && seconds > 0.0 {
            format!(", {:.1} tokens/s", f64::from(rest) / seconds)
        } else {
            String::new()
        };
        let end = if self.end == End::Length { "; cut off by its length" } else { "" };
        format!(
            "{} tokens in {:.2} s{speed}, first text after {} ms, prompt of {} tokens{end}",
            self.completion_tokens,
            self.took.as_secs_f64(),
            first.as_millis(),
            self.prompt_tokens
        )
    }
}

/// Stdout for a text that comes in pieces. A terminal gets no control characters: a model could write any.
struct Screen {
    on_terminal: bool,
    at_line_start: bool,
}

impl Screen {
    fn new() -> Self {
        Screen { on_terminal: io::stdout().is_terminal(), at_line_start: true }
    }

    fn write(&mut self, text: &str) -> Outcome {
        let Some(last) = text.chars().last() else {
            return Ok(());
        };
        self.at_line_start = last == '\n';
        let mut out = io::stdout().lock();
        if self.on_terminal {
            out.write_all(harmless(text).as_bytes())?;
        } else {
            out.write_all(text.as_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// What comes next begins on a line of its own.
    fn end_line(&mut self) -> Outcome {
        if self.at_line_start { Ok(()) } else { self.write("\n") }
    }
}

/// The error of a model without a chat template, in words for the command line.
pub(super) fn hint_at_raw(error: Error) -> Error {
    if error.param.as_deref() != Some("messages") || error.kind != crate::error::Kind::Unsupported {
        return error;
    }
    let message = "the model has no chat template: give the whole prompt with --raw, and it is sent as it is";
    Error { message: message.to_owned(), ..error }
}
