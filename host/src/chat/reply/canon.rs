//! How each family writes calls where an answer is kept to them: what its template renders, to the letter. Readers take
//! far more; a model that may write nothing else shall write what it was trained with.

/// One family's way, from the first byte of the first call to the last of the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canon {
    pub(super) opening: Opening,
    /// Before the first call.
    pub(super) before: &'static str,
    pub(super) call: &'static [Part],
    /// Between two calls; nothing where an answer has one.
    pub(super) between: Option<&'static str>,
    /// Behind the last call.
    pub(super) behind: &'static [Part],
}

/// With what calls begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opening {
    /// This mark, wherever it stands.
    Anywhere(&'static str),
    /// This character, where nothing was said before.
    First(&'static str),
}

/// A part of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Text, with marks in it.
    Text(&'static str),
    /// The tool's name.
    Name,
    /// The same as a JSON string.
    QuotedName,
    /// The arguments as JSON.
    Arguments,
    /// The arguments, each between tags of its own.
    Tagged(&'static Tags),
    /// What this expression matches.
    Like(&'static str),
    /// These or nothing.
    Maybe(&'static [Part]),
}

/// How an argument is written.
#[derive(Debug)]
pub(super) struct Tags {
    /// Before its name.
    pub(super) before: &'static str,
    /// Between its name and its value.
    pub(super) between: &'static str,
    /// What ends its value.
    pub(super) behind: &'static str,
    /// Behind it.
    pub(super) after: &'static str,
    /// What no text between them has: readers would take it for an end.
    pub(super) never: &'static [&'static str],
}

impl Opening {
    /// Its text.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Opening::Anywhere(mark) | Opening::First(mark) => mark,
        }
    }
}

use Part::{Arguments, Like, Maybe, Name, QuotedName, Tagged, Text};

pub(super) const HERMES: Canon = Canon {
    opening: Opening::Anywhere("<tool_call>"),
    before: "",
    call: &[
        Text("<tool_call>\n{\"name\": "),
        QuotedName,
        Text(", \"arguments\": "),
        Arguments,
        Text("}\n</tool_call>"),
    ],
    between: Some("\n"),
    behind: &[],
};

/// Its template refuses a second call.
pub(super) const LLAMA: Canon = Canon {
    opening: Opening::First("{"),
    before: "",
    call: &[Text("{\"name\": "), QuotedName, Text(", \"parameters\": "), Arguments, Text("}")],
    between: None,
    behind: &[],
};

pub(super) const MISTRAL: Canon = Canon {
    opening: Opening::Anywhere("[TOOL_CALLS]"),
    before: "[TOOL_CALLS][",
    call: &[
        Text("{\"name\": "),
        QuotedName,
        Text(", \"arguments\": "),
        Arguments,
        Like(r#"(, "id": "[0-9A-Za-z]{9}")?\}"#),
    ],
    between: Some(", "),
    behind: &[Text("]")],
};

pub(super) const MISTRAL_ARGS: Canon = Canon {
    before: "",
    call: &[
        Text("[TOOL_CALLS]"),
        Name,
        Maybe(&[Text("[CALL_ID]"), Like("[0-9A-Za-z]{9}")]),
        Text("[ARGS]"),
        Arguments,
    ],
    between: Some(""),
    behind: &[],
    ..MISTRAL
};

pub(super) const DEEPSEEK: Canon = Canon {
    opening: Opening::Anywhere("<｜tool▁calls▁begin｜>"),
    before: "<｜tool▁calls▁begin｜>",
    call: &[
        Text("<｜tool▁call▁begin｜>"),
        Name,
        Text("<｜tool▁sep｜>"),
        Arguments,
        Text("<｜tool▁call▁end｜>"),
    ],
    between: Some(""),
    behind: &[Text("<｜tool▁calls▁end｜>")],
};

pub(super) const DEEPSEEK_R1: Canon = Canon {
    call: &[
        Text("<｜tool▁call▁begin｜>function<｜tool▁sep｜>"),
        Name,
        Text("\n```json\n"),
        Arguments,
        Text("\n```<｜tool▁call▁end｜>"),
    ],
    between: Some("\n"),
    // Its template leaves the mark out behind a single call.
    behind: &[Maybe(&[Text("<｜tool▁calls▁end｜>")])],
    ..DEEPSEEK
};

pub(super) const KIMI: Canon = Canon {
    opening: Opening::Anywhere("<|tool_calls_section_begin|>"),
    before: "<|tool_calls_section_begin|>",
    call: &[
        Text("<|tool_call_begin|>functions."),
        Name,
        Like(":[0-9]{1,3}"),
        Text("<|tool_call_argument_begin|>"),
        Arguments,
        Text("<|tool_call_end|>"),
    ],
    between: Some(""),
    behind: &[Text("<|tool_calls_section_end|>")],
};

pub(super) const PHI: Canon = Canon {
    opening: Opening::Anywhere("<|tool_call|>"),
    before: "<|tool_call|>[",
    call: &[Text("{\"name\": "), QuotedName, Text(", \"arguments\": "), Arguments, Text("}")],
    between: Some(", "),
    behind: &[Text("]<|/tool_call|>")],
};

pub(super) const GRANITE: Canon = Canon { behind: &[Text("]")], ..PHI };

pub(super) const FUNCTIONARY: Canon = Canon {
    opening: Opening::Anywhere("<function="),
    before: "",
    call: &[Text("<function="), Name, Text(">"), Arguments, Text("</function>")],
    between: Some(""),
    behind: &[],
};

pub(super) const QWEN_TAGS: Canon = Canon {
    call: &[
        Text("<tool_call>\n<function="),
        Name,
        Text(">\n"),
        Tagged(&Tags {
            before: "<parameter=",
            between: ">\n",
            behind: "\n</parameter>",
            after: "\n",
            never: &["</parameter>", "</function>", "</tool_call>"],
        }),
        Text("</function>\n</tool_call>"),
    ],
    ..HERMES
};

pub(super) const GLM: Canon = Canon {
    call: &[
        Text("<tool_call>"),
        Name,
        Text("\n"),
        Tagged(&Tags {
            before: "<arg_key>",
            between: "</arg_key>\n<arg_value>",
            behind: "</arg_value>",
            after: "\n",
            never: &["</arg_value>", "</tool_call>"],
        }),
        Text("</tool_call>"),
    ],
    ..HERMES
};
