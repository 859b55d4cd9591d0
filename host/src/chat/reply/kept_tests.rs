//! Patterns of kept answers: what a family's models write is accepted, and what breaks a promise is not.

use serde_json::json;

use super::families::*;
use super::family::Thinking;
use super::tests::{THINK, tools};
use super::*;
use crate::sampling::constraint::{Grammar, Grammars, Pattern, STACK_BYTES, Schema};

/// What the marks of a model's family are in its vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) enum Vocabulary {
    /// Control tokens.
    Control,
    /// Tokens with a text, as any.
    Tokens,
    /// No tokens: they are written in pieces.
    Pieces,
    /// Control tokens, and yet they are written in pieces, as no model was trained to.
    Spelt,
}

pub(in crate::chat) const VOCABULARIES: [Vocabulary; 3] =
    [Vocabulary::Control, Vocabulary::Tokens, Vocabulary::Pieces];

/// How far a pattern follows a text.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::chat) enum Verdict {
    /// It is an answer.
    Whole,
    /// It may be the beginning of one.
    Beginning,
    /// These bytes are, the next is none.
    Broken(usize),
}

/// Follows texts under a pattern. The marks are tokens where they are; everything else comes byte by byte.
pub(in crate::chat) fn verdicts(
    pattern: &Pattern,
    marks: &[String],
    vocabulary: Vocabulary,
    texts: &[&str],
) -> Vec<Verdict> {
    let run = || {
        let mut tokens: Vec<Vec<u8>> = vec![Vec::new()];
        tokens.extend((0..=255).map(|byte| vec![byte]));
        let mut control = Vec::new();
        for mark in marks.iter().filter(|mark| mark.len() > 1 && vocabulary != Vocabulary::Pieces) {
            if tokens.contains(&mark.as_bytes().to_vec())
                || control.iter().any(|(_, known)| known == mark.as_bytes())
            {
                continue;
            }
            if matches!(vocabulary, Vocabulary::Control | Vocabulary::Spelt) {
                control.push((tokens.len() as u32, mark.as_bytes().to_vec()));
                tokens.push(Vec::new());
            } else {
                tokens.push(mark.as_bytes().to_vec());
            }
        }
        let named: Vec<(u32, Vec<u8>)> = match vocabulary {
            Vocabulary::Tokens => {
                tokens.iter().cloned().enumerate().skip(257).map(|(id, text)| (id as u32, text)).collect()
            }
            Vocabulary::Control => control.clone(),
            Vocabulary::Pieces | Vocabulary::Spelt => Vec::new(),
        };
        let grammars = Grammars::new(tokens, &[0]).unwrap().with_control(control);
        let grammar = Grammar::Pattern(pattern.clone());
        texts.iter().map(|text| verdict(&grammars, &grammar, &named, text.as_bytes())).collect()
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

fn verdict(grammars: &Grammars, grammar: &Grammar, named: &[(u32, Vec<u8>)], text: &[u8]) -> Verdict {
    let mut constraint = grammars.constraint(grammar).unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut at = 0;
    while at < text.len() {
        let mark =
            named.iter().filter(|(_, mark)| text[at..].starts_with(mark)).max_by_key(|(_, mark)| mark.len());
        let (token, length) = mark.map_or((u32::from(text[at]) + 1, 1), |(id, mark)| (*id, mark.len()));
        let is_allowed = constraint.allowed().is_ok_and(|allowed| allowed.has(token));
        if !is_allowed || constraint.commit(token).is_err() {
            return Verdict::Broken(at);
        }
        at += length;
    }
    if constraint.may_end().unwrap() { Verdict::Whole } else { Verdict::Beginning }
}

pub(in crate::chat) fn asked(tools: Vec<Tool>, many: bool, otherwise: Otherwise) -> Asked {
    let callable =
        |(index, tool)| Callable { tool, is_strict: true, field: format!("tools[{index}].function") };
    Asked { tools: tools.into_iter().enumerate().map(callable).collect(), many, otherwise }
}

/// Whether a model may have a token with this text.
pub(in crate::chat) fn is_token(mark: &str) -> bool {
    mark.len() > 1 && mark.ends_with(['>', ']', '｜'])
}

fn marks(family: Family, thinking: Option<Thinking>) -> Vec<String> {
    let thinking = thinking.iter().flat_map(Thinking::marks).map(str::to_owned).collect::<Vec<_>>();
    family.marks().filter(|mark| is_token(mark)).map(str::to_owned).chain(thinking).collect()
}

/// What becomes of texts under every vocabulary.
fn check(family: Family, asked: &Asked, texts: &[String], expected: impl Fn(&Verdict) -> bool) {
    let pattern = kept::marked(&family, THINK, asked).unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for vocabulary in VOCABULARIES {
        for (text, found) in texts.iter().zip(verdicts(&pattern, &marks(family, THINK), vocabulary, &texts)) {
            assert!(expected(&found), "{} {vocabulary:?}: {found:?} of {text:?}", family.name());
        }
    }
}

fn answer_schema() -> Schema {
    Schema { field: "response_format".to_owned(), schema: json!({"type": "object", "required": ["answer"]}) }
}

/// Whether a call can be told from JSON by its beginning.
fn has_mark(family: Family) -> bool {
    family.name() != LLAMA.name()
}

/// One call each, two, in each family's own way.
const CANONICAL: [(Family, &[&str]); 10] = [
    (
        HERMES,
        &[
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"x\", \"tags\": [1, {}]}}\n</tool_call>",
        ],
    ),
    (
        GENERIC,
        &["<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>"],
    ),
    (LLAMA, &["{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}"]),
    (
        MISTRAL,
        &[
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"a1b2c3d4e\"}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}}]",
        ],
    ),
    (
        MISTRAL_ARGS,
        &[
            "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{\"city\": \"Oslo\", \"days\": 3}",
        ],
    ),
    (
        DEEPSEEK,
        &[
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ],
    ),
    (
        DEEPSEEK_R1,
        &[
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\", \"days\": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ],
    ),
    (
        KIMI,
        &[
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>",
        ],
    ),
    (
        PHI,
        &[
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}}]<|/tool_call|>",
        ],
    ),
    (GRANITE, &["<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]"]),
];

