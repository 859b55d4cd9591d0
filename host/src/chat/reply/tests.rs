//! Answers as models of each family write them, cut in every way.

use serde_json::json;

use super::families::*;
use super::family::Thinking;
use super::marked::Marked;
use super::*;

pub(super) const THINK: Option<Thinking> = Some(Thinking { open: "<think>", close: "</think>" });

pub(super) fn tools() -> Vec<Tool> {
    let tool = |name: &str, properties: Value| Tool {
        name: name.to_owned(),
        parameters: json!({"type": "object", "properties": properties}),
    };
    vec![
        tool("get_weather", json!({"city": {"type": "string"}, "days": {"type": "integer"}})),
        tool(
            "search",
            json!({"query": {"type": "string"}, "tags": {"type": "array"}, "range": {"type": "object"},
                "exact": {"type": "boolean"}}),
        ),
    ]
}

/// All deltas of a text that comes in these pieces, those of one kind in one.
fn deltas(mut reader: Reader, pieces: &[&str]) -> Vec<Delta> {
    let mut merged: Vec<Delta> = Vec::new();
    let mut all: Vec<Delta> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    all.extend(reader.finish());
    for delta in all {
        match (merged.last_mut(), delta) {
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more))
            | (Some(Delta::Arguments(text)), Delta::Arguments(more)) => text.push_str(&more),
            (_, delta) => merged.push(delta),
        }
    }
    merged
}

/// Reads a text whole, character by character, and cut at every place and every two places: always the same.
pub(super) fn read(reader: impl Fn() -> Reader, text: &str) -> Reply {
    let whole = deltas(reader(), &[text]);
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let letters: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
    assert_eq!(deltas(reader(), &letters), whole, "letter by letter: {text:?}");
    for (index, &first) in places.iter().enumerate() {
        for &second in &places[index..] {
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(deltas(reader(), &pieces), whole, "{pieces:?}");
        }
    }
    let mut reply = Reply::default();
    whole.into_iter().for_each(|delta| reply.add(delta));
    reply
}

pub(super) fn marked(calls: Option<(Family, Vec<Tool>)>, thinking: Option<Thinking>) -> Reader {
    Reader::marked(Marked::new(calls, thinking))
}

pub(super) fn of(family: Family, text: &str) -> Reply {
    read(|| marked(Some((family, tools())), THINK), text)
}

pub(super) fn reply(content: &str, reasoning: &str, calls: &[(&str, &str)]) -> Reply {
    let call = |(name, arguments): &(&str, &str)| Call {
        name: (*name).to_owned(),
        arguments: (*arguments).to_owned(),
    };
    Reply {
        content: content.to_owned(),
        reasoning: reasoning.to_owned(),
        calls: calls.iter().map(call).collect(),
    }
}

