//! Many clients at once, a tenth of whom hang up midway: every stream that is read to its end ends exactly once, and
//! nothing is left of the others.
//!
//! The long runs, 256 clients for two minutes and a real model for forty seconds, are not part of `make test`:
//! `cargo test --release -p impetus-tests of_256_clients -- --ignored --nocapture --test-threads=1`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use impetus_tests::{House, SMOLLM2, Server};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// The scripted model's id; each of its tokens is a byte.
const FAKE: &str = "m";

/// A step takes a while, so that clients meet; cells for far fewer than all, so that some give way.
const MODEL: &str = "stall_ms = 1\ncells = 2000\nsequence_tokens = 200";

struct Crowd {
    model: &'static str,
    clients: usize,
    /// How long new requests are sent; the last of each client is sent before.
    until: Until,
}

#[derive(Clone, Copy)]
enum Until {
    /// So many requests of each client were sent.
    Requests(u32),
    /// It is that late.
    Time(Instant),
}

/// What came of a crowd's requests.
#[derive(Debug, Default)]
struct Seen {
    whole: u64,
    dropped: u64,
    refused: u64,
    tokens: u64,
}

/// Room for as many as [`nothing_is_left`] sends at once.
fn room(clients: usize) -> String {
    format!("[engine]\nmax_sequences = 16\nqueue = {}", 2 * clients)
}

fn crowded_server(clients: usize) -> Server {
    House::with(&["fake"]).model("m.fake", MODEL).config(&room(clients)).serve()
}

/// Numbers that look random and are the same in every run.
fn noise(client: usize, number: u32) -> u32 {
    (client as u32 * 7919 + number).wrapping_mul(2_654_435_761) >> 8
}

impl Crowd {
    async fn run(&self, server: &Server) -> Seen {
        let clients = (0..self.clients).map(|client| self.client(server, client));
        join_all(clients).await.into_iter().fold(Seen::default(), |mut all, one| {
            all.whole += one.whole;
            all.dropped += one.dropped;
            all.refused += one.refused;
            all.tokens += one.tokens;
            all
        })
    }

    async fn client(&self, server: &Server, client: usize) -> Seen {
        let mut seen = Seen::default();
        for number in 0.. {
            let is_over = match self.until {
                Until::Requests(count) => number >= count,
                Until::Time(end) => Instant::now() >= end,
            };
            if is_over {
                break;
            }
            let noise = noise(client, number);
            // Some share a beginning, some have a better priority.
            let prompt = format!("beginning {} of client {client}, request {number}", noise % 3);
            let body = json!({
                "model": self.model, "messages": [{"role": "user", "content": prompt}], "stream": true,
                "ignore_eos": true, "max_tokens": 1 + noise / 3 % 60, "priority": noise / 7 % 3, "temperature": 0,
                "stream_options": {"include_usage": true},
            });
            if (noise / 11).is_multiple_of(10) {
                hang_up(server, &body, noise / 13 % 5).await;
                seen.dropped += 1;
            } else {
                read_to_the_end(server, &body, &mut seen).await;
            }
        }
        seen
    }
}

/// Reads a few pieces and goes away.
async fn hang_up(server: &Server, body: &Value, pieces: u32) {
    let mut stream = server.send(CHAT, body).await.bytes_stream();
    for _ in 0..pieces {
        if stream.next().await.is_none() {
            break;
        }
    }
}

async fn read_to_the_end(server: &Server, body: &Value, seen: &mut Seen) {
    let answer = server.post(CHAT, body).await;
    if answer.status == 429 {
        seen.refused += 1;
        return;
    }
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (events, done) = answer.events();
    let ends: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    assert!(done && ends == ["length"], "{body}: {}", answer.text);
    assert_eq!(answer.text.matches("[DONE]").count(), 1);
    let told = events.last().unwrap()["usage"]["completion_tokens"].as_u64();
    assert_eq!(told, body["max_tokens"].as_u64());
    if body["model"] == FAKE {
        assert_eq!(answer.chat_text().len() as u64, told.unwrap());
    }
    seen.whole += 1;
    seen.tokens += told.unwrap();
}

/// Nothing is left of those who went away: all places of the queue are free, all cells, and nothing runs or waits.
async fn nothing_is_left(server: &Server, model: &str, clients: usize) {
    // Who hung up last may still be computed: a step of a model takes its time.
    becomes_idle(server, model).await;
    let body = json!({"model": model, "messages": [{"role": "user", "content": "again"}], "max_tokens": 20,
        "ignore_eos": true});
    let answers = join_all((0..2 * clients + 16).map(|_| server.post(CHAT, &body))).await;
    for answer in &answers {
        let tokens = answer.json["usage"]["completion_tokens"].as_u64();
        assert_eq!((answer.status, tokens), (200, Some(20)), "{}", answer.text);
    }
    // The last of these was answered before it was counted as gone.
    becomes_idle(server, model).await;
}

async fn becomes_idle(server: &Server, model: &str) {
    let is_idle = |text: &str| {
        let idle =
            |name: &str| text.contains(&format!("impetus_num_requests_{name}{{model=\"{model}\"}} 0\n"));
        idle("running") && idle("waiting")
    };
    let started = Instant::now();
    let mut text = server.get("/metrics").await.text;
    while !is_idle(&text) {
        assert!(started.elapsed() < Duration::from_secs(20), "something runs or waits for ever: {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        text = server.get("/metrics").await.text;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_clients_of_whom_some_hang_up() {
    let server = crowded_server(30);
    let seen = Crowd { model: FAKE, clients: 30, until: Until::Requests(8) }.run(&server).await;
    assert_eq!((seen.whole + seen.dropped, seen.refused), (240, 0), "{seen:?}");
    assert!(seen.dropped > 10, "{seen:?}");
    nothing_is_left(&server, FAKE, 30).await;
}

/// Runs a crowd for so long, and compares what memory server and workers take before and after.
async fn long_run(server: &Server, model: &'static str, clients: usize, seconds: u64) {
    let warm_up = Crowd { model, clients, until: Until::Requests(4) }.run(server).await;
    nothing_is_left(server, model, clients).await;
    let before = server.memory_kib() / 1024;
    // What a blind look would miss: the model's worker.
    assert!(server.descendants() > 0, "no worker is seen");
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let seen = Crowd { model, clients, until: Until::Time(end) }.run(server).await;
    nothing_is_left(server, model, clients).await;
    let after = server.memory_kib() / 1024;
    let told = format!(
        "{model}: warm-up {warm_up:?}; {:.0} s: {seen:?}; {before} MiB before, {after} after",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(seen.refused, 0, "{told}");
    assert!(seen.dropped * 20 > seen.whole, "{told}");
    // What the allocator keeps may grow a little; a sequence or stream that leaked each time would be far more.
    assert!(after < before + before / 5 + 16, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes two minutes"]
async fn two_minutes_of_256_clients() {
    long_run(&crowded_server(256), FAKE, 256, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes"]
async fn forty_seconds_of_256_clients_of_a_real_model() {
    let server = House::with(&["gguf"]).smollm2().config(&room(256)).serve();
    long_run(&server, SMOLLM2, 256, 40).await;
}
