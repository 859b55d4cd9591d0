//! Takes in a request's body: JSON, an object, no larger than configured.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::Value;

use super::App;
use super::error::{Failure, Result, WireKind};
use super::fields::{Fields, found};

/// How much of a body that is too large is still read, so that the client has sent it and hears the answer.
const MAX_DISCARDED_BYTES: usize = 64 << 20;
const MAX_DISCARD_TIME: Duration = Duration::from_secs(5);

/// The fields of a JSON body.
pub(crate) struct JsonBody(pub(crate) Fields);

impl FromRequest<App> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let message = "the body must be JSON: send it with the header `content-type: application/json`";
            return Err(Failure::wire(WireKind::NotJson, message));
        }
        let server = &app.config.server;
        let limit = Duration::from_secs(server.body_timeout_secs.into());
        let reading = read(&parts.headers, body, server.max_body_bytes);
        let bytes = tokio::time::timeout(limit, reading).await.map_err(|_| too_slow(limit))?;
        parse(&bytes?).map(JsonBody)
    }
}

/// A body that is not JSON by its own word is refused: a web page can send such bodies anywhere without asking.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>> {
    let announced: Option<usize> =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes| bytes > limit) && headers.contains_key(header::EXPECT) {
        // This client asked before sending.
        return Err(too_large(limit));
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(limit));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::wire(WireKind::BrokenJson, format!("the body ended before it was complete: {error}"))
        })?;
        if bytes.len() + chunk.len() > limit {
            drop(bytes);
            discard(stream).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn discard(mut stream: axum::body::BodyDataStream) {
    let all = async {
        let mut discarded = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            discarded += chunk.len();
            if discarded > MAX_DISCARDED_BYTES {
                return;
            }
        }
    };
    // Out of patience is no other answer than out of bytes.
    let _ = tokio::time::timeout(MAX_DISCARD_TIME, all).await;
}

fn too_large(limit: usize) -> Failure {
    let message =
        format!("the body is larger than the {limit} bytes that this server takes (server.max_body_bytes)");
    Failure::wire(WireKind::BodyTooLarge, message)
}

fn too_slow(limit: Duration) -> Failure {
    let message = format!(
        "the body was not there within {} s, which is as long as this server waits (server.body_timeout_secs)",
        limit.as_secs()
    );
    Failure::wire(WireKind::TooSlow, message)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Fields> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(Fields::of_body(fields)),
        Ok(other) => Err(Failure::wire(
            WireKind::WrongShape,
            format!("the body must be a JSON object; found {}", found(&other)),
        )),
        Err(_) if bytes.iter().all(u8::is_ascii_whitespace) => {
            Err(Failure::wire(WireKind::BrokenJson, "the body is empty; a JSON object was expected"))
        }
        Err(error) => {
            Err(Failure::wire(WireKind::BrokenJson, format!("the body is not valid JSON: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn only_json_by_its_own_word_is_json() {
        let check = |kind: &str, expected: bool| {
            let headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
            assert_eq!(is_json(&headers), expected, "{kind}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("application/problem+json", true);
        check("text/plain", false);
        check("application/x-www-form-urlencoded", false);
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn broken_json_is_400_and_another_shape_422() {
        let check = |body: &str, status: StatusCode| {
            assert_eq!(parse(body.as_bytes()).unwrap_err().into_response().status(), status, "{body}");
        };
        check("", StatusCode::BAD_REQUEST);
        check("{\"model\":", StatusCode::BAD_REQUEST);
        check("{} trailing", StatusCode::BAD_REQUEST);
        check("[]", StatusCode::UNPROCESSABLE_ENTITY);
        check("\"text\"", StatusCode::UNPROCESSABLE_ENTITY);
        parse(b"{}").unwrap();
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
        let headers = HeaderMap::new();
        let read = |length: usize| read(&headers, Body::from(vec![b' '; length]), 10);
        assert_eq!(read(10).await.unwrap().len(), 10);
        assert_eq!(read(11).await.unwrap_err().into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
