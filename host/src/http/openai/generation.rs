//! From a model's id and requests to events: opens the model, submits, and waits until every request was accepted, so
//! that a refusal gets its status before an answer begins.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};

use super::known::{self, Endpoint};
use super::meter::Meter;
use crate::engine::EventStream;
use crate::engine::message::{Event, Request, Usage};
use crate::error::{Error, Kind, Result};
use crate::http::App;
use crate::http::account::Account;
use crate::models::{Loaded, Models};

/// Requests that an engine has accepted. Dropping it cancels them.
pub(super) struct Generation {
    streams: Vec<EventStream>,
    /// Of each request's prompt.
    prompt_tokens: Vec<u32>,
    choices_per_prompt: usize,
    /// The engine must outlive the answers.
    model: Arc<Loaded>,
}

/// The events of all choices as they come, each with its choice's index.
pub(super) struct Events {
    merged: SelectAll<BoxStream<'static, (usize, Event)>>,
    _model: Arc<Loaded>,
}

/// Opens a model.
pub(super) async fn open(app: &App, id: &str) -> Result<Arc<Loaded>> {
    app.models.open(id).await.map_err(|error| match error.kind {
        Kind::LoadFailed | Kind::PluginUnavailable | Kind::InsufficientMemory => about("model", error),
        _ => error,
    })
}

/// Opens the named model, or the only one.
pub(super) async fn open_or_only(app: &App, id: Option<&str>) -> Result<Arc<Loaded>> {
    if let Some(id) = id {
        return open(app, id).await;
    }
    let servable = app.models.look(Models::servable).await?;
    match &servable[..] {
        [only] => open(app, &only.id).await,
        models => {
            let message = format!("`model` is missing, and there are {} that could be meant", models.len());
            Err(Error::invalid("model", message))
        }
    }
}

/// The same for a request with these fields, which the model must be able to honour.
pub(super) async fn open_for(
    app: &App,
    id: &str,
    (endpoint, asked): (Endpoint, &[String]),
) -> Result<Arc<Loaded>> {
    let model = open(app, id).await?;
    known::check(&model, endpoint, asked)?;
    Ok(model)
}

/// The same error, about this field where it names none.
pub(super) fn about(param: &str, error: Error) -> Error {
    Error { param: error.param.or_else(|| Some(param.to_owned())), ..error }
}

impl Generation {
    /// Submits all requests, or none where there is no room for all, and waits for the engine's word on each.
    ///
    /// # Errors
    /// The engine's refusal; the other requests are then cancelled.
    pub(super) async fn start(
        model: Arc<Loaded>,
        requests: Vec<Request>,
        choices_per_prompt: usize,
    ) -> Result<Self> {
        let mut streams = model.engine.submit_all(requests)?;
        let mut prompts = Vec::with_capacity(streams.len());
        for stream in &mut streams {
            match stream.next().await {
                Some(Event::Accepted { prompt_tokens }) => prompts.push(prompt_tokens),
                Some(Event::Failed(error)) => return Err(error),
                other => {
                    let message = format!("an engine's first word was {other:?}: this is a bug");
                    return Err(Error::new(Kind::Internal, message));
                }
            }
        }
        Ok(Generation { streams, prompt_tokens: prompts, choices_per_prompt, model })
    }

    /// How many answers there will be.
    pub(super) fn choices(&self) -> usize {
        self.streams.len()
    }

    /// What each answer took so far: its prompt.
    pub(super) fn so_far(&self) -> Vec<Usage> {
        let usage = |&prompt_tokens: &u32| Usage { prompt_tokens, ..Usage::default() };
        self.prompt_tokens.iter().map(usage).collect()
    }

    /// A count of what the answers take.
    pub(super) fn tally(&self) -> Tally {
        Tally::new(self.choices_per_prompt)
    }

    /// The events from here on, counted as they pass.
    pub(super) fn into_events(self, account: &Account) -> Events {
        let per_prompt = self.choices_per_prompt.max(1);
        let streams = self.streams.into_iter().zip(self.prompt_tokens).enumerate();
        let one = |(index, (stream, prompt_tokens)): (usize, (EventStream, u32))| {
            let meter = Meter::new(account, &self.model.id, prompt_tokens, index.is_multiple_of(per_prompt));
            let next = move |(mut stream, mut meter): (EventStream, Meter)| async move {
                let event = stream.next().await?;
                meter.hear(&event);
                Some(((index, event), (stream, meter)))
            };
            stream::unfold((stream, meter), next).boxed()
        };
        Events { merged: streams.map(one).collect(), _model: Arc::clone(&self.model) }
    }
}

impl Events {
    /// The next event of any choice; `None` after the end of all.
    pub(super) async fn next(&mut self) -> Option<(usize, Event)> {
        self.merged.next().await
    }

    /// Cancels what still runs.
    pub(super) fn cancel(&mut self) {
        self.merged.clear();
    }
}

/// What all answers together took. A prompt counts once, however many answers it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    choices_per_prompt: usize,
    total: Usage,
}

impl Tally {
    pub(super) fn new(choices_per_prompt: usize) -> Self {
        Tally { choices_per_prompt: choices_per_prompt.max(1), total: Usage::default() }
    }

    /// Adds a choice's figures.
    pub(super) fn add(&mut self, index: usize, usage: Usage) {
        self.total.completion_tokens += usage.completion_tokens;
        if index.is_multiple_of(self.choices_per_prompt) {
            self.total.prompt_tokens += usage.prompt_tokens;
            self.total.cached_tokens += usage.cached_tokens;
        }
    }

    /// The sum.
    pub(super) fn total(&self) -> Usage {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_count_once_and_answers_each() {
        let mut tally = Tally::new(2);
        let usage = |prompt_tokens, cached_tokens, completion_tokens| Usage {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            ..Usage::default()
        };
        for (index, usage) in
            [(1, usage(5, 5, 2)), (0, usage(5, 1, 1)), (3, usage(7, 7, 4)), (2, usage(7, 0, 3))]
        {
            tally.add(index, usage);
        }
        assert_eq!(tally.total(), usage(12, 1, 10));
    }
}
