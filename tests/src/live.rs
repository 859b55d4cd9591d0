//! A running server and its plugin folder: what is dropped in, replaced, removed or edited takes effect by itself, and
//! `/api/events` tells it.

use std::io::Write;
use std::time::{Duration, Instant};

use impetus_tests::{House, Server, file_name, library};
use serde_json::{Value, json};

use crate::events::Events;

async fn complete(server: &Server) -> u16 {
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 2});
    server.post("/v1/completions", &body).await.status
}

#[tokio::test]
async fn a_plugin_that_is_dropped_in_is_served_and_one_that_is_taken_out_is_not() {
    let server = House::with(&[]).model("tiny.fake", "say = hello").serve();
    let mut events = Events::of(&server).await;
    assert_eq!(server.get("/api/formats").await.json, json!({"formats": []}));
    assert_eq!(complete(&server).await, 404);

    // In place, and slowly: while it is half there another file is judged, it is not.
    let whole = std::fs::read(library("fake")).unwrap();
    let target = server.house.path(&format!("plugins/{}", file_name("fake")));
    let mut copy = std::fs::File::create(&target).unwrap();
    copy.write_all(&whole[..whole.len() / 2]).unwrap();
    std::fs::write(server.house.path("broken"), "not a library").unwrap();
    std::fs::rename(server.house.path("broken"), server.house.path("plugins/libbroken.so")).unwrap();
    events.plugin("broken", "not_a_plugin").await;
    // However long its writer takes.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    copy.write_all(&whole[whole.len() / 2..]).unwrap();
    drop(copy);
    let dropped = Instant::now();
    events.formats(json!(["fake"])).await;
    assert!(dropped.elapsed() < Duration::from_secs(2), "{:?}", dropped.elapsed());
    let of_half: Vec<_> = events.heard.iter().filter(|event| event["id"] != "broken").collect();
    assert!(of_half.iter().all(|event| event["state"] != "not_a_plugin"), "{of_half:#?}");
    assert_eq!(server.get("/api/formats").await.json["formats"][0]["id"], "fake");
    assert_eq!(complete(&server).await, 200);

    std::fs::remove_file(&target).unwrap();
    events.until(|event| event["type"] == "plugin_removed" && event["id"] == "fake").await;
    events.formats(json!([])).await;
    assert_eq!(complete(&server).await, 503, "it is known whose model that was");

    // In one step, as `impetus plugins add` does.
    assert!(server.house.run(&["plugins", "add", library("fake").to_str().unwrap()]).status.success());
    events.formats(json!(["fake"])).await;
    assert_eq!(complete(&server).await, 200);
}

#[tokio::test]
async fn an_edit_of_plugins_toml_takes_effect_and_a_wrong_one_does_not() {
    let server = House::with(&["fake"]).serve();
    let mut events = Events::of(&server).await;
    events.formats(json!(["fake"])).await;

    server.house.edit_config("[plugin.fake]\nenabled = false\n[engine]\nqueue = 7");
    let told = events.until(|event| event["type"] == "configuration").await;
    assert_eq!(told["applied"], json!(["plugin.fake.enabled"]));
    assert_eq!(told["needs_restart"], json!(["engine.queue"]));
    events.plugin("fake", "disabled").await;
    events.formats(json!([])).await;

    server.house.edit_config("[plugin.fake]\nenabled = nonsense");
    let told = events.until(|event| event["type"] == "configuration_refused").await;
    let reason = told["reason"].as_str().unwrap();
    assert!(
        reason.contains("line 6") && !reason.contains(server.house.path("").to_str().unwrap()),
        "{reason}"
    );
    assert_eq!(server.get("/api/plugins").await.json["plugins"][0]["state"], "disabled");

    server.house.edit_config("[plugin.fake]\nenabled = true");
    events.plugin("fake", "loaded").await;
    events.formats(json!(["fake"])).await;
}

