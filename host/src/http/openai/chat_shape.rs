//! The JSON of a chat's answer: its text is read as content, reasoning and calls, and told whole or piece by piece.
//!
//! `logprobs` are those of all tokens, whichever part of the answer they became.

use uuid::Uuid;

use super::answer::{Choice, Piece, Shape};
use super::logprobs;
use super::types::{
    ChatChoice, ChatDelta, ChatFinish, ChatMessage, Delta, Envelope, FunctionCall, Stamp, ToolCall,
    UsageField,
};
use crate::chat::{self, Reader, Reply};
use crate::engine::message::{FinishReason, TokenLogprob, Usage};
use crate::http::sse::{Line, json};

const OBJECT: &str = "chat.completion";
const CHUNK: &str = "chat.completion.chunk";
const ASSISTANT: &str = "assistant";
const FUNCTION: &str = "function";

/// The endpoint's shape.
pub(super) struct ChatShape {
    pub(super) stamp: Stamp,
    pub(super) include_usage: bool,
    /// What each choice took so far, where every piece tells it.
    pub(super) so_far: Option<Vec<Usage>>,
    pub(super) logprobs: bool,
    pub(super) ids: Ids,
    /// One for each choice.
    pub(super) answers: Vec<Answer>,
}

/// What ids of calls look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// As OpenAI has them.
    Usual,
    /// Nine letters and digits: templates of Mistral take no others back.
    Short,
}

impl Ids {
    /// A new one.
    pub(super) fn next(self) -> String {
        let id = Uuid::new_v4().simple().to_string();
        match self {
            Ids::Usual => format!("call_{}", &id[..24]),
            Ids::Short => id[..9].to_owned(),
        }
    }
}

/// One choice while it grows.
pub(super) struct Answer {
    reader: Reader,
    /// Tokens of which no piece has told yet.
    pub(super) tokens: Vec<TokenLogprob>,
    /// Calls that were begun, and those of them that stand.
    begun: usize,
    standing: usize,
    pub(super) reasoning_tokens: u32,
}

impl Answer {
    /// One that is read so.
    pub(super) fn new(reader: Reader) -> Self {
        Answer { reader, tokens: Vec::new(), begun: 0, standing: 0, reasoning_tokens: 0 }
    }

    /// What a piece adds.
    pub(super) fn read(&mut self, piece: Piece) -> Vec<chat::Delta> {
        self.tokens.extend(piece.tokens);
        let was_thinking = self.reader.is_thinking();
        let deltas = self.reader.push(&piece.text);
        let thought = was_thinking || deltas.iter().any(|delta| matches!(delta, chat::Delta::Reasoning(_)));
        if thought || self.reader.is_thinking() {
            self.reasoning_tokens = piece.told;
        }
        self.count(&deltas);
        deltas
    }

    /// What was held back, now that nothing more comes.
    pub(super) fn finish(&mut self, usage: Usage) -> Vec<chat::Delta> {
        if self.reader.is_thinking() {
            self.reasoning_tokens = usage.completion_tokens;
        }
        let deltas = self.reader.finish();
        self.count(&deltas);
        deltas
    }

    fn count(&mut self, deltas: &[chat::Delta]) {
        for delta in deltas {
            match delta {
                chat::Delta::Call { .. } => self.standing += 1,
                chat::Delta::Broken { .. } => self.standing = self.standing.saturating_sub(1),
                chat::Delta::Content(_) | chat::Delta::Reasoning(_) | chat::Delta::Arguments(_) => {}
            }
        }
    }

    fn finish_reason(&self, reason: FinishReason) -> ChatFinish {
        match reason {
            FinishReason::Length => ChatFinish::Length,
            FinishReason::Stop | FinishReason::StopString(_) if self.standing > 0 => ChatFinish::ToolCalls,
            FinishReason::Stop | FinishReason::StopString(_) => ChatFinish::Stop,
        }
    }
}

impl ChatShape {
    fn chunk(&self, delta: ChatDelta) -> Line {
        let index = delta.index;
        let mut envelope = self.streamed(vec![delta]);
        if let Some(usage) = self.so_far.as_ref().and_then(|so_far| so_far.get(index)) {
            envelope.usage = UsageField::told(*usage, self.answers[index].reasoning_tokens);
        }
        Line::Data(json(&envelope))
    }

    fn took(&mut self, index: usize, usage: impl FnOnce(Usage) -> Usage) {
        if let Some(so_far) = self.so_far.as_mut().and_then(|so_far| so_far.get_mut(index)) {
            *so_far = usage(*so_far);
        }
    }

