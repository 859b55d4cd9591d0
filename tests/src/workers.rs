//! Engines in processes of their own: how they crash, hang and are killed, and that nothing else notices.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use impetus_tests::{Answer, House, SMOLLM2, Server};
use serde_json::{Value, json};

pub(crate) const COMPLETIONS: &str = "/v1/completions";

/// Long before this a test has hung.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn body(model: &str, prompt: &str, max_tokens: u32) -> Value {
    json!({"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0})
}

pub(crate) fn streamed(model: &str, prompt: &str, max_tokens: u32) -> Value {
    json!({"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": true})
}

fn fake(script: &str, config: &str) -> Server {
    House::with(&["fake"]).model("m.fake", script).config(config).serve()
}

/// With keys of `[plugins]`, which the house's own table begins.
pub(crate) fn with_plugins(house: House, keys: &str) -> House {
    let path = house.path("plugins.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replace("[plugins]\n", &format!("[plugins]\n{keys}\n"))).unwrap();
    house
}

pub(crate) async fn processes(server: &Server) -> Vec<Value> {
    server.get("/api/ps").await.json["processes"].as_array().unwrap().clone()
}

/// The process of a model that is loaded.
pub(crate) async fn pid(server: &Server, model: &str) -> u64 {
    let processes = processes(server).await;
    let found = processes.iter().find(|process| process["model"] == model);
    found.unwrap_or_else(|| panic!("{model} is none of {processes:?}"))["pid"].as_u64().unwrap()
}

pub(crate) fn kill(pid: u64) {
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn is_alive(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Processes that a process has started.
pub(crate) fn children_of(pid: u64) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let lists: Vec<String> = tasks.filter_map(|task| of_task(task).ok()).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn text(answer: &Answer) -> String {
    answer.json["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

#[tokio::test]
async fn whatever_a_plugin_does_to_its_process_costs_its_requests_alone() {
    for (script, words) in [
        ("abort_at = 4", "SIGABRT"),
        ("segfault_at = 4", "SIGSEGV"),
        ("exit_at = 4", "exit code 3"),
        ("hang_at = 4", "hung"),
        ("allocate_at = 4", "SIGABRT"),
        ("nonsense_at = 4", "is not understood"),
    ] {
        let house = House::with(&["fake"]).model("m.fake", script).model("other.fake", "stall_ms = 1");
        // Where it does not hang it may take its time: memory is used up slowly on a busy machine.
        let hang_secs = if words == "hung" { 1 } else { 60 };
        let keys = format!("hang_secs = {hang_secs}\nmemory_bytes = 200000000");
        let server = with_plugins(house, &keys).serve();
        let (beside, streaming) = (body("other", "hello", 300), streamed("m", "hello", 20));
        let (other, failed) =
            tokio::join!(server.post(COMPLETIONS, &beside), server.post(COMPLETIONS, &streaming));
        assert_eq!(other.status, 200, "{script}: {}", other.text);
        let (events, done) = failed.events();
        let error = &events.last().unwrap()["error"];
        assert!(!done && error["code"] == "engine_crashed", "{script}: {}", failed.text);
        assert!(error["message"].as_str().unwrap().contains(words), "{script}: {error}");
        let whole = server.post(COMPLETIONS, &body("m", "world", 20)).await;
        assert_eq!((whole.status, &whole.json["error"]["code"]), (503, &"engine_crashed".into()));
        assert!(whole.headers.contains_key("retry-after"), "{script}");
        let next = server.post(COMPLETIONS, &body("m", "hello again", 2)).await;
        assert_eq!(next.status, 200, "{script}: {}", next.text);
        let why = if words == "hung" { "hang" } else { "crash" };
        let metrics = server.get("/metrics").await.text;
        let counted = format!("impetus_engine_restarts_total{{model=\"m\",reason=\"{why}\"}} 2");
        assert!(metrics.lines().any(|line| line == counted), "{script}: {metrics}");
    }
}

#[tokio::test]
async fn a_plugin_that_crashes_or_hangs_while_loading_says_so_and_cools_down() {
    for (script, words) in [("abort_in_load", "SIGABRT"), ("hang_in_load", "hung")] {
        let house = House::with(&["fake"]).model("m.fake", script);
        let server = with_plugins(house, "hang_secs = 1").serve();
        let all =
            join_all((0..3).map(|_| async { server.post(COMPLETIONS, &body("m", "x", 1)).await })).await;
        // Those that waited for the load hear what it failed of, those that came later that it is not tried yet.
        for answer in &all {
            assert_eq!(answer.status, 503, "{}", answer.text);
            assert!(answer.text.contains(words), "{}", answer.text);
        }
        assert!(all.iter().any(|answer| answer.json["error"]["code"] == "engine_crashed"));
        let again = server.post(COMPLETIONS, &body("m", "x", 1)).await;
        assert_eq!((again.status, &again.json["error"]["code"]), (503, &"model_load_failed".into()));
        let seconds: u64 = again.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds), "{seconds}");
        assert_eq!(server.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn a_file_over_which_a_plugin_crashes_costs_that_file_alone() {
    let house = House::with(&["fake"]).model("a.fake", "abort_in_probe").model("b.fake", "");
    let server = house.model("c.fake", "hang_in_probe").model("d.fake", "").serve();
    let models = server.get("/api/models").await.json["models"].as_array().unwrap().clone();
    let states: Vec<_> = models.iter().map(|model| model["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unavailable", "available", "unavailable", "available"], "{models:?}");
    assert!(models[0]["reason"].as_str().unwrap().contains("SIGABRT"), "{models:?}");
    assert!(models[2]["reason"].as_str().unwrap().contains("did not answer"), "{models:?}");
    assert_eq!(server.post(COMPLETIONS, &body("b", "x", 1)).await.status, 200);
}

#[tokio::test]
async fn three_crashes_stop_an_engine_until_somebody_asks_for_it() {
    let server = fake("abort_at = 4", "");
    for prompt in ["one", "two", "three"] {
        let answer = server.post(COMPLETIONS, &body("m", prompt, 20)).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (503, &"engine_crashed".into()));
    }
    let refused = server.post(COMPLETIONS, &body("m", "four", 1)).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &"engine_crashed".into()));
    assert_eq!(refused.headers["x-should-retry"], "false");
    assert!(refused.text.contains("3 times"), "{}", refused.text);
    let listed = server.get("/api/models").await;
    assert_eq!(listed.json["models"][0]["state"], "crashed", "{}", listed.text);
    let last = listed.json["models"][0]["detail"].as_str().unwrap();
    assert!(last.contains("told to abort in decode"), "its last lines: {last}");
    let loaded = server.post("/api/models/m/load", &json!({})).await;
    assert_eq!((loaded.status, &loaded.json["state"]), (200, &"loaded".into()), "{}", loaded.text);
    assert_eq!(server.post(COMPLETIONS, &body("m", "four", 1)).await.status, 200);
}

#[tokio::test]
async fn a_request_that_ran_at_two_crashes_is_refused() {
    let house = House::with(&["fake"]).model("m.fake", "abort_at = 4");
    let server = with_plugins(house, "max_crashes = 9").serve();
    for _ in 0..2 {
        let answer = server.post(COMPLETIONS, &body("m", "poison", 20)).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (503, &"engine_crashed".into()));
    }
    let refused = server.post(COMPLETIONS, &body("m", "poison", 20)).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (400, &"request_crashes_engine".into()));
    assert_eq!(server.post(COMPLETIONS, &body("m", "harmless", 2)).await.status, 200);
}

#[tokio::test]
async fn who_only_ran_beside_a_crash_is_no_suspect() {
    let house = House::with(&["fake"]).model("m.fake", "abort_on = poison\nstall_ms = 10");
    let server = with_plugins(house, "max_crashes = 9").serve();
    let (harmless, poison) = (streamed("m", "harmless", 100), body("m", "the poison", 5));
    for _ in 0..2 {
        let mut beside = server.send(COMPLETIONS, &harmless).await.bytes_stream();
        assert!(beside.next().await.unwrap().is_ok(), "it runs");
        let crashed = server.post(COMPLETIONS, &poison).await;
        assert_eq!((crashed.status, &crashed.json["error"]["code"]), (503, &"engine_crashed".into()));
        let rest: Vec<_> = beside.map(|piece| piece.unwrap()).collect().await;
        assert!(String::from_utf8(rest.concat()).unwrap().contains("engine_crashed"));
    }
    let refused = server.post(COMPLETIONS, &poison).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (400, &"request_crashes_engine".into()));
    let (events, done) = server.post(COMPLETIONS, &harmless).await.events();
    assert!(done, "{:?}", events.last());
}

#[tokio::test]
async fn crashes_while_loading_count_too() {
    let house = House::with(&["fake"]).model("m.fake", "abort_in_load");
    let server = with_plugins(house, "max_crashes = 1").serve();
    let first = server.post(COMPLETIONS, &body("m", "x", 1)).await;
    assert_eq!((first.status, &first.json["error"]["code"]), (503, &"engine_crashed".into()));
    let refused = server.post(COMPLETIONS, &body("m", "x", 1)).await;
    assert_eq!((refused.status, &refused.headers["x-should-retry"]), (503, &"false".parse().unwrap()));
    assert!(refused.text.contains("crashed 1 times"), "{}", refused.text);
    assert_eq!(server.get("/api/models").await.json["models"][0]["state"], "crashed");
}

#[tokio::test]
async fn the_server_is_not_ready_while_a_required_plugins_engine_is_down() {
    let house =
        House::with(&["fake"]).model("m.fake", "abort_at = 4").config("[plugin.fake]\nrequired = true");
    let server = with_plugins(house, "max_crashes = 1").serve();
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.post(COMPLETIONS, &body("m", "x", 2)).await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.post(COMPLETIONS, &body("m", "y", 20)).await.status, 503);
    until("it is noticed", async || server.get("/readyz").await.status == 503).await;
    let answer = server.get("/readyz").await;
    assert_eq!(answer.json["plugins"], json!([{"id": "fake", "state": "engine_down"}]), "{}", answer.text);
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.post("/api/models/m/load", &json!({})).await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_its_answer_ends() {
    let script = "say = x\nsequence_tokens = 9000000\ncells = 9000000";
    let server = fake(script, "");
    // Each token weighs as much as twenty: what is not read grows quickly.
    let endless = json!({"model": "m", "messages": [{"role": "user", "content": "go on"}], "stream": true,
        "max_tokens": 8_000_000, "logprobs": true, "top_logprobs": 20});
    let unread = server.send("/v1/chat/completions", &endless).await;
    assert_eq!(unread.status(), 200);
    let beside = server.post(COMPLETIONS, &body("m", "hello", 20)).await;
    assert_eq!(beside.status, 200, "{}", beside.text);
    until("nothing more is computed for it", async || processes(&server).await[0]["running"] == 0).await;
    let host = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let kib = host.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    assert!(kib.unwrap().parse::<u64>().unwrap() < 256 << 10, "{kib:?} KiB");
    let said = unread.text().await.unwrap();
    let last = said.trim_end().lines().last().unwrap();
    assert!(last.contains("was not read"), "{last}");
}

#[tokio::test]
async fn a_worker_killed_in_mid_stream_ends_the_stream_with_an_error_and_the_next_answer_comes() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let mut stream =
        server.send(COMPLETIONS, &streamed(SMOLLM2, "Once upon a time", 2000)).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let killed = pid(&server, SMOLLM2).await;
    let started = Instant::now();
    kill(killed);
    let rest: Vec<_> = stream.map(|piece| piece.unwrap()).collect().await;
    let rest = String::from_utf8(rest.concat()).unwrap();
    assert!(rest.contains("engine_crashed") && rest.contains("SIGKILL"), "{rest}");
    assert!(!rest.contains("[DONE]"), "{rest}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let next = server.post(COMPLETIONS, &body(SMOLLM2, "Once upon a time", 4)).await;
    assert_eq!(next.status, 200, "{}", next.text);
    assert_ne!(pid(&server, SMOLLM2).await, killed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_under_eight_clients_hang_nobody_and_no_answer_is_wrong() {
    let house = House::with(&["fake"]).model("m.fake", "stall_ms = 2");
    let server = with_plugins(house, "max_crashes = 1000").serve();
    let alone = fake("", "");
    let done = std::sync::atomic::AtomicBool::new(false);
    let client = async |number: usize| {
        let mut answered = 0;
        for turn in 0.. {
            if done.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            // No prompt comes twice: none is taken for the cause of a crash.
            let question = body("m", &format!("client {number} turn {turn}"), 12);
            let answer = tokio::time::timeout(PATIENCE, server.post(COMPLETIONS, &question)).await;
            let answer = answer.expect("no request hangs");
            if answer.status == 200 {
                assert_eq!(text(&answer), text(&alone.post(COMPLETIONS, &question).await), "{question}");
                answered += 1;
            } else {
                let code = &answer.json["error"]["code"];
                assert_eq!((answer.status, code), (503, &"engine_crashed".into()), "{}", answer.text);
            }
        }
        answered
    };
    let killer = async {
        let mut last = 0;
        for round in 0..100_u64 {
            let found = std::cell::Cell::new(last);
            until("a new engine runs", async || {
                let all = processes(&server).await;
                found.set(all.first().and_then(|process| process["pid"].as_u64()).unwrap_or(last));
                found.get() != last
            })
            .await;
            last = found.get();
            // At another moment of its work each time.
            tokio::time::sleep(Duration::from_millis(round * 37 % 60)).await;
            kill(last);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(join_all((0..8).map(client)), killer);
    assert!(answered.iter().sum::<usize>() > 0, "{answered:?}");
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.post(COMPLETIONS, &body("m", "after all that", 3)).await.status, 200);
}

#[tokio::test]
async fn a_flood_of_words_holds_up_nothing() {
    let server = fake("flood = 2000", "");
    let answer = server.post(COMPLETIONS, &body("m", "hello", 30)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn workers_and_probers_die_with_a_host_that_is_killed() {
    let mut server = House::with(&["fake"]).model("m.fake", "hang_at = 2").serve();
    let mut stream = server.send(COMPLETIONS, &streamed("m", "hello", 9)).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    let children = children_of(u64::from(server.pid()));
    assert!(children.len() >= 2, "a worker and a prober: {children:?}");
    kill(server.pid().into());
    server.wait();
    until("they end", async || !children.iter().any(|&child| is_alive(child))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_isolations_answer_alike() {
    let mut answers: Vec<Vec<String>> = Vec::new();
    for isolation in ["process", "none"] {
        let house = House::with(&["fake", "gguf"]).smollm2().model("m.fake", "");
        let server = with_plugins(house, &format!("isolation = \"{isolation}\"")).serve();
        let questions: Vec<Value> = (0..6).map(|n| body("m", &format!("question {n}"), 20)).collect();
        let mut found: Vec<String> =
            join_all(questions.iter().map(|question| server.post(COMPLETIONS, question)))
                .await
                .iter()
                .map(text)
                .collect();
        found.push(text(&server.post(COMPLETIONS, &body(SMOLLM2, "The sky is", 8)).await));
        found.push(server.post("/tokenize", &json!({"model": SMOLLM2, "content": "Hello you"})).await.text);
        let panicked = server.post(COMPLETIONS, &body("m", "", 1)).await;
        assert_eq!(panicked.status, 400, "{}", panicked.text);
        assert!(processes(&server).await.iter().all(|process| process["isolation"] == isolation));
        let own = u64::from(server.pid());
        assert_eq!(pid(&server, "m").await == own, isolation == "none");
        answers.push(found);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn commands_work_in_both_isolations() {
    for isolation in ["process", "none"] {
        let house =
            with_plugins(House::with(&["fake"]).model("m.fake", ""), &format!("isolation = \"{isolation}\""));
        let run = |arguments: &[&str]| {
            let output = house.run(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(run(&["run", "m", "hello", "--raw", "--max-tokens", "4"]), "aqww\n");
        assert!(run(&["inspect", "m"]).contains("architecture"));
        assert!(
            run(&["bench", "model", "m", "--prompt", "8", "--generate", "8", "--runs", "1"])
                .contains("decode")
        );
        std::fs::write(house.path("text"), "some text to read ".repeat(20)).unwrap();
        assert!(run(&["bench", "perplexity", "m", "text", "--window", "32"]).contains("PERPLEXITY"));
    }
}
