//! One streamed chat over the OpenAI-compatible API, with the time of every piece.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

/// A streamed answer as a client saw it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// From sending the request to the first piece of text.
    pub(super) to_first: Duration,
    /// Between one piece and the next.
    pub(super) between: Vec<Duration>,
    /// From sending the request to the end of the stream.
    pub(super) whole: Duration,
    /// As the server counts them in `usage`; where it does not, pieces of text.
    pub(super) tokens: u64,
    /// Tokens of the prompt, where the server counts them.
    pub(super) prompt_tokens: Option<u64>,
    /// The answer.
    pub(super) text: String,
}

/// Sends `body` to `url`/v1/chat/completions, with a key where there is one, and reads the stream to its end. A server of
/// which nothing is heard for `patience` has hung.
///
/// # Errors
/// A sentence: what the server refused, how the stream broke, or that it ended without `[DONE]`.
pub(super) async fn chat(
    client: &reqwest::Client,
    (url, key): (&str, Option<&str>),
    body: &Value,
    patience: Duration,
) -> Result<Seen, String> {
    let mut request = client.post(format!("{url}/v1/chat/completions")).json(body);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let started = Instant::now();
    let silent =
        || format!("{url} hung: nothing was heard of it for {} s (timeout_secs)", patience.as_secs());
    let sent = timeout(patience, request.send()).await.map_err(|_| silent())?;
    let response = sent.map_err(|error| format!("{url} cannot be asked: {}", innermost(&error)))?;
    let status = response.status();
    if !status.is_success() {
        let text = timeout(patience, response.text()).await.map_err(|_| silent())?.unwrap_or_default();
        return Err(format!("{url} answered {status}: {}", message_of(&text)));
    }
    let mut reading = Reading { seen: Seen::default(), last: None, done: false, line: Vec::new() };
    let mut bytes = response.bytes_stream();
    while let Some(piece) = timeout(patience, bytes.next()).await.map_err(|_| silent())? {
        let piece = piece.map_err(|error| format!("the stream broke: {}", innermost(&error)))?;
        reading.take(&piece, started)?;
    }
    reading.seen.whole = started.elapsed();
    if reading.done { Ok(reading.seen) } else { Err("the stream ended without [DONE]".to_owned()) }
}

struct Reading {
    seen: Seen,
    last: Option<Instant>,
    done: bool,
    /// What came of a line that is not complete yet.
    line: Vec<u8>,
}

impl Reading {
    fn take(&mut self, bytes: &[u8], started: Instant) -> Result<(), String> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.event(&line, started)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, line: &[u8], started: Instant) -> Result<(), String> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let event: Value =
            serde_json::from_slice(data).map_err(|error| format!("an event is no JSON: {error}"))?;
        if let Some(error) = event.get("error") {
            return Err(format!("the stream ended with an error: {}", message_of(&error.to_string())));
        }
        let delta = &event["choices"][0]["delta"];
        let text = ["content", "reasoning_content"].iter().find_map(|&key| delta[key].as_str());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.piece(text, started);
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            self.seen.tokens = tokens;
            self.seen.prompt_tokens = event["usage"]["prompt_tokens"].as_u64();
        }
        Ok(())
    }

    fn piece(&mut self, text: &str, started: Instant) {
        let now = Instant::now();
        match self.last {
            None => self.seen.to_first = now - started,
            Some(last) => self.seen.between.push(now - last),
        }
        self.last = Some(now);
        self.seen.tokens += 1;
        self.seen.text.push_str(text);
    }
}

/// What an error body says; the body itself where it says nothing in the usual shape.
fn message_of(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let said = json["error"]["message"].as_str().or(json["message"].as_str());
    said.unwrap_or(body).chars().take(300).collect()
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Reading, String> {
        let mut reading = Reading { seen: Seen::default(), last: None, done: false, line: Vec::new() };
        let started = Instant::now();
        for part in bytes.chunks(piece) {
            reading.take(part, started)?;
        }
        Ok(reading)
    }

    #[test]
    fn a_stream_is_read_however_it_is_cut() {
        let stream = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n: ping\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"é\"}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n\
                      data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
        for piece in [1, 2, 7, 1000] {
            let reading = read(stream.as_bytes(), piece).unwrap();
            assert_eq!((reading.seen.text.as_str(), reading.seen.tokens, reading.done), ("éb", 7, true));
            assert_eq!(reading.seen.between.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_has_hung() {
        // It takes connections and never answers.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let heard = chat(&client, (&url, None), &Value::Null, Duration::from_millis(50)).await;
        assert!(heard.is_err_and(|error| error.contains("hung")));
    }

    #[test]
    fn errors_are_told() {
        let error = read(b"data: {\"error\":{\"message\":\"lost\"}}\n", 9).err().unwrap();
        assert!(error.contains("lost"), "{error}");
        assert_eq!(message_of("{\"error\":{\"message\":\"full\"}}"), "full");
        assert_eq!(message_of("<html>"), "<html>");
    }
}
