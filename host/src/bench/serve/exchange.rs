//! One request of a benchmark and what became of it: all that its figures are computed from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::client::Seen;

/// A request and its answer, as a client saw them. Times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkRequest)]
pub struct Exchange {
    /// Which server, from 0.
    pub target: u32,
    /// In which round, from 0.
    pub round: u32,
    /// Which message of its conversation, from 0.
    pub turn: u32,
    /// Whether its conversation ends with it: latencies are those of such.
    pub is_last: bool,
    /// When it was sent, from the beginning of its round.
    pub sent_at: f64,
    /// To the first piece of text; null where none came.
    pub ttft: Option<f64>,
    /// Between one piece and the next.
    pub gaps: Vec<f64>,
    /// To the end of the answer, or to the failure.
    pub seconds: f64,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, as the server counts them; where it does not, pieces.
    pub tokens: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// How long a round of one server's took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkRound)]
pub struct RoundTime {
    /// Which server, from 0.
    pub target: u32,
    /// Which round, from 0.
    pub round: u32,
    /// From its beginning to the end of its last answer.
    pub seconds: f64,
}

impl Exchange {
    /// An answer that came to its end.
    pub(super) fn answered(self, seen: &Seen) -> Self {
        Exchange {
            ttft: (!seen.text.is_empty()).then_some(seen.to_first.as_secs_f64()),
            gaps: seen.between.iter().map(std::time::Duration::as_secs_f64).collect(),
            seconds: seen.whole.as_secs_f64(),
            prompt_tokens: seen.prompt_tokens,
            tokens: seen.tokens,
            ..self
        }
    }

    /// Time per output token: from the first piece to the end, by the tokens after the first.
    pub fn tpot(&self) -> Option<f64> {
        let after = self.tokens.checked_sub(1).filter(|&tokens| tokens > 0)?;
        Some((self.seconds - self.ttft?) / after as f64)
    }

    /// Whether it kept within these limits, in seconds: the first piece, and every gap between two. One long gap is what a
    /// reader notices, however fast the other pieces came.
    pub fn is_good(&self, ttft: Option<f64>, itl: Option<f64>) -> bool {
        let first = ttft.is_none_or(|limit| self.ttft.is_some_and(|ttft| ttft <= limit));
        let others = itl.is_none_or(|limit| self.gaps.iter().all(|&gap| gap <= limit));
        self.error.is_none() && first && others
    }
}
