//! Server-sent events: `data:` lines, a comment now and then so that nobody takes a silent stream for a dead one.
//!
//! Whoever writes the lines decides what ends them; after an error there is no `[DONE]`.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};

use super::error::Failure;

/// How long a stream is silent before a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The end of every stream that came to its end.
const DONE: &str = "[DONE]";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A JSON text without line breaks.
    Data(String),
    /// The same, with a name of its own.
    Named(&'static str, String),
    /// A word that clients pass over, and by which they know that somebody is there.
    Comment,
    /// All is said.
    Done,
}

impl Line {
    /// The last line of a stream that failed.
    pub(crate) fn failure(failure: &Failure) -> Self {
        Line::Data(json(&failure.body()))
    }
}

/// What is written here are our own types with string keys, which always become JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our own types become JSON; anything else is a bug")
}

/// A response that sends these lines as they come. When the client goes away the stream is dropped.
pub(crate) fn respond(lines: impl Stream<Item = Line> + Send + 'static) -> Response {
    respond_with(lines, KEEP_ALIVE)
}

fn respond_with(lines: impl Stream<Item = Line> + Send + 'static, keep_alive: Duration) -> Response {
    let events = lines.map(|line| {
        Ok::<_, Infallible>(match line {
            Line::Data(json) => Event::default().data(json),
            Line::Named(name, json) => Event::default().event(name).data(json),
            Line::Comment => Event::DEFAULT_KEEP_ALIVE,
            Line::Done => Event::default().data(DONE),
        })
    });
    let body = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive));
    // Tells proxies of nginx's kind to pass each event on at once.
    ([(HeaderName::from_static("x-accel-buffering"), "no")], body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn lines_become_events() {
        let response = respond(stream::iter([
            Line::Comment,
            Line::Data("{\"a\":\"\\n\"}".to_owned()),
            Line::Named("b", "{}".to_owned()),
            Line::Done,
        ]));
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, ":\n\ndata: {\"a\":\"\\n\"}\n\nevent: b\ndata: {}\n\ndata: [DONE]\n\n");
    }

    #[tokio::test]
    async fn a_silent_stream_sends_comments() {
        let (speak, silence) = tokio::sync::oneshot::channel::<Line>();
        let mut body = respond_with(stream::once(async { silence.await.unwrap() }), Duration::from_millis(1))
            .into_body()
            .into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
        speak.send(Line::Done).unwrap();
        let rest: Vec<_> = body.map(|piece| piece.unwrap()).collect().await;
        assert_eq!(rest.last().unwrap(), "data: [DONE]\n\n");
    }
}
