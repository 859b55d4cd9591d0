//! The web page's files as a browser asks for them, and what the page needs of the API: uploads, details, deletion,
//! status. The page itself is driven by a browser in host/web/e2e.

use std::cell::Cell;
use std::io::{Read, Write};
use std::time::Duration;

use impetus_tests::{Answer, House, SMOLLM2, Server, root};
use serde_json::{Value, json};

async fn ask(server: &Server, method: reqwest::Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.client.request(method, format!("{}{path}", server.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

/// The files of a page that is built in; none where it is not.
fn assets(page: &str) -> Vec<String> {
    let parts = page.split("\"/assets/").skip(1);
    parts.map(|part| format!("/assets/{}", part.split('"').next().unwrap())).collect()
}

#[tokio::test]
async fn the_page_or_a_word_why_not_is_at_the_root_with_a_strict_policy() {
    let house = House::with(&[]).config("api_keys = [\"a\"]");
    let server = house.serve();
    let page = server.get("/").await;
    assert_eq!(page.status, 200, "no key is needed for the page: {}", page.text);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && !page.text.contains("http://") && !page.text.contains("https://"));
    let assets = assets(&page.text);
    if assets.is_empty() {
        assert!(page.text.contains("not built into this binary"), "{}", page.text);
        return;
    }
    assert_eq!(page.headers["cache-control"], "no-cache");
    let tag = page.headers["etag"].to_str().unwrap().to_owned();
    let known = ask(&server, reqwest::Method::GET, "/", &[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));
    for path in &assets {
        let plain = server.get(path).await;
        assert_eq!(plain.status, 200, "{path}");
        assert!(plain.headers["cache-control"].to_str().unwrap().contains("immutable"));
        assert_eq!(plain.headers["x-content-type-options"], "nosniff");
    }
    let script = assets.iter().find(|path| path.ends_with(".js")).unwrap();
    for (accepted, expected) in [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip")] {
        let packed =
            server.client.get(format!("{}{script}", server.address)).header("accept-encoding", accepted);
        let packed = packed.send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], expected);
        assert_eq!(packed.headers()["content-type"], "text/javascript; charset=utf-8");
        let length = packed.bytes().await.unwrap().len();
        assert!(length * 2 < server.get(script).await.text.len(), "{accepted}");
    }
    let licences = server.get("/assets/licences.txt").await;
    assert_eq!((licences.status, &licences.headers["cache-control"]), (200, &"no-cache".parse().unwrap()));
    let missing = ask(&server, reqwest::Method::GET, "/assets/nothing.js", &[]).await;
    assert_eq!((missing.status, &missing.json["error"]["code"]), (404, &json!("unknown_path")));
}

/// What the server answers to a path as it is written here: clients put in order what leads upwards.
fn ask_as_it_is(server: &Server, path: &str) -> String {
    let host = server.address.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn no_path_leads_out_of_the_page_past_the_key() {
    let server = House::with(&[]).config("api_keys = [\"a\"]").serve();
    assert!(ask_as_it_is(&server, "/").starts_with("HTTP/1.1 200"), "the page is open to all");
    assert!(ask_as_it_is(&server, "/v1/models").starts_with("HTTP/1.1 401"));
    for path in [
        "/assets/../v1/models",
        "/assets/%2e%2e/v1/models",
        "/assets/..%2fv1/models",
        "/assets/../../Cargo.toml",
        "/assets//etc/passwd",
        "/assets/../index.html",
    ] {
        let answer = ask_as_it_is(&server, path);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("unknown_path"), "{path}: {answer}");
    }
    assert!(ask_as_it_is(&server, "/../v1/models").starts_with("HTTP/1.1 401"));
}

async fn put(server: &Server, place: &str, piece: Vec<u8>) -> Answer {
    let request = server.client.put(format!("{}/api/uploads/{place}", server.address));
    Answer::of(request.body(piece).send().await.unwrap()).await
}

