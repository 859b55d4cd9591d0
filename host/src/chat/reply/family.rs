//! How a family of models writes calls and reasoning: tables of marks, and which template belongs to which.

use super::Tool;
use super::canon::Canon;
use super::families::{
    DEEPSEEK, DEEPSEEK_R1, DSML, FUNCTION_GEMMA, FUNCTIONARY, GEMMA, GENERIC, GLM, GRANITE, HARMONY, HERMES,
    KIMI, LFM2, LLAMA, MISTRAL, MISTRAL_ARGS, PHI, QWEN_TAGS,
};

/// How a family writes calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(super) name: &'static str,
    /// What begins a call, anywhere in an answer.
    pub(super) opens: &'static [Open],
    /// What begins a call only where nothing was said before.
    pub(super) first: &'static [Open],
    /// What stands behind and between calls and means nothing.
    pub(super) frame: &'static [&'static str],
    /// Of these words, those that may be single tokens without being in the tables above.
    pub(super) inner: &'static [&'static str],
    /// How a call is written where the template does not do it.
    pub(super) writing: Writing,
    /// How calls are written where the answer is kept to them; nothing where it cannot be.
    pub(super) canon: Option<&'static Canon>,
}

/// How calls are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    /// Before and behind all calls of a message.
    pub(super) around: (&'static str, &'static str),
    /// Between two calls.
    pub(super) between: &'static str,
    /// A call, with `NAME` and `ARGUMENTS`.
    pub(super) call: &'static str,
}

/// A mark that begins a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) mark: &'static str,
    /// How many bytes of the mark belong to the call already.
    pub(super) keep: usize,
    pub(super) form: Form,
}

/// Calls as a text, taken apart at once: names and arguments as JSON.
pub(super) type Take = fn(&str, &[Tool]) -> Option<Vec<(String, String)>>;

/// What comes behind a mark.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Calls, each with a mark of its own.
    Frame,
    /// JSON with name and arguments, or a list.
    Json,
    /// The same, which may also be an ordinary JSON answer: the name must be a known tool's.
    KnownJson,
    /// A head with the name, then the arguments as JSON. Where JSON stands instead of the head, it is a list of calls.
    Headed(fn(&str) -> Option<String>),
    /// A text up to this mark, or to the answer's end.
    Block { close: &'static str, take: Take },
}

/// The marks around reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thinking {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
}

const THINKING: [Thinking; 4] = [
    Thinking { open: "<|channel>thought", close: "<channel|>" },
    Thinking { open: "[THINK]", close: "[/THINK]" },
    Thinking { open: "<seed:think>", close: "</seed:think>" },
    Thinking { open: "<think>", close: "</think>" },
];

impl Thinking {
    /// Those that a template names.
    pub(crate) fn of(template: &str) -> Option<Thinking> {
        THINKING.into_iter().find(|marks| template.contains(marks.close))
    }

    /// Whether a prompt ends within reasoning: the template has begun it.
    pub(crate) fn is_open_after(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }

    /// Texts of tokens that must be seen in the answer.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> {
        // Gemma's mark is a token and a word.
        [self.open.trim_end_matches("thought"), self.close].into_iter()
    }
}

impl Family {
    /// gpt-oss: its answers are read by `harmony`.
    pub(crate) const HARMONY: Family = HARMONY;

    /// For models whose template knows no tools: they are told how to write calls.
    pub(crate) const GENERIC: Family = GENERIC;

    /// The one whose marks a template has. The first of these: some marks are parts of others' formats.
    pub(crate) fn of(template: &str) -> Option<Family> {
        let has = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
        let known: [(&[&str], Family); 17] = [
            (&["<|tool_call>", "<tool_call|>"], GEMMA),
            (&["<start_function_call>"], FUNCTION_GEMMA),
            (&["｜DSML｜"], DSML),
            (&["<｜tool▁call▁begin｜>", "```json"], DEEPSEEK_R1),
            (&["<｜tool▁call▁begin｜>"], DEEPSEEK),
            (&["<|tool_call_begin|>"], KIMI),
            (&["[TOOL_CALLS]", "[ARGS]"], MISTRAL_ARGS),
            (&["[TOOL_CALLS]"], MISTRAL),
            (&["<tool_call>", "<function=", "<parameter="], QWEN_TAGS),
            (&["<tool_call>", "<arg_key>"], GLM),
            (&["<tool_call>"], HERMES),
            (&["<|tool_call_start|>"], LFM2),
            (&["<|start_of_role|>", "<|tool_call|>"], GRANITE),
            (&["<|tool|>", "<|/tool|>"], PHI),
            (&["functools"], PHI),
            (&["<function="], FUNCTIONARY),
            (&["<|start_header_id|>", "ipython"], LLAMA),
        ];
        known.into_iter().find(|(marks, _)| has(marks)).map(|(_, family)| family)
    }

    /// Texts of tokens that must be seen in the answer.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let opens = self.opens.iter().chain(self.first).map(|open| open.mark);
        let closes = self.opens.iter().filter_map(|open| match open.form {
            Form::Block { close, .. } => Some(close),
            Form::Frame | Form::Json | Form::KnownJson | Form::Headed(_) => None,
        });
        opens.chain(closes).chain(self.frame.iter().copied()).chain(self.inner.iter().copied())
    }

    /// Its name, for people.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A message's calls, names and arguments, as the model would have written them.
    pub(crate) fn write(&self, calls: &[(&str, &str)]) -> String {
        let Writing { around: (before, behind), between, call } = self.writing;
        let written = calls.iter().map(|(name, arguments)| {
            // The arguments come last: they may contain anything.
            let (start, end) = call.split_once("ARGUMENTS").unwrap_or((call, ""));
            format!("{}{arguments}{end}", start.replace("NAME", name))
        });
        format!("{before}{}{behind}", written.collect::<Vec<_>>().join(between))
    }

    /// Whether ids of calls must be nine letters and digits, as Mistral's templates insist.
    pub(crate) fn has_short_ids(&self) -> bool {
        self.name == MISTRAL.name
    }
}
