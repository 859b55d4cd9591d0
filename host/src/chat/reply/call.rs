//! A call, or a list of calls, behind its mark.

use super::family::{Form, Take};
use super::object::Calls;
use super::scan::{Scan, Step};
use super::{Delta, Tool};

/// No name is longer, and no head around it.
const LONGEST_HEAD: usize = 300;

/// What is being read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    form: Reads,
    /// The blanks and the mark before it.
    lead: String,
    /// How much of the call's own text belongs to the mark.
    keep: usize,
    /// The text of the call that is being read.
    text: String,
    /// The end of it of which nothing was told.
    untold: String,
    /// Whether the call's name was told.
    is_told: bool,
    /// The call is kept to its form: what ends it too early stands within its arguments.
    is_kept: bool,
}

#[derive(Debug, Clone)]
enum Reads {
    Json { calls: Calls, is_known: bool },
    Head { head: String, name: fn(&str) -> Option<String> },
    Arguments(Scan),
    Block { close: &'static str, take: Take },
    Nothing,
}

impl Reading {
    /// Behind a mark of this form.
    pub(super) fn new(form: Form, lead: String, keep: usize) -> Self {
        let form = match form {
            Form::Json => Reads::Json { calls: Calls::new(), is_known: false },
            Form::KnownJson => Reads::Json { calls: Calls::new(), is_known: true },
            Form::Headed(name) => Reads::Head { head: String::new(), name },
            Form::Block { close, take } => Reads::Block { close, take },
            Form::Frame => Reads::Nothing,
        };
        Reading {
            form,
            lead,
            keep,
            text: String::new(),
            untold: String::new(),
            is_told: false,
            is_kept: false,
        }
    }

    /// The same of a call that is kept to its form.
    pub(super) fn kept(self, is_kept: bool) -> Self {
        Reading { is_kept, ..self }
    }

    /// Takes a character.
    pub(super) fn push(&mut self, c: char, tools: &[Tool], out: &mut Vec<Delta>) -> Step {
        let before = out.len();
        self.text.push(c);
        self.untold.push(c);
        let status = self.read(c, tools, out);
        if out.len() > before {
            self.is_told = true;
            self.untold.clear();
        }
        if !matches!(status, Step::Goes | Step::Done) {
            // It stays with whoever reads on.
            self.text.pop();
            self.untold.pop();
        }
        if let Reads::Json { calls, .. } = &self.form
            && status == Step::Goes
            && calls.is_between()
        {
            self.text.clear();
            self.untold.clear();
            self.lead.clear();
            (self.keep, self.is_told) = (0, false);
        }
        status
    }

    fn read(&mut self, c: char, tools: &[Tool], out: &mut Vec<Delta>) -> Step {
        match &mut self.form {
            Reads::Json { calls, is_known } => {
                let status = calls.push(c, is_known.then_some(tools), out);
                if status == Step::Broken && calls.is_whole() { Step::Ended } else { status }
            }
            Reads::Head { head, name } => match c {
                '{' | '[' if head.trim().is_empty() => {
                    let mut calls = Calls::new();
                    let status = calls.push(c, None, out);
                    self.form = Reads::Json { calls, is_known: false };
                    status
                }
                '{' => {
                    let Some(name) = name(head) else { return Step::Broken };
                    out.push(Delta::Call { name });
                    self.form = Reads::Arguments(Scan::new());
                    self.read(c, tools, out)
                }
                _ => {
                    head.push(c);
                    if head.len() > LONGEST_HEAD { Step::Broken } else { Step::Goes }
                }
            },
            Reads::Arguments(scan) => {
                let mut told = String::new();
                let step = scan.push(c, &mut told);
                if !told.is_empty() {
                    out.push(Delta::Arguments(told));
                }
                match step {
                    Step::Goes => Step::Goes,
                    Step::Done => Step::Done,
                    Step::Ended | Step::Broken => Step::Broken,
                }
            }
            Reads::Block { close, take } => match self.text.strip_suffix(*close) {
                None => Step::Goes,
                Some(block) => match take(block, tools) {
                    None if self.is_kept => Step::Goes,
                    calls => tell(calls, out),
                },
            },
            Reads::Nothing => Step::Broken,
        }
    }

    /// The answer ends here.
    pub(super) fn finish(&mut self, tools: &[Tool], out: &mut Vec<Delta>) -> Step {
        match &self.form {
            Reads::Json { calls, .. } if calls.is_whole() => Step::Done,
            Reads::Block { take, .. } => tell(take(&self.text, tools), out),
            Reads::Json { .. } | Reads::Head { .. } | Reads::Arguments(_) | Reads::Nothing => Step::Broken,
        }
    }

    /// Whether something was told of the call that is being read.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// A call of which something was told is none.
    pub(super) fn into_broken(self) -> Delta {
        Delta::Broken { text: self.lead + &self.text, rest: self.untold }
    }

    /// What was taken for a call is text: its mark, and what stands behind it.
    pub(super) fn into_text(mut self) -> (String, String) {
        let rest = self.text.split_off(self.keep.min(self.text.len()));
        (self.lead + &self.text, rest)
    }
}

fn tell(calls: Option<Vec<(String, String)>>, out: &mut Vec<Delta>) -> Step {
    let Some(calls) = calls.filter(|calls| !calls.is_empty()) else { return Step::Broken };
    for (name, arguments) in calls {
        out.push(Delta::Call { name });
        out.push(Delta::Arguments(arguments));
    }
    Step::Done
}