#[test]
fn every_family_s_own_calls_are_accepted() {
    for (family, texts) in CANONICAL {
        let calls = texts.iter().map(|text| (*text).to_owned());
        let thought = texts.iter().map(|text| format!("<think>\nHm, {{.\n</think>\n\n{text}"));
        let texts: Vec<String> = calls.chain(thought).collect();
        let mut ways = vec![Otherwise::Nothing, Otherwise::Text];
        ways.extend(has_mark(family).then(|| Otherwise::Json(answer_schema())));
        for otherwise in ways {
            check(family, &asked(tools(), true, otherwise), &texts, |found| *found == Verdict::Whole);
        }
    }
}

/// The reader takes all of it for reasoning, and so must the pattern.
#[test]
fn a_thought_may_be_like_a_call() {
    for (family, texts) in CANONICAL {
        let thought = format!("<think>{} <tool_call> x", texts[0]);
        for otherwise in [Otherwise::Nothing, Otherwise::Text] {
            let pattern = kept::marked(&family, THINK, &asked(tools(), true, otherwise)).unwrap();
            let whole = format!("{thought}</think>{}", texts[0]);
            let texts = [thought.as_str(), &whole];
            let found = verdicts(&pattern, &marks(family, THINK), Vocabulary::Pieces, &texts);
            assert_eq!(found, [Verdict::Beginning, Verdict::Whole], "{}", family.name());
        }
    }
}