pub(super) const PARIS: (&str, &str) = ("get_weather", r#"{"city": "Paris"}"#);
pub(super) const OSLO: (&str, &str) = ("get_weather", r#"{"city": "Oslo", "days": 3}"#);

#[test]
fn hermes_and_qwen() {
    let check = |text: &str, expected: Reply| assert_eq!(of(HERMES, text), expected, "{text}");
    check("Just words.\n\n Really. ", reply("Just words.\n\n Really. ", "", &[]));
    check(
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
        reply("", "", &[PARIS]),
    );
    check(
        "<think>\nThey want\nweather.\n</think>\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n<tool_call>\n{\"arguments\": {\"city\": \"Oslo\", \"days\": 3}, \"name\": \"get_weather\"}\n</tool_call>\n",
        reply("", "They want\nweather.", &[PARIS, OSLO]),
    );
    check(
        "Let me see.\n\n<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call> Done.",
        reply("Let me see. Done.", "", &[PARIS]),
    );
    // Without arguments, with arguments as text, in OpenAI's own shape, without the last brace, in a list.
    check("<tool_call>{\"name\": \"search\"}</tool_call>", reply("", "", &[("search", "{}")]));
    check(
        r#"<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}</tool_call>"#,
        reply("", "", &[PARIS]),
    );
    check(
        r#"<tool_call>{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}</tool_call>"#,
        reply("", "", &[PARIS]),
    );
    check(
        r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}</tool_call>"#,
        reply("", "", &[PARIS]),
    );
    check(
        r#"<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]</tool_call>"#,
        reply("", "", &[PARIS, OSLO]),
    );
    check(r#"{"name": "get_weather", "arguments": {"city": "Paris"}}"#, reply("", "", &[PARIS]));
    check(r#"{"name": "Ada", "arguments": {}}"#, reply(r#"{"name": "Ada", "arguments": {}}"#, "", &[]));
    // A mark that never became one.
    check("a <tool_ca b < <tool", reply("a <tool_ca b < <tool", "", &[]));
}

#[test]
fn a_broken_call_is_content() {
    let same = |text: &str| assert_eq!(of(HERMES, text), reply(text, "", &[]), "{text}");
    same("<tool_call>\nI would call get_weather.\n</tool_call>");
    same("<tool_call>");
    same("words\n<tool_call>\n{\"name\": \"get_weather\", \"argu");
    same("words\n<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": Paris}}</tool_call> more");
    same("<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par");
    same("<tool_call>{\"name\": \"get_weather\", \"arguments\": \"no json\"}</tool_call>");
    same("<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>");
    same("<tool_call>{\"city\": \"Paris\"}</tool_call>");
    // What comes behind a broken one is read.
    assert_eq!(
        of(
            HERMES,
            "<tool_call>oops <tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call>"
        ),
        reply("<tool_call>oops", "", &[PARIS])
    );
    assert_eq!(
        of(
            HERMES,
            "<tool_call>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"search\", \"arguments\": {x"
        ),
        reply(", {\"name\": \"search\", \"arguments\": {x", "", &[PARIS])
    );
}

#[test]
fn what_was_told_of_a_broken_call_is_known() {
    let mut reader = marked(Some((HERMES, tools())), None);
    let mut told = reader.push("<tool_call>{\"name\": \"search\", \"arguments\": {\"a\": 1");
    told.extend(reader.push("</tool_call>"));
    told.extend(reader.finish());
    assert_eq!(told[0], Delta::Call { name: "search".to_owned() });
    let text = "<tool_call>{\"name\": \"search\", \"arguments\": {\"a\": 1".to_owned();
    assert!(told.contains(&Delta::Broken { text, rest: String::new() }), "{told:?}");
    assert_eq!(told.last(), Some(&Delta::Content("</tool_call>".to_owned())));
}

#[test]
fn qwen_coder() {
    let check = |text: &str, expected: Reply| assert_eq!(of(QWEN_TAGS, text), expected, "{text}");
    check(
        "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        reply("I look.", "", &[OSLO]),
    );
    check(
        "<tool_call>\n<function=search>\n<parameter=query>\nif a < b:\n    5\n</parameter>\n<parameter=tags>\n[\"x\"]\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=unknown>\n7\n</parameter>\n</function>\n</tool_call>",
        reply(
            "",
            "",
            &[("search", r#"{"query": "if a < b:\n    5", "tags": ["x"], "exact": true, "unknown": "7"}"#)],
        ),
    );
    check("<function=search>\n</function>\n</tool_call>", reply("", "", &[("search", "{}")]));
    check(
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n",
        reply("", "", &[PARIS]),
    );
    for broken in [
        "<tool_call>\n<function=search>\n<parameter=query>\nnever ends",
        "<tool_call>\nnothing\n</tool_call>",
    ] {
        check(broken, reply(broken, "", &[]));
    }
}

#[test]
fn llama() {
    let check = |text: &str, expected: Reply| assert_eq!(of(LLAMA, text), expected, "{text}");
    check(r#"{"name": "get_weather", "parameters": {"city": "Paris"}}"#, reply("", "", &[PARIS]));
    check(
        r#"{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}"#,
        reply("", "", &[PARIS]),
    );
    check(
        r#"<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}"#,
        reply("", "", &[PARIS, OSLO]),
    );
    check(
        r#"<|python_tag|>brave_search.call(query="weather in Paris")"#,
        reply("", "", &[("brave_search", r#"{"query": "weather in Paris"}"#)]),
    );
    // Answers that are no calls.
    for answer in [
        r#"{"name": "Ada", "parameters": {"age": 36}}"#,
        r#"{"city": "Paris"}"#,
        r#"Call it so: {"name": "get_weather", "parameters": {}}"#,
        "<|python_tag|>print(1 + 1)",
        "{",
    ] {
        check(answer, reply(answer, "", &[]));
    }
}

#[test]
fn mistral() {
    let check = |text: &str, expected: Reply| assert_eq!(of(MISTRAL, text), expected, "{text}");
    check(
        r#"[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "a1b2c3d4e"}, {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]"#,
        reply("", "", &[PARIS, OSLO]),
    );
    check(
        "Sure.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{\"city\": \"Oslo\", \"days\": 3}",
        reply("Sure.", "", &[PARIS, OSLO]),
    );
    for broken in [
        "[TOOL_CALLS]",
        "[TOOL_CALLS]get weather[ARGS]{}",
        "[TOOL_CALLS]get_weather[ARGS]{\"city\": ",
        "a [TOOL b",
    ] {
        check(broken, reply(broken, "", &[]));
    }
    let marks = Some(Thinking { open: "[THINK]", close: "[/THINK]" });
    let found = read(|| marked(Some((MISTRAL, tools())), marks), "[THINK]Hm.[/THINK]It is [so].");
    assert_eq!(found, reply("It is [so].", "Hm.", &[]));
}

#[test]
fn deepseek() {
    let check = |text: &str, expected: Reply| assert_eq!(of(DEEPSEEK, text), expected, "{text}");
    check(
        "<think>\nHm.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\", \"days\": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        reply("", "Hm.", &[PARIS, OSLO]),
    );
    check(
        "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        reply("Let me see.", "", &[PARIS]),
    );
    for broken in [
        "<｜tool▁calls▁begin｜> but no call",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather{\"city\": \"Paris\"}",
        "<｜tool▁calls▁begin｜>",
    ] {
        check(broken, reply(broken, "", &[]));
    }
    let dsml = "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Oslo</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
    assert_eq!(of(DSML, &format!("Yes.\n\n{dsml}")), reply("Yes.", "", &[OSLO]));
}

#[test]
fn gemma() {
    let check = |text: &str, expected: Reply| assert_eq!(of(GEMMA, text), expected, "{text}");
    check("<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>,days:3}<tool_call|>", reply("", "", &[OSLO]));
    check(
        "<|tool_call>call:search{exact:true,query:<|\"|>{a, b}: \"c\"<|\"|>,range:{from:-1.5,to:null},tags:[<|\"|>x<|\"|>,<|\"|>y<|\"|>]}<tool_call|><|tool_call>call:search{}<tool_call|>",
        reply(
            "",
            "",
            &[
                (
                    "search",
                    r#"{"exact": true, "query": "{a, b}: \"c\"", "range": {"from": -1.5, "to": null}, "tags": ["x", "y"]}"#,
                ),
                ("search", "{}"),
            ],
        ),
    );
    for broken in ["<|tool_call>call:search{query:<|\"|>x", "<|tool_call>search<tool_call|>"] {
        check(broken, reply(broken, "", &[]));
    }
    let marks = Thinking::of("{{ '<|channel>thought\n' }}<channel|>");
    let found = read(|| marked(None, marks), "<|channel>thought\nHm.\n<channel|>So.");
    assert_eq!(found, reply("So.", "Hm.", &[]));
    let function_gemma =
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>";
    assert_eq!(of(FUNCTION_GEMMA, function_gemma), reply("", "", &[PARIS]));
}

#[test]
fn phi_and_granite() {
    let list = r#"[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]"#;
    let expected = reply("", "", &[PARIS, OSLO]);
    assert_eq!(of(PHI, &format!("<|tool_call|>{list}<|/tool_call|>")), expected);
    assert_eq!(of(PHI, &format!("functools{list}")), expected);
    assert_eq!(of(GRANITE, &format!("<|tool_call|>{list}")), expected);
    let words = "functools are fun [1]";
    assert_eq!(of(PHI, words), reply(words, "", &[]));
}
