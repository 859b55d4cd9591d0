//! The tables: each family's marks, from its models' cards and templates.

use super::family::{Family, Form, Open, Writing};
use super::{canon, gemma, python, tagged};

const fn open(mark: &'static str, form: Form) -> Open {
    Open { mark, keep: 0, form }
}

/// Its last byte is the first of the call.
const fn bracket(mark: &'static str, form: Form) -> Open {
    Open { mark, keep: 1, form }
}

const NOTHING: Family = Family {
    name: "",
    opens: &[],
    first: &[],
    frame: &[],
    inner: &[],
    writing: Writing {
        around: ("", ""),
        between: "\n",
        call: "<tool_call>\n{\"name\": \"NAME\", \"arguments\": ARGUMENTS}\n</tool_call>",
    },
    canon: None,
};

/// A list of calls between two marks.
const fn list(before: &'static str, behind: &'static str) -> Writing {
    Writing {
        around: (before, behind),
        between: ", ",
        call: "{\"name\": \"NAME\", \"arguments\": ARGUMENTS}",
    }
}

/// Hermes 2 and 3, Qwen 2.5 and 3, QwQ, SmolLM3, Granite 4.
pub(super) const HERMES: Family = Family {
    name: "hermes",
    opens: &[open("<tool_call>", Form::Json)],
    // The smaller ones forget the tags.
    first: &[bracket("{", Form::KnownJson)],
    frame: &["</tool_call>"],
    canon: Some(&canon::HERMES),
    ..NOTHING
};

/// Qwen3-Coder, Qwen 3.5.
pub(super) const QWEN_TAGS: Family = Family {
    name: "qwen-coder",
    opens: &[
        open("<tool_call>", Form::Block { close: "</tool_call>", take: tagged::qwen }),
        Open {
            mark: "<function=",
            keep: "<function=".len(),
            form: Form::Block { close: "</function>", take: tagged::qwen },
        },
    ],
    frame: &["</tool_call>"],
    canon: Some(&canon::QWEN_TAGS),
    ..NOTHING
};

/// GLM 4.5 and later.
pub(super) const GLM: Family = Family {
    name: "glm",
    opens: &[open("<tool_call>", Form::Block { close: "</tool_call>", take: tagged::glm })],
    inner: &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    canon: Some(&canon::GLM),
    ..NOTHING
};

/// Llama 3.1 to 3.3: the answer is JSON, or Python behind a token.
pub(super) const LLAMA: Family = Family {
    name: "llama-3",
    opens: &[
        bracket("<|python_tag|>{", Form::Json),
        open("<|python_tag|>", Form::Block { close: "<|eom_id|>", take: python::method }),
    ],
    first: &[bracket("{", Form::KnownJson)],
    frame: &[";", ","],
    inner: &["<|python_tag|>"],
    canon: Some(&canon::LLAMA),
    ..NOTHING
};

/// Nemo and Small 3.1: a list. What later ones write is read too.
pub(super) const MISTRAL: Family = Family {
    name: "mistral",
    opens: &[open("[TOOL_CALLS]", Form::Headed(mistral_name))],
    inner: &["[ARGS]", "[CALL_ID]"],
    writing: list("[TOOL_CALLS][", "]"),
    canon: Some(&canon::MISTRAL),
    ..NOTHING
};

/// Later ones: name and arguments.
pub(super) const MISTRAL_ARGS: Family = Family { canon: Some(&canon::MISTRAL_ARGS), ..MISTRAL };

/// Gemma 4.
pub(super) const GEMMA: Family = Family {
    name: "gemma-4",
    opens: &[open("<|tool_call>", Form::Block { close: "<tool_call|>", take: gemma::take })],
    inner: &["<|\"|>"],
    ..NOTHING
};

/// FunctionGemma.
pub(super) const FUNCTION_GEMMA: Family = Family {
    name: "function-gemma",
    opens: &[open("<start_function_call>", Form::Block { close: "<end_function_call>", take: gemma::take })],
    inner: &["<escape>"],
    ..NOTHING
};

/// DeepSeek V3.1.
pub(super) const DEEPSEEK: Family = Family {
    name: "deepseek",
    opens: &[
        open("<｜tool▁calls▁begin｜>", Form::Frame),
        open("<｜tool▁call▁begin｜>", Form::Headed(deepseek_name)),
    ],
    frame: &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
    inner: &["<｜tool▁sep｜>"],
    writing: Writing {
        around: ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        between: "",
        call: "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>",
    },
    canon: Some(&canon::DEEPSEEK),
    ..NOTHING
};

