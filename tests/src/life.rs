//! Models' life: loaded by request and in time, unloaded by request, by time and for others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use impetus_tests::{Answer, House, SMOLLM2, Server};
use serde_json::{Value, json};

use crate::workers::{kill, pid, processes, until, with_plugins};

const COMPLETIONS: &str = "/v1/completions";

fn body(model: &str, max_tokens: u32) -> Value {
    json!({"model": model, "prompt": "hello", "max_tokens": max_tokens, "temperature": 0})
}

async fn loaded(server: &Server) -> Vec<String> {
    let answer = server.get("/api/ps").await;
    let processes = answer.json["processes"].as_array().unwrap_or_else(|| panic!("{}", answer.text)).clone();
    processes.iter().map(|process| process["model"].as_str().unwrap().to_owned()).collect()
}

async fn change(server: &Server, model: &str, what: &str) -> Answer {
    server.post(&format!("/api/models/{model}/{what}"), &json!({})).await
}

async fn plan(server: &Server, model: &str) -> Value {
    server.get(&format!("/api/models/{model}/plan")).await.json
}

async fn until_unloaded(server: &Server, model: &str) {
    let started = Instant::now();
    while loaded(server).await.iter().any(|other| other == model) {
        assert!(started.elapsed() < Duration::from_secs(60), "{model} stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded_by_request() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    let before = plan(&server, "m").await;
    assert_eq!((&before["plugin"], &before["state"]), (&json!("fake"), &json!("available")), "{before}");
    assert_eq!(
        (&before["memory"]["verdict"], &before["memory"]["known_from"]),
        (&json!("fits"), &json!("estimate"))
    );
    let request = server.client.post(format!("{}/api/models/m/load", server.address));
    let told = request.header("accept", "text/event-stream").send().await.unwrap().text().await.unwrap();
    let lines: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(lines.len() >= 2 && lines[0].contains("progress"), "{told}");
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&last["model"], &last["state"]), (&json!("m"), &json!("loaded")));
    assert_eq!(loaded(&server).await, ["m"]);
    assert_eq!(change(&server, "m", "load").await.status, 200, "once more does no harm");
    let unloaded = change(&server, "m", "unload").await;
    assert_eq!(unloaded.json["state"], "unloaded", "{}", unloaded.text);
    assert!(loaded(&server).await.is_empty());
    assert_eq!(change(&server, "m", "unload").await.json["state"], "not_loaded");
    assert_eq!(plan(&server, "m").await["memory"]["known_from"], "measured");
    assert_eq!(change(&server, "none", "load").await.status, 404);
    assert_eq!(change(&server, "m", "burn").await.status, 404);
    let page = server.client.post(format!("{}/api/models/m/load", server.address));
    let page = page.header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(page.status(), 403);
}

#[tokio::test]
async fn a_model_that_is_unloaded_while_it_answers_answers_to_the_end() {
    let server = House::with(&["fake"]).model("m.fake", "stall_ms = 10").serve();
    let long = body("m", 100);
    let answering = server.post(COMPLETIONS, &long);
    let unloading = async {
        while server.get("/api/ps").await.json["processes"][0]["running"] != 1 {
            tokio::task::yield_now().await;
        }
        change(&server, "m", "unload").await
    };
    let (answer, unloaded) = tokio::join!(answering, unloading);
    assert_eq!(unloaded.json["state"], "draining", "{}", unloaded.text);
    assert_eq!(answer.json["usage"]["completion_tokens"], 100, "{}", answer.text);
    until_unloaded(&server, "m").await;
}

#[tokio::test]
async fn many_requests_share_one_load() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    let request = body("m", 2);
    let answers = join_all((0..12).map(|_| server.post(COMPLETIONS, &request))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(loaded(&server).await, ["m"]);
}

#[tokio::test]
async fn what_nobody_uses_goes_when_its_time_is_over() {
    let config = "[models]\nkeep_alive_secs = 1";
    let server = House::with(&["fake"]).model("m.fake", "").model("n.fake", "").config(config).serve();
    let mut stays = body("n", 2);
    stays["keep_alive"] = json!(-1);
    assert_eq!(server.post(COMPLETIONS, &stays).await.status, 200);
    assert_eq!(server.post(COMPLETIONS, &body("m", 2)).await.status, 200);
    until_unloaded(&server, "m").await;
    assert_eq!(loaded(&server).await, ["n"]);
    stays["keep_alive"] = json!("0s");
    assert_eq!(server.post(COMPLETIONS, &stays).await.status, 200);
    until_unloaded(&server, "n").await;
    stays["keep_alive"] = json!("soon");
    let refused = server.post(COMPLETIONS, &stays).await;
    assert_eq!((refused.status, &refused.json["error"]["param"]), (400, &json!("keep_alive")));
}

