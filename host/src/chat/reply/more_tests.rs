//! Answers of the families that came later, of models that were only told how to call, and reasoning.

use super::families::*;
use super::family::Thinking;
use super::harmony::Harmony;
use super::marked::Marked;
use super::tests::{OSLO, PARIS, THINK, marked, of, read, reply, tools};
use super::*;

#[test]
fn other_families() {
    assert_eq!(
        of(
            GLM,
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
        ),
        reply("", "", &[OSLO])
    );
    assert_eq!(
        of(
            KIMI,
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>"
        ),
        reply("", "", &[PARIS])
    );
    assert_eq!(
        of(
            LFM2,
            "<|tool_call_start|>[get_weather(city=\"Paris\"), get_weather(city='Oslo', days=3)]<|tool_call_end|>Wait."
        ),
        reply("Wait.", "", &[PARIS, OSLO])
    );
    assert_eq!(
        of(FUNCTIONARY, "<function=get_weather>{\"city\": \"Paris\"}</function>"),
        reply("", "", &[PARIS])
    );
}

#[test]
fn models_that_were_told_how_to_call() {
    let check = |text: &str, expected: Reply| assert_eq!(of(GENERIC, text), expected, "{text}");
    let json = r#"{"name": "get_weather", "arguments": {"city": "Paris"}}"#;
    check(&format!("<tool_call>\n{json}\n</tool_call>"), reply("", "", &[PARIS]));
    check(json, reply("", "", &[PARIS]));
    check(&format!("```json\n{json}\n```"), reply("", "", &[PARIS]));
    check(&format!("```json\n[{json}]\n```"), reply("", "", &[PARIS]));
    check("```tool_code\nprint(get_weather(city=\"Paris\"))\n```", reply("", "", &[PARIS]));
    check("```tool_code\nget_weather(\"Oslo\", 3)\n```", reply("", "", &[OSLO]));
    for answer in [
        "```json\n{\"name\": \"Ada\"}\n```",
        "```tool_code\nopen(\"x\")\n```",
        "```python\nx = 1\n```",
        "[1, 2]",
        "[a link](https://example.com)",
        "{\"a\": 1}",
    ] {
        check(answer, reply(answer, "", &[]));
    }
}

#[test]
fn reasoning_is_split_from_content() {
    let check = |text: &str, expected: Reply| {
        assert_eq!(read(|| marked(None, THINK), text), expected, "{text}");
    };
    check("<think>\na\n\nb\n</think>\n\nc\n", reply("c\n", "a\n\nb", &[]));
    check(" \n<think></think> c", reply(" c", "", &[]));
    check("<think>cut o", reply("", "cut o", &[]));
    check("<think>a</thin", reply("", "a</thin", &[]));
    check("no <think>a</think> b", reply("no <think>a</think> b", "", &[]));
    check(" <thi", reply(" <thi", "", &[]));
    check("\n\n a \n", reply("\n\n a \n", "", &[]));
    let within =
        read(|| Reader::marked(Marked::new(None, THINK).within_thinking()), "\na\n</think>\n\nb </think>");
    assert_eq!(within, reply("b </think>", "a", &[]));
    let marks = Thinking::of("…'</think>'…").unwrap();
    assert!(marks.is_open_after("<|im_start|>assistant\n<think>\n"));
    assert!(!marks.is_open_after("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
}

#[test]
fn calls_beyond_the_first_are_dropped_where_one_is_wanted() {
    let one = |family: Family, text: &str| {
        read(|| Reader::marked(Marked::new(Some((family, tools())), THINK).with_one_call()), text)
    };
    let call = r#"{"name": "get_weather", "arguments": {"city": "Paris"}}"#;
    let twice = format!("Well.<tool_call>{call}</tool_call><tool_call>{call}</tool_call>");
    assert_eq!(one(HERMES, &twice), reply("Well.", "", &[PARIS]));
    assert_eq!(one(MISTRAL, &format!("[TOOL_CALLS][{call}, {call}]")), reply("", "", &[PARIS]));
    let after_broken =
        format!("<tool_call>{{\"name\": \"search\", \"arguments\": {{x<tool_call>{call}</tool_call>");
    assert_eq!(one(HERMES, &after_broken).calls, reply("", "", &[PARIS]).calls);
}

#[test]
fn gpt_oss() {
    let manner = Manner::of("<|start|>assistant<|channel|>final<|message|>");
    let check = |text: &str, expected: Reply| {
        assert_eq!(read(|| manner.reader("", tools(), true), text), expected, "{text}");
    };
    check(
        "<|channel|>analysis<|message|>They want\nweather.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Paris\"}<|call|>",
        reply("", "They want\nweather.", &[PARIS]),
    );
    check(
        " to=functions.get_weather<|channel|>commentary json<|message|>{\"city\": \"Paris\"}",
        reply("", "", &[PARIS]),
    );
    check(
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>So < it\nis. <|return|>",
        reply("I look.So < it\nis. ", "", &[]),
    );
    check("<|channel|>commentary to=functions.search<|message|>", reply("", "", &[("search", "{}")]));
    check(
        "<|channel|>commentary to=functions.search<|message|>{\"query\": x}",
        reply("{\"query\": x}", "", &[]),
    );
    check("<|channel|>commentary to=functions.search<|message|>{\"query", reply("{\"query", "", &[]));
    check("<|channel|>analysis<|message|>cut o", reply("", "cut o", &[]));
    check("No channel at all.", reply("No channel at all.", "", &[]));
    check("to whom?", reply("to whom?", "", &[]));
    check("<|message|>No head at all.", reply("No head at all.", "", &[]));
    let late = "Well <|channel|>commentary to=functions.search<|message|>{}";
    check(late, reply(late, "", &[]));
    let untold =
        read(|| Reader::harmony(Harmony::new(0)), " to=functions.f<|channel|>commentary<|message|>{}");
    assert_eq!(untold, reply("{}", "", &[]));
    let call =
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Paris\"}";
    let twice = format!("{call}<|end|><|start|>assistant{call}<|end|>");
    check(&twice, reply("", "", &[PARIS, PARIS]));
    assert_eq!(read(|| manner.reader("", tools(), false), &twice), reply("", "", &[PARIS]));
}