/// Sends the pieces that the server asks for, at most `most`. The last answer.
async fn send_pieces(
    server: &Server,
    mut state: Value,
    content: impl Fn(&str) -> Vec<u8>,
    most: usize,
) -> Answer {
    for sent in 1.. {
        let (id, next) = (state["id"].as_str().unwrap(), &state["next"]);
        let (path, offset) = (next["path"].as_str().unwrap(), next["offset"].as_u64().unwrap());
        let end = (offset + next["bytes"].as_u64().unwrap()) as usize;
        let piece = content(path)[offset as usize..end].to_vec();
        let answer = put(server, &format!("{id}?path={path}&offset={offset}"), piece).await;
        if answer.status != 200 || answer.json["next"].is_null() || sent == most {
            return answer;
        }
        state = answer.json;
    }
    unreachable!("the loop ends with an answer");
}

fn smollm2() -> Vec<u8> {
    std::fs::read(root().join("models").join(format!("{SMOLLM2}.gguf"))).unwrap()
}

#[tokio::test]
async fn a_model_is_uploaded_in_pieces_and_goes_on_after_a_restart() {
    let model = smollm2();
    let files = json!({"files": [{"path": "new.gguf", "bytes": model.len()}]});
    let mut server = House::with(&["gguf"]).serve();
    let begun = server.post("/api/uploads", &files).await;
    assert_eq!((begun.status, &begun.json["received"]), (200, &json!(0)), "{}", begun.text);
    let some = send_pieces(&server, begun.json, |_| model.clone(), 3).await;
    assert_eq!(some.json["checked"], true, "the header is in the first pieces: {}", some.text);
    assert_eq!(server.get("/api/models").await.json["models"], json!([]), "half a model is none");

    server = server.restart();
    let found = server.get("/api/uploads").await;
    assert_eq!(found.json["uploads"][0]["received"], some.json["received"]);
    let again = server.post("/api/uploads", &files).await;
    assert_eq!(again.json, some.json, "the same files go on where they were");
    let id = again.json["id"].as_str().unwrap();
    let wrong = put(&server, &format!("{id}?path=new.gguf&offset=0"), b"x".to_vec()).await;
    assert_eq!((wrong.status, &wrong.json["error"]["code"]), (409, &json!("wrong_offset")), "{}", wrong.text);

    let done = send_pieces(&server, again.json, |_| model.clone(), usize::MAX).await;
    assert_eq!(done.json["model"], "new", "{}", done.text);
    let expected = impetus_tests::sha256(&server.house.path("models/new.gguf"));
    assert_eq!(done.json["files"][0]["sha256"], expected);
    assert_eq!(server.get("/api/uploads").await.json["uploads"], json!([]));
    let twice = server.post("/api/uploads", &files).await;
    assert_eq!((twice.status, &twice.json["error"]["code"]), (409, &json!("model_exists")));

    let details = server.get("/api/models/new/details").await;
    assert_eq!(details.json["metadata"]["general.architecture"], "llama", "{}", details.text);
    assert_eq!(details.json["tensors"][0]["name"], "token_embd.weight");
    assert!(details.json["chat_template"].as_str().unwrap().contains("<|im_start|>"));
    let gone = ask(&server, reqwest::Method::DELETE, "/api/models/new", &[]).await;
    assert_eq!((gone.status, &gone.json["freed_bytes"]), (200, &json!(model.len())), "{}", gone.text);
    assert!(!server.house.path("models/new.gguf").exists());
}

