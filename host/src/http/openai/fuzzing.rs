//! A door for the fuzz target `bodies`, open only under `--cfg fuzzing`: any bytes as a body.

use super::{chat, completions, responses};
use crate::http::body;
use crate::http::error::Failure;

/// What HTTP status these bytes lead to as the body of a chat, a completion and a response; 200 where they are a request.
pub fn statuses_of_body(bytes: &[u8]) -> Vec<u16> {
    let status = |failure: Failure| failure.status().as_u16();
    let Ok(_) = body::parse(bytes) else { return vec![400] };
    let fields = || body::parse(bytes).expect("it was read before: this is a bug");
    [
        chat::ChatRequest::parse(fields()).map(|_| ()),
        completions::CompletionRequest::parse(fields()).map(|_| ()),
        responses::parse_alone(fields()),
    ]
    .into_iter()
    .map(|parsed| parsed.map_or_else(status, |()| 200))
    .collect()
}
