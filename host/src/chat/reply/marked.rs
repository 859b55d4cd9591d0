//! Answers with marks in their text: a state machine over the text that nobody has decided about yet.

use super::call::Reading;
use super::family::{Family, Form, Open, Thinking};
use super::reader::Lookout;
use super::scan::Step;
use super::{Delta, Tool};

/// Reads one answer.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    /// What is read as calls, and the tools; nothing where a request offers none.
    calls: Option<(Family, Vec<Tool>)>,
    thinking: Option<Thinking>,
    /// Calls beyond these are dropped.
    most_calls: usize,
    lookout: Lookout,
    made: usize,
    /// Text that is not decided about.
    held: String,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// Nothing yet but blanks: reasoning may begin.
    Start,
    Thinking {
        /// Line breaks at its beginning are a part of the mark.
        is_fresh: bool,
    },
    /// Line breaks here are a part of the mark.
    AfterThinking,
    Text {
        /// Nothing was said yet.
        is_first: bool,
    },
    Call(Box<Reading>),
    /// Where another call may come: around frames.
    Between {
        /// What was passed over since the last call.
        passed: String,
        is_after_call: bool,
    },
    /// All calls that may be made are made.
    Full,
}

/// What the text that is held comes to at one place.
enum Found<'a> {
    Mark(&'a Open),
    Frame(&'static str),
    /// It may become a mark.
    Beginning,
    Nothing,
}

impl Marked {
    /// Of an answer that may call these tools, as this family writes it.
    pub(super) fn new(calls: Option<(Family, Vec<Tool>)>, thinking: Option<Thinking>) -> Self {
        Marked {
            calls,
            thinking,
            most_calls: usize::MAX,
            lookout: Lookout::Anywhere,
            made: 0,
            held: String::new(),
            state: State::Start,
        }
    }

    /// The prompt ends within reasoning already.
    pub(super) fn within_thinking(mut self) -> Self {
        if self.thinking.is_some() {
            self.state = State::Thinking { is_fresh: true };
        }
        self
    }

    /// Calls beyond the first are dropped.
    pub(super) fn with_one_call(mut self) -> Self {
        self.most_calls = 1;
        self
    }

    /// Calls begin only where this has it.
    pub(super) fn with_lookout(self, lookout: Lookout) -> Self {
        Marked { lookout, ..self }
    }

    /// Whether the answer is within its reasoning.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking { .. })
    }

    /// Takes the next piece of text; at the answer's end, decides about what is held.
    pub(super) fn push(&mut self, text: &str, is_end: bool) -> Vec<Delta> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(is_end, &mut out) {}
        out
    }

    /// Whether there may be more to decide.
    fn step(&mut self, is_end: bool, out: &mut Vec<Delta>) -> bool {
        match std::mem::replace(&mut self.state, State::Full) {
            State::Start => self.start(is_end),
            State::Thinking { is_fresh } => self.think(is_fresh, is_end, out),
            State::AfterThinking => {
                let rest = self.held.trim_start_matches('\n').len();
                self.take(self.held.len() - rest);
                let is_waiting = self.held.is_empty();
                self.state = if is_waiting { State::AfterThinking } else { State::Text { is_first: true } };
                !is_waiting
            }
            State::Text { is_first } => self.text(is_first, is_end, out),
            State::Call(reading) => self.call(reading, is_end, out),
            State::Between { passed, is_after_call } => self.between(passed, is_after_call, is_end, out),
            State::Full => {
                self.held.clear();
                false
            }
        }
    }

    fn start(&mut self, is_end: bool) -> bool {
        let blank = self.held.len() - self.held.trim_start().len();
        let said = &self.held[blank..];
        if let Some(marks) = self.thinking {
            if said.starts_with(marks.open) {
                self.take(blank + marks.open.len());
                self.state = State::Thinking { is_fresh: true };
                return true;
            }
            if !is_end && marks.open.starts_with(said) {
                self.state = State::Start;
                return false;
            }
        }
        self.state = State::Text { is_first: true };
        !self.held.is_empty()
    }

    fn think(&mut self, mut is_fresh: bool, is_end: bool, out: &mut Vec<Delta>) -> bool {
        if is_fresh {
            let rest = self.held.trim_start_matches('\n').len();
            self.take(self.held.len() - rest);
            is_fresh = self.held.is_empty();
        }
        let close = self.thinking.map_or("", |marks| marks.close);
        if let Some(at) = self.held.find(close) {
            let thought = self.take(at);
            out.push(Delta::Reasoning(thought.trim_end_matches('\n').to_owned()));
            self.take(close.len());
            self.state = State::AfterThinking;
            return true;
        }
        // Line breaks before the mark are a part of it.
        let held = if is_end { 0 } else { beginning(&self.held, close) };
        let thought = &self.held[..self.held.len() - held];
        let told = if is_end { thought.len() } else { thought.trim_end_matches('\n').len() };
        let thought = self.take(told);
        out.push(Delta::Reasoning(thought));
        self.state = State::Thinking { is_fresh };
        false
    }

    fn text(&mut self, is_first: bool, is_end: bool, out: &mut Vec<Delta>) -> bool {
        let blank = self.held.len() - self.held.trim_start().len();
        let mut places = self.held.char_indices().map(|(at, _)| at);
        let found = places.find_map(|at| match self.look(at, is_first && at == blank, false, is_end) {
            Found::Mark(open) => Some((at, Some(*open))),
            Found::Beginning => Some((at, None)),
            Found::Frame(_) | Found::Nothing => None,
        });
        let (at, mark) = found.unwrap_or((self.held.len(), None));
        // Blanks before a call are no part of what is said.
        let said = if self.calls.is_some() && (mark.is_some() || !is_end) {
            self.held[..at].trim_end().len()
        } else {
            at
        };
        let text = self.take(said);
        let is_first = is_first && text.is_empty();
        out.push(Delta::Content(text));
        let Some(open) = mark else {
            self.state = State::Text { is_first };
            return false;
        };
        let blanks_and_mark = self.take(at - said + open.mark.len());
        self.begin(&open, blanks_and_mark);
        true
    }

    fn begin(&mut self, open: &Open, lead: String) {
        if matches!(open.form, Form::Frame) {
            self.state = State::Between { passed: lead, is_after_call: false };
            return;
        }
        // What belongs to the call is read again.
        let kept = &lead[lead.len() - open.keep..];
        self.held.insert_str(0, kept);
        let lead = lead[..lead.len() - open.keep].to_owned();
        let reading = Reading::new(open.form, lead, open.keep).kept(self.lookout != Lookout::Anywhere);
        self.state = State::Call(Box::new(reading));
    }

    fn call(&mut self, mut reading: Box<Reading>, is_end: bool, out: &mut Vec<Delta>) -> bool {
        let tools = self.calls.as_ref().map_or(&[][..], |(_, tools)| tools);
        let before = out.len();
        let mut read = 0;
        let mut status = Step::Goes;
        for c in self.held.chars() {
            status = reading.push(c, tools, out);
            if matches!(status, Step::Goes | Step::Done) {
                read += c.len_utf8();
            }
            if status != Step::Goes {
                break;
            }
        }
        self.held.drain(..read);
        if status == Step::Goes && is_end {
            status = reading.finish(tools, out);
        }
        self.made += out[before..].iter().filter(|delta| matches!(delta, Delta::Call { .. })).count();
        match status {
            Step::Goes => {
                self.state = State::Call(reading);
                self.keep_to_the_limit(out);
                return false;
            }
            Step::Done | Step::Ended => self.after_call(),
            Step::Broken if reading.is_told() => {
                self.made -= 1;
                out.push(reading.into_broken());
                self.state = State::Text { is_first: false };
            }
            Step::Broken => {
                // Its mark is text; what stood behind it is read again.
                let (mark, rest) = reading.into_text();
                out.push(Delta::Content(mark));
                self.held.insert_str(0, &rest);
                self.state = State::Text { is_first: false };
            }
        }
        self.keep_to_the_limit(out);
        true
    }

    fn after_call(&mut self) {
        self.state = if self.made >= self.most_calls {
            State::Full
        } else {
            State::Between { passed: String::new(), is_after_call: true }
        };
    }

    /// A list may bring more calls at once than were asked for.
    fn keep_to_the_limit(&mut self, out: &mut Vec<Delta>) {
        if self.made <= self.most_calls {
            return;
        }
        let surplus = self.made - self.most_calls;
        let begins = |(_, delta): &(usize, &Delta)| matches!(delta, Delta::Call { .. });
        let first = out.iter().enumerate().rev().filter(begins).nth(surplus - 1).map(|(at, _)| at);
        out.truncate(first.unwrap_or(out.len()));
        self.state = State::Full;
    }

    fn between(
        &mut self,
        mut passed: String,
        is_after_call: bool,
        is_end: bool,
        out: &mut Vec<Delta>,
    ) -> bool {
        let blank = self.held.len() - self.held.trim_start().len();
        let is_waiting = blank == self.held.len() && !is_end;
        match self.look(blank, is_after_call, true, is_end) {
            _ if is_waiting => {}
            Found::Mark(open) => {
                let open = *open;
                let lead = self.take(blank + open.mark.len());
                self.begin(&open, if is_after_call { lead } else { passed + &lead });
                return true;
            }
            Found::Frame(word) => {
                passed += &self.take(blank + word.len());
                self.state = State::Between { passed, is_after_call };
                return true;
            }
            Found::Beginning => {}
            Found::Nothing => {
                // Frames around calls say nothing; without a call they are what the model said.
                let is_over = is_end && blank == self.held.len();
                if !is_after_call {
                    out.push(Delta::Content(passed));
                } else if is_over {
                    self.held.clear();
                }
                self.state = State::Text { is_first: false };
                return !self.held.is_empty();
            }
        }
        self.state = State::Between { passed, is_after_call };
        false
    }

    /// What stands at a place of the held text.
    fn look(&self, at: usize, with_first: bool, with_frame: bool, is_end: bool) -> Found<'_> {
        let Some((family, _)) = &self.calls else { return Found::Nothing };
        let text = &self.held[at..];
        let first = if with_first { family.first } else { &[] };
        let frame = if with_frame { family.frame } else { &[] };
        let own = family.canon.map_or("", |canon| canon.opening.mark());
        let is_looked_for = |open: &&Open| match self.lookout {
            Lookout::Anywhere => true,
            Lookout::Own => with_frame || open.mark == own,
            Lookout::Beginning => with_frame || (with_first && open.mark == own),
        };
        let opens = || family.opens.iter().chain(first).filter(is_looked_for);
        let mut marks = opens().map(|open| open.mark).chain(frame.iter().copied());
        let is_beginning = |mark: &str| text.len() < mark.len() && mark.starts_with(text);
        if !is_end && !text.is_empty() && marks.any(is_beginning) {
            return Found::Beginning;
        }
        let open = opens().filter(|open| text.starts_with(open.mark)).max_by_key(|open| open.mark.len());
        let word = frame.iter().filter(|word| text.starts_with(**word)).max_by_key(|word| word.len());
        match (open, word) {
            (Some(open), Some(word)) if word.len() > open.mark.len() => Found::Frame(word),
            (Some(open), _) => Found::Mark(open),
            (None, Some(word)) => Found::Frame(word),
            (None, None) => Found::Nothing,
        }
    }

    fn take(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        std::mem::replace(&mut self.held, rest)
    }
}

/// How many bytes of the text's end may be the beginning of a mark.
fn beginning(text: &str, mark: &str) -> usize {
    let starts = text.char_indices().map(|(at, _)| &text[at..]);
    starts.filter(|end| end.len() < mark.len()).find(|end| mark.starts_with(end)).map_or(0, str::len)
}
