//! Load on one or two OpenAI-compatible servers: clients each of which sends its next chat when its last one ended, or chats
//! that arrive by themselves.
//!
//! Two servers take turns, round by round, in which they get the same lengths and arrivals, so that a machine whose speed
//! drifts treats both alike; the ratio can be compared, the figures themselves belong to one machine and hour. It knows no wire types of our own server: what it
//! sends and reads is what any client of that API does.

mod client;
mod exchange;
mod figures;
mod plan;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::client::Seen;
pub use self::exchange::{Exchange, RoundTime};
use self::figures::{AGAINST, Round};
use self::plan::{Conversation, order, plan};
use super::lengths::Lengths;
use super::options::ServeOptions;
use super::prompts::Words;
use super::recorder::Recorder;
use crate::engine::random_seed;
use crate::error::{Error, Kind, Result};

/// A server, and what each request to it says beyond the prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// Without `/v1`.
    pub url: String,
    /// An API key, where it wants one. Never part of a report.
    #[serde(skip)]
    pub key: Option<String>,
    /// The `model` field.
    pub model: String,
    /// Fields added to every request, such as `response_format`.
    pub body: Map<String, Value>,
}

/// Within how many seconds a good answer comes.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    ttft: Option<f64>,
    itl: Option<f64>,
}

/// Loads the targets, round by round in turn. Each answers one request before the first round, which is not counted: it may
/// have a model to load.
///
/// # Errors
/// [`Kind::Internal`] when a target cannot answer that first request.
pub async fn serve(targets: &[Target], options: &ServeOptions, recorder: &mut Recorder) -> Result<()> {
    // A connection for each request: llama-server, for one, closes kept ones just when the next request is on its way, which
    // then failed, or waited for ever within the client.
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
    let client = client.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    let seed = options.seed.unwrap_or_else(random_seed);
    recorder.plan(options.rounds as usize * targets.len());
    recorder.note(format!("seed {seed}: with it come the same words, lengths and arrivals"));
    let stopper = recorder.stopper().clone();
    for target in targets {
        if !recorder.begin(format!("a first request to {}", target.url)) {
            return Ok(());
        }
        let warm = warm_up(options);
        // As if it were of a round that never comes: its words are nobody else's.
        let load = Load::new((&client, target), &warm, seed, (0, u32::MAX));
        let first = stopper.or(load.round(Instant::now())).await;
        let failed = first.and_then(|()| held(&load.done).iter().find_map(|one| one.error.clone()));
        if let Some(error) = failed {
            return Err(Error::new(Kind::Internal, error));
        }
    }
    let mut rounds: Vec<Vec<Round>> = targets.iter().map(|_| Vec::new()).collect();
    'all: for number in 0..options.rounds {
        for at in order(number, targets.len()) {
            let target = &targets[at];
            if !recorder.begin(format!("round {} of {}, {}", number + 1, options.rounds, target.url)) {
                break 'all;
            }
            let load = Load::new((&client, target), options, seed, (at as u32, number));
            let started = Instant::now();
            let ended = stopper.or(load.round(started)).await;
            let seconds = started.elapsed().as_secs_f64();
            let exchanges = std::mem::take(&mut *held(&load.done));
            recorder.exchanges(exchanges.clone());
            if ended.is_none() {
                recorder.note("the round in which it was stopped is in the requests, and in no figure");
                break 'all;
            }
            recorder.round(RoundTime { target: at as u32, round: number, seconds });
            rounds[at].push(Round { exchanges, seconds });
            recorder.step();
        }
    }
    tell(&rounds, targets, options, recorder);
    Ok(())
}

fn tell(rounds: &[Vec<Round>], targets: &[Target], options: &ServeOptions, recorder: &mut Recorder) {
    let seconds = |limit: Option<f64>| limit.map(|limit| limit / 1e3);
    let limits = Limits { ttft: seconds(options.ttft_limit_ms), itl: seconds(options.itl_limit_ms) };
    let mut figures = Vec::new();
    for (at, rounds) in rounds.iter().enumerate() {
        figures.push(figures::of(rounds, limits, if at == 0 { "" } else { AGAINST }));
        let mut errors: BTreeMap<&str, u32> = BTreeMap::new();
        for error in rounds.iter().flat_map(|round| &round.exchanges).filter_map(|one| one.error.as_deref()) {
            *errors.entry(error).or_default() += 1;
        }
        for (error, times) in errors {
            recorder.note(format!("{}: {times} requests failed: {error}", targets[at].url));
        }
    }
    let ratios = match figures.as_slice() {
        [first, second] => figures::ratios(first, second),
        _ => Vec::new(),
    };
    figures.into_iter().flatten().for_each(|one| recorder.add(one.figure));
    ratios.into_iter().for_each(|figure| recorder.add(figure));
}

