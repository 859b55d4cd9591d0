//! What goes into an engine and what comes out: two closed enums that can be serialised, for a process border may
//! come between the engine and its callers.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sampling;
use crate::sampling::constraint::Grammar;

/// Names one request of one engine, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Into the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// A request joins the queue.
    Submit(RequestId, Box<Request>),
    /// A request for vectors joins the queue.
    Embed(RequestId, Box<Inputs>),
    /// Nobody waits for this one any more.
    Cancel(RequestId),
    /// From the engine's own threads: something that the loop waits for is there.
    Wake,
    /// Take no more, finish what runs, end.
    Finish,
    /// End every stream now.
    Abort,
}

/// Out of the engine, about one request. After `Finished` or `Failed` nothing more comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The prompt was tokenised and fits; the request waits for its turn.
    Accepted {
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// How probable the prompt's own tokens are, before the answer begins; where that was asked for.
    Prompt {
        /// The bytes of the first: nothing is before it that could make it probable.
        first: Vec<u8>,
        /// Those behind it.
        tokens: Vec<TokenLogprob>,
    },
    /// A piece of the answer.
    Text {
        /// Whole UTF-8; may be empty when only `tokens` have something to say.
        text: String,
        /// The tokens behind the text, where log probabilities were asked for; else empty.
        tokens: Vec<TokenLogprob>,
        /// How many tokens of the answer have been told whole, with this piece.
        told: u32,
    },
    /// The vector of one input.
    Vector {
        /// Which input of the request it is of, from 0.
        index: u32,
        /// Its numbers, each finite.
        vector: Vec<f32>,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// There is no (further) answer.
    Failed(Error),
}

impl Event {
    /// About how many bytes it takes while it waits for its reader.
    pub(super) fn weight(&self) -> usize {
        let alternative = |one: &Alternative| size_of::<Alternative>() + one.bytes.len();
        let token = |token: &TokenLogprob| {
            alternative(&token.chosen) + token.top.iter().map(alternative).sum::<usize>()
        };
        let text = match self {
            Event::Text { text, tokens, .. } => text.len() + tokens.iter().map(token).sum::<usize>(),
            Event::Prompt { first, tokens } => first.len() + tokens.iter().map(token).sum::<usize>(),
            Event::Vector { vector, .. } => size_of_val(vector.as_slice()),
            Event::Accepted { .. } | Event::Finished { .. } | Event::Failed(_) => 0,
        };
        size_of::<Event>() + text
    }
}

/// What may be asked of a model beside its loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// The tokens of a text.
    Tokens {
        /// The text.
        text: String,
        /// Add what the model wants around a text of its own.
        add_special: bool,
        /// Turn the text of control tokens into these.
        parse_special: bool,
    },
    /// The tokens of a rendered chat.
    ChatTokens(Vec<Segment>),
    /// The bytes of each of these tokens.
    Bytes(Vec<u32>),
}

/// The answer to a [`Question`] of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// Tokens.
    Tokens(Vec<u32>),
    /// The bytes of tokens, in the question's order; not necessarily whole UTF-8.
    Bytes(Vec<Vec<u8>>),
}

/// One request for text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What to go on from.
    pub prompt: Prompt,
    /// Tokens to generate at most; without it, what the context has room for. 0 where only the prompt's probabilities are
    /// wanted.
    pub max_tokens: Option<u32>,
    /// The answer ends before the first of these. None is empty.
    pub stop: Vec<String>,
    /// End tokens are never sampled: the answer ends by its length or a stop string.
    pub ignore_eos: bool,
    /// How tokens are chosen.
    pub sampling: sampling::Settings,
    /// Same seed, same model, same request: same answer. Without it a random one is drawn.
    pub seed: Option<u64>,
    /// Report each token's log probability, with this many alternatives.
    pub logprobs: Option<u32>,
    /// Report those of the prompt's tokens too. The whole prompt is then computed, whatever the context holds.
    pub prompt_logprobs: bool,
    /// Compute the whole prompt, whatever the context holds.
    pub afresh: bool,
    /// What the answer must be, where it is not free.
    pub structure: Option<Structure>,
    /// What calls in it are kept to, where tools are offered to an answer that is free. Nothing is refused for it.
    pub offered: Option<Offered>,
    /// Smaller goes first; those of equal priority in order of arrival.
    pub priority: i32,
    /// The answer ends so long after the engine was asked for it, in milliseconds.
    pub time_limit_ms: Option<u64>,
    /// Control tokens with one of these texts are a part of the answer's text, which has none of the others.
    pub shown: Vec<String>,
}

/// What an answer must be, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Structure {
    /// The request's field, for the refusal of what cannot be kept to.
    pub field: String,
    /// What it must be.
    pub grammar: Grammar,
    /// Only what comes behind this text must be so, such as the end of a model's thinking.
    pub after: Option<String>,
    /// A field and its grammar to which nothing is kept here, but that is refused like any other where it makes no sense.
    pub beside: Option<(String, Grammar)>,
}

/// How an answer calls tools, if it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// With what a call begins.
    pub mark: String,
    /// What opens and closes reasoning, in which nothing is called.
    pub thinking: Option<(String, String)>,
    /// Whether the answer begins within its reasoning.
    pub is_thinking: bool,
    /// What stands behind the mark.
    pub grammar: Grammar,
}

/// A prompt, as text or as tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// A rendered chat: the model's own template text, with what users wrote about control tokens cut out.
    Chat(Vec<Segment>),
    /// A text that the caller wrote whole, control tokens included; the model's own leading tokens are added.
    Text(String),
    /// Ready-made tokens.
    Tokens(Vec<u32>),
}

/// A stretch of a chat prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Segment {
    /// The text of control tokens in here becomes these tokens.
    Template(String),
    /// The text of control tokens in here stays text.
    Literal(String),
}

/// One request for vectors: one for each input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// What to embed; none is empty.
    pub texts: Vec<Input>,
    /// Numbers of each vector, where it shall be shorter than the model's own.
    pub dimensions: Option<u32>,
}

/// Something to embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A text; the model's own special tokens are added, and none is read out of it.
    Text(String),
    /// Ready-made tokens, special ones included.
    Tokens(Vec<u32>),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// This one of the request's stop strings came.
    StopString(u32),
    /// `max_tokens` or the context's end was reached.
    Length,
}

impl FinishReason {
    /// OpenAI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop | FinishReason::StopString(_) => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// What an answer took, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, how many were not computed because another sequence had them.
    pub cached_tokens: u32,
    /// Tokens generated, the ending one included.
    pub completion_tokens: u32,
    /// Tokens that were guessed and tried, to generate several in one step.
    pub drafted_tokens: u32,
    /// Of these, how many came and were gone on from.
    pub accepted_tokens: u32,
}

/// One token of an answer with its log probability under the model (natural logarithm, before any sampling filter).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub chosen: Alternative,
    /// The most probable tokens at this place, best first.
    pub top: Vec<Alternative>,
}

/// A token that was or could have been chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its id.
    pub token: u32,
    /// Its bytes, not necessarily whole UTF-8.
    pub bytes: Vec<u8>,
    /// Its log probability.
    pub logprob: f32,
}
