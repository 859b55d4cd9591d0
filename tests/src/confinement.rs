//! What a process with a plugin's code gets, and what it may do.

use std::ffi::c_long;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use impetus_tests::{House, Server};

use crate::workers::{COMPLETIONS, body, children_of, pid, processes, with_plugins};

#[tokio::test]
async fn a_worker_gets_neither_keys_nor_loader_variables_nor_descriptors() {
    let house = House::with(&["fake"]).model("m.fake", "");
    let impetus = house.command(&[]);
    // A careless parent leaves a file open.
    let mut command = Command::new("sh");
    command.args(["-c", "exec 9<plugins.toml; exec \"$0\" serve"]).arg(impetus.get_program());
    command.envs(impetus.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(house.path("")).stdin(Stdio::null());
    command.env("LD_LIBRARY_PATH", "/nowhere").env("IMPETUS_API_KEYS", "secret").env("KEPT", "kept");
    let server = house.serve_by(command);
    let answer = server.client.post(format!("{}{COMPLETIONS}", server.address)).bearer_auth("secret");
    assert_eq!(answer.json(&body("m", "x", 1)).send().await.unwrap().status(), 200);
    let left_open = std::fs::read_link(format!("/proc/{}/fd/9", server.pid())).unwrap();
    assert!(left_open.ends_with("plugins.toml"), "{left_open:?}");
    for child in children_of(u64::from(server.pid())) {
        let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("secret") && !environment.contains("/nowhere"), "{environment}");
        assert!(environment.contains("KEPT=kept"), "{environment}");
        let open = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap();
        let open: Vec<_> = open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect();
        let expected = |path: &Path| {
            ["socket:", "pipe:", "/dev/null"].iter().any(|&it| path.to_string_lossy().starts_with(it))
        };
        assert!(open.iter().all(|path| expected(path)) && open.len() <= 6, "{open:?}");
    }
}

#[tokio::test]
async fn a_confined_worker_reads_its_model_and_writes_nothing() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    let at = |name: &str| outside.path().join(name).display().to_string();
    let house =
        House::with(&["fake"]).model("m.fake", "").model("r.fake", format!("read = {}", at("secret")));
    let server = house.model("w.fake", format!("write = {}", at("new"))).serve();
    assert_eq!(server.post(COMPLETIONS, &body("m", "x", 1)).await.status, 200);
    let worker = pid(&server, "m").await;
    let names = confinement(&server).await;
    for name in ["dies_with_host", "dies_before_host", "no_core_dumps", "no_new_privileges"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    // And it is so, as the kernel has it.
    assert_eq!(of_process(worker, "status", "NoNewPrivs:"), ["1"]);
    assert_eq!(of_process(worker, "limits", "Max core file size")[..2], ["0", "0"]);
    let oom_score = |pid: u64| of_process(pid, "oom_score_adj", "")[0].parse::<i32>().unwrap();
    assert!(oom_score(worker) > oom_score(server.pid().into()) || oom_score(worker) == 1000);
    let is_confined = landlock_version() >= 1;
    for (name, since) in [("files_read_only", 1), ("no_tcp", 4)] {
        let is_told = names.iter().any(|known| known == name);
        assert_eq!(is_told, landlock_version() >= since, "{name}: {names:?}");
    }
    for model in ["r", "w"] {
        let answer = server.post(COMPLETIONS, &body(model, "x", 1)).await;
        // A kernel without Landlock confines nothing, and then nothing says that it does.
        assert_eq!(answer.status, if is_confined { 400 } else { 200 }, "{}", answer.text);
    }
    assert_eq!(outside.path().join("new").exists(), !is_confined);
}

#[tokio::test]
async fn what_plugins_have_no_use_for_is_refused_unless_plugins_toml_allows_it() {
    for (keys, open) in [("", false), ("confinement = \"files\"", true)] {
        let house = House::with(&["fake"]).model("m.fake", "").model("udp.fake", "reach_out = udp");
        let house = house.model("unix.fake", "reach_out = unix").model("program.fake", "reach_out = program");
        let server = with_plugins(house, keys).serve();
        assert_eq!(server.post(COMPLETIONS, &body("m", "x", 1)).await.status, 200);
        let worker = pid(&server, "m").await;
        let names = confinement(&server).await;
        let refuses = !open && filters_calls();
        for name in ["no_sockets", "no_programs", "no_tracing", "no_administration"] {
            assert_eq!(names.iter().any(|known| known == name), refuses, "{name}: {names:?}");
        }
        let as_here = of_process(std::process::id().into(), "status", "Seccomp:");
        let expected = if refuses { vec!["2".to_owned()] } else { as_here };
        assert_eq!(of_process(worker, "status", "Seccomp:"), expected);
        for model in ["udp", "unix"] {
            let answer = server.post(COMPLETIONS, &body(model, "x", 1)).await;
            assert_eq!(answer.status, if refuses { 400 } else { 200 }, "{names:?}: {}", answer.text);
        }
        let program = server.post(COMPLETIONS, &body("program", "x", 1)).await;
        let runs_none = refuses || landlock_version() >= 1;
        assert_eq!(program.status, if runs_none { 400 } else { 200 }, "{names:?}: {}", program.text);
    }
}

