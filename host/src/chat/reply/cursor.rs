//! A place in a text that is taken apart from its beginning.

/// Deeper than any call; a text of nothing but brackets must not exhaust the stack.
const DEEPEST: usize = 64;

/// What is left of the text, and how many brackets are open.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a str,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { rest: text, depth: 0 }
    }

    /// A value within a value begins; `None` where they are too deep.
    pub(super) fn descend(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEEPEST).then_some(())
    }

    /// It has ended.
    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Passes over blanks.
    pub(super) fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Passes over this word, if it stands here.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Passes over so many bytes and gives them.
    pub(super) fn advance(&mut self, bytes: usize) -> &'a str {
        let (before, behind) = self.rest.split_at(bytes);
        self.rest = behind;
        before
    }
}