    fn streamed(&self, choices: Vec<ChatDelta>) -> Envelope<'_, ChatDelta> {
        let mut envelope = self.stamp.envelope(CHUNK, choices);
        envelope.usage = if self.include_usage { UsageField::Null } else { UsageField::Absent };
        envelope
    }

    /// A line for each delta; the first tells of the tokens.
    fn lines(&mut self, index: usize, deltas: Vec<chat::Delta>) -> Vec<Line> {
        let mut lines = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let delta = self.wire(index, delta);
            let tokens = std::mem::take(&mut self.answers[index].tokens);
            let logprobs = self.logprobs.then(|| logprobs::chat(&tokens));
            lines.push(self.chunk(ChatDelta { index, delta, logprobs, finish_reason: None }));
        }
        lines
    }

    fn wire(&mut self, index: usize, delta: chat::Delta) -> Delta {
        let ids = self.ids;
        let answer = &mut self.answers[index];
        let piece = |call: ToolCall| Delta { tool_calls: vec![call], ..Delta::default() };
        match delta {
            // What was told of a broken call cannot be taken back; what was not is content.
            chat::Delta::Content(text) | chat::Delta::Broken { rest: text, .. } => {
                Delta { content: Some(text), ..Delta::default() }
            }
            chat::Delta::Reasoning(text) => Delta { reasoning_content: Some(text), ..Delta::default() },
            chat::Delta::Call { name } => {
                answer.begun += 1;
                piece(ToolCall { index: Some(answer.begun - 1), ..tool_call(ids, name, String::new()) })
            }
            chat::Delta::Arguments(arguments) => {
                let function = FunctionCall { name: None, arguments };
                let index = Some(answer.begun.saturating_sub(1));
                piece(ToolCall { index, function, ..ToolCall::default() })
            }
        }
    }

    fn reasoning_tokens(&self) -> u32 {
        self.answers.iter().map(|answer| answer.reasoning_tokens).sum()
    }

    fn whole_choice(&mut self, index: usize, choice: Choice) -> ChatChoice {
        let answer = &mut self.answers[index];
        let mut reply = Reply::default();
        for piece in choice.pieces {
            answer.read(piece).into_iter().for_each(|delta| reply.add(delta));
        }
        answer.finish(choice.usage).into_iter().for_each(|delta| reply.add(delta));
        let says_nothing = reply.content.is_empty() && !reply.calls.is_empty();
        let calls = reply.calls.into_iter().map(|call| tool_call(self.ids, call.name, call.arguments));
        ChatChoice {
            index,
            logprobs: self.logprobs.then(|| logprobs::chat(&answer.tokens)),
            message: ChatMessage {
                role: ASSISTANT,
                content: (!says_nothing).then_some(reply.content),
                reasoning_content: Some(reply.reasoning).filter(|reasoning| !reasoning.is_empty()),
                tool_calls: calls.collect(),
                refusal: None,
            },
            finish_reason: answer.finish_reason(choice.reason),
        }
    }
}

fn tool_call(ids: Ids, name: String, arguments: String) -> ToolCall {
    let function = FunctionCall { name: Some(name), arguments };
    ToolCall { index: None, id: Some(ids.next()), kind: Some(FUNCTION), function }
}

impl Shape for ChatShape {
    fn opening(&mut self, index: usize) -> Vec<Line> {
        let delta = Delta { role: Some(ASSISTANT), content: Some(String::new()), ..Delta::default() };
        vec![self.chunk(ChatDelta { index, delta, logprobs: None, finish_reason: None })]
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Line> {
        self.took(index, |usage| Usage { completion_tokens: piece.told, ..usage });
        let deltas = self.answers[index].read(piece);
        self.lines(index, deltas)
    }

    fn ending(&mut self, index: usize, reason: FinishReason, usage: Usage) -> Vec<Line> {
        self.took(index, |_| usage);
        let deltas = self.answers[index].finish(usage);
        let mut lines = self.lines(index, deltas);
        // Tokens without text of their own, or whose text is a part of a call that has been told.
        if self.logprobs && !self.answers[index].tokens.is_empty() {
            lines.extend(self.lines(index, vec![chat::Delta::Content(String::new())]));
        }
        let finish_reason = Some(self.answers[index].finish_reason(reason));
        lines.push(self.chunk(ChatDelta { index, delta: Delta::default(), logprobs: None, finish_reason }));
        lines
    }

    fn closing(&mut self, usage: Usage) -> Vec<Line> {
        let reasoning_tokens = self.reasoning_tokens();
        let mut envelope = self.streamed(Vec::new());
        envelope.usage = UsageField::told(usage, reasoning_tokens);
        let usage = self.include_usage.then(|| Line::Data(json(&envelope)));
        usage.into_iter().chain([Line::Done]).collect()
    }

    fn whole(mut self, choices: Vec<Choice>, usage: Usage) -> String {
        let choices = choices.into_iter().enumerate();
        let choices = choices.map(|(index, choice)| self.whole_choice(index, choice)).collect();
        let mut envelope = self.stamp.envelope(OBJECT, choices);
        envelope.usage = UsageField::told(usage, self.reasoning_tokens());
        json(&envelope)
    }
}

#[cfg(test)]
#[path = "chat_shape_tests.rs"]
mod tests;