/// A request that loads a model and nothing else.
fn warm_up(options: &ServeOptions) -> ServeOptions {
    ServeOptions {
        clients: 1,
        rate: None,
        requests: Some(1),
        turns: 1,
        max_tokens: Lengths::Fixed(2),
        prompt_words: Lengths::Fixed(4),
        ..options.clone()
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nobody panics while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One round of one server's.
struct Load<'a> {
    client: &'a reqwest::Client,
    target: &'a Target,
    options: &'a ServeOptions,
    /// Of lengths and arrivals: the round's.
    seed: u64,
    /// Of words: the round's and the server's.
    words: u64,
    /// Target and round.
    number: (u32, u32),
    done: Mutex<Vec<Exchange>>,
}

impl<'a> Load<'a> {
    fn new(
        (client, target): (&'a reqwest::Client, &'a Target),
        options: &'a ServeOptions,
        seed: u64,
        number: (u32, u32),
    ) -> Self {
        let (at, round) = number;
        let seed = seed.wrapping_add(1 + u64::from(round) * 16);
        let words = seed.wrapping_add(1 + u64::from(at));
        Load { client, target, options, seed, words, number, done: Mutex::default() }
    }

    async fn round(&self, started: Instant) {
        let requests = self.options.requests.unwrap_or(self.options.clients * 2);
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let conversations = plan(seed, self.options, requests);
        match self.options.rate {
            Some(_) => self.open_loop(started, &conversations).await,
            None => self.closed_loop(started, &conversations).await,
        }
    }

    async fn closed_loop(&self, started: Instant, conversations: &[Conversation]) {
        let next = AtomicUsize::new(0);
        let client = async |_: usize| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(conversation) = conversations.get(number) else { return };
                self.converse((number, conversation), started).await;
            }
        };
        let clients = (self.options.clients as usize).min(conversations.len());
        join_all((0..clients).map(client)).await;
    }

    async fn open_loop(&self, started: Instant, conversations: &[Conversation]) {
        let arrivals = conversations.iter().enumerate().map(|(number, conversation)| {
            let at = started + Duration::from_secs_f64(conversation.due.unwrap_or_default());
            async move {
                tokio::time::sleep_until(at.into()).await;
                self.converse((number, conversation), started).await;
            }
        });
        join_all(arrivals.collect::<Vec<_>>()).await;
    }

    /// A conversation, until its end or the first failure.
    async fn converse(&self, (number, conversation): (usize, &Conversation), started: Instant) {
        let options = self.options;
        let mut words = Words::new(self.words.wrapping_mul(1 << 20).wrapping_add(1 + number as u64));
        let mut messages = Vec::new();
        if options.shared_words > 0 {
            let shared = Words::new(self.words).text(options.shared_words as usize);
            messages.push(json!({ "role": "system", "content": shared }));
        }
        let patience = Duration::from_secs(options.timeout_secs.into());
        for (turn, &(length, max_tokens)) in conversation.turns.iter().enumerate() {
            messages.push(json!({ "role": "user", "content": words.text(length as usize) }));
            let body = self.body(&messages, max_tokens);
            let exchange = Exchange {
                target: self.number.0,
                round: self.number.1,
                turn: turn as u32,
                is_last: turn + 1 == conversation.turns.len(),
                sent_at: started.elapsed().as_secs_f64(),
                ttft: None,
                gaps: Vec::new(),
                seconds: 0.0,
                prompt_tokens: None,
                tokens: 0,
                error: None,
            };
            let sent = Instant::now();
            let to = (self.target.url.as_str(), self.target.key.as_deref());
            match client::chat(self.client, to, &body, patience).await {
                Ok(seen) => {
                    held(&self.done).push(exchange.answered(&seen));
                    let Seen { text, .. } = seen;
                    messages.push(json!({ "role": "assistant", "content": text }));
                }
                Err(error) => {
                    let seconds = sent.elapsed().as_secs_f64();
                    held(&self.done).push(Exchange { error: Some(error), seconds, ..exchange });
                    return;
                }
            }
        }
    }

    fn body(&self, messages: &[Value], max_tokens: u32) -> Value {
        let mut body = json!({
            "model": self.target.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true },
        });
        for (key, value) in &self.target.body {
            body[key.as_str()] = value.clone();
        }
        body
    }
}
