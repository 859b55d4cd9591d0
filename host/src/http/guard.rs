//! Who may ask: keys, and the names and web pages from which a browser may reach the server.
//!
//! A web page can send requests to this machine, and with a name of its own that points here (DNS rebinding) it can read
//! the answers. So the `host` must be an address, `localhost`, or a name that plugins.toml lists, and a page of another
//! origin is answered only where plugins.toml lists it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::{Failure, WireKind};
use super::web;
use crate::config::{ApiKey, Server};

/// Answered without a key: whoever watches over the server asks these, and they tell nothing.
pub(crate) const OPEN_TO_ALL: [&str; 3] = ["/health", "/livez", "/readyz"];

/// In front of every route.
pub(crate) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let server = &app.config.server;
    if let Err(failure) = check_size(&request, server) {
        return failure.into_response();
    }
    let allowed = match check_host(&request, server).and_then(|()| check_origin(request.headers(), server)) {
        Ok(allowed) => allowed,
        Err(failure) => return failure.into_response(),
    };
    let mut response = if allowed.is_some() && is_preflight(&request) {
        preflight(request.headers())
    } else if let Err(failure) = check_key(&request, server) {
        unauthorized(failure)
    } else {
        next.run(request).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-request-id, retry-after"),
        );
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// More headers than any client sends.
pub(super) const MAX_HEADERS: usize = 100;

/// What is far beyond these limits never gets here: `serve` ends such a request while it is read.
fn check_size(request: &Request, server: &Server) -> Result<(), Failure> {
    let headers = request.headers();
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let message = if headers.len() > MAX_HEADERS {
        format!("the request has {} headers: up to {MAX_HEADERS} are taken", headers.len())
    } else if line + bytes > server.max_header_bytes {
        format!(
            "the request's path and headers have {} bytes together: up to {} are taken (`max_header_bytes` of [server])",
            line + bytes,
            server.max_header_bytes
        )
    } else {
        return Ok(());
    };
    Err(Failure::wire(WireKind::HeadersTooLarge, message))
}

fn check_key(request: &Request, server: &Server) -> Result<(), Failure> {
    let path = request.uri().path();
    if server.api_keys.is_empty() || OPEN_TO_ALL.contains(&path) || web::is_of_the_page(path) {
        return Ok(());
    }
    match key(request.headers()) {
        Some(key) if is_one_of(&server.api_keys, key) | is_one_of(&server.admin_keys, key) => Ok(()),
        Some(_) => Err(Failure::wire(WireKind::NoKey, "the API key is wrong")),
        None => {
            let message = "an API key is needed: send it as `authorization: Bearer KEY` or `x-api-key: KEY`";
            Err(Failure::wire(WireKind::NoKey, message))
        }
    }
}

/// The key that a request bears.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or(text("x-api-key"))
}

/// All are compared, in constant time: how long it takes tells nothing.
fn is_one_of(keys: &[ApiKey], key: &str) -> bool {
    keys.iter().fold(false, |found, own| found | own.is(key))
}

/// Somebody who may change what the server does: a parameter of each handler that changes something, or
/// `route_layer(axum::middleware::from_extractor_with_state::<Administrator, _>(app))` around its routes.
///
/// With admin keys, whoever sends one. Without, whatever runs on this machine and is no web page but the server's own.
pub(crate) struct Administrator;

impl FromRequestParts<App> for Administrator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        match check_administrator(&parts.headers, peer, &app.config.server) {
            Ok(()) => Ok(Administrator),
            Err(failure) => Err(unauthorized(failure)),
        }
    }
}

fn check_administrator(headers: &HeaderMap, peer: Option<IpAddr>, server: &Server) -> Result<(), Failure> {
    if server.admin_keys.is_empty() {
        let here = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        let foreign = headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin, headers));
        if here && !foreign {
            return Ok(());
        }
        let message = "without an admin key only a program on this machine may do this, and of web pages the server's own: set \
                       `admin_keys` or `admin_key_file` of [server], or IMPETUS_ADMIN_KEYS";
        return Err(Failure::wire(WireKind::NotAllowed, message));
    }
    match key(headers) {
        Some(key) if is_one_of(&server.admin_keys, key) => Ok(()),
        Some(key) if is_one_of(&server.api_keys, key) => {
            Err(Failure::wire(WireKind::NotAllowed, "this API key is no admin key, which this needs"))
        }
        Some(_) => Err(Failure::wire(WireKind::NoKey, "the admin key is wrong")),
        None => {
            let message =
                "an admin key is needed: send it as `authorization: Bearer KEY` or `x-api-key: KEY`";
            Err(Failure::wire(WireKind::NoKey, message))
        }
    }
}

