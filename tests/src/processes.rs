//! A worker as a process among others: who may stop it, what it leaves behind, and which of its silences is a hang.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use impetus_tests::{House, Server};
use serde_json::{Value, json};

use crate::workers::{COMPLETIONS, body, children_of, pid, streamed, until, with_plugins};

/// Long before this a test has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn signal(name: &str, whom: &str) {
    let sent = Command::new("kill").args([name, "--", whom]).status().unwrap();
    assert!(sent.success(), "kill {name} {whom}");
}

#[tokio::test]
async fn what_stops_the_server_lets_running_answers_end() {
    let house = House::with(&["fake"]).model("m.fake", "stall_ms = 10");
    let mut command = house.command(&["serve"]);
    // As a shell does: a terminal's Ctrl-C goes to the whole group.
    command.process_group(0);
    let mut server = house.serve_by(command);
    let mut stream = server.send(COMPLETIONS, &streamed("m", "hello", 200)).await.bytes_stream();
    let mut said = stream.next().await.unwrap().unwrap().to_vec();
    // A service manager tells every process of its own.
    let children = children_of(server.pid().into());
    assert!(children.len() >= 2, "a worker and a prober: {children:?}");
    for child in children {
        signal("-TERM", &child.to_string());
    }
    signal("-INT", &format!("-{}", server.pid()));
    while let Some(piece) = stream.next().await {
        said.extend(piece.unwrap());
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("data: [DONE]\n\n") && !said.contains("\"error\""), "{said}");
    assert!(server.wait().success());
}

/// Processes of a group that are not dead.
fn group(id: u64) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let status = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    // Behind the name in brackets: state, parent, group.
    let is_of_it = |status: &String| {
        let rest: Vec<&str> = status.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        rest.get(2) == Some(&id.to_string().as_str()) && rest.first() != Some(&"Z")
    };
    status.filter(is_of_it).collect()
}

#[tokio::test]
async fn what_a_worker_has_forked_hides_no_crash_and_ends_with_it() {
    let house = House::with(&["fake"]).model("m.fake", "fork_then_abort_at = 4\nstall_ms = 500");
    let server = with_plugins(house, "hang_secs = 60").serve();
    let mut stream = server.send(COMPLETIONS, &streamed("m", "hello", 20)).await.bytes_stream();
    let mut said = stream.next().await.unwrap().unwrap().to_vec();
    let (started, worker) = (Instant::now(), pid(&server, "m").await);
    assert!(!group(worker).is_empty(), "it leads a group of its own");
    while let Some(piece) = stream.next().await {
        said.extend(piece.unwrap());
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("engine_crashed") && said.contains("SIGABRT"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(20), "as if it hung: {:?}", started.elapsed());
    until("what it has forked ends", async || group(worker).is_empty()).await;
}

async fn tokenize(server: &Server, text: &str) -> (u16, Value) {
    let asked = json!({"model": "m", "content": text});
    let answer = tokio::time::timeout(PATIENCE, server.post("/tokenize", &asked)).await;
    let answer = answer.expect("no question waits for ever");
    (answer.status, answer.json)
}

#[tokio::test]
async fn a_question_that_hangs_beside_a_busy_loop_is_noticed() {
    let house =
        House::with(&["fake"]).model("m.fake", "hang_on = hang\nstall_ms = 20\nsequence_tokens = 4000");
    let server = with_plugins(house, "hang_secs = 2").serve();
    assert_eq!(tokenize(&server, "well").await.0, 200);
    let busy = streamed("m", "hello", 3000);
    let (stream, (status, told)) = tokio::join!(server.post(COMPLETIONS, &busy), tokenize(&server, "hang"));
    assert_eq!((status, &told["error"]["code"]), (503, &"engine_crashed".into()), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("hung"), "{told}");
    assert!(stream.text.contains("engine_crashed"), "{}", stream.text);
    // And where nothing else is to be done.
    let (status, told) = tokenize(&server, "hang").await;
    assert_eq!((status, &told["error"]["code"]), (503, &"engine_crashed".into()), "{told}");
}

#[tokio::test]
async fn a_loop_that_hangs_beside_answered_questions_is_noticed() {
    let house = House::with(&["fake"]).model("m.fake", "hang_at = 4");
    let server = with_plugins(house, "hang_secs = 2").serve();
    let question = body("m", "hello", 20);
    let asking = async {
        loop {
            tokenize(&server, "well").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        answer = server.post(COMPLETIONS, &question) => {
            assert_eq!((answer.status, &answer.json["error"]["code"]), (503, &"engine_crashed".into()));
            assert!(answer.text.contains("hung"), "{}", answer.text);
        }
        () = asking => {}
        () = tokio::time::sleep(PATIENCE) => panic!("nobody noticed"),
    }
}