#[test]
fn what_breaks_a_promise_is_refused() {
    let change = |text: &str, from: &str, to: &str| text.contains(from).then(|| text.replacen(from, to, 1));
    for (family, texts) in CANONICAL {
        let text = texts[0];
        let mut broken = vec![format!("x{text}"), format!("{text}x"), "Hello.".to_owned(), "{}".to_owned()];
        broken.extend(change(text, "get_weather", "get_whether"));
        broken.extend(change(text, "Paris\"", "Paris\", \"days\": \"3\""));
        broken.extend(change(text, "\"city\"", "\"town\""));
        broken.extend(change(text, "\"Paris\"", "5"));
        broken.extend(change(text, "{\"city\": \"Paris\"}", "\"{}\""));
        assert!(broken.len() > 5, "{text}");
        let is_broken = |found: &Verdict| matches!(found, Verdict::Broken(_));
        check(family, &asked(tools(), true, Otherwise::Nothing), &broken, is_broken);
        // Behind a call nothing is said, and behind the mark only a call is.
        let begun: Vec<String> =
            broken[1..].iter().filter(|text| text.len() > 10).map(|text| format!("\n\n{text}")).collect();
        check(family, &asked(tools(), true, Otherwise::Text), &begun, is_broken);
        if has_mark(family) {
            let json = ["{\"answer\": 1", "{\"a\": 1}", "[1]"].map(|text| format!("{text} {}", texts[0]));
            let asked = asked(tools(), true, Otherwise::Json(answer_schema()));
            check(family, &asked, &[&json[..], &broken].concat(), is_broken);
        }
    }
}

#[test]
fn where_one_call_is_wanted_a_second_is_refused() {
    for (family, texts) in CANONICAL {
        for text in texts {
            let calls = text.matches("get_weather").count() + text.matches("\"search\"").count();
            let one = asked(tools(), false, Otherwise::Text);
            check(family, &one, &[(*text).to_owned()], |found| (*found == Verdict::Whole) == (calls == 1));
        }
    }
}

#[test]
fn what_is_said_before_a_call_is_free() {
    for (family, texts) in CANONICAL {
        let said = ["Hello.", "A\n\nb < c [1] {x} \u{65e5}", "<think>Hm.</think>Yes.", ""].map(str::to_owned);
        let asked = asked(tools(), true, Otherwise::Text);
        check(family, &asked, &said, |found| *found == Verdict::Whole);
        let with_words = [format!("I look. <{}", texts[0]), format!("Now:\n{}", texts[0])];
        check(family, &asked, &with_words, |found| *found == Verdict::Whole);
    }
}

/// Where a mark is a token, the same text in pieces would be read as one, and is none: neither a call's nor what is said.
#[test]
fn a_mark_that_is_a_token_is_not_written_in_pieces() {
    for otherwise in [Otherwise::Nothing, Otherwise::Text] {
        let pattern = kept::marked(&HERMES, THINK, &asked(tools(), true, otherwise)).unwrap();
        let marks = marks(HERMES, THINK);
        let texts = [CANONICAL[0].1[0], "a <tool_call>", "a <tool_call> b"];
        for found in verdicts(&pattern, &marks, Vocabulary::Spelt, &texts) {
            assert!(matches!(found, Verdict::Broken(_)), "{found:?}");
        }
    }
}

