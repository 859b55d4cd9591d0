//! `impetus bench`: figures are measured, stand beside their samples, and are missing with a reason where they are.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use impetus_tests::House;
use serde_json::{Value, json};

/// What a command wrote as JSON; every figure of it follows from its samples.
fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    check(&report);
    report
}

/// No number without samples, no figure without a number or a reason.
pub(crate) fn check(report: &Value) {
    let figures = report["figures"].as_array().unwrap();
    let mut names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    for figure in figures {
        let mut samples: Vec<f64> =
            figure["samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap()).collect();
        samples.sort_by(f64::total_cmp);
        if samples.is_empty() {
            assert!(figure["not_available"].is_string() && figure["median"].is_null(), "{figure}");
            continue;
        }
        assert!(figure["not_available"].is_null(), "{figure}");
        let middle = (samples[(samples.len() - 1) / 2] + samples[samples.len() / 2]) / 2.0;
        let median = figure["median"].as_f64().unwrap();
        assert!((median - middle).abs() <= 1e-9 * middle.abs(), "{figure}");
        for name in figure["derived_from"].as_array().unwrap() {
            assert!(names.contains(&name.as_str().unwrap()), "{name} of {figure}");
        }
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), figures.len(), "names are unique");
    assert!(report["machine"]["logical_cpus"].as_u64().unwrap() > 0 && report["options"].is_object());
    assert_eq!(report["versions"]["plugin-api"], "1.0.0");
}

pub(crate) fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

pub(crate) fn median(report: &Value, name: &str) -> f64 {
    let figure = figure(report, name);
    figure["median"].as_f64().unwrap_or_else(|| panic!("{figure:#}"))
}

fn reason(report: &Value, name: &str) -> String {
    let figure = figure(report, name);
    figure["not_available"].as_str().unwrap_or_else(|| panic!("{figure:#}")).to_owned()
}

fn house(option: &str) -> House {
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
    let name = "arithmetic.f32.fake.1_thread";
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
    assert!(reason(&none, "arithmetic.bf16.fake.1_thread").contains("`product/bf16`"));
    let silent = machine("bench silent gpu");
    for operation in ["f32", "bf16", "int8", "copy_to_device", "copy_from_device"] {
        assert!(reason(&silent, &format!("devices.fake.fake1.{operation}")).contains("does not offer"));
    }
    let broken = machine("bench broken gpu");
    assert_eq!(reason(&broken, "devices.fake.fake1.f32"), "told that this device multiplies nothing");
    // A crash ends the child and the figure, and nothing else.
    let aborting = machine("bench abort in run");
    assert!(reason(&aborting, "arithmetic.f32.fake.1_thread").contains("SIGABRT"));
    assert!(median(&aborting, "arithmetic.int8.plain.1_thread") > 0.0);
    let unasked = report(&House::with(&["fake"]).run(&["bench", "machine", "--parts", "devices", "--json"]));
    assert!(reason(&unasked, "devices.gpu").contains("fake (offers no benchmarks)"));
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
    assert!(String::from_utf8_lossy(&table.stdout).contains("read a model's file, in memory already"));
    let unknown = house.run(&["bench", "machine", "--parts", "disk", "--model", "nobody", "--json"]);
    assert!(reason(&report(&unknown), "disk.read.warm").contains("nobody"));
    assert_eq!(house.run(&["bench", "machine", "--runs", "0"]).status.code(), Some(2));
}

