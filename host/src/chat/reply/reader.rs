//! The reader of an answer, whichever way its model marks the parts.

use super::family::{Family, Thinking};
use super::harmony::{self, Harmony};
use super::kept::{self, Asked, Unkept};
use super::marked::Marked;
use super::{Delta, Tool};
use crate::sampling::constraint::Pattern;

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct Reader(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Marked(Marked),
    Harmony(Harmony),
}

/// Where calls are looked for. An answer that is kept to calls has them in its family's own form, and whatever else looks
/// like one is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookout {
    /// Wherever something looks like one.
    Anywhere,
    /// Behind the mark with which its family begins them.
    Own,
    /// The same, where nothing was said before.
    Beginning,
}

/// How an answer calls that may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// With what a call begins.
    pub mark: &'static str,
    /// What stands behind that.
    pub behind: Pattern,
    /// What opens and closes reasoning.
    pub thinking: Option<(&'static str, &'static str)>,
    /// Whether the answer begins within it.
    pub is_thinking: bool,
}

/// How the models of a template write reasoning and calls.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Nothing where the template offers tools in a form that nobody here can read.
    pub(crate) family: Option<Family>,
    pub(crate) thinking: Option<Thinking>,
    is_harmony: bool,
}

impl Manner {
    /// By the marks in a template.
    pub(crate) fn of(template: &str) -> Manner {
        let is_harmony = Harmony::is_of(template);
        let family = if is_harmony { Some(Family::HARMONY) } else { Family::of(template) };
        Manner { family, thinking: Thinking::of(template).filter(|_| !is_harmony), is_harmony }
    }

    /// Whether reasoning is told apart from content.
    pub fn has_reasoning(&self) -> bool {
        self.is_harmony || self.thinking.is_some()
    }

    /// Whether tools can be offered.
    pub fn has_tools(&self) -> bool {
        self.family.is_some()
    }

    /// Whether the models were not trained with tools, as far as their template says.
    pub fn is_generic(&self) -> bool {
        self.family.is_some_and(|family| family.name() == Family::GENERIC.name())
    }

    /// Whether ids of calls must be nine letters and digits.
    pub fn has_short_ids(&self) -> bool {
        self.family.is_some_and(|family| family.has_short_ids())
    }

    /// Texts of control tokens that must be seen to read an answer.
    pub fn marks(&self, with_tools: bool) -> Vec<String> {
        let thinking = self.thinking.iter().flat_map(Thinking::marks);
        let calls = self.family.iter().filter(|_| with_tools).flat_map(Family::marks);
        let harmony: &[&str] = if self.is_harmony { &harmony::MARKS } else { &[] };
        thinking.chain(calls).chain(harmony.iter().copied()).map(str::to_owned).collect()
    }

    /// What ends the reasoning in which an answer to a prompt that ends so begins.
    pub fn reasoning_end(&self, prompt_end: &str) -> Option<&'static str> {
        self.thinking.filter(|marks| marks.is_open_after(prompt_end)).map(|marks| marks.close)
    }

    /// The form of answers to a prompt that ends so, kept to calls.
    ///
    /// # Errors
    /// Where no form can be given.
    pub fn kept(&self, prompt_end: &str, asked: &Asked) -> Result<Pattern, Unkept> {
        if self.is_harmony {
            return kept::harmony(asked);
        }
        // A family is there, or tools could not be offered.
        let family = self.family.ok_or(Unkept::Family("unknown"))?;
        let is_past = |marks: &Thinking| {
            marks.is_open_after(prompt_end) || prompt_end.trim_end().ends_with(marks.close)
        };
        let thinking = self.thinking.filter(|marks| !is_past(marks));
        kept::marked(&family, thinking, asked)
    }

    /// How calls go on in an answer to a prompt that ends so, once it begins one; nothing where that is not known.
    pub fn offered(&self, prompt_end: &str, asked: &Asked) -> Option<Offer> {
        let family = self.family.filter(|_| !self.is_harmony)?;
        let (mark, behind) = kept::behind_mark(&family, asked)?;
        let is_thinking = self.thinking.is_some_and(|marks| marks.is_open_after(prompt_end));
        Some(Offer {
            mark,
            behind,
            thinking: self.thinking.map(|marks| (marks.open, marks.close)),
            is_thinking,
        })
    }

    /// A reader of answers to a prompt that ends so, and that may call these tools.
    pub fn reader(&self, prompt_end: &str, tools: Vec<Tool>, many_calls: bool) -> Reader {
        if self.is_harmony {
            let most_calls = match tools.is_empty() {
                true => 0,
                false if many_calls => usize::MAX,
                false => 1,
            };
            return Reader(Kind::Harmony(Harmony::new(most_calls)));
        }
        let calls = self.family.filter(|_| !tools.is_empty()).map(|family| (family, tools));
        let mut marked = Marked::new(calls, self.thinking);
        if self.thinking.is_some_and(|marks| marks.is_open_after(prompt_end)) {
            marked = marked.within_thinking();
        }
        Reader(Kind::Marked(if many_calls { marked } else { marked.with_one_call() }))
    }
}

impl Reader {
    /// The same that looks for calls only there.
    #[must_use]
    pub fn with_lookout(self, lookout: Lookout) -> Reader {
        Reader(match self.0 {
            Kind::Marked(marked) => Kind::Marked(marked.with_lookout(lookout)),
            // Its calls are messages of their own, and nothing else looks like one.
            Kind::Harmony(harmony) => Kind::Harmony(harmony),
        })
    }

    /// Whether the answer is within its reasoning.
    pub fn is_thinking(&self) -> bool {
        match &self.0 {
            Kind::Marked(marked) => marked.is_thinking(),
            Kind::Harmony(harmony) => harmony.is_thinking(),
        }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        self.read(text, false)
    }

    /// The answer ends here: decides about what is held back.
    pub fn finish(&mut self) -> Vec<Delta> {
        self.read("", true)
    }

    fn read(&mut self, text: &str, is_end: bool) -> Vec<Delta> {
        merged(match &mut self.0 {
            Kind::Marked(marked) => marked.push(text, is_end),
            Kind::Harmony(harmony) => harmony.push(text, is_end),
        })
    }

    #[cfg(test)]
    pub(super) fn harmony(harmony: Harmony) -> Reader {
        Reader(Kind::Harmony(harmony))
    }

    #[cfg(test)]
    pub(super) fn marked(marked: Marked) -> Reader {
        Reader(Kind::Marked(marked))
    }
}

/// Pieces of one kind that follow one another become one.
fn merged(deltas: Vec<Delta>) -> Vec<Delta> {
    let mut merged: Vec<Delta> = Vec::with_capacity(deltas.len());
    for delta in deltas {
        match (merged.last_mut(), delta) {
            (_, Delta::Content(text) | Delta::Reasoning(text)) if text.is_empty() => {}
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more))
            | (Some(Delta::Arguments(text)), Delta::Arguments(more)) => text.push_str(&more),
            (_, delta) => merged.push(delta),
        }
    }
    merged
}
