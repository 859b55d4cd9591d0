//! Each request has an id, the client's or ours, and each answer bears it. Here, too, a panic of ours becomes a 500.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use uuid::Uuid;

use super::App;
use super::account::{Account, Ask};
use super::error::Failure;
use crate::error::{Error, Kind};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids are not taken over.
const MAX_ID_BYTES: usize = 128;

/// Names one request in answers and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id where it is short and plain, else a new one.
    fn of(header: Option<&HeaderValue>) -> Self {
        let plain = |id: &&HeaderValue| {
            (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        RequestId(header.filter(plain).cloned().unwrap_or_else(new_id))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

fn new_id() -> HeaderValue {
    let id = format!("req-{}", Uuid::new_v4().simple());
    HeaderValue::try_from(id).expect("hexadecimal digits are a header value; anything else is a bug")
}

/// Around every route: the id, the account, and an answer even where a handler panicked.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers().get(X_REQUEST_ID));
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let ask = Ask {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        route: route.unwrap_or_else(|| "other".to_owned()),
    };
    let account = Account::open(id.clone(), ask, Arc::clone(app.models.metrics()));
    request.extensions_mut().insert(account.clone());
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|_| {
        Failure::from(Error::new(Kind::Internal, "a handler panicked: this is a bug")).into_response()
    });
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        account.failed(&failure, response.status());
    }
    response.headers_mut().insert(X_REQUEST_ID, id.0);
    account.close_with(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let of =
            |text: &str| RequestId::of(Some(&HeaderValue::from_bytes(text.as_bytes()).unwrap())).to_string();
        assert_eq!(of("trace-1:a/b"), "trace-1:a/b");
        for bad in ["", "two words", "ünï", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(of(bad).starts_with("req-"), "{bad}");
        }
        let ours = RequestId::of(None).to_string();
        assert_eq!(ours.len(), "req-".len() + 32);
        assert_ne!(ours, RequestId::of(None).to_string());
    }
}
