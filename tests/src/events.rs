//! `/api/events`: what changes is told when it happens, each thing once.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use impetus_tests::{Answer, House, Server};
use serde_json::{Value, json};

/// Long enough for any machine; a change that is never told fails the test.
const PATIENCE: Duration = Duration::from_secs(120);

/// The stream of `/api/events`.
pub(crate) struct Events {
    pieces: BoxStream<'static, Vec<u8>>,
    rest: String,
    /// All that was heard.
    pub(crate) heard: Vec<Value>,
}

impl Events {
    pub(crate) async fn of(server: &Server) -> Self {
        let response = server.client.get(format!("{}/api/events", server.address)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let pieces = response.bytes_stream().map(|piece| piece.unwrap().to_vec()).boxed();
        Events { pieces, rest: String::new(), heard: Vec::new() }
    }

    /// Listens until something like this is told.
    pub(crate) async fn until(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        let heard = &mut self.heard;
        let listening = async {
            loop {
                while let Some((event, rest)) = self.rest.split_once("\n\n") {
                    let data = event.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
                    self.rest = rest.to_owned();
                    if let Some(event) = data {
                        heard.push(event);
                        if heard.last().is_some_and(&what) {
                            return heard.last().cloned().unwrap();
                        }
                    }
                }
                let piece = self.pieces.next().await.expect("the server goes on telling");
                self.rest += std::str::from_utf8(&piece).unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, listening).await;
        found.unwrap_or_else(|_| panic!("it was never told; heard: {:#?}", self.heard))
    }

    pub(crate) async fn formats(&mut self, expected: Value) {
        self.until(|event| event["type"] == "formats" && event["formats"] == expected).await;
    }

    pub(crate) async fn plugin(&mut self, id: &str, state: &str) -> Value {
        self.until(|event| event["type"] == "plugin" && event["id"] == id && event["state"] == state).await
    }

    /// Listens until a model stands so.
    pub(crate) async fn model(&mut self, id: &str, state: &str) -> Value {
        let is_it = |event: &Value| event["id"] == id && event["state"]["name"] == state;
        self.until(|event| event["type"] == "model" && is_it(event)).await
    }

    /// What was heard of a model, in order; how far a load came is left out.
    fn of_model(&self, id: &str) -> Vec<String> {
        let of_it = self.heard.iter().filter(|event| event["type"] == "model" && event["id"] == id);
        let mut names: Vec<_> =
            of_it.map(|event| event["state"]["name"].as_str().unwrap().to_owned()).collect();
        names.dedup_by(|one, before| one == "loading" && before == "loading");
        names
    }
}

const COMPLETIONS: &str = "/v1/completions";

async fn complete(server: &Server, model: &str, prompt: &str, max_tokens: u32) -> u16 {
    let body = json!({"model": model, "prompt": prompt, "max_tokens": max_tokens});
    server.post(COMPLETIONS, &body).await.status
}

async fn change(server: &Server, model: &str, what: &str) -> Answer {
    server.post(&format!("/api/models/{model}/{what}"), &json!({})).await
}

#[tokio::test]
async fn each_step_of_a_models_life_is_told_once() {
    let house = House::with(&["fake"]).model("m.fake", "").model("slow.fake", "stall_ms = 10");
    let server = house.model("end.fake", "").model("broken.fake", "fail_load").serve();
    let mut events = Events::of(&server).await;
    assert_eq!(complete(&server, "m", "hello", 2).await, 200);
    assert_eq!(complete(&server, "m", "hello again", 2).await, 200);
    assert_eq!(change(&server, "m", "unload").await.json["state"], "unloaded");
    assert_eq!(complete(&server, "broken", "x", 1).await, 400);
    let (answered, unloaded) = tokio::join!(complete(&server, "slow", "hello", 100), async {
        events.model("slow", "loaded").await;
        while server.get("/api/ps").await.json["processes"][0]["running"] != 1 {
            tokio::task::yield_now().await;
        }
        change(&server, "slow", "unload").await
    });
    assert_eq!((answered, &unloaded.json["state"]), (200, &json!("draining")));
    events.model("slow", "unloaded").await;
    // Whatever else was to be told was told before this.
    assert_eq!(complete(&server, "end", "x", 1).await, 200);
    events.model("end", "loaded").await;
    assert_eq!(events.of_model("m"), ["loading", "loaded", "unloading", "unloaded"]);
    assert_eq!(events.of_model("slow"), ["loading", "loaded", "draining", "unloaded"]);
    assert_eq!(events.of_model("broken"), ["loading", "failed"]);
    let of = |id: &str, name: &str| {
        let found = events.heard.iter().find(|event| event["id"] == id && event["state"]["name"] == name);
        found.unwrap().clone()
    };
    assert_eq!(of("m", "unloading")["reason"], "somebody asked for it");
    let failed = of("broken", "failed");
    assert_eq!(failed["state"]["retry_after_secs"], 10, "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("told to be broken"), "{failed}");
}

#[tokio::test]
async fn a_model_that_gives_way_is_told_with_whom_it_gives_way_to() {
    let house = House::with(&["fake"]).config("[models]\nmemory_bytes = 100000000");
    let server = house.model("a.fake", "estimated_mib = 60").model("b.fake", "estimated_mib = 94").serve();
    let mut events = Events::of(&server).await;
    assert_eq!(complete(&server, "a", "x", 1).await, 200);
    assert_eq!(complete(&server, "b", "x", 1).await, 200);
    events.model("b", "loaded").await;
    assert_eq!(events.of_model("a"), ["loading", "loaded", "evicted", "unloaded"]);
    let evicted = events.heard.iter().find(|event| event["state"]["name"] == "evicted").unwrap();
    assert!(evicted["reason"].as_str().unwrap().contains("to make room for b"), "{evicted}");
}

#[tokio::test]
async fn crashes_and_what_follows_are_told_once_and_counted() {
    let server = House::with(&["fake"]).model("m.fake", "abort_at = 4").model("end.fake", "").serve();
    let mut events = Events::of(&server).await;
    for (prompt, then) in [("one", "loaded"), ("two", "loaded"), ("three", "stopped")] {
        assert_eq!(complete(&server, "m", prompt, 20).await, 503);
        events.model("m", "crashed").await;
        events.model("m", then).await;
    }
    assert_eq!(complete(&server, "end", "x", 1).await, 200);
    events.model("end", "loaded").await;
    let again = ["crashed", "restarting", "loading", "loaded"];
    let expected = [&["loading", "loaded"][..], &again[..], &again[..], &["crashed", "stopped"][..]].concat();
    assert_eq!(events.of_model("m"), expected);
    let crashed = events.heard.iter().find(|event| event["state"]["name"] == "crashed").unwrap();
    assert!(crashed["reason"].as_str().unwrap().contains("SIGABRT"), "{crashed}");
    let metrics = server.get("/metrics").await.text;
    let line = "impetus_engine_restarts_total{model=\"m\",reason=\"crash\"} 2";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}
