//! The grammars that were compiled lately. A service asks for the same few again and again, and `n` answers for one.

use std::collections::VecDeque;

use llguidance::Matcher;

/// Some hundred kilobytes each.
const KEPT: usize = 16;

/// The latest last. The key is the grammar's text: the order of a schema's properties is not told by comparing it as
/// JSON, and decides the order in the answer.
#[derive(Default)]
pub(super) struct Cache {
    kept: VecDeque<(String, Matcher)>,
}

impl Cache {
    /// A beginning of its own, which shares nothing with others: what one answer does cannot change the next.
    pub(super) fn find(&mut self, key: &str) -> Option<Matcher> {
        let at = self.kept.iter().position(|(other, _)| other == key)?;
        let entry = self.kept.remove(at)?;
        let copy = entry.1.deep_clone();
        self.kept.push_back(entry);
        Some(copy)
    }

    pub(super) fn keep(&mut self, key: String, matcher: &Matcher) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((key, matcher.deep_clone()));
    }
}