#[test]
fn a_model_is_measured_at_each_length_depth_and_number_of_sequences() {
    let house = House::with(&["fake"]).model("m.fake", "").model("tiny.fake", "sequence_tokens = 64");
    let arguments =
        "bench model m --prompt 8,16 --generate 96 --depth 0,32 --sequences 1,2 --runs 2 --no-limits --json";
    let found = report(&house.run(&arguments.split(' ').collect::<Vec<_>>()));
    for depth in [0, 32] {
        for sequences in [1, 2] {
            for work in ["prefill.8", "prefill.16", "decode.96"] {
                assert!(median(&found, &format!("{work}.at{depth}.x{sequences}")) > 0.0);
            }
        }
    }
    assert!(median(&found, "loading.time") > 0.0 && median(&found, "loading.peak_memory") > 1e5);
    // Counters are there or not; a number that nobody counted is never.
    let energy = figure(&found, "energy.decode.96.at0.x1");
    assert!(energy["median"].is_number() || energy["not_available"].is_string(), "{energy}");
    let arguments = "bench model tiny --prompt 100 --generate 8 --sequences 1,99 --runs 1 --no-limits --json";
    let refused = report(&house.run(&arguments.split(' ').collect::<Vec<_>>()));
    assert!(reason(&refused, "prefill.100.at0.x1").contains("64 tokens long here, and this needs 102"));
    assert!(reason(&refused, "decode.8.at0.x99").contains("together at most"));
}

#[test]
fn limits_stand_beside_what_a_model_reaches() {
    let house = house("bench").model("m.fake", "");
    let found = report(&house.run(&[
        "bench",
        "model",
        "m",
        "--prompt",
        "8",
        "--generate",
        "4",
        "--runs",
        "1",
        "--json",
    ]));
    let figures = found["figures"].as_array().unwrap();
    let measured = |beginning: &str| {
        let of = |figure: &&Value| figure["name"].as_str().unwrap().starts_with(beginning);
        figures.iter().find(of).is_some_and(|figure| figure["median"].is_number())
    };
    assert!(measured("arithmetic.f32.fake.") && measured("memory.read.main.") && measured("decode.4.at0.x1"));
    // The fake plugin says neither how large its weights are nor how many.
    assert!(reason(&found, "limits.bandwidth.decode.4.at0.x1").contains("how many bytes"));
    assert!(reason(&found, "limits.arithmetic.prefill.8.at0.x1").contains("how many parameters"));
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
    assert_eq!(loading["verdict"], "unknown", "one sample says nothing: {loading}");
    assert!(compared["remarks"].to_string().contains("other subjects: fast and slow"));
    let table = house.run(&["bench", "compare", &fast, &fast]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("same"));
    assert!(house.run(&["bench", "history", &fast, "--forget"]).status.success());
    assert_eq!(house.run(&["bench", "history", &fast]).status.code(), Some(1));
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let house = House::with(&["fake"]).model("m.fake", "stall_ms = 20");
    let arguments = "bench model m --prompt 0 --generate 4 --runs 1000 --no-limits --json";
    let mut command = house.command(&arguments.split(' ').collect::<Vec<_>>());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first line is of loading, and the next comes some seconds later, when it decodes.
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("decode")));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let found = report(&output);
    assert_eq!(found["interrupted"], true);
    let samples = figure(&found, "decode.4.at0.x1")["samples"].as_array().unwrap().len();
    assert!((1..1000).contains(&samples), "{samples}");
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
    let two = run("--clients 1 --requests 2 --rounds 2 --max-tokens 4 --against-body {\"max_tokens\":8}");
    assert_eq!(figure(&two, "ratio.throughput.requests")["samples"].as_array().unwrap().len(), 2);
    let own = server.house.run(&[
        "bench",
        "serve",
        "m",
        "--clients",
        "2",
        "--rounds",
        "1",
        "--max-tokens",
        "4",
        "--json",
    ]);
    assert_eq!(report(&own)["requests"].as_array().unwrap().len(), 4);
    let unknown = server.house.run(&["bench", "serve", &server.address, "--model", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    let far = server.house.run(&["bench", "serve", "http://192.0.2.1", "--model", "m"]);
    assert_eq!(far.status.code(), Some(2));
    assert_eq!(closed["options"]["targets"][0], json!({"url": server.address, "model": "m", "body": {}}));
}
