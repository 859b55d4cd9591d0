//! What is counted, and what the log says of requests.

use std::io::Read;
use std::process::Stdio;

use impetus_tests::{House, Server};
use serde_json::{Value, json};

/// The value of a metric's line, which is 0 where there is none.
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |number| number.parse().unwrap())
}

async fn metrics(server: &Server) -> String {
    let answer = server.get("/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    answer.text
}

#[tokio::test]
async fn plugins_that_are_refused_are_counted_by_their_state() {
    let house = House::with(&["fake"]);
    std::fs::write(house.path("plugins/libnone.so"), "no library").unwrap();
    let text = metrics(&house.serve()).await;
    assert_eq!(value(&text, "impetus_plugin_load_failures_total{code=\"not_a_plugin\"}"), 1.0, "{text}");
    assert!(!text.contains("impetus_plugin_load_failures_total{code=\"loaded\"}"));
}

#[tokio::test]
async fn requests_tokens_and_times_are_counted() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let before = metrics(&server).await;
    assert_eq!(value(&before, "impetus_plugin_state{id=\"fake\",state=\"loaded\"}"), 1.0);
    assert!(!before.contains("impetus_num_requests_running{"), "nothing is loaded");
    let body = json!({"model": "m", "prompt": "hello", "max_tokens": 5, "temperature": 0, "n": 2});
    let usage = server.post("/v1/completions", &body).await.json["usage"].take();
    let after = metrics(&server).await;
    for (line, expected) in [
        ("impetus_request_success_total{model=\"m\",finish_reason=\"length\"}", 2.0),
        ("impetus_generation_tokens_total{model=\"m\"}", usage["completion_tokens"].as_f64().unwrap()),
        ("impetus_prefix_cache_queries_total{model=\"m\"}", 2.0 * usage["prompt_tokens"].as_f64().unwrap()),
        ("impetus_time_to_first_token_seconds_count{model=\"m\"}", 2.0),
        ("impetus_inter_token_latency_seconds_count{model=\"m\"}", 8.0),
        ("impetus_e2e_request_latency_seconds_count{model=\"m\"}", 2.0),
        ("impetus_http_requests_total{method=\"POST\",route=\"/v1/completions\",status=\"200\"}", 1.0),
    ] {
        assert_eq!(value(&after, line), expected, "{line} in\n{after}");
    }
    assert!(value(&after, "impetus_kv_cache_usage_perc{model=\"m\"}") <= 1.0);
    // The engine counts what runs after it has told that an answer is complete.
    while !metrics(&server).await.contains("impetus_num_requests_running{model=\"m\"} 0") {}
}

/// One JSON object for each line of the log, as the server leaves it.
fn logged(mut child: std::process::Child) -> (Vec<Value>, String) {
    child.kill().unwrap();
    child.wait().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), text)
}

#[tokio::test]
async fn the_log_has_a_line_of_json_for_each_request_and_no_secrets() {
    let house = House::with(&["fake"]).model("m.fake", "").config("api_keys = [\"hush-hush\"]");
    let mut child = house
        .command(&["serve", "--log-format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
    let address = first.split_whitespace().last().unwrap();
    let client = reqwest::Client::new();
    let body = json!({"model": "m", "prompt": "my private words", "max_tokens": 3, "stream": true});
    let request = client.post(format!("{address}/v1/completions")).json(&body);
    let request = request.header("x-request-id", "mine-7").header("x-api-key", "hush-hush");
    assert!(request.send().await.unwrap().text().await.unwrap().contains("[DONE]"));
    // The line is written before the connection serves again; the answer to this says that it has been.
    assert_eq!(client.get(format!("{address}/v1/models")).send().await.unwrap().status(), 401);
    let (lines, text) = logged(child);
    let line =
        lines.iter().find(|line| line["request"] == "mine-7" && line["message"] == "answered").unwrap();
    assert_eq!((&line["method"], &line["path"]), (&json!("POST"), &json!("/v1/completions")), "{line}");
    assert_eq!((&line["status"], &line["completion_tokens"]), (&json!(200), &json!(3)), "{line}");
    assert!(line["prompt_tokens"].as_u64().unwrap() > 0 && line["seconds"].is_number(), "{line}");
    for secret in ["hush-hush", "private"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}
