//! The routes over a real socket, with neither plugin nor model: what every answer has, and every refusal before one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

/// A running server on a port of its own.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = "[server]\nmax_body_bytes = 1000\nmax_header_bytes = 2000\n\
            header_timeout_secs = 1\nbody_timeout_secs = 1";
        Server::start_with(settings, folder).await
    }

    async fn start_with(settings: &str, folder: tempfile::TempDir) -> Self {
        let config = Config::parse(settings, folder.path()).unwrap();
        let plugins = Plugins::load(&config);
        let models = Models::new(Arc::clone(&plugins), &config);
        let app = App { plugins, models, config: Arc::new(config) };
        let tls = tls(&app.config.server).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve(listener, app, tls, shutdown));
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
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).is_err());
}

/// What the server says to these bytes, to which nothing is added, before it closes the connection.
async fn hear(server: &Server, bytes: String) -> String {
    let address = server.address;
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_dawdle_or_send_too_much_are_let_go() {
    let server = Server::start().await;
    let told = hear(&server, "GET /health HTTP/1.1\r\nhost: loc".to_owned()).await;
    assert!(!told.contains("200"), "half a header is no request: {told}");
    let start = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let half = format!("{start}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{");
    let told = hear(&server, half).await;
    assert!(told.starts_with("HTTP/1.1 408") && told.contains("body_too_slow"), "{told}");
    let long = |bytes: usize| format!("{start}x-long: {}\r\n\r\n", "x".repeat(bytes));
    let many: String = (0..=100).map(|number| format!("x-{number}: 1\r\n")).collect();
    for too_much in [long(3000), format!("{start}{many}\r\n")] {
        let told = hear(&server, too_much).await;
        assert!(told.starts_with("HTTP/1.1 431") && told.contains("headers_too_large"), "{told}");
        assert!(told.contains("x-request-id: "), "{told}");
    }
    // What is far too long is not even read to its end.
    let told = hear(&server, long(12_000)).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    assert_eq!(server.ask("GET /health", "", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_connections_are_encrypted() {
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let server = Server::start_with("[server]\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"", folder).await;

    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = server.address;
    let exchange = move || {
        let client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(address).unwrap());
        let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut told = Vec::new();
        // However a server ends an encrypted connection, what it said before counts.
        let _ = stream.read_to_end(&mut told);
        String::from_utf8(told).unwrap()
    };
    let told = tokio::task::spawn_blocking(exchange).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("ok"), "{told}");
    let told = hear(&server, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()).await;
    assert!(!told.contains("200"), "without TLS nothing is answered: {told}");
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    let text = "[server]\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"";
    let config = Config::parse(text, folder.path()).unwrap();
    let error = tls(&config.server).err().unwrap();
    assert!(error.message.contains("server.tls_cert") && error.message.contains("PEM"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_counted() {
    let server = Server::start().await;
    server.ask("GET /v1/models", "", "").await;
    server.ask("GET /v1/nothing", "", "").await;
    let text =
        hear(&server, "GET /metrics HTTP/1.1\r\nhost: a.localhost\r\nconnection: close\r\n\r\n".to_owned())
            .await;
    for line in [
        "impetus_http_requests_total{method=\"GET\",route=\"/v1/models\",status=\"200\"} 1",
        "impetus_http_requests_total{method=\"GET\",route=\"other\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
