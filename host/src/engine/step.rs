//! One step's rows, and the sequences that they come from. Pure.

use std::ops::Range;

use super::message::RequestId;
use crate::plugins::model::{Position, Rows, SeqId, Token};

/// A request's tokens, and how many of them the context holds.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    /// Smaller goes first.
    pub(super) priority: i32,
    /// How many that came later were started before it because of their priority.
    pub(super) overtaken: u32,
    pub(super) tokens: Vec<Token>,
    pub(super) computed: usize,
    /// `None` while it waits.
    pub(super) slot: Option<SeqId>,
    /// It ran before and gave way.
    pub(super) ran: bool,
    /// Tokens that may come next, to be verified in the next step.
    pub(super) proposed: Vec<Token>,
    /// When it first runs, nothing that the context holds is used.
    pub(super) afresh: bool,
    /// Places of the prompt's tokens whose probabilities are to be told and are not known yet.
    pub(super) unscored: Range<usize>,
    /// Such tokens that the context holds behind the computed ones since the last step.
    pub(super) ahead: Vec<Token>,
}

/// One step's work.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What to decode.
    pub(super) rows: Rows,
    /// Rows whose logits decide a next token, with the sequence that they belong to, a sequence's rows in order. All but
    /// the first of a sequence count only as long as the tokens before them came as proposed.
    pub(super) wanted: Vec<(usize, RequestId)>,
    /// Rows whose logits tell how probable the prompt's next token is, with the sequence and that token.
    pub(super) scored: Vec<(usize, RequestId, Token)>,
    /// Sequences that began with this step, with the tokens that they did not have to compute.
    pub(super) started: Vec<(RequestId, usize)>,
    /// How many rows each sequence has in this step, those of proposed tokens left out.
    pub(super) shares: Vec<(RequestId, usize)>,
}

impl Step {
    /// The sequences of this step.
    pub(super) fn members(&self) -> impl Iterator<Item = RequestId> {
        self.shares.iter().map(|&(id, _)| id)
    }

    /// Rows of prompts: who has a single one generates.
    pub(super) fn prompt_rows(&self) -> usize {
        self.shares.iter().map(|&(_, rows)| rows).filter(|&rows| rows > 1).sum()
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.wanted.clear();
        self.scored.clear();
        self.started.clear();
        self.shares.clear();
    }

    fn row(&mut self, token: Token, position: usize, sequence: SeqId, wanted: Option<RequestId>) {
        self.wanted.extend(wanted.map(|id| (self.rows.len(), id)));
        self.rows.tokens.push(token);
        self.rows.positions.push(Position(position as u32));
        self.rows.sequences.push(sequence);
        self.rows.wants_logits.push(wanted.is_some());
    }

    /// The logits of the last row tell how probable this next token is.
    fn score_last(&mut self, id: RequestId, next: Token) {
        if let Some(wants) = self.rows.wants_logits.last_mut() {
            *wants = true;
            self.scored.push((self.rows.tokens.len() - 1, id, next));
        }
    }
}

/// Which of a prompt's tokens are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computed {
    /// Those beyond what the context holds already.
    Beyond,
    /// All.
    Afresh,
    /// All, each of which but the first is to be told how probable it is.
    Scored,
}

impl Sequence {
    /// Whether nothing that the context holds may be used when it starts.
    pub(super) fn starts_anew(&self) -> bool {
        !self.unscored.is_empty() || (self.afresh && !self.ran)
    }

    /// The context now holds so many of its tokens.
    pub(super) fn computed_to(&mut self, end: usize) {
        self.computed = end;
        self.unscored.start = self.unscored.start.max(end + 1);
    }

    pub(super) fn new(id: RequestId, priority: i32, tokens: Vec<Token>, computed: Computed) -> Self {
        let unscored = if computed == Computed::Scored { 1..tokens.len() } else { 0..0 };
        Sequence {
            id,
            priority,
            overtaken: 0,
            tokens,
            afresh: computed == Computed::Afresh,
            computed: 0,
            slot: None,
            ran: false,
            proposed: Vec::new(),
            unscored,
            ahead: Vec::new(),
        }
    }

    /// The place in every order: by priority, then by arrival.
    pub(super) fn rank(&self) -> (i32, RequestId) {
        (self.priority, self.id)
    }

    /// Tokens that are still to be computed.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Writes the next rows, at most `most`, and says how many. Logits are wanted where they decide a new token: at the last
    /// one, and after each proposed one.
    pub(super) fn emit(&mut self, most: usize, step: &mut Step) -> usize {
        let mut proposed = std::mem::take(&mut self.proposed);
        let share = self.pending().min(most);
        let Some(slot) = self.slot.filter(|_| share > 0) else { return 0 };
        for at in self.computed..self.computed + share {
            step.row(self.tokens[at], at, slot, (at + 1 == self.tokens.len()).then_some(self.id));
            if self.unscored.contains(&(at + 1)) {
                step.score_last(self.id, self.tokens[at + 1]);
            }
        }
        step.shares.push((self.id, share));
        proposed.truncate(if share == self.pending() { most - share } else { 0 });
        for (at, &token) in proposed.iter().enumerate() {
            step.row(token, self.tokens.len() + at, slot, Some(self.id));
        }
        self.ahead = proposed;
        share + self.ahead.len()
    }
}
