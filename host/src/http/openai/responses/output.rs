//! A response's output while it grows: deltas become items, and what is told of them while they do.
//!
//! One item is open at a time, the last; another kind of delta ends it and begins the next. Pure.

use serde::Serialize;
use uuid::Uuid;

use super::super::chat_shape::Ids;
use super::types::{
    ArgumentsDone, Event, Item, OfItem, OfPart, Part, Status, TextDelta, TextDone, WholePart,
};
use crate::chat::Delta;
use crate::http::openai::types::ChatToken;
use crate::http::sse::{Line, json};

/// The items so far, and the lines that tell of them.
pub(super) struct Output {
    items: Vec<Item>,
    is_open: bool,
    ids: Ids,
    told: Told,
}

/// What a stream says, numbered.
pub(super) struct Told {
    /// Where nobody listens, nothing is written, and what turns out broken can be taken back.
    streams: bool,
    next: u64,
    lines: Vec<Line>,
}

impl Told {
    /// The next event.
    pub(super) fn push(&mut self, kind: &'static str, body: impl Serialize) {
        if self.streams {
            let event = Event { kind, sequence_number: self.next, body };
            self.lines.push(Line::Named(kind, json(&event)));
            self.next += 1;
        }
    }
}

impl Output {
    /// Nothing yet.
    pub(super) fn new(ids: Ids, streams: bool) -> Self {
        Output { items: Vec::new(), is_open: false, ids, told: Told { streams, next: 0, lines: Vec::new() } }
    }

    /// What there is.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The items, and where more can be told.
    pub(super) fn parts(&mut self) -> (&[Item], &mut Told) {
        (&self.items, &mut self.told)
    }

    /// What has been said since the last time.
    pub(super) fn lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.told.lines)
    }

    /// Adds a piece, of which so many tokens tell.
    pub(super) fn add(&mut self, delta: Delta, tokens: Vec<ChatToken>) {
        match delta {
            Delta::Content(text) => self.say(&text, tokens),
            Delta::Reasoning(text) => self.think(&text),
            Delta::Call { name } => {
                let (id, call_id) = (new_id("fc"), self.ids.next());
                let arguments = String::new();
                self.open(Item::FunctionCall { id, call_id, name, arguments, status: Status::InProgress });
            }
            Delta::Arguments(text) => self.argue(&text),
            // What was told of a broken call cannot be taken back; what was not is content.
            Delta::Broken { rest, .. } if self.told.streams => {
                self.close(Status::Incomplete);
                self.say(&rest, tokens);
            }
            Delta::Broken { text, .. } => {
                self.items.pop();
                self.is_open = matches!(self.items.last(), Some(Item::Message { .. }));
                self.say(&text, tokens);
            }
        }
    }

    /// Ends the last item. An answer that says nothing is an empty message.
    pub(super) fn finish(&mut self, status: Status) {
        if self.items.is_empty() {
            self.say("", Vec::new());
        }
        self.close(status);
    }

    fn say(&mut self, text: &str, tokens: Vec<ChatToken>) {
        if !(self.is_open && matches!(self.items.last(), Some(Item::Message { .. }))) {
            let content = Vec::new();
            let (id, status) = (new_id("msg"), Status::InProgress);
            self.open(Item::Message { id, role: "assistant", content, status });
            let empty =
                Part::OutputText { text: String::new(), annotations: Vec::new(), logprobs: Vec::new() };
            self.open_part(empty);
        }
        let output_index = self.items.len() - 1;
        if let Some(Item::Message { id, content, .. }) = self.items.last_mut()
            && let Some(Part::OutputText { text: whole, logprobs, .. }) = content.last_mut()
        {
            let body = TextDelta { delta: text, logprobs: Some(&tokens) };
            let delta = OfPart { item_id: id, output_index, content_index: Some(0), body };
            if !text.is_empty() {
                self.told.push("response.output_text.delta", delta);
            }
            whole.push_str(text);
            logprobs.extend(tokens);
        }
    }

    fn think(&mut self, text: &str) {
        if !(self.is_open && matches!(self.items.last(), Some(Item::Reasoning { .. }))) {
            let (id, summary, content) = (new_id("rs"), Vec::new(), Vec::new());
            self.open(Item::Reasoning { id, summary, content, status: Status::InProgress });
            self.open_part(Part::ReasoningText { text: String::new() });
        }
        let output_index = self.items.len() - 1;
        if let Some(Item::Reasoning { id, content, .. }) = self.items.last_mut()
            && let Some(Part::ReasoningText { text: whole }) = content.last_mut()
        {
            let body = TextDelta { delta: text, logprobs: None };
            let delta = OfPart { item_id: id, output_index, content_index: Some(0), body };
            self.told.push("response.reasoning_text.delta", delta);
            whole.push_str(text);
        }
    }

    fn argue(&mut self, text: &str) {
        let output_index = self.items.len().saturating_sub(1);
        if let Some(Item::FunctionCall { id, arguments, .. }) = self.items.last_mut() {
            let body = TextDelta { delta: text, logprobs: None };
            let delta = OfPart { item_id: id, output_index, content_index: None, body };
            self.told.push("response.function_call_arguments.delta", delta);
            arguments.push_str(text);
        }
    }

    fn open(&mut self, item: Item) {
        self.close(Status::Completed);
        let body = OfItem { output_index: self.items.len(), item: &item };
        self.told.push("response.output_item.added", body);
        self.items.push(item);
        self.is_open = true;
    }

    fn open_part(&mut self, part: Part) {
        let output_index = self.items.len() - 1;
        if let Some(Item::Message { id, content, .. } | Item::Reasoning { id, content, .. }) =
            self.items.last_mut()
        {
            let body = WholePart { part: &part };
            let added = OfPart { item_id: id, output_index, content_index: Some(0), body };
            self.told.push("response.content_part.added", added);
            content.push(part);
        }
    }

    /// Ends the item that is open, if one is.
    pub(super) fn close(&mut self, end: Status) {
        let output_index = self.items.len().saturating_sub(1);
        let Some(item) = self.items.last_mut().filter(|_| self.is_open) else { return };
        self.is_open = false;
        match item {
            Item::Message { id, content, status, .. } | Item::Reasoning { id, content, status, .. } => {
                content.iter().for_each(|part| part_done(&mut self.told, id, output_index, part));
                *status = end;
            }
            Item::FunctionCall { id, name, arguments, status, .. } => {
                let body = ArgumentsDone { name, arguments };
                let done = OfPart { item_id: id, output_index, content_index: None, body };
                self.told.push("response.function_call_arguments.done", done);
                *status = end;
            }
        }
        self.told.push("response.output_item.done", OfItem { output_index, item });
    }
}

fn part_done(told: &mut Told, item_id: &str, output_index: usize, part: &Part) {
    let (kind, body) = match part {
        Part::OutputText { text, logprobs, .. } => {
            ("response.output_text.done", TextDone { text, logprobs: Some(logprobs) })
        }
        Part::ReasoningText { text } => ("response.reasoning_text.done", TextDone { text, logprobs: None }),
    };
    told.push(kind, OfPart { item_id, output_index, content_index: Some(0), body });
    let body = WholePart { part };
    told.push("response.content_part.done", OfPart { item_id, output_index, content_index: Some(0), body });
}

/// A new name of this kind.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}
