//! The web page: its files as they were built into this binary, sent as a browser likes them best. Where they were not
//! built, `/` says so, and what can be done.
//!
//! Names of assets bear a hash of their content: they are kept for ever. The page itself, and what else has a plain name,
//! is asked for again each time, by its content's hash. Scripts and styles come from here alone, and nothing on the page reaches another host.

use std::borrow::Cow;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::{Failure, Result, WireKind};

/// What `scripts/web.sh` has built; nothing where it has not.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Built;

/// No script but ours, no address but ours, no frame around the page, and no text of a model that becomes a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// Letters of the hash in the name of an asset.
const HASH_LETTERS: usize = 8;

/// Encodings in which files lie beside themselves: the better first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Whether the page's files are open to all: a browser sends no key when it opens a page, and there is nothing in them
/// that is not in the source.
pub(crate) fn is_of_the_page(path: &str) -> bool {
    path == "/" || path.starts_with("/assets/")
}

/// The page.
#[utoipa::path(
    get, path = "/", tag = "server", summary = "The web page",
    responses((status = 200, description = "HTML", body = String, content_type = "text/html"))
)]
pub(crate) async fn page(headers: HeaderMap) -> Response {
    file("index.html", ASK_AGAIN, &headers).unwrap_or_else(not_built)
}

fn not_built() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(NOT_BUILT)).into_response()
}

/// One of its files.
#[utoipa::path(
    get, path = "/assets/{path}", tag = "server", summary = "A file of the web page",
    params(("path" = String, Path, description = "its name")),
    responses((status = 200, description = "the file", body = String, content_type = "application/octet-stream"))
)]
pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response> {
    let missing = || Failure::wire(WireKind::NoSuchPath, format!("the web page has no file `{path}`"));
    let keep = if is_hashed(&path) { FOR_EVER } else { ASK_AGAIN };
    file(&format!("assets/{path}"), keep, &headers).ok_or_else(missing)
}

/// Whether a name is `NAME-HASH.ENDING`, as Vite writes it.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).as_bytes();
    let Some(at) = stem.len().checked_sub(HASH_LETTERS + 1) else { return false };
    let is_of_a_hash = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_".contains(letter);
    stem[at] == b'-' && stem[at + 1..].iter().all(is_of_a_hash)
}

/// A file in the best encoding that the browser takes; nothing but its headers where the browser has it.
fn file(name: &str, keep: &'static str, asked: &HeaderMap) -> Option<Response> {
    let plain = Built::get(name)?;
    let accepted =
        asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoded = ENCODINGS.into_iter().filter(|(encoding, _)| takes(accepted, encoding));
    let encoded =
        encoded.filter_map(|(encoding, ending)| Some((encoding, Built::get(&format!("{name}{ending}"))?)));
    let (encoding, best) =
        encoded.map(|(encoding, file)| (Some(encoding), file)).next().unwrap_or((None, plain));
    let tag = tag(&best);
    let mut response = if is_known(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match best.data {
            Cow::Borrowed(bytes) => bytes.into_response(),
            Cow::Owned(bytes) => bytes.into_response(),
        }
    };
    let headers = response.headers_mut();
    let mut set =
        |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, kind(name));
    set(header::CACHE_CONTROL, keep);
    set(header::VARY, "accept-encoding");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if let Some(encoding) = encoding {
        set(header::CONTENT_ENCODING, encoding);
    }
    headers.insert(header::ETAG, HeaderValue::try_from(tag).ok()?);
    Some(response)
}

/// Whether an `accept-encoding` takes this one: named, and not with a quality of zero.
fn takes(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0f32)));
        named && !refused
    })
}

fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Impetus</title></head><body>\
<h1>Impetus is running</h1><p>Its web page was not built into this binary: <code>make run</code> and <code>make build</code> \
build it where Node.js 20 and npm are installed.</p>\
<p>Everything else is here: <a href=\"/docs\">the HTTP API</a>, <a href=\"/v1/models\">the models</a>, \
<a href=\"/api/plugins\">the plugins</a>.</p></body></html>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_taken_where_it_is_named_and_not_refused() {
        assert!(takes("gzip, deflate, br, zstd", "br") && takes("GZIP;q=0.5", "gzip"));
        assert!(!takes("gzip, deflate", "br") && !takes("br;q=0, gzip", "br") && !takes("", "gzip"));
    }

    #[test]
    fn only_what_bears_its_hash_is_kept_for_ever() {
        for name in ["index-DpL9sXq_.js", "instrument-sans-latin-wght-normal-B-xY12_a.woff2"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["licences.txt", "index.html", "a-b.js", "", "x", "index-Dp.9sXq_.js"] {
            assert!(!is_hashed(name), "{name}");
        }
    }

    #[test]
    fn a_binary_without_the_page_says_so_and_leads_to_what_is_there() {
        let response = not_built();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        assert!(NOT_BUILT.contains("not built into this binary") && NOT_BUILT.contains("npm"));
        let links: Vec<&str> =
            NOT_BUILT.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(links, ["/docs", "/v1/models", "/api/plugins"]);
        for link in links {
            let there = &super::super::openapi::shown()["paths"][link]["get"];
            assert!(there.is_object(), "{link} is no route");
        }
    }

    #[test]
    fn a_known_tag_is_known_in_every_form() {
        let asked =
            |tag: &str| HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap())]);
        assert!(is_known(&asked("\"a\""), "\"a\"") && is_known(&asked("\"b\", W/\"a\""), "\"a\""));
        assert!(!is_known(&asked("\"b\""), "\"a\"") && !is_known(&HeaderMap::new(), "\"a\""));
    }
}
