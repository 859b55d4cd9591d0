//! What is kept of one request while it is answered: its id, when it came, what it took. At its end one line tells
//! of it in the log, with neither prompt nor answer nor key, and the metrics count it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use super::error::{ErrorObject, Failure};
use super::request_id::RequestId;
use crate::journal::{self, Failed};
use crate::metrics::Metrics;

/// Asked every few seconds by whoever watches over the server: told only to those who want to know everything.
const WATCHERS: [&str; 4] = ["/health", "/livez", "/readyz", "/metrics"];

/// One request's.
#[derive(Clone)]
pub(crate) struct Account(Arc<Inner>);

struct Inner {
    id: RequestId,
    ask: Ask,
    started: Instant,
    metrics: Arc<Metrics>,
    prompt_tokens: AtomicU32,
    completion_tokens: AtomicU32,
}

impl Account {
    /// Of a request that has just come.
    pub(crate) fn open(id: RequestId, ask: Ask, metrics: Arc<Metrics>) -> Self {
        Account(Arc::new(Inner {
            id,
            ask,
            started: Instant::now(),
            metrics,
            prompt_tokens: AtomicU32::new(0),
            completion_tokens: AtomicU32::new(0),
        }))
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &RequestId {
        &self.0.id
    }

    /// When the request came.
    pub(crate) fn started(&self) -> Instant {
        self.0.started
    }

    /// What is counted of all requests.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// So many tokens of prompts belong to it.
    pub(crate) fn add_prompt(&self, tokens: u32) {
        self.0.prompt_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// So many tokens were generated for it.
    pub(crate) fn add_completion(&self, tokens: u32) {
        self.0.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// The log hears of a failure, and so does the journal. The client was told it with this status.
    pub(crate) fn failed(&self, failure: &Failure, status: StatusCode) {
        failure.log(&self.0.id);
        let ErrorObject { message, code, .. } = failure.body().error;
        let Ask { method, path, .. } = &self.0.ask;
        self.0.metrics.journal().failed(Failed {
            request: self.0.id.to_string(),
            at: journal::now(),
            method: method.to_string(),
            path: path.clone(),
            status: status.as_u16(),
            code: code.map(str::to_owned),
            message,
        });
    }

    /// The same answer; when its last byte is on its way, or nobody wants the rest, the account is closed.
    pub(crate) fn close_with(self, response: Response) -> Response {
        let status = response.status();
        response.map(|body| Body::new(Accounted { body, _closing: Closing { account: self, status } }))
    }
}

/// What was asked for, as far as the log may know.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The path as the router has it; `other` where there is none.
    pub(crate) route: String,
}

/// An answer's body that is watched.
struct Accounted {
    body: Body,
    _closing: Closing,
}

impl hyper::body::Body for Accounted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells of the request when it is dropped.
struct Closing {
    account: Account,
    status: StatusCode,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let Account(inner) = &self.account;
        let Ask { method, path, route } = &inner.ask;
        let status = self.status.as_u16();
        inner.metrics.answered(method.as_str(), route, status);
        let seconds = inner.started.elapsed().as_secs_f32();
        let prompt_tokens = inner.prompt_tokens.load(Ordering::Relaxed);
        let completion_tokens = inner.completion_tokens.load(Ordering::Relaxed);
        if WATCHERS.contains(&path.as_str()) {
            tracing::debug!(request = %inner.id, %method, path, status, seconds, "answered");
        } else {
            tracing::info!(
                request = %inner.id, %method, path, status, seconds, prompt_tokens, completion_tokens, "answered"
            );
        }
    }
}