#[tokio::test]
async fn the_least_recently_used_makes_room_a_busy_one_never_and_what_cannot_fit_is_refused() {
    // Workers of the fake plugin take a few MiB; what counts before they are loaded is what the plugin estimates.
    let house = House::with(&["fake"]).config("[models]\nmemory_bytes = 100000000");
    let house =
        house.model("a.fake", "estimated_mib = 60").model("b.fake", "estimated_mib = 94\nstall_ms = 10");
    let server =
        house.model("c.fake", "estimated_mib = 94").model("huge.fake", "estimated_mib = 1000").serve();
    let refused = server.post(COMPLETIONS, &body("huge", 1)).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("insufficient_memory")));
    assert_eq!(refused.headers["x-should-retry"], "false");
    assert!(refused.text.contains("0.98 GiB") && refused.text.contains("0.09 GiB"), "{}", refused.text);
    assert_eq!(plan(&server, "huge").await["memory"]["verdict"], "too_large");

    assert_eq!(server.post(COMPLETIONS, &body("a", 1)).await.status, 200);
    let fit = plan(&server, "c").await["memory"].clone();
    assert_eq!(
        (&fit["verdict"], &fit["would_unload"]),
        (&json!("fits_after_unloading"), &json!(["a"])),
        "{fit}"
    );
    let long = body("b", 200);
    let answering = server.post(COMPLETIONS, &long);
    let others = async {
        while loaded(&server).await != ["b"] {
            tokio::task::yield_now().await;
        }
        server.post(COMPLETIONS, &body("c", 1)).await
    };
    let (answer, refused) = tokio::join!(answering, others);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("insufficient_memory")));
    assert!(refused.headers.contains_key("retry-after") && refused.text.contains("busy"), "{}", refused.text);
    assert_eq!(server.post(COMPLETIONS, &body("c", 1)).await.status, 200);
    assert_eq!(loaded(&server).await, ["c"]);
}

#[tokio::test]
async fn a_model_that_is_unloaded_while_its_engine_is_down_stays_unloaded() {
    let house = House::with(&["fake"]).model("m.fake", "abort_at = 1");
    let server = with_plugins(house, "max_crashes = 9").serve();
    // The second engine that crashes without ever having answered is started again after a second.
    for prompt in ["one", "two"] {
        let asked = json!({"model": "m", "prompt": prompt, "max_tokens": 2});
        assert_eq!(server.post(COMPLETIONS, &asked).await.status, 503);
    }
    change(&server, "m", "unload").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(loaded(&server).await.is_empty());
}

#[tokio::test]
async fn a_crash_changes_nothing_about_how_long_a_model_stays() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    let mut asked = body("m", 2);
    asked["keep_alive"] = json!("1h");
    assert_eq!(server.post(COMPLETIONS, &asked).await.status, 200);
    let killed = pid(&server, "m").await;
    kill(killed);
    until("another engine runs", async || {
        processes(&server).await.first().is_some_and(|process| process["pid"] != killed)
    })
    .await;
    assert_eq!(processes(&server).await[0]["keep_alive_secs"], 3600);
}

#[tokio::test]
async fn a_plan_says_when_a_model_that_failed_may_be_tried_again() {
    let server = House::with(&["fake"]).model("m.fake", "fail_load").serve();
    let before = plan(&server, "m").await;
    assert_eq!((&before["reason"], &before["retry_after_secs"]), (&Value::Null, &Value::Null), "{before}");
    assert_eq!(server.post(COMPLETIONS, &body("m", 1)).await.status, 400);
    let cooling = plan(&server, "m").await;
    assert!(cooling["reason"].as_str().unwrap().contains("told to be broken"), "{cooling}");
    assert!((1..=10).contains(&cooling["retry_after_secs"].as_u64().unwrap()), "{cooling}");
}

#[tokio::test]
async fn a_file_that_a_plugin_hangs_over_costs_its_time_once() {
    let house = House::with(&["fake", "gguf"]).model("m.fake", "").model("hangs.fake", "hang_in_probe");
    let server = house.config("").serve();
    let listed = async || server.get("/api/models").await.json["models"].clone();
    let reason = |models: &Value| {
        let hangs = models.as_array().unwrap().iter().find(|model| model["id"] == "hangs").unwrap();
        hangs["reason"].as_str().unwrap().to_owned()
    };
    // The server has listed them once already, for its first words.
    let started = Instant::now();
    assert!(reason(&listed().await).contains("within 10 s"));
    // With another plugin gone, all files are asked about again.
    server.house.edit_config("[plugin.gguf]\nenabled = false");
    until("it is gone", async || server.get("/api/formats").await.json["formats"][1].is_null()).await;
    assert!(reason(&listed().await).contains("within 10 s"));
    assert!(started.elapsed() < Duration::from_secs(9), "it was asked again: {:?}", started.elapsed());
}

#[tokio::test]
async fn ten_rounds_of_loading_and_unloading_return_the_memory() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let round = async || {
        assert_eq!(server.post(COMPLETIONS, &body(SMOLLM2, 4)).await.status, 200);
        let during = server.memory_kib();
        assert_eq!(change(&server, SMOLLM2, "unload").await.json["state"], "unloaded");
        (during, server.memory_kib())
    };
    // What the server needs of its own program to load at all is there after one.
    let (during, first) = round().await;
    let mut last = first;
    for _ in 0..10 {
        (_, last) = round().await;
    }
    assert!(during > first, "{during} KiB loaded, {first} KiB unloaded");
    assert!(last as f64 <= first as f64 * 1.05, "{first} KiB at first, {last} KiB after ten rounds more");
}

#[tokio::test]
async fn the_command_line_says_what_runs() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    assert_eq!(server.post(COMPLETIONS, &body("m", 2)).await.status, 200);
    let house = House::with(&[]);
    let output = house.run(&["ps", "--url", &server.address]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("MiB") && text.contains("loaded") && text.contains("no_core_dumps"), "{text}");
    let nobody = house.run(&["ps", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("impetus serve"));
}