#[tokio::test]
async fn what_no_plugin_can_run_is_refused_by_its_header_and_leaves_nothing() {
    let server = House::with(&["gguf"]).serve();
    // Cut off: the header claims more than the file has. Only its beginning is ever sent.
    let model = smollm2();
    let cut = model.len() - (8 << 20);
    let begun = server.post("/api/uploads", &json!({"files": [{"path": "cut.gguf", "bytes": cut}]})).await;
    let pieces = Cell::new(0);
    let content = |_: &str| {
        pieces.set(pieces.get() + 1);
        model.clone()
    };
    let refused = send_pieces(&server, begun.json, content, usize::MAX).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (400, &json!("model_load_failed")));
    // Headers are looked for in the first 32 MiB, in pieces of 4 MiB.
    assert!((1..=8).contains(&pieces.get()) && pieces.get() < cut >> 22, "{} pieces were sent", pieces.get());
    assert!(
        refused.text.contains("bytes are missing") && !refused.text.contains("/models"),
        "{}",
        refused.text
    );
    let left = std::fs::read_dir(server.house.path("models/.uploads")).unwrap().count();
    assert_eq!(left, 0);

    for (path, status, told) in [
        ("../a.gguf", 400, "leads out"),
        ("/etc/a.gguf", 400, "begins at the root"),
        (".hidden.gguf", 400, "hidden"),
        ("a.txt", 400, "endings of models are .gguf"),
    ] {
        let refused = server.post("/api/uploads", &json!({"files": [{"path": path, "bytes": 5}]})).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
        assert!(refused.text.contains(told) && refused.json["error"]["param"] == "files", "{}", refused.text);
    }
    let vast = json!({"files": [{"path": "a.gguf", "bytes": 1u64 << 60}]});
    let refused = server.post("/api/uploads", &vast).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (413, &json!("insufficient_disk")));
}