#[test]
fn gpt_oss_calls_once_and_ends() {
    let manner = Manner::of("<|start|>assistant<|channel|>final<|message|>");
    let call =
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Paris\"}";
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    let preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant";
    let older = " to=functions.get_weather<|channel|>commentary json<|message|>{\"days\": 2}";
    let last = "<|channel|>final<|message|>Hello.";
    let with = |text: &str| format!("{thought}{preamble}{text}");
    let calls = [call.to_owned(), with(call), with(older)];
    let broken = [
        "Hello.".to_owned(),
        call.replace("Paris", "Paris\", \"days\": \"x"),
        call.replace("get_weather", "get"),
        format!("{call}<|end|><|start|>assistant{call}"),
        format!("{thought}Hello."),
        "<|channel|>final<|message|>to <|start|>".to_owned(),
    ];
    let answer = [last.to_owned(), with(last)];
    let instance = ["<|channel|>final<|message|>{\"answer\": 1}".to_owned()];
    for (otherwise, whole, none) in [
        (Otherwise::Nothing, [&calls[..]].concat(), [&broken[..], &answer].concat()),
        (Otherwise::Text, [&calls[..], &answer].concat(), broken.to_vec()),
        (Otherwise::Json(answer_schema()), [&calls[..], &instance].concat(), [&broken[..], &answer].concat()),
    ] {
        let pattern = manner.kept("<|start|>assistant", &asked(tools(), true, otherwise)).unwrap();
        for vocabulary in VOCABULARIES {
            for (texts, is_whole) in [(&whole, true), (&none, false)] {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                for (text, found) in
                    texts.iter().zip(verdicts(&pattern, &manner.marks(true), vocabulary, &texts))
                {
                    let is_right =
                        if is_whole { found == Verdict::Whole } else { matches!(found, Verdict::Broken(_)) };
                    assert!(is_right, "{vocabulary:?}: {found:?} of {text:?}");
                }
            }
        }
    }
}

#[test]
fn arguments_are_those_that_a_function_declares() {
    let check = |parameters: Value, is_strict: bool, expected: Value| {
        let tool = Tool { name: "f".to_owned(), parameters };
        let callable = Callable { tool, is_strict, field: "tools[0].function".to_owned() };
        let schema = kept::arguments(&callable);
        assert_eq!((schema.field.as_str(), schema.schema), ("tools[0].function.parameters", expected));
    };
    let none = json!({"type": "object", "additionalProperties": false});
    check(Value::Null, true, none);
    check(Value::Null, false, json!({"type": "object"}));
    check(
        json!({"properties": {"a": {}}}),
        true,
        json!({"properties": {"a": {}}, "type": "object", "additionalProperties": false}),
    );
    check(
        json!({"properties": {"a": {}}, "additionalProperties": true}),
        true,
        json!({"properties": {"a": {}}, "additionalProperties": true, "type": "object"}),
    );
    check(
        json!({"anyOf": [{"$ref": "#/$defs/a"}]}),
        true,
        json!({"anyOf": [{"$ref": "#/$defs/a"}], "type": "object"}),
    );
    check(json!({"type": ["object", "null"]}), true, json!({"type": "object"}));
}

/// Where arguments are no JSON, a text is kept to its length and its choices.
#[test]
fn what_cannot_be_said_of_a_text_between_tags_is_refused_by_name() {
    let refused = |parameters: Value| {
        let tool = Tool { name: "f".to_owned(), parameters };
        match kept::marked(&QWEN_TAGS, None, &asked(vec![tool], true, Otherwise::Nothing)) {
            Err(Unkept::Tool(field, _)) => {
                field.trim_start_matches("tools[0].function.parameters").to_owned()
            }
            other => panic!("{other:?}"),
        }
    };
    for (parameters, field) in [
        (json!({"properties": {"a": {"type": "string", "pattern": "b"}}}), ".properties.a.pattern"),
        (json!({"properties": {"a": {"type": "string", "maxLength": 9999}}}), ".properties.a"),
        (json!({"properties": {"a": {"enum": ["</parameter>"]}}}), ".properties.a"),
        (json!({"properties": {"a>": {}}}), ".properties.a>"),
        (json!({"anyOf": []}), ".anyOf"),
        (json!({"properties": {}, "required": ["a"]}), ".required"),
    ] {
        assert_eq!(refused(parameters.clone()), field, "{parameters}");
    }
    for family in [GEMMA, FUNCTION_GEMMA, LFM2, DSML] {
        let unkept = kept::marked(&family, None, &asked(tools(), true, Otherwise::Nothing)).unwrap_err();
        assert_eq!(unkept, Unkept::Family(family.name()));
    }
}