#[tokio::test]
async fn one_plugin_alone_may_be_let_do_what_it_likes() {
    let outside = tempfile::tempdir().unwrap();
    let new = outside.path().join("new");
    let house = House::with(&["fake"]).model("w.fake", format!("write = {}", new.display()));
    let server = house.config("[plugin.fake]\nconfinement = \"none\"").serve();
    assert_eq!(server.post(COMPLETIONS, &body("w", "x", 1)).await.status, 200);
    assert!(new.exists());
    let names = confinement(&server).await;
    let has = |name: &str| names.iter().any(|known| known == name);
    assert!(has("no_core_dumps") && !has("files_read_only") && !has("no_sockets"), "{names:?}");
}

#[tokio::test]
async fn who_asks_about_model_files_reads_those_and_what_links_lead_to_alone() {
    let (outside, linked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    std::fs::write(linked.path().join("real"), "").unwrap();
    let house = House::with(&["fake"]).model("r.fake", format!("read_in_probe = {}", secret.display()));
    let house = house.model("m.fake", "");
    std::os::unix::fs::symlink(linked.path().join("real"), house.path("models/link.fake")).unwrap();
    let server = house.serve();
    for (model, status) in [("m", 200), ("link", 200), ("r", if landlock_version() >= 1 { 400 } else { 200 })]
    {
        let answer = server.post(COMPLETIONS, &body(model, "x", 1)).await;
        assert_eq!(answer.status, status, "{model}: {}", answer.text);
    }
    // Whoever names a file at the command line wants it read.
    let mine = secret.with_file_name("mine.fake");
    std::fs::write(&mine, format!("read_in_probe = {}", secret.display())).unwrap();
    let inspected = server.house.run(&["inspect", mine.to_str().unwrap()]);
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
}

async fn confinement(server: &Server) -> Vec<String> {
    let names = processes(server).await[0]["confinement"].clone();
    names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The words behind a key in a file of `/proc/PID`.
fn of_process(pid: u64, file: &str, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key}: {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Which version of Landlock the kernel offers; none: 0 or less.
#[expect(unsafe_code, reason = "nobody but the kernel knows, and it is asked by its number")]
fn landlock_version() -> c_long {
    const LANDLOCK_CREATE_RULESET: c_long = 444;
    const VERSION: c_long = 1;

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    // SAFETY: of a null ruleset of length 0 nothing is read, and with this flag none is made.
    unsafe { syscall(LANDLOCK_CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, VERSION) }
}

/// Whether the kernel can refuse single system calls.
fn filters_calls() -> bool {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    actions.is_ok_and(|actions| actions.split_whitespace().any(|action| action == "errno"))
}

#[tokio::test]
async fn the_host_opens_no_plugin_unless_it_is_told_to() {
    let has_plugin = |pid: u64| {
        std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("libimpetus_plugin_fake")
    };
    for (config, opens) in [("", false), ("[plugin.fake]\nisolation = \"none\"", true)] {
        let server = House::with(&["fake"]).model("m.fake", "").config(config).serve();
        assert_eq!(server.post(COMPLETIONS, &body("m", "x", 1)).await.status, 200);
        assert_eq!(has_plugin(server.pid().into()), opens, "{config}");
        assert!(has_plugin(pid(&server, "m").await));
    }
}

#[tokio::test]
async fn what_a_worker_says_is_in_the_log_beside_its_models_name() {
    let house = House::with(&["fake"]).model("talks.fake", "flood = 1");
    let mut child = house
        .command(&["serve", "--log", "info"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
    let address = first.split_whitespace().last().unwrap();
    let asked = reqwest::Client::new().post(format!("{address}{COMPLETIONS}"));
    assert_eq!(asked.json(&body("talks", "x", 2)).send().await.unwrap().status(), 200);
    child.kill().unwrap();
    let said = child.wait_with_output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    for words in ["the fake plugin starts", "line 0 of a flood"] {
        let line = said.lines().find(|line| line.contains(words) && line.contains("talks"));
        assert!(line.is_some(), "`{words}` of `talks` is not in:\n{said}");
    }
}

/// Starts `impetus engine model` with this at its stdin; gives its exit code and what it said.
fn started_with(stdin: impl Into<Stdio>) -> (Option<i32>, String) {
    let house = House::with(&[]);
    let mut command = house.command(&["engine", "model"]);
    let output = command.stdin(stdin).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_worker_serves_its_own_version_alone() {
    let (code, said) = started_with(Stdio::null());
    assert!(code == Some(1) && said.contains("for the server's own use"), "{said}");
    let (mut host, worker) = UnixStream::pair().unwrap();
    // The greeting of a host whose protocol is 0: protocol, version, its pid, its log, no limit.
    let greeting = [b"\x95\x00\xa50.0.0\x01\xa4warn\x00".as_slice()].concat();
    host.write_all(&(greeting.len() as u32).to_le_bytes()).unwrap();
    host.write_all(&greeting).unwrap();
    let (code, said) = started_with(OwnedFd::from(worker));
    assert!(code == Some(1) && said.contains("another version: protocol 0 of 0.0.0"), "{said}");
}