/// What one model is told goes into its load, wherever the plugin runs, and an edit of it makes the next load another.
#[tokio::test]
async fn a_models_own_options_are_its_own_and_an_edit_holds_from_the_next_request() {
    for isolation in ["process", "none"] {
        let plugins = format!("[plugin.fake]\nisolation = \"{isolation}\"\n");
        let house =
            House::with(&["fake"]).model("tiny.fake", "say = ccccc").model("other.fake", "say = ccccc");
        let told = |word: &str| format!("{plugins}[model.tiny.options]\nsay = \"{word}\"");
        let server = house.config(&told("aaaaa")).serve();
        let said = async |model: &str| {
            let body = json!({"model": model, "prompt": "a", "max_tokens": 5});
            let answer = server.post("/v1/completions", &body).await;
            answer.json["choices"][0]["text"].as_str().map(str::to_owned).unwrap_or(answer.text)
        };
        assert_eq!(
            (said("tiny").await.as_str(), said("other").await.as_str()),
            ("aaaaa", "ccccc"),
            "{isolation}"
        );
        let mut events = Events::of(&server).await;
        server.house.edit_config(&told("bbbbb"));
        let edit = events.until(|event| event["type"] == "configuration").await;
        assert_eq!(edit["applied"], json!(["model.tiny.options.say"]));
        let gone =
            events.until(|event| event["type"] == "model" && event["state"]["name"] == "draining").await;
        assert_eq!(
            (&gone["id"], &gone["reason"]),
            (&json!("tiny"), &json!("its options in plugins.toml were changed"))
        );
        assert_eq!(
            (said("tiny").await.as_str(), said("other").await.as_str()),
            ("bbbbb", "ccccc"),
            "{isolation}"
        );
    }
}

#[tokio::test]
async fn the_server_is_ready_unless_a_required_plugin_is_missing() {
    let server = House::with(&["fake"]).serve();
    let mut events = Events::of(&server).await;
    events.formats(json!(["fake"])).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    server.house.edit_config("[plugin.fake]\nrequired = true\n[plugin.other]\nrequired = true");
    events.until(|event| event["type"] == "configuration").await;
    // What is told is true by then of the configuration; the plugins follow with the next look at them.
    server.house.edit_config("[plugin.fake]\nrequired = true\nenabled = false");
    events.plugin("fake", "disabled").await;
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.json["plugins"], json!([{"id": "fake", "state": "disabled"}]));
    server.house.edit_config("[plugin.fake]\nrequired = true");
    events.plugin("fake", "loaded").await;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_replaced_plugin_ends_with_its_requests_and_the_next_one_gets_the_new() {
    let server = House::with(&["fake"]).model("tiny.fake", "say = hello\nstall_ms = 20").serve();
    let mut events = Events::of(&server).await;
    events.formats(json!(["fake"])).await;
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 200, "stream": true});
    let mut answer = server.send("/v1/completions", &body).await;
    let mut said = answer.chunk().await.unwrap().unwrap().to_vec();

    // The same code with a byte more behind it is another file.
    let mut newer = std::fs::read(library("fake")).unwrap();
    newer.push(0);
    std::fs::write(server.house.path("newer"), newer).unwrap();
    let target = server.house.path(&format!("plugins/{}", file_name("fake")));
    std::fs::rename(server.house.path("newer"), target).unwrap();
    events.until(|event| event["type"] == "model" && event["state"]["name"] == "draining").await;
    let listed = server.get("/api/plugins").await.json;
    let superseded: Vec<&Value> =
        listed["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["superseded"]).collect();
    assert_eq!(superseded, [&json!(false), &json!(true)], "{listed:#}");
    assert_ne!(listed["plugins"][0]["sha256"], listed["plugins"][1]["sha256"]);
    assert_eq!(complete(&server).await, 200);

    while let Some(piece) = answer.chunk().await.unwrap() {
        said.extend(piece);
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("data: [DONE]\n\n") && !said.contains("\"error\""), "{said}");
    events.until(|event| event["type"] == "plugin_removed" && event["id"] == "fake").await;
    assert_eq!(server.get("/api/plugins").await.json["plugins"].as_array().unwrap().len(), 1);
    assert_eq!(complete(&server).await, 200);
}

