//! `impetus bench`: figures are measured, stand beside their samples, and are missing with a reason where they are.

use std::process::{Output, Stdio};

use impetus_tests::House;
use serde_json::{Value, json};

use crate::benchmarks_traced::check;

/// What a command wrote as JSON; every figure of it follows from its samples.
pub(crate) fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    check(&report);
    report
}

pub(crate) fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

pub(crate) fn median(report: &Value, name: &str) -> f64 {
    let figure = figure(report, name);
    figure["median"].as_f64().unwrap_or_else(|| panic!("{figure:#}"))
}

pub(crate) fn reason(report: &Value, name: &str) -> String {
    let figure = figure(report, name);
    figure["not_available"].as_str().unwrap_or_else(|| panic!("{figure:#}")).to_owned()
}

pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub(crate) fn house(option: &str) -> House {
    House::with(&["fake"]).config(&format!("[plugin.fake.options]\nx = \"{option}\""))
}

/// A machine's arithmetic and devices, as quickly as can be.
fn machine(option: &str) -> Value {
    let arguments = "bench machine --parts arithmetic,devices --runs 2 --milliseconds 4 --size 64 --json";
    report(&house(option).run(&arguments.split(' ').collect::<Vec<_>>()))
}

#[test]
fn a_kernel_that_is_slowed_on_purpose_is_measured_as_slower() {
    let (usual, slow) = (machine("bench"), machine("bench slow"));
    let name = "arithmetic.f32.fake.fake0.1_thread";
    // One millisecond a product and eight: a busy machine may blur it, and cannot turn it.
    let ratio = median(&usual, name) / median(&slow, name);
    assert!(ratio > 2.0, "{ratio}");
    assert!(median(&usual, "arithmetic.f32.plain.1_thread") > 0.0);
    assert_eq!(usual["versions"]["plugin fake"], "1.0.0");
}

#[test]
fn what_a_device_does_not_do_is_not_available() {
    let none = machine("bench");
    let why = reason(&none, "devices.gpu");
    assert!(why.starts_with("no GPU device reported by any loaded plugin; asked: fake"), "{why}");
    assert!(reason(&none, "arithmetic.bf16.fake.fake0.1_thread").contains("`product/bf16`"));
    let silent = machine("bench silent gpu");
    for operation in ["f32", "bf16", "int8", "copy_to_device", "copy_from_device"] {
        assert!(reason(&silent, &format!("devices.fake.fake1.{operation}")).contains("does not offer"));
    }
    let broken = machine("bench broken gpu");
    assert_eq!(reason(&broken, "devices.fake.fake1.f32"), "told that this device multiplies nothing");
    // A crash ends the child and the figure, and nothing else: another device of the same plugin is measured.
    let aborting = machine("bench abort in run second cpu");
    assert!(reason(&aborting, "arithmetic.f32.fake.fake0.1_thread").contains("SIGABRT"));
    assert!(median(&aborting, "arithmetic.f32.fake.fake3.1_thread") > 0.0);
    assert!(median(&aborting, "arithmetic.int8.plain.1_thread") > 0.0);
    let unasked = report(&House::with(&["fake"]).run(&["bench", "machine", "--parts", "devices", "--json"]));
    assert!(reason(&unasked, "devices.gpu").contains("fake (offers no benchmarks)"));
}

