//! The engine through HTTP: company, cancellation, admission, misbehaving plugins.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use impetus_tests::{House, SMOLLM2, Server};
use serde_json::{Value, json};

fn chat(model: &str, content: &str, max_tokens: u32) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "temperature": 0})
}

const CHAT: &str = "/v1/chat/completions";

fn fake(script: &str) -> Server {
    House::with(&["fake"]).model("m.fake", script).config("[engine]\nmax_sequences = 4\nqueue = 4").serve()
}

/// Once the engine is at rest, a request that needs all of its cells gets them.
async fn is_free_again(server: &Server) {
    let answer = server.post(CHAT, &chat("m", "again", 3)).await;
    assert_eq!((answer.status, answer.chat_text().len()), (200, 3), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_gives_the_same_alone_as_in_company() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let mut question = chat(SMOLLM2, "Write a short story about a fox.", 24);
    question["logprobs"] = true.into();
    question["top_logprobs"] = 5.into();
    let alone = server.post(CHAT, &question).await;
    let others = (0..7).map(|n| chat(SMOLLM2, &format!("Count from {n} upwards, please."), 30));
    let others: Vec<Value> = others.collect();
    let neighbours = join_all(others.iter().map(|other| server.post(CHAT, other)));
    let cancelled = async {
        let body = chat(SMOLLM2, "Tell me everything about the sea.", 400);
        let sent = tokio::time::timeout(Duration::from_millis(300), server.post(CHAT, &body)).await;
        assert!(sent.is_err(), "this one is cancelled midway");
    };
    let (company, neighbours, ()) = tokio::join!(server.post(CHAT, &question), neighbours, cancelled);
    assert!(neighbours.iter().all(|answer| answer.status == 200));
    same_within_tolerance(&alone.json, &company.json);
}

/// llama.cpp's kernels depend on the number of rows, so the last bits do too (the gguf plugin's documentation says so):
/// two greedy answers may part only where the model holds both tokens for equally good.
fn same_within_tolerance(alone: &Value, company: &Value) {
    const TOLERANCE: f64 = 0.35;
    let tokens = |answer: &Value| answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let (alone, company) = (tokens(alone), tokens(company));
    assert!(!alone.is_empty());
    for (one, other) in alone.iter().zip(&company) {
        let of_one =
            other["top_logprobs"].as_array().unwrap().iter().find(|top| top["bytes"] == one["bytes"]);
        let logprob =
            of_one.unwrap_or_else(|| panic!("{one} is none of {other}"))["logprob"].as_f64().unwrap();
        assert!((logprob - one["logprob"].as_f64().unwrap()).abs() < TOLERANCE, "{one} and {other}");
        if one["bytes"] != other["bytes"] {
            return;
        }
    }
    assert_eq!(alone.len(), company.len());
}

/// In lanes of 256 cells, which every answer outgrows while others are being computed, and without any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_of_their_own_change_no_answer() {
    let options = |lane_tokens: u32| format!("[plugin.gguf.options]\nlane_tokens = {lane_tokens}");
    let server = |lane_tokens| House::with(&["gguf"]).smollm2().config(&options(lane_tokens)).serve();
    let (apart, pooled) = (server(256), server(0));
    let bodies: Vec<Value> = ["a fox", "the sea", "an old clock", "two brothers", "a train"]
        .iter()
        .map(|subject| {
            let mut body = chat(SMOLLM2, &format!("Write a long story about {subject}."), 300);
            for (key, value) in [
                ("logprobs", true.into()),
                ("top_logprobs", 5.into()),
                ("ignore_eos", true.into()),
                ("n", 2.into()),
            ] {
                body[key] = value;
            }
            body
        })
        .collect();
    let company = join_all(bodies.iter().map(|body| apart.post(CHAT, body))).await;
    for (body, answer) in bodies.iter().zip(&company) {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json["usage"]["completion_tokens"], 600);
        same_within_tolerance(&pooled.post(CHAT, body).await.json, &answer.json);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_are_not_mixed_up_even_when_cells_run_out() {
    let server = fake("cells = 60\nsequence_tokens = 50");
    let prompts: Vec<String> = (0..6).map(|n| "x".repeat(3 + n) + &n.to_string()).collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(server.post(CHAT, &chat("m", prompt, 25)).await.chat_text());
    }
    let bodies: Vec<Value> = prompts.iter().map(|prompt| chat("m", prompt, 25)).collect();
    let company = join_all(bodies.iter().map(|body| server.post(CHAT, body))).await;
    let company: Vec<String> = company.iter().map(impetus_tests::Answer::chat_text).collect();
    assert_eq!(company, alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_requests_all_end_in_an_answer_or_a_429() {
    let server = fake("stall_ms = 2");
    is_free_again(&server).await;
    let body = chat("m", "hello", 20);
    let answers = join_all((0..64).map(|_| server.post(CHAT, &body))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(200) + count(429), 64);
    assert!(count(200) >= 8 && count(429) > 0, "{} answers, {} refusals", count(200), count(429));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.json["error"]["code"], "queue_full");
    assert!(refused.headers.contains_key("retry-after"));
    is_free_again(&server).await;
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_sequence() {
    let server = fake("stall_ms = 20\nslots = 1\nsequence_tokens = 400");
    let mut body = chat("m", "hello", 390);
    body["stream"] = true.into();
    let mut stream = server.send(CHAT, &body).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    // Its 390 tokens would take eight seconds; the next request has the only slot long before.
    let next = tokio::time::timeout(Duration::from_secs(4), is_free_again(&server)).await;
    assert!(next.is_ok(), "the slot was not given back");
}

#[tokio::test]
async fn a_plugin_that_fails_or_panics_costs_its_requests_alone() {
    for (script, words) in
        [("panic_at = 4", "told to panic"), ("fail_at = 4", "told to fail"), ("short_logits", "257 logits")]
    {
        let server = fake(script);
        let failed = server.post(CHAT, &chat("m", "hello", 20)).await;
        assert_eq!(
            (failed.status, &failed.json["error"]["code"]),
            (503, &"engine_crashed".into()),
            "{}",
            failed.text
        );
        assert!(failed.text.contains(words), "{}", failed.text);
        if script != "short_logits" {
            is_free_again(&server).await;
        }
        assert_eq!(server.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_the_error_and_without_done() {
    let server = fake("fail_at = 4");
    let mut body = chat("m", "hello", 20);
    body["stream"] = true.into();
    let (events, done) = server.post(CHAT, &body).await.events();
    assert!(!done);
    assert_eq!(events.last().unwrap()["error"]["code"], "engine_crashed");
}

#[tokio::test]
async fn a_full_cache_is_waited_for_or_ends_with_length() {
    let server = fake("full_at = 3");
    let answer = server.post(CHAT, &chat("m", "hello", 20)).await;
    assert_eq!(answer.json["choices"][0]["finish_reason"], "length", "{}", answer.text);
    is_free_again(&server).await;
    let small = fake("sequence_tokens = 16");
    let filled = small.post(CHAT, &chat("m", "hello", 100)).await;
    assert_eq!(filled.json["choices"][0]["finish_reason"], "length");
    assert_eq!(filled.json["usage"]["total_tokens"], 16);
    let too_long = small.post(CHAT, &chat("m", &"x".repeat(16), 1)).await;
    assert_eq!((too_long.status, &too_long.json["error"]["code"]), (400, &"context_length_exceeded".into()));
    assert!(too_long.text.contains("16 tokens"), "{}", too_long.text);
}

#[tokio::test]
async fn what_cannot_be_loaded_says_why_and_the_host_lives() {
    for (script, words) in [
        ("fail_load", "tensor `a`"),
        ("panic_in_load", "told to panic"),
        ("panic_in_probe", "told to panic"),
        ("corrupt", "told to be corrupt"),
        ("cannot_run", "told that it cannot run"),
        ("broken_metadata", "JSON"),
    ] {
        let server = fake(script);
        let answer = server.post(CHAT, &chat("m", "x", 1)).await;
        assert_eq!(answer.status, 400, "{script}: {}", answer.text);
        assert!(answer.text.contains(words), "{script}: {}", answer.text);
        assert_eq!(server.get("/health").await.status, 200);
    }
    let liar = fake("lie_in_tokenize").post(CHAT, &chat("m", "x", 1)).await;
    assert_eq!(liar.status, 500, "{}", liar.text);
}

fn cached_tokens(answer: &impetus_tests::Answer) -> u64 {
    let usage = &answer.json["usage"];
    let cached =
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or_else(|| panic!("{usage}"));
    assert!(cached < usage["prompt_tokens"].as_u64().unwrap());
    cached
}

#[tokio::test]
async fn a_conversation_goes_on_from_what_the_context_holds() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let mut body = chat(SMOLLM2, "Name three fruits.", 12);
    body["logprobs"] = true.into();
    body["top_logprobs"] = 5.into();
    let first = server.post(CHAT, &body).await;
    let prompt_tokens = first.json["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(cached_tokens(&first), 0);
    let again = server.post(CHAT, &body).await;
    assert_eq!(cached_tokens(&again), prompt_tokens - 1);
    same_within_tolerance(&again.json, &first.json);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": first.chat_text()}));
    messages.push(json!({"role": "user", "content": "And three more?"}));
    let second = server.post(CHAT, &body).await;
    assert!(cached_tokens(&second) >= prompt_tokens, "{}", second.text);
    let cold = House::with(&["gguf"]).smollm2().config("[engine]\nkept_sequences = 0").serve();
    let without = cold.post(CHAT, &body).await;
    assert_eq!(cached_tokens(&without), 0);
    same_within_tolerance(&without.json, &second.json);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_share_a_beginning_compute_it_once() {
    let server = fake("");
    let shared = "a long beginning that they all share, ".repeat(8);
    let bodies: Vec<Value> = (0..8).map(|n| chat("m", &format!("{shared}{n}"), 5)).collect();
    let answers = join_all(bodies.iter().map(|body| server.post(CHAT, body))).await;
    let without = answers.iter().filter(|answer| cached_tokens(answer) < shared.len() as u64 - 16).count();
    assert_eq!(without, 1, "only the first has to compute it");
    for (body, answer) in bodies.iter().zip(&answers) {
        let alone = fake("").post(CHAT, body).await;
        assert_eq!(alone.chat_text(), answer.chat_text());
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_cut_goes_on_whole_or_begins_anew() {
    let server = fake("recurrent");
    let mut body = chat("m", "a conversation", 6);
    let first = server.post(CHAT, &body).await;
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": first.chat_text()}));
    messages.push(json!({"role": "user", "content": " goes on"}));
    let second = server.post(CHAT, &body).await;
    // The last token of an answer is never computed: nothing followed from it.
    let held = "a conversation".len() as u64 + 6 - 1;
    assert_eq!(cached_tokens(&second), held, "{}", second.text);
    let cut = server.post(CHAT, &chat("m", "a conversation that parts", 6)).await;
    assert_eq!(cached_tokens(&cut), 0);
    for (body, answer) in [(body, second), (chat("m", "a conversation that parts", 6), cut)] {
        assert_eq!(fake("").post(CHAT, &body).await.chat_text(), answer.chat_text());
    }
}

fn streamed(content: &str, max_tokens: u32) -> Value {
    let mut body = chat("m", content, max_tokens);
    body["stream"] = true.into();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_priority_is_answered_first() {
    let server = House::with(&["fake"])
        .model("m.fake", "stall_ms = 10\nslots = 1\nsequence_tokens = 400")
        .config("[engine]\nmax_sequences = 1\nqueue = 8")
        .serve();
    let mut first = server.send(CHAT, &streamed("first", 380)).await.bytes_stream();
    assert!(first.next().await.unwrap().is_ok());
    let with_priority = async |priority: i32| {
        let mut body = chat("m", "another", 5);
        body["priority"] = priority.into();
        let answer = server.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        std::time::Instant::now()
    };
    // The first has nearly four seconds to go, and gives its only slot to the one that is better; the worse one waits for it.
    let rest = async {
        let mut text = String::new();
        while let Some(piece) = first.next().await {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
        (text, std::time::Instant::now())
    };
    let (worse, better, (text, first)) = tokio::join!(with_priority(1), with_priority(-1), rest);
    assert!(better < first && first < worse);
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\"length\""), "{text}");
    let alone = server.post(CHAT, &chat("m", "first", 380)).await.chat_text();
    let tail: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert!(tail.len() > 100 && alone.ends_with(&tail), "giving way changed the answer: {tail} and {alone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_an_answer_that_has_begun_and_refuses_one_that_has_not() {
    let server = House::with(&["fake"])
        .model("m.fake", "stall_ms = 20\nslots = 1\nsequence_tokens = 500")
        .config("[engine]\nmax_sequences = 1\nqueue = 8")
        .serve();
    is_free_again(&server).await;
    let mut body = chat("m", "hello", 490);
    body["deadline_ms"] = 400.into();
    let begun = server.post(CHAT, &body).await;
    assert_eq!((begun.status, &begun.json["choices"][0]["finish_reason"]), (200, &"length".into()));
    assert!((1..100).contains(&begun.chat_text().len()), "{}", begun.text);
    // The only slot is taken for ten seconds.
    let mut first = server.send(CHAT, &streamed("first", 490)).await.bytes_stream();
    assert!(first.next().await.unwrap().is_ok());
    let waiting = server.post(CHAT, &body).await;
    assert_eq!((waiting.status, &waiting.json["error"]["code"]), (504, &"deadline_exceeded".into()));
    assert_eq!(waiting.json["error"]["param"], "deadline_ms");
    assert_eq!(waiting.headers["x-should-retry"], "false");
    drop(first);
    is_free_again(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_stop_lets_running_answers_end_and_takes_no_more() {
    let mut server = fake("stall_ms = 10\nsequence_tokens = 400");
    let mut stream = server.send(CHAT, &streamed("hello", 100)).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let stopped = std::process::Command::new("kill").args(["-TERM", &server.pid().to_string()]).status();
    assert!(stopped.unwrap().success());
    let mut text = String::new();
    while let Some(piece) = stream.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    assert!(text.contains("\"length\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(server.wait().success());
    assert!(server.client.get(format!("{}/health", server.address)).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_time_to_stop_streams_end_with_an_error() {
    let mut server = House::with(&["fake"])
        .model("m.fake", "stall_ms = 20\nsequence_tokens = 4000")
        .config("shutdown_secs = 1")
        .serve();
    // At least a minute and a half of answer.
    let mut stream = server.send(CHAT, &streamed("hello", 3900)).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let told = std::time::Instant::now();
    let stopped = std::process::Command::new("kill").args(["-TERM", &server.pid().to_string()]).status();
    assert!(stopped.unwrap().success());
    let mut text = String::new();
    while let Some(piece) = stream.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    assert!(told.elapsed() >= Duration::from_millis(900), "it had a second: {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(25), "{:?}", told.elapsed());
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(error["error"]["code"], "shutting_down", "{text}");
    assert!(!text.contains("[DONE]"));
    assert!(server.wait().success());
}

/// Every sampler that there is, through the door: what they do is tested where they are.
#[tokio::test]
async fn every_sampler_is_taken_by_chats_completions_and_responses() {
    let server = fake("");
    let samplers = [
        json!({"typical_p": 0.9, "top_n_sigma": 2, "xtc_probability": 0.5, "dynatemp_range": 0.3, "min_p": 0.1}),
        json!({"mirostat": 1, "mirostat_tau": 4, "mirostat_eta": 0.2}),
        json!({"mirostat": 2}),
        json!({"dry_multiplier": 0.8, "dry_allowed_length": 1, "dry_sequence_breakers": ["x", "yz"]}),
    ];
    for sampler in samplers {
        for (path, asked) in [
            (
                CHAT,
                json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}),
            ),
            ("/v1/completions", json!({"model": "m", "prompt": "hello", "max_tokens": 8})),
            ("/v1/responses", json!({"model": "m", "input": "hello", "max_output_tokens": 8})),
        ] {
            let mut body = asked;
            body.as_object_mut().unwrap().extend(sampler.as_object().unwrap().clone());
            let answer = server.post(path, &body).await;
            assert_eq!(answer.status, 200, "{path} {sampler}: {}", answer.text);
        }
    }
    let mut both = chat("m", "hello", 8);
    both["mirostat"] = 2.into();
    both["top_p"] = 0.9.into();
    let refused = server.post(CHAT, &both).await;
    assert_eq!((refused.status, &refused.json["error"]["param"]), (400, &"top_p".into()));
}
