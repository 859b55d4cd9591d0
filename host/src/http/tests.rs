//! The routes over a real socket, with neither plugin nor model: what every answer has, and every refusal before one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A running server on a port of its own.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::parse("", Path::new(folder.path())).unwrap();
        config.server.max_body_bytes = 1000;
        let plugins = Plugins::load(&config);
        let models = Models::new(Arc::clone(&plugins), &config);
        let app = App { plugins, models, config: Arc::new(config) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve(listener, app, shutdown));
        Server { address, stop, ended, _folder: folder }
    }

    async fn ask(&self, start: &str, headers: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!(
            "{start} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{length}{headers}\r\n{body}"
        );
        let address = self.address;
        tokio::task::spawn_blocking(move || exchange(address, &request)).await.unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), "content-type: application/json\r\n", body).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn error(&self, key: &str) -> &Value {
        assert_eq!(self.body["error"].as_object().unwrap().len(), 4, "{self:?}");
        &self.body["error"][key]
    }
}

fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_is_told_and_bears_an_id() {
    let server = Server::start().await;
    for path in ["/health", "/livez"] {
        assert_eq!(server.ask(&format!("GET {path}"), "", "").await.body, json!({"status": "ok"}));
    }
    assert_eq!(server.ask("GET /readyz", "", "").await.status, 200, "no plugin is required");
    assert_eq!(server.ask("GET /v1/models", "", "").await.body, json!({"object": "list", "data": []}));
    assert_eq!(server.ask("GET /api/plugins", "", "").await.body, json!({"plugins": []}));
    assert_eq!(server.ask("GET /api/formats", "", "").await.body, json!({"formats": []}));
    assert_eq!(server.ask("GET /api/models", "", "").await.body, json!({"models": []}));

    let answer = server.ask("GET /health", "x-request-id: mine-1\r\n", "").await;
    assert!(answer.head.contains("x-request-id: mine-1"), "{answer:?}");
    let answer = server.ask("GET /nowhere", "x-request-id: not mine\r\n", "").await;
    assert!(answer.head.contains("x-request-id: req-"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_get_their_status_and_all_four_keys() {
    let server = Server::start().await;
    let answer = server.ask("GET /v1/nothing", "", "").await;
    assert_eq!((answer.status, answer.error("code")), (404, &json!("unknown_path")));
    let answer = server.ask("GET /v1/models/%ff", "", "").await;
    assert_eq!((answer.status, answer.error("code")), (404, &json!("unknown_path")));
    let answer = server.ask("DELETE /v1/chat/completions", "", "").await;
    assert_eq!((answer.status, answer.error("type")), (405, &json!("invalid_request_error")));
    assert!(answer.head.contains("allow: post"), "{answer:?}");
    let answer = server.ask("POST /v1/completions", "content-type: text/plain\r\n", "{}").await;
    assert_eq!((answer.status, answer.error("param")), (415, &Value::Null));
    let answer = server.post("/v1/completions", "{\"model\":").await;
    assert_eq!((answer.status, answer.error("code")), (400, &json!("invalid_json")));
    let answer = server.post("/v1/completions", &format!("\"{}\"", "x".repeat(100_000))).await;
    assert_eq!((answer.status, answer.error("code")), (413, &json!("body_too_large")));
    let answer = server.post("/v1/completions", "{}").await;
    assert_eq!((answer.status, answer.error("param")), (400, &json!("model")));
    let answer = server.post("/v1/completions", "{\"model\": 5}").await;
    assert_eq!((answer.status, answer.error("param")), (422, &json!("model")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_404_also_with_slashes_and_before_a_stream() {
    let server = Server::start().await;
    for path in ["/v1/models/a/b", "/v1/models/a%2Fb"] {
        let answer = server.ask(&format!("GET {path}"), "", "").await;
        assert_eq!((answer.status, answer.error("code")), (404, &json!("model_not_found")));
        assert!(answer.error("message").as_str().unwrap().contains("`a/b`"), "{answer:?}");
    }
    let answer = server.post("/v1/completions", r#"{"model": "a/b", "prompt": "x", "stream": true}"#).await;
    assert_eq!((answer.status, answer.error("param")), (404, &json!("model")));
    let body = r#"{"model": "a", "messages": [{"role": "user", "content": "x"}]}"#;
    let answer = server.post("/v1/chat/completions", body).await;
    assert_eq!((answer.status, answer.error("code")), (404, &json!("model_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_told_to() {
    let server = Server::start().await;
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).is_err());
}