#[test]
fn a_device_that_computes_and_copies_has_figures() {
    let working = machine("bench working gpu");
    // The fake computes and copies in this machine's memory: no more than that can come out.
    for (operation, most) in [("f32", 1e13), ("copy_to_device", 1e13), ("copy_from_device", 1e13)] {
        let rate = median(&working, &format!("devices.fake.fake2.{operation}"));
        assert!(rate > 1e3 && rate < most, "{operation}: {rate}");
    }
    assert!(reason(&working, "devices.fake.fake2.bf16").contains("does not offer"));
    let figures = working["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| figure["name"] != "devices.gpu"), "there is a device");
    assert_eq!(working["plugins"]["fake"]["options"]["x"], "bench working gpu");
}

#[test]
fn memory_and_disk_of_this_machine_are_measured() {
    let house = House::with(&["fake"]).model("m.fake", "x".repeat(1 << 20));
    let arguments = "bench machine --parts memory,disk --runs 2 --milliseconds 2 --json";
    let found = report(&house.run(&arguments.split(' ').collect::<Vec<_>>()));
    for access in ["read", "write", "copy"] {
        assert!(median(&found, &format!("memory.{access}.main.1_thread")) > 1e6);
    }
    assert!(median(&found, "disk.read.warm") > 0.0);
    // A temporary folder may be in memory itself: then it says so.
    let cold = figure(&found, "disk.read.cold");
    assert!(
        cold["median"].is_number() || cold["not_available"].as_str().unwrap().contains("memory"),
        "{cold}"
    );
    let table = house.run(&["bench", "machine", "--parts", "disk", "--runs", "1"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("read a model's file, in memory already") && table.contains("RUNS"), "{table}");
    assert!(table.contains("too few to tell the noise"), "{table}");
    let unknown = house.run(&["bench", "machine", "--parts", "disk", "--model", "nobody", "--json"]);
    assert!(reason(&report(&unknown), "disk.read.warm").contains("nobody"));
    assert_eq!(house.run(&["bench", "machine", "--runs", "0"]).status.code(), Some(2));
}

#[test]
fn what_is_kept_does_not_need_a_reader() {
    let house = House::with(&["fake"]).model("m.fake", "");
    let mut command = house.command(&words("bench machine --parts disk --runs 1 --save --json"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Nobody reads: every write to the pipe fails.
    drop(child.stdout.take());
    child.wait().unwrap();
    let kept: Value = serde_json::from_slice(&house.run(&["bench", "history", "--json"]).stdout).unwrap();
    assert_eq!(kept["benchmarks"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_saved_is_listed_compared_and_forgotten() {
    let house = House::with(&["fake"]).model("fast.fake", "").model("slow.fake", "stall_ms = 15");
    let measure = |model: &str| {
        let arguments =
            format!("bench model {model} --prompt 0 --generate 6 --runs 5 --no-limits --save --markdown");
        let output = house.run(&arguments.split(' ').collect::<Vec<_>>());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("## model: {model}")));
        told.rsplit("saved as ").next().unwrap().trim().to_owned()
    };
    let (fast, slow) = (measure("fast"), measure("slow"));
    let history: Value = serde_json::from_slice(&house.run(&["bench", "history", "--json"]).stdout).unwrap();
    assert_eq!(history["benchmarks"].as_array().unwrap().len(), 2, "{history:#}");
    let kept = report(&house.run(&["bench", "history", &slow[..6], "--json"]));
    // Each step takes 15 milliseconds at least.
    assert!(median(&kept, "decode.6.at0.x1") < 1000.0 / 15.0 * 1.01);
    let compared = house.run(&["bench", "compare", &fast, &slow, "--json"]);
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    let changes = compared["changes"].as_array().unwrap();
    let decode = changes.iter().find(|change| change["name"] == "decode.6.at0.x1").unwrap();
    assert_eq!(decode["verdict"], "worse", "{decode}");
    let loading = changes.iter().find(|change| change["name"] == "loading.time").unwrap();
    assert_eq!(loading["verdict"], "unknown", "three samples say nothing: {loading}");
    assert!(compared["remarks"].to_string().contains("other subjects: fast and slow"));
    let table = house.run(&["bench", "compare", &fast, &fast]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("same"));
    assert!(house.run(&["bench", "history", &fast, "--forget"]).status.success());
    assert_eq!(house.run(&["bench", "history", &fast]).status.code(), Some(1));
}

#[tokio::test]
async fn servers_are_loaded_by_clients_and_by_arrivals() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let run = |arguments: &str| {
        let line = format!("bench serve {} --model m {arguments} --prompt-words 5 --json", server.address);
        report(&server.house.run(&line.split_whitespace().collect::<Vec<_>>()))
    };
    let closed =
        run("--clients 2 --requests 4 --rounds 2 --max-tokens 8 --ttft-limit 60000 --itl-limit 60000");
    let requests = closed["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 8);
    assert!(requests.iter().all(|one| one["tokens"] == 8 && one["error"].is_null()), "{requests:?}");
    for name in [
        "throughput.output_tokens",
        "latency.ttft.p99",
        "latency.itl.p90",
        "latency.tpot.p50",
        "latency.e2e.p95",
    ] {
        assert!(median(&closed, name) > 0.0, "{name}");
    }
    let answered = median(&closed, "throughput.requests");
    assert!((median(&closed, "goodput.requests") - answered).abs() < 1e-9, "all are good under such limits");
    let open = run(
        "--rate 40 --requests 6 --rounds 1 --turns 2 --shared-words 3 --max-tokens 2-4 --ttft-limit 0.0001",
    );
    let requests = open["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 12);
    let mut arrivals: Vec<f64> = requests.iter().map(|one| one["sent_at"].as_f64().unwrap()).collect();
    arrivals.dedup();
    assert!(arrivals.len() > 1 && median(&open, "goodput.requests").abs() < 1e-9);
    two_servers_get_the_same(&run("--clients 1 --requests 6 --rounds 2 --max-tokens 2-40 --against-body {}"));
    let own = "bench serve m --clients 2 --rounds 1 --max-tokens 4 --prompt-words 5 --json";
    let own = server.house.run(&words(own));
    let own = report(&own);
    assert_eq!(own["requests"].as_array().unwrap().len(), 4);
    assert_eq!((&own["versions"]["plugin fake"], &own["model"]["id"]), (&json!("1.0.0"), &json!("m")));
    assert!(own["options"]["engine"]["max_sequences"].is_number() && closed["options"]["engine"].is_null());
    let unknown = server.house.run(&["bench", "serve", &server.address, "--model", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    let far = server.house.run(&["bench", "serve", "http://192.0.2.1", "--model", "m"]);
    assert_eq!(far.status.code(), Some(2));
    assert_eq!(closed["options"]["targets"][0], json!({"url": server.address, "model": "m", "body": {}}));
}

/// In each round both are asked for as long answers, and each comes first in turn.
fn two_servers_get_the_same(report: &Value) {
    assert_eq!(figure(report, "ratio.throughput.requests")["samples"].as_array().unwrap().len(), 2);
    let requests = report["requests"].as_array().unwrap();
    let tokens = |target: u64, round: u64| -> Vec<u64> {
        let of = |one: &&Value| one["target"] == target && one["round"] == round;
        requests.iter().filter(of).map(|one| one["tokens"].as_u64().unwrap()).collect()
    };
    assert_eq!(tokens(0, 0).len(), 6);
    assert_eq!((tokens(0, 0), tokens(0, 1)), (tokens(1, 0), tokens(1, 1)));
    assert_ne!(tokens(0, 0), tokens(0, 1), "another round, other lengths");
    let order: Vec<u64> =
        report["rounds"].as_array().unwrap().iter().map(|one| one["target"].as_u64().unwrap()).collect();
    assert_eq!(order, [0, 1, 1, 0]);
}

#[tokio::test]
async fn a_server_that_hangs_ends_the_request_and_not_the_patience() {
    let server = House::with(&["fake"]).model("m.fake", "hang_at = 12").serve();
    // Loaded before: that may take its time.
    assert_eq!(
        server.post("/v1/completions", &json!({"model": "m", "prompt": "x", "max_tokens": 1})).await.status,
        200
    );
    let line = format!(
        "bench serve {} --model m --clients 1 --requests 1 --rounds 1 --max-tokens 40 --prompt-words 5 --timeout 4 --json",
        server.address
    );
    let output = server.house.run(&words(&line));
    assert_eq!(output.status.code(), Some(1));
    let found = report(&output);
    let errors: Vec<&str> =
        found["requests"].as_array().unwrap().iter().filter_map(|one| one["error"].as_str()).collect();
    assert!(errors.iter().any(|error| error.contains("hung")), "{errors:?}");
}