/// DeepSeek R1 and V3.
pub(super) const DEEPSEEK_R1: Family = Family {
    name: "deepseek-r1",
    writing: Writing {
        around: ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        between: "\n",
        call: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>",
    },
    canon: Some(&canon::DEEPSEEK_R1),
    ..DEEPSEEK
};

/// DeepSeek V3.2 and V4.
pub(super) const DSML: Family = Family {
    name: "deepseek-dsml",
    opens: &[
        open("<｜DSML｜function_calls>", Form::Frame),
        open("<｜DSML｜tool_calls>", Form::Frame),
        open("<｜DSML｜invoke name=\"", Form::Block { close: "</｜DSML｜invoke>", take: tagged::dsml }),
    ],
    frame: &["</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"],
    inner: &["｜DSML｜"],
    ..NOTHING
};

/// Kimi K2.
pub(super) const KIMI: Family = Family {
    name: "kimi",
    opens: &[
        open("<|tool_calls_section_begin|>", Form::Frame),
        open("<|tool_call_begin|>", Form::Headed(kimi_name)),
    ],
    frame: &["<|tool_call_end|>", "<|tool_calls_section_end|>"],
    inner: &["<|tool_call_argument_begin|>"],
    canon: Some(&canon::KIMI),
    ..NOTHING
};

/// Phi-4-mini: a list between two tokens, or behind a word, as its card has it.
pub(super) const PHI: Family = Family {
    name: "phi",
    opens: &[open("<|tool_call|>", Form::Json), bracket("functools[", Form::Json)],
    frame: &["<|/tool_call|>", "</|tool_call|>"],
    writing: list("<|tool_call|>[", "]<|/tool_call|>"),
    canon: Some(&canon::PHI),
    ..NOTHING
};

/// Granite 3.
pub(super) const GRANITE: Family = Family {
    name: "granite",
    opens: &[open("<|tool_call|>", Form::Json)],
    writing: list("<|tool_call|>[", "]"),
    canon: Some(&canon::GRANITE),
    ..NOTHING
};

/// gpt-oss.
pub(super) const HARMONY: Family = Family { name: "gpt-oss", ..NOTHING };

/// LFM2 writes Python.
pub(super) const LFM2: Family = Family {
    name: "lfm2",
    opens: &[open("<|tool_call_start|>", Form::Block { close: "<|tool_call_end|>", take: python::calls })],
    writing: list("<|tool_call_start|>[", "]<|tool_call_end|>"),
    ..NOTHING
};

/// Functionary 3.1, and Llama 3.1 where it is told to.
pub(super) const FUNCTIONARY: Family = Family {
    name: "functionary",
    opens: &[open("<function=", Form::Headed(functionary_name))],
    frame: &["</function>"],
    canon: Some(&canon::FUNCTIONARY),
    ..NOTHING
};

/// Told to write as Hermes does; what such models write instead is taken too, where it calls a known tool.
pub(super) const GENERIC: Family = Family {
    name: "generic",
    opens: &[
        open("<tool_call>", Form::Json),
        open("```tool_code", Form::Block { close: "```", take: python::known }),
        open("```tool_call", Form::Json),
    ],
    first: &[bracket("{", Form::KnownJson), bracket("[", Form::KnownJson), open("```json", Form::KnownJson)],
    frame: &["</tool_call>", "```"],
    canon: Some(&canon::HERMES),
    ..NOTHING
};

/// `name[ARGS]`, `name[CALL_ID]id[ARGS]`
fn mistral_name(head: &str) -> Option<String> {
    let (name, _) = head.split_once("[ARGS]")?;
    named(name.split("[CALL_ID]").next()?)
}

/// `name<｜tool▁sep｜>`, `function<｜tool▁sep｜>name` and a fence.
fn deepseek_name(head: &str) -> Option<String> {
    let (first, rest) = head.split_once("<｜tool▁sep｜>")?;
    match rest.trim().trim_end_matches("```json").trim_end_matches("```").trim() {
        "" => named(first),
        name => named(name),
    }
}

/// `functions.name:0<|tool_call_argument_begin|>`
fn kimi_name(head: &str) -> Option<String> {
    let id = head.trim().strip_suffix("<|tool_call_argument_begin|>")?.trim();
    let id = id.strip_prefix("functions.").unwrap_or(id);
    named(id.rsplit_once(':').map_or(id, |(name, _)| name))
}

/// `name>`
fn functionary_name(head: &str) -> Option<String> {
    named(head.trim().strip_suffix('>')?)
}

/// A name is one word.
fn named(text: &str) -> Option<String> {
    let name = text.trim();
    let is_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '<' || c == '"');
    is_word.then(|| name.to_owned())
}
