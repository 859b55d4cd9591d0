//! `/api/benchmarks`: one at a time, told among the events, stopped, kept, guarded.

use std::time::Duration;

use impetus_tests::{Answer, House, Server};
use serde_json::{Value, json};

use crate::benchmarks::{figure, median};
use crate::benchmarks_traced::check;

const PATH: &str = "/api/benchmarks";

async fn begin(server: &Server, body: Value) -> String {
    let answer = server.post(PATH, &body).await;
    assert_eq!((answer.status, &answer.json["state"]), (200, &json!("running")), "{}", answer.text);
    format!("{PATH}/{}", answer.json["id"].as_str().unwrap())
}

async fn ended(server: &Server, path: &str) -> Value {
    for _ in 0..1200 {
        let job = server.get(path).await.json;
        if job["state"] != "running" {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} does not end");
}

async fn delete(server: &Server, path: &str) -> u16 {
    server.client.delete(format!("{}{path}", server.address)).send().await.unwrap().status().as_u16()
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json["error"]["code"]), (status, &json!(code)), "{}", answer.text);
}

#[tokio::test]
async fn each_kind_runs_as_a_job_and_is_kept_where_that_is_wanted() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let mut events = server.client.get(format!("{}/api/events", server.address)).send().await.unwrap();
    let machine = json!({"kind": "machine", "parts": ["devices"], "runs": 1, "save": true});
    let machine = begin(&server, machine).await;
    let job = ended(&server, &machine).await;
    assert_eq!((&job["state"], &job["saved"]), (&json!("finished"), &json!(true)), "{job:#}");
    check(&job["report"]);
    let model = json!({"kind": "model", "model": "m", "prompt_tokens": [8], "generated_tokens": [8], "runs": 5, "limits": false});
    let first = begin(&server, model.clone()).await;
    let first_job = ended(&server, &first).await;
    check(&first_job["report"]);
    assert!(median(&first_job["report"], "decode.8.at0.x1") > 0.0);
    let second = begin(&server, model).await;
    ended(&server, &second).await;
    let compared = server.get(&format!("{first}/against/{}", second.rsplit('/').next().unwrap())).await;
    assert!(
        compared.json["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change["name"] == "prefill.8.at0.x1")
    );
    let served = json!({"kind": "serve", "model": "m", "clients": 2, "requests": 3, "rounds": 2, "max_tokens": 4, "prompt_words": "3-6"});
    let served = begin(&server, served).await;
    let job = ended(&server, &served).await;
    check(&job["report"]);
    assert_eq!(job["report"]["requests"].as_array().unwrap().len(), 6, "{job:#}");
    assert!(!job.to_string().contains("\"key\""), "the key of its own door is nobody's business");
    let listed = server.get(PATH).await.json["benchmarks"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|job| job["report"].is_null()));
    let mut heard = String::new();
    while !heard.contains("\"state\":\"finished\"") {
        heard += &String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap());
    }
    assert!(heard.contains("\"type\":\"benchmark\"") && heard.contains("\"progress\":{\"done\":"), "{heard}");
    // The command line sees what the server has kept.
    let history = server.house.run(&["bench", "history", "--json"]);
    assert!(String::from_utf8_lossy(&history.stdout).contains(machine.rsplit('/').next().unwrap()));
    assert_eq!((delete(&server, &machine).await, delete(&server, &machine).await), (200, 404));
}

