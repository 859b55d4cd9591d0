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
            if vocabulary == Vocabulary::Control {
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
            Vocabulary::Control | Vocabulary::Pieces => control.clone(),
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

/// Of a family without reasoning, under every vocabulary.
fn check(family: Family, otherwise: &Otherwise, many: bool, cases: &[(&str, Option<usize>)]) {
    let asked = asked(tools(), many, otherwise.clone());
    let pattern = kept::marked(&family, THINK, &asked).unwrap();
    let texts: Vec<&str> = cases.iter().map(|(text, _)| *text).collect();
    for vocabulary in VOCABULARIES {
        let found = verdicts(&pattern, &marks(family, THINK), vocabulary, &texts);
        for ((text, broken), found) in cases.iter().zip(found) {
            let expected = match broken {
                None => found == Verdict::Whole,
                Some(usize::MAX) => found == Verdict::Beginning,
                // Nearby: a byte or a token earlier, by what its marks are.
                Some(_) => matches!(found, Verdict::Broken(_)),
            };
            assert!(expected, "{} {vocabulary:?}: {found:?} of {text:?}", family.name());
        }
    }
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
    (GENERIC, &["<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>"]),
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
    let schema = Schema { field: "response_format".to_owned(), schema: json!({"type": "object"}) };
    for (family, texts) in CANONICAL {
        for text in texts {
            let mut cases = vec![((*text).to_owned(), None)];
            cases.push((format!("<think>\nHm.\n</think>\n\n{text}"), None));
            let as_cases =
                |cases: &[(String, Option<usize>)]| -> Vec<(String, Option<usize>)> { cases.to_vec() };
            for otherwise in [Otherwise::Nothing, Otherwise::Text, Otherwise::Json(schema.clone())] {
                if family.name() == "llama-3" && matches!(otherwise, Otherwise::Json(_)) {
                    continue;
                }
                let cases = as_cases(&cases);
                let cases: Vec<(&str, Option<usize>)> =
                    cases.iter().map(|(text, at)| (text.as_str(), *at)).collect();
                check(family, &otherwise, true, &cases);
            }
        }
    }
}