#[tokio::test]
async fn uploads_count_on_no_room_that_others_will_need() {
    let server = House::with(&["gguf"]).serve();
    let begin = async |name: &str, bytes: u64| {
        server.post("/api/uploads", &json!({"files": [{"path": name, "bytes": bytes}]})).await
    };
    let vast = begin("vast.gguf", 1 << 60).await;
    let free = vast.text.split("model folder has ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let most = (free.parse::<f64>().unwrap() * 0.6 * f64::from(1 << 30)) as u64;
    // Nothing of it has come, and the disk has all of its room still.
    let first = begin("first.gguf", most).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let second = begin("second.gguf", most).await;
    assert_eq!(
        (second.status, &second.json["error"]["code"]),
        (413, &json!("insufficient_disk")),
        "{}",
        second.text
    );
    assert!(second.text.contains("uploads that are not complete"), "{}", second.text);
    let path = format!("/api/uploads/{}", first.json["id"].as_str().unwrap());
    assert_eq!(ask(&server, reqwest::Method::DELETE, &path, &[]).await.status, 200);
    assert_eq!(begin("second.gguf", most).await.status, 200);
}

#[tokio::test]
async fn another_file_of_the_same_name_and_length_begins_anew() {
    let model = smollm2();
    let server = House::with(&["gguf"]).serve();
    let files =
        |modified: u64| json!({"files": [{"path": "new.gguf", "bytes": model.len(), "modified": modified}]});
    let begun = server.post("/api/uploads", &files(1)).await;
    let some = send_pieces(&server, begun.json, |_| model.clone(), 2).await;
    assert_eq!(server.post("/api/uploads", &files(1)).await.json["received"], some.json["received"]);
    let other = server.post("/api/uploads", &files(2)).await;
    assert_eq!((other.status, &other.json["received"]), (200, &json!(0)), "{}", other.text);
    assert_ne!(other.json["id"], some.json["id"]);
}

#[tokio::test]
async fn a_model_whose_plugin_is_missing_is_shown_with_the_reason() {
    let house = House::with(&[]).smollm2().model("lonely.fake", "say = hello");
    let server = house.serve();
    let models = server.get("/api/models").await;
    let of = |models: &Answer, id: &str| {
        models.json["models"].as_array().unwrap().iter().find(|model| model["id"] == id).cloned()
    };
    let model = of(&models, SMOLLM2).unwrap_or_else(|| panic!("{}", models.text));
    assert_eq!(model["state"], "unavailable");
    assert!(model["reason"].as_str().unwrap().contains("no plugin for gguf files is loaded"), "{model}");
    assert_eq!(of(&models, "lonely"), None, "nothing says that this is a model");
    assert_eq!(server.get("/v1/models").await.json["data"], json!([]), "it cannot be served");
    let body = json!({"model": SMOLLM2, "messages": [{"role": "user", "content": "Hi."}]});
    let refused = server.post("/v1/chat/completions", &body).await;
    assert!(refused.status >= 400 && refused.text.contains("no plugin for gguf files"), "{}", refused.text);
}

#[tokio::test]
async fn only_administrators_and_the_own_page_change_anything() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let own = server.address.clone();
    let body = json!({"files": [{"path": "a.gguf", "bytes": 5}]});
    for (origin, expected) in [(own.as_str(), 200), ("http://127.0.0.1:1", 403)] {
        let request = server.client.post(format!("{own}/api/uploads")).header("origin", origin).json(&body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{origin}");
    }
    let path = format!("/api/models/{SMOLLM2}");
    let refused = ask(&server, reqwest::Method::DELETE, &path, &[("origin", "http://evil.example")]).await;
    assert_eq!(refused.status, 403);
    let keyed = House::with(&["gguf"]).smollm2().config("admin_keys = [\"b\"]").serve();
    assert_eq!(ask(&keyed, reqwest::Method::DELETE, &path, &[]).await.status, 401);
    assert_eq!(ask(&keyed, reqwest::Method::DELETE, &path, &[("x-api-key", "b")]).await.status, 200);
    assert!(
        root().join("models").join(format!("{SMOLLM2}.gguf")).exists(),
        "a link goes, not what it leads to"
    );
}

#[tokio::test]
async fn the_status_tells_processes_answers_and_failures() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4});
    let answer = server.post("/v1/chat/completions", &body).await;
    let answered = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let wrong = server.post("/v1/chat/completions", &json!({"model": "nobody", "messages": []})).await;
    let failed = wrong.headers["x-request-id"].to_str().unwrap().to_owned();
    let status = server.get("/api/server").await.json;
    let processes = status["processes"].as_array().unwrap();
    assert_eq!(processes[0]["pid"], server.pid());
    assert_eq!((&processes[1]["name"], &processes[1]["kind"]), (&json!("m"), &json!("model")));
    assert!(processes.iter().all(|process| process["memory_bytes"].as_u64() > Some(0)));
    assert_eq!(
        (&status["models"][0]["model"], &status["models"][0]["generated_tokens"]),
        (&json!("m"), &json!(4))
    );
    let first = &status["answers"][0];
    assert_eq!((&first["request"], &first["completion_tokens"]), (&json!(answered), &json!(4)));
    assert!(first["first_token_secs"].as_f64().unwrap() <= first["total_secs"].as_f64().unwrap());
    let last = &status["failures"][0];
    assert_eq!(
        (&last["request"], &last["status"], &last["path"]),
        (&json!(failed), &json!(400), &json!("/v1/chat/completions"))
    );
    assert!(!status.to_string().contains("hello"), "no prompts");

    let mut stream =
        server.client.get(format!("{}/api/events?status=true", server.address)).send().await.unwrap();
    let mut text = String::new();
    while text.matches("\"type\":\"status\"").count() < 2 {
        let more = tokio::time::timeout(Duration::from_secs(60), stream.chunk()).await.unwrap().unwrap();
        text += std::str::from_utf8(&more.unwrap()).unwrap();
    }
    assert!(text.contains("\"type\":\"plugin\""), "changes are told beside it");
    let loaded = server.post("/api/models/m/load", &json!({"keep_alive": "5m"})).await;
    assert_eq!((loaded.status, &loaded.json["state"]), (200, &json!("loaded")), "{}", loaded.text);
    assert_eq!(server.get("/api/ps").await.json["processes"][0]["keep_alive_secs"], 300);
}