#[tokio::test]
async fn one_at_a_time_and_a_cancelled_one_keeps_what_it_measured() {
    let server = House::with(&["fake"]).model("slow.fake", "stall_ms = 20").serve();
    let long = json!({"kind": "model", "model": "slow", "prompt_tokens": [0], "generated_tokens": [4], "runs": 1000, "limits": false});
    let path = begin(&server, long.clone()).await;
    refused(&server.post(PATH, &long).await, 409, "benchmark_running");
    // Three of the steps are loads.
    while server.get(&path).await.json["progress"]["done"].as_u64() < Some(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(delete(&server, &path).await, 200);
    let job = ended(&server, &path).await;
    assert_eq!(job["state"], "cancelled");
    let samples = figure(&job["report"], "decode.4.at0.x1")["samples"].as_array().unwrap().len();
    assert!((1..1000).contains(&samples) && job["report"]["interrupted"] == true, "{samples}");
}

#[tokio::test]
async fn a_busy_server_is_not_measured_unless_forced() {
    let server = House::with(&["fake"]).model("slow.fake", "stall_ms = 30\nsay = abc").serve();
    let chat = json!({"model": "slow", "messages": [{"role": "user", "content": "x"}], "max_tokens": 300, "stream": true});
    let mut answer = server.send("/v1/chat/completions", &chat).await;
    answer.chunk().await.unwrap();
    let machine = json!({"kind": "machine", "parts": ["devices"], "runs": 1});
    refused(&server.post(PATH, &machine).await, 409, "server_busy");
    let mut forced = machine.clone();
    forced["force"] = json!(true);
    let job = ended(&server, &begin(&server, forced).await).await;
    assert_eq!((&job["state"], &job["report"]["options"]["force"]), (&json!("finished"), &json!(true)));
    let notes = job["report"]["notes"].to_string();
    assert!(notes.contains("being served when it began: 1"), "{notes}");
}

#[tokio::test]
async fn requests_that_come_while_it_measures_are_counted() {
    let server = House::with(&["fake"]).model("m.fake", "").model("slow.fake", "stall_ms = 20").serve();
    let long = json!({"kind": "model", "model": "slow", "prompt_tokens": [0], "generated_tokens": [4], "runs": 1000, "limits": false});
    let path = begin(&server, long).await;
    let prompt = json!({"model": "m", "prompt": "x", "max_tokens": 2});
    for _ in 0..3 {
        assert_eq!(server.post("/v1/completions", &prompt).await.status, 200);
    }
    server.get("/v1/models").await;
    assert_eq!(delete(&server, &path).await, 200);
    let notes = ended(&server, &path).await["report"]["notes"].to_string();
    assert!(notes.contains("when it began: 0, requests that came meanwhile: 3"), "{notes}");
}

#[tokio::test]
async fn the_end_of_the_server_keeps_what_a_benchmark_had_measured() {
    let mut server = House::with(&["fake"]).model("slow.fake", "stall_ms = 20").serve();
    let long = json!({"kind": "model", "model": "slow", "prompt_tokens": [0], "generated_tokens": [4], "runs": 1000, "limits": false, "save": true});
    let path = begin(&server, long).await;
    while server.get(&path).await.json["progress"]["done"].as_u64() < Some(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told =
        std::process::Command::new("kill").args(["-TERM", &server.pid().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(server.wait().success());
    let id = path.rsplit('/').next().unwrap();
    let kept: Value =
        serde_json::from_slice(&server.house.run(&["bench", "history", id, "--json"]).stdout).unwrap();
    check(&kept);
    assert_eq!(kept["interrupted"], true);
    assert!(median(&kept, "decode.4.at0.x1") > 0.0, "{kept:#}");
}

#[tokio::test]
async fn what_is_no_benchmark_is_refused_by_name() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    for (body, status, words) in [
        (json!({"kind": "oven"}), 400, "oven"),
        (json!({"kind": "machine", "run": 1}), 400, "run"),
        (json!({"kind": "machine", "runs": 0}), 400, "`runs` must be"),
        (json!({"kind": "model", "model": "nobody"}), 404, "nobody"),
        (json!({"kind": "serve", "model": "m", "prompt_words": "few"}), 400, "few"),
        (json!({"kind": "machine", "force": 1}), 422, "force"),
    ] {
        let answer = server.post(PATH, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.json["error"]["message"].as_str().unwrap().contains(words), "{}", answer.text);
    }
    refused(&server.get("/api/benchmarks/none").await, 404, "benchmark_not_found");
}

#[tokio::test]
async fn only_administrators_begin_and_end_them() {
    let keys = "api_keys = [\"user\"]\nadmin_keys = [\"admin\"]";
    let server = House::with(&["fake"]).config(keys).model("m.fake", "").serve();
    let body = json!({"kind": "machine", "parts": ["devices"], "runs": 1});
    let ask = async |key: &str| {
        let request = server.client.post(format!("{}{PATH}", server.address)).bearer_auth(key).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask("nobody").await, ask("user").await, ask("admin").await), (401, 403, 200));
}
