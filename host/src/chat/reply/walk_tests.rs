//! Random answers under the patterns of kept calls, read back: whatever a model writes, calls are instances of their
//! schemas. Half of what is drawn is what readers could take for marks and ends.

use serde_json::json;

use super::families::*;
use super::kept_tests::{asked, is_token};
use super::*;
use crate::sampling::constraint::{Constraint, Grammar, Grammars, Pattern, Place, STACK_BYTES};
use crate::test_random::Random;

const FAMILIES: [Family; 12] = [
    HERMES,
    GENERIC,
    LLAMA,
    MISTRAL,
    MISTRAL_ARGS,
    DEEPSEEK,
    DEEPSEEK_R1,
    KIMI,
    PHI,
    FUNCTIONARY,
    QWEN_TAGS,
    GLM,
];

/// What is drawn besides bytes.
const PIECES: [&str; 22] = [
    "\n</parameter>",
    "</parameter>",
    "<parameter=",
    "</function>",
    "</tool_call>",
    "<tool_call>",
    "</arg_value>",
    "[TOOL_CALLS]",
    "<think>",
    "\"",
    "\"}",
    "}",
    "]",
    "1",
    "{\"name\": \"",
    "\n",
    "```",
    "<function=",
    "True",
    "\": ",
    "name",
    "yes",
];

const MOST_STEPS: usize = 300;

fn tools() -> Vec<Tool> {
    let tool = |name: &str, parameters: Value| Tool { name: name.to_owned(), parameters };
    vec![
        tool(
            "say",
            json!({"properties": {"text": {"type": "string", "maxLength": 40}, "loud": {"type": "boolean"},
            "times": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, "required": ["text"]}),
        ),
        tool(
            "say_all",
            json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 3}, "mood": {"enum": ["good", "1"], "type": "string"}},
            "required": ["list", "mood"], "$defs": {"item": {"type": ["string", "integer"]}}}),
        ),
    ]
}

/// One answer, if it comes to an end.
fn walk(constraint: &mut Constraint, tokens: &[Vec<u8>], random: &mut Random) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for _ in 0..MOST_STEPS {
        let allowed = constraint.allowed().unwrap();
        let ways = |from: usize, to: usize| {
            (from..to).filter(|&token| allowed.has(token as u32)).collect::<Vec<_>>()
        };
        let (bytes, pieces) = (ways(33, 127), ways(257, tokens.len()));
        if allowed.has(0) && (bytes.is_empty() && pieces.is_empty() || random.below(4) == 0) {
            return Some(text);
        }
        let from = match (bytes.is_empty(), pieces.is_empty()) {
            (true, true) => ways(1, 257),
            (false, true) => bytes,
            (true, false) => pieces,
            (false, false) if random.below(3) == 0 => bytes,
            (false, false) => pieces,
        };
        let token = from[random.below(from.len())];
        text.extend_from_slice(&tokens[token]);
        if constraint.commit(token as u32).unwrap() == Place::Complete {
            return Some(text);
        }
    }
    None
}

/// What is wrong with an answer.
fn fault(reply: &Reply, must_call: bool) -> Option<String> {
    if must_call && (reply.calls.is_empty() || !reply.content.is_empty()) {
        return Some("no call, or more than that".to_owned());
    }
    reply.calls.iter().find_map(|call| {
        let tools = tools();
        let Some(tool) = tools.iter().find(|tool| tool.name == call.name) else {
            return Some("no tool".to_owned());
        };
        let instance = serde_json::from_str(&call.arguments).unwrap();
        let validator = jsonschema::validator_for(&tool.parameters).unwrap();
        validator.validate(&instance).err().map(|error| error.to_string())
    })
}

fn answers(family: Family, otherwise: &Otherwise, with_tokens: bool) {
    let pattern: Pattern = kept::marked(&family, None, &asked(tools(), true, otherwise.clone())).unwrap();
    let mut tokens: Vec<Vec<u8>> = vec![Vec::new()];
    tokens.extend((0..=255).map(|byte| vec![byte]));
    let mut texts: Vec<Vec<u8>> = tokens.clone();
    let mut control = Vec::new();
    for mark in family.marks().filter(|mark| is_token(mark) && with_tokens) {
        if control.iter().all(|(_, known)| known != mark.as_bytes()) {
            control.push((tokens.len() as u32, mark.as_bytes().to_vec()));
            tokens.push(Vec::new());
            texts.push(mark.as_bytes().to_vec());
        }
    }
    tokens.extend(PIECES.map(|piece| piece.as_bytes().to_vec()));
    texts.extend(PIECES.map(|piece| piece.as_bytes().to_vec()));
    let grammars = Grammars::new(tokens, &[0]).unwrap().with_control(control);
    let mut random = Random(11);
    let (mut complete, mut with_calls) = (0, 0);
    for _ in 0..60 {
        let mut constraint = grammars.constraint(&Grammar::Pattern(pattern.clone())).unwrap();
        let Some(text) = walk(&mut constraint, &texts, &mut random) else { continue };
        let text = String::from_utf8(text).unwrap();
        let marked = super::marked::Marked::new(Some((family, tools())), None).with_lookout(Lookout::Own);
        let mut reader = Reader::marked(marked);
        let mut reply = Reply::default();
        reader.push(&text).into_iter().chain(reader.finish()).for_each(|delta| reply.add(delta));
        let fault = fault(&reply, *otherwise == Otherwise::Nothing);
        assert_eq!(fault, None, "{} {with_tokens}: {text:?} {reply:?}", family.name());
        complete += 1;
        with_calls += usize::from(!reply.calls.is_empty());
    }
    // What opens calls is rarely drawn letter by letter, and Llama's brace rarely first.
    let is_rare = *otherwise == Otherwise::Text && (!with_tokens || family.name() == LLAMA.name());
    let told = format!("{} {with_tokens} {otherwise:?}: {complete}, {with_calls}", family.name());
    assert!(complete > 5 && (with_calls > 0 || is_rare), "{told}");
}

#[test]
fn whatever_is_written_calls_are_instances() {
    let run = || {
        for family in FAMILIES {
            for otherwise in [Otherwise::Nothing, Otherwise::Text] {
                answers(family, &otherwise, true);
                answers(family, &otherwise, false);
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}
