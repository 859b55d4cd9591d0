//! Who may ask: keys, host names, web pages.

use std::process::Stdio;

use impetus_tests::{House, Server};
use reqwest::Method;
use serde_json::json;

fn guarded() -> Server {
    let house = House::with(&["fake"]).model("m.fake", "");
    std::fs::write(house.path("keys.txt"), "second key\n\n").unwrap();
    house
        .config(
            "api_keys = [\"first\"]\napi_key_file = \"keys.txt\"\nhosts = [\"models.example\"]\n\
             origins = [\"https://chat.example\"]",
        )
        .serve()
}

/// The status, the error's type and the headers of a GET with these headers.
async fn ask(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, reqwest::header::HeaderMap) {
    send(server, Method::GET, path, headers).await
}

async fn send(
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, reqwest::header::HeaderMap) {
    let mut request = server.client.request(method, format!("{}{path}", server.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    (status, body["error"]["type"].as_str().unwrap_or_default().to_owned(), headers)
}

#[tokio::test]
async fn every_route_but_the_watchers_needs_a_key() {
    let server = guarded();
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(ask(&server, path, &[]).await.0, 200, "{path}");
    }
    for path in ["/v1/models", "/api/plugins", "/no/such/path"] {
        let (status, kind, _) = ask(&server, path, &[]).await;
        assert_eq!((status, kind.as_str()), (401, "authentication_error"), "{path}");
    }
    for (name, value, expected) in [
        ("authorization", "Bearer first", 200),
        ("authorization", "bearer second key", 200),
        ("x-api-key", "first", 200),
        ("authorization", "Bearer firs", 401),
        ("authorization", "Basic first", 401),
        ("x-api-key", "", 401),
    ] {
        assert_eq!(ask(&server, "/v1/models", &[(name, value)]).await.0, expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn strange_host_names_and_web_pages_are_refused() {
    let server = guarded();
    let key = ("x-api-key", "first");
    for (host, expected) in [
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("models.example", 200),
        ("MODELS.example:8484", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ] {
        assert_eq!(ask(&server, "/v1/models", &[key, ("host", host)]).await.0, expected, "{host}");
    }
    let (status, kind, _) = ask(&server, "/v1/models", &[key, ("origin", "https://evil.example")]).await;
    assert_eq!((status, kind.as_str()), (403, "permission_error"));
    assert_eq!(ask(&server, "/v1/models", &[key, ("origin", "null")]).await.0, 403);
    let own = server.address.clone();
    assert_eq!(ask(&server, "/v1/models", &[key, ("origin", &own)]).await.0, 200);
}

#[tokio::test]
async fn a_listed_page_may_ask() {
    let server = guarded();
    let origin = ("origin", "https://chat.example");
    let (status, _, headers) = ask(&server, "/v1/models", &[origin, ("x-api-key", "first")]).await;
    assert_eq!((status, &headers["access-control-allow-origin"]), (200, &origin.1.parse().unwrap()));
    let wishes = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type"),
    ];
    let (status, _, headers) = send(&server, Method::OPTIONS, "/v1/chat/completions", &wishes).await;
    assert_eq!(status, 204, "a browser sends no key when it asks");
    assert_eq!(headers["access-control-allow-headers"], "authorization, content-type");
    let (status, _, headers) = ask(&server, "/v1/models", &[origin]).await;
    assert_eq!(status, 401);
    assert!(headers.contains_key("access-control-allow-origin"), "the page may read why");
}

#[test]
fn listening_beyond_this_machine_needs_a_key_or_a_word() {
    let house = House::with(&[]);
    let refused = house.run(&["serve", "--host", "0.0.0.0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--open"));
    // With a key, or with the word, it gets as far as the port, which is taken.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let with = |arguments: &[&str], keys: &str| {
        let mut command =
            house.command(&[&["serve", "--host", "0.0.0.0", "--port", &port], arguments].concat());
        let output = command.env("IMPETUS_API_KEYS", keys).stdout(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for error in [with(&["--open"], ""), with(&[], "one,two")] {
        assert!(error.contains(&port) && !error.contains("no API key is set: set"), "{error}");
    }
}

#[tokio::test]
async fn no_path_that_a_client_names_is_opened() {
    let house = House::with(&["fake"]).model("m.fake", "");
    std::fs::write(house.path("outside.fake"), "").unwrap();
    let outside = house.path("outside.fake").display().to_string();
    let server = house.serve();
    for name in ["../outside", "../outside.fake", "models/m.fake", &outside, outside.trim_start_matches('/')]
    {
        let body = json!({"model": name, "prompt": "x", "max_tokens": 1});
        let answer = server.post("/v1/completions", &body).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["code"]),
            (404, &json!("model_not_found")),
            "{name}"
        );
        let escaped = name.replace('/', "%2f");
        let load = server.post(&format!("/api/models/{escaped}/load"), &json!({})).await;
        assert_eq!(load.status, 404, "{name}: {}", load.text);
        assert_eq!(server.get(&format!("/api/models/{escaped}/plan")).await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn plugins_are_not_changed_over_http() {
    let server = House::with(&["fake"]).serve();
    let before = server.get("/api/plugins").await.text;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/api/plugins", "/api/plugins/fake", "/api/plugins/fake/disable", "/api/formats"] {
            let (status, _, _) = send(&server, method.clone(), path, &[]).await;
            assert!(status == 404 || status == 405, "{method} {path}: {status}");
        }
    }
    assert_eq!(server.get("/api/plugins").await.text, before);
}