/// A refusal, with the word by which clients know that a key would help.
fn unauthorized(failure: Failure) -> Response {
    let mut refusal = failure.into_response();
    if refusal.status() == StatusCode::UNAUTHORIZED {
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    refusal
}

fn check_host(request: &Request, server: &Server) -> Result<(), Failure> {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    // Only HTTP/1.0 sends none, and no browser speaks it.
    let Some(host) = host.or(request.uri().host()) else { return Ok(()) };
    let name =
        host.parse::<Authority>().map(|authority| authority.host().to_ascii_lowercase()).unwrap_or_default();
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let local = name == "localhost" || name.ends_with(".localhost");
    if address || local || server.hosts.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
        return Ok(());
    }
    let message =
        format!("the host `{name}` is not a name of this server: list it under `hosts` of [server]");
    Err(Failure::wire(WireKind::NotAllowed, message))
}

/// The origin that the answer must name, for a web page that is not the server's own.
fn check_origin(headers: &HeaderMap, server: &Server) -> Result<Option<HeaderValue>, Failure> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    if is_own(origin, headers) {
        return Ok(None);
    }
    if server.origins.iter().any(|listed| listed == "*" || listed.trim_end_matches('/') == text) {
        return Ok(Some(origin.clone()));
    }
    let message =
        format!("the web page `{text}` may not use this server: list it under `origins` of [server]");
    Err(Failure::wire(WireKind::NotAllowed, message))
}

/// Whether a page came from this server: from the very name and port that it asks now. A name that only points here was
/// refused before (`check_host`).
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    authority.is_some() && authority == host
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// A browser asks before it sends a page's request; it never sends a key with that.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(wanted) = wanted {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The status that a request to change something gets, 200 where it may.
    fn status(config: &str, peer: &str, headers: &[(&'static str, &str)]) -> u16 {
        let config = Config::parse(&format!("[server]\n{config}"), Path::new("/")).unwrap();
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            sent.insert(*name, value.parse().unwrap());
        }
        match check_administrator(&sent, peer.parse().ok(), &config.server) {
            Ok(()) => 200,
            Err(failure) => failure.into_response().status().as_u16(),
        }
    }

    #[test]
    fn without_admin_keys_programs_of_this_machine_administrate() {
        for (peer, expected) in
            [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("192.168.0.9", 403), ("", 403)]
        {
            assert_eq!(status("", peer, &[]), expected, "{peer}");
        }
        assert_eq!(status("", "127.0.0.1", &[("origin", "http://localhost:8484")]), 403);
        let page = |origin| [("host", "localhost:8484"), ("origin", origin)];
        assert_eq!(status("", "127.0.0.1", &page("http://localhost:8484")), 200, "the server's own page");
        for origin in ["http://localhost:8485", "https://chat.example", "null", "localhost:8484", ""] {
            assert_eq!(status("", "127.0.0.1", &page(origin)), 403, "{origin}");
        }
        assert_eq!(status("", "192.168.0.9", &page("http://localhost:8484")), 403);
        assert_eq!(status("api_keys = [\"a\"]", "192.168.0.9", &[("x-api-key", "a")]), 403);
    }

    #[test]
    fn with_admin_keys_only_they_count() {
        let config = "api_keys = [\"a\"]\nadmin_keys = [\"b\"]";
        for (headers, expected) in [
            (&[][..], 401),
            (&[("x-api-key", "a")][..], 403),
            (&[("x-api-key", "c")][..], 401),
            (&[("authorization", "Bearer b")][..], 200),
            (&[("x-api-key", "b"), ("origin", "https://chat.example")][..], 200),
        ] {
            assert_eq!(status(config, "127.0.0.1", headers), expected, "{headers:?}");
        }
        assert_eq!(status(config, "192.168.0.9", &[("x-api-key", "b")]), 200);
    }
}
