//! `impetus bench model`: speed at each length and depth, its limits, its quality, and what is left of it when it ends early.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use impetus_tests::House;
use serde_json::{Value, json};

use crate::benchmarks::{figure, house, median, reason, report, words};

#[test]
fn a_model_is_measured_at_each_length_depth_and_number_of_sequences() {
    // Steps that take a while: told tokens then arrive one by one, however busy the machine is.
    let house =
        House::with(&["fake"]).model("m.fake", "stall_ms = 1").model("tiny.fake", "sequence_tokens = 64");
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
    assert_eq!(
        figure(&found, "loading.time")["samples"].as_array().unwrap().len(),
        2,
        "as many as runs, up to three"
    );
    assert_eq!((&found["model"]["id"], &found["model"]["architecture"]), (&json!("m"), &json!("fake")));
    assert_eq!(found["options"]["engine"]["speculate"], false);
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
    let told = "stall_ms = 2\nweight_bytes = 3000000\nparameters = 2000000";
    let house = house("bench")
        .model("m.fake", "stall_ms = 2")
        .model("told.fake", told)
        .model("mixed.fake", format!("{told}\nexperts = 8"))
        .model("card.fake", format!("{told}\ngpu_layers = 12"));
    let measure = |model: &str| {
        report(&house.run(&words(&format!(
            "bench model {model} --prompt 8 --generate 32 --sequences 2 --runs 2 --json"
        ))))
    };
    let (bandwidth, arithmetic) = ("limits.bandwidth.decode.32.at0.x2", "limits.arithmetic.prefill.8.at0.x2");
    let silent = measure("m");
    let is_read = |figure: &&Value| figure["name"].as_str().unwrap().starts_with("memory.read.main.");
    let read = silent["figures"].as_array().unwrap().iter().find(is_read).unwrap();
    assert!(read["median"].as_f64() > Some(0.0), "{read}");
    assert!(
        reason(&silent, bandwidth).contains("how many bytes")
            && reason(&silent, arithmetic).contains("how many parameters")
    );
    // `report` has computed the shares again, from the rates, the limits and the model's size.
    let told = measure("told");
    assert!(median(&told, bandwidth) > 0.0 && median(&told, arithmetic) > 0.0);
    assert_eq!(told["model"]["weight_bytes"], 3_000_000);
    for (model, why) in [("mixed", "experts"), ("card", "12 layers")] {
        let found = measure(model);
        assert!(
            reason(&found, bandwidth).contains(why) && reason(&found, arithmetic).contains(why),
            "{found:#}"
        );
        assert!(median(&found, "decode.32.at0.x2") > 0.0);
    }
}

#[test]
fn quality_stands_beside_speed() {
    let house = House::with(&["fake"]).model("m.fake", "sequence_tokens = 64");
    std::fs::write(house.path("text.txt"), "a text that is more than four windows long, ".repeat(4)).unwrap();
    std::fs::write(house.path("short.txt"), "short").unwrap();
    let speed = "bench model m --prompt 0 --generate 8 --runs 1 --no-limits --json";
    let measure = |more: &str| house.run(&words(&format!("{speed} {more}")));
    let found = report(&measure("--perplexity text.txt --window 32 --save"));
    assert!(median(&found, "decode.8.at0.x1") > 0.0 && median(&found, "quality.perplexity.32") > 1.0);
    assert_eq!(figure(&found, "quality.cost.32")["samples"].as_array().unwrap().len(), 5);
    let text = &found["options"]["perplexity"];
    assert_eq!(
        *text,
        json!({"file": "text.txt", "sha256": impetus_tests::sha256(&house.path("text.txt")), "window": 32})
    );
    // The same by itself.
    let alone = house.run(&words("bench perplexity m text.txt --window 32 --json"));
    let alone: Value = serde_json::from_slice(&alone.stdout).unwrap();
    let perplexity = alone["measured"]["perplexity"].as_f64().unwrap();
    assert!((perplexity - median(&found, "quality.perplexity.32")).abs() <= 1e-9 * perplexity);
    // Too short is said before anything is measured; a window that is too long as soon as the model is loaded.
    let short = measure("--perplexity short.txt");
    assert_eq!((short.status.code(), short.stdout.len()), (Some(2), 0), "{short:?}");
    let long = measure("--perplexity text.txt --window 100 --save");
    assert_eq!(long.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&long.stderr).contains("context is 64 tokens here, and a window 100"),
        "{long:?}"
    );
    let found = report(&long);
    assert!(
        found["interrupted"] == true && found["figures"].as_array().unwrap().len() == 2,
        "loading alone: {found:#}"
    );
    let history = String::from_utf8(house.run(&["bench", "history"]).stdout).unwrap();
    assert!(history.lines().count() == 3 && history.contains("stopped"), "{history}");
}

#[test]
fn what_was_measured_before_a_failure_is_given_and_kept() {
    // Nine steps and more in each run: some runs end before one fails.
    let house = House::with(&["fake"]).model("m.fake", "fail_at = 60");
    let failed =
        house.run(&words("bench model m --prompt 0 --generate 8 --runs 1000 --no-limits --save --json"));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(told.contains("told to fail in decode") && told.contains("saved as"), "{told}");
    let found = report(&failed);
    let samples = figure(&found, "decode.8.at0.x1")["samples"].as_array().unwrap().len();
    assert!((1..60).contains(&samples), "{samples}");
    assert!(found["notes"].to_string().contains("it broke off"), "{found:#}");
    assert!(figure(&found, "loading.peak_memory")["median"].is_number());
    let kept: Value = serde_json::from_slice(&house.run(&["bench", "history", "--json"]).stdout).unwrap();
    assert_eq!(kept["benchmarks"].as_array().unwrap().len(), 1);
}

#[test]
fn in_this_process_peak_memory_is_not_a_models() {
    let house = House::with(&["fake"]).config("[plugin.fake]\nisolation = \"none\"").model("m.fake", "");
    let found =
        report(&house.run(&words("bench model m --prompt 8 --generate 0 --runs 1 --no-limits --json")));
    assert!(reason(&found, "loading.peak_memory").contains("isolation"));
    assert_eq!(found["plugins"]["fake"]["isolation"], "none");
}

/// What a command gives that is interrupted once it has told this.
fn interrupted(house: &House, arguments: &str, sign: &str) -> Output {
    let mut command = house.command(&words(arguments));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains(sign)));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn ctrl_c_keeps_the_windows_of_a_perplexity() {
    let house = House::with(&["fake"]).model("m.fake", "stall_ms = 20");
    std::fs::write(house.path("text.txt"), "a text of very many windows ".repeat(2000)).unwrap();
    let arguments = "bench perplexity m text.txt --window 32 --json";
    let output = interrupted(&house, arguments, "window 10 of");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let windows = found["measured"]["windows"].as_array().unwrap().len();
    assert!((10..1000).contains(&windows) && found["measured"]["perplexity"].is_number(), "{windows}");
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let house = House::with(&["fake"]).model("m.fake", "stall_ms = 20");
    let arguments = "bench model m --prompt 0 --generate 4 --runs 1000 --no-limits --json";
    // The first line is of loading, and the next comes some seconds later, when it decodes.
    let found = report(&interrupted(&house, arguments, "decode"));
    assert_eq!(found["interrupted"], true);
    let samples = figure(&found, "decode.4.at0.x1")["samples"].as_array().unwrap().len();
    assert!((1..1000).contains(&samples), "{samples}");
}