#[tokio::test]
async fn a_plugin_that_is_copied_over_in_place_takes_nothing_away_from_those_that_run() {
    let server = House::with(&["fake"]).model("tiny.fake", "say = hello\nstall_ms = 20").serve();
    let mut events = Events::of(&server).await;
    events.formats(json!(["fake"])).await;
    let before = server.get("/api/plugins").await.json["plugins"][0]["sha256"].clone();
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 200, "stream": true});
    let mut answer = server.send("/v1/completions", &body).await;
    let mut said = answer.chunk().await.unwrap().unwrap().to_vec();

    let target = server.house.path(&format!("plugins/{}", file_name("fake")));
    let mut newer = std::fs::read(&target).unwrap();
    newer.push(0);
    // As `cp` does, but slowly: for a while nothing of the old is left in the file, and not all of the new is there.
    let mut copy = std::fs::File::create(&target).unwrap();
    for _ in 0..20 {
        said.extend(answer.chunk().await.unwrap().unwrap());
    }
    copy.write_all(&newer).unwrap();
    drop(copy);
    events.until(|event| event["type"] == "model" && event["state"]["name"] == "draining").await;
    let after = server.get("/api/plugins").await.json["plugins"][0]["sha256"].clone();
    assert_ne!(before, after);
    assert_eq!(complete(&server).await, 200, "the new one runs");
    while let Some(piece) = answer.chunk().await.unwrap() {
        said.extend(piece);
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("data: [DONE]\n\n") && !said.contains("\"error\""), "{said}");
}

#[tokio::test]
async fn a_plugin_that_hangs_holds_up_no_other() {
    let hangs = "[plugin.fake.options]\nx = \"hang\"";
    let server = House::with(&["fake"]).config(hangs).serve();
    let mut events = Events::of(&server).await;
    std::fs::copy(library("gguf"), server.house.path("plugins/new")).unwrap();
    std::fs::rename(server.house.path("plugins/new"), server.house.path("plugins/libgguf.so")).unwrap();
    events.formats(json!(["gguf"])).await;
    let of_fake: Vec<_> = events.heard.iter().filter(|event| event["id"] == "fake").collect();
    assert!(of_fake.is_empty(), "its trial was waited for: {of_fake:#?}");
    let told = events.plugin("fake", "quarantined").await;
    assert!(told["reason"].as_str().unwrap().contains("hung"), "{told}");
}

#[tokio::test]
async fn a_plugin_folder_that_another_takes_the_place_of_is_followed() {
    let server = House::with(&["fake"]).serve();
    let mut events = Events::of(&server).await;
    let at = |below: &str| server.house.path(below);
    std::fs::rename(at("plugins"), at("old")).unwrap();
    events.formats(json!([])).await;
    std::fs::create_dir(at("plugins")).unwrap();
    // What goes on in the old one concerns nobody any more; in the new one it does.
    std::fs::copy(library("fake"), at("plugins/libfake.so")).unwrap();
    events.formats(json!(["fake"])).await;
    std::fs::remove_file(at("plugins/libfake.so")).unwrap();
    events.formats(json!([])).await;
}

#[tokio::test]
async fn a_removed_plugin_ends_with_its_requests() {
    let server = House::with(&["fake"]).model("tiny.fake", "say = hello\nstall_ms = 20").serve();
    let mut events = Events::of(&server).await;
    events.formats(json!(["fake"])).await;
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 150, "stream": true});
    let mut answer = server.send("/v1/completions", &body).await;
    let mut said = answer.chunk().await.unwrap().unwrap().to_vec();
    std::fs::remove_file(server.house.path(&format!("plugins/{}", file_name("fake")))).unwrap();
    events.formats(json!([])).await;
    let draining = events.model("tiny", "draining").await;
    assert!(draining["reason"].as_str().unwrap().contains("replaced or removed"), "{draining}");
    // As long as it still ends, it is known whose model that was.
    assert_eq!(complete(&server).await, 503);
    while let Some(piece) = answer.chunk().await.unwrap() {
        said.extend(piece);
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("data: [DONE]\n\n") && !said.contains("\"error\""), "{said}");
    events.model("tiny", "unloaded").await;
}
