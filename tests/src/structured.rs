//! Structured output against the real model: what comes out is judged by a validator that shares nothing with the host.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use impetus_tests::{Answer, House, SMOLLM2, Server, root};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn real() -> Server {
    House::with(&["gguf"]).smollm2().serve()
}

fn fixture(name: &str) -> Vec<Value> {
    let path = root().join("tests/fixtures/schemas").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ask(content: &str, with: Value) -> Value {
    let mut body = json!({"model": SMOLLM2, "messages": [{"role": "user", "content": content}],
        "temperature": 1, "seed": 1, "max_tokens": 200});
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    body
}

fn of_schema(schema: &Value) -> Value {
    json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "instance", "strict": true, "schema": schema}}})
}

/// What is wrong with a text as an instance of a schema, formats included.
fn fault(schema: &Value, text: &str) -> Option<String> {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    match serde_json::from_str(text) {
        Err(error) => Some(format!("no JSON: {error}: {text}")),
        Ok(instance) => validator.validate(&instance).err().map(|error| format!("{error}: {text}")),
    }
}

/// Asks for an instance, with one seed after another while a model of 135 million parameters loses itself in digits or
/// nesting. Whatever is complete must be valid.
async fn instance(server: &Server, case: &Value) -> Result<(), String> {
    let (name, schema) = (case["name"].as_str().unwrap(), &case["schema"]);
    for seed in 1..=8 {
        let mut body = ask(&format!("Give me an example of this, as JSON: {name}."), of_schema(schema));
        body["seed"] = seed.into();
        let answer = server.post(CHAT, &body).await;
        if answer.status != 200 {
            return Err(format!("{name}: {}", answer.text));
        }
        if answer.json["choices"][0]["finish_reason"] == "stop" {
            return fault(schema, &answer.chat_text())
                .map_or(Ok(()), |fault| Err(format!("{name}: {fault}")));
        }
    }
    Err(format!("{name}: no answer was complete"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_schema_of_the_corpus_gives_a_valid_instance() {
    let (server, corpus) = (real(), fixture("corpus.json"));
    assert!(corpus.len() >= 40);
    let instances = stream::iter(&corpus).map(|case| instance(&server, case)).buffer_unordered(8);
    let faults: Vec<String> = instances.filter_map(async |result| result.err()).collect().await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Every refusal is a 400 that names the keyword, and where that can be told, its place.
#[tokio::test]
async fn what_cannot_be_kept_to_is_refused_with_its_keyword() {
    let server = real();
    for case in fixture("refused.json") {
        let answer = server.post(CHAT, &ask("Anything.", json!({"json_schema": case["schema"]}))).await;
        let error = &answer.json["error"];
        assert_eq!(
            (answer.status, &error["code"]),
            (400, &json!("invalid_grammar")),
            "{case}: {}",
            answer.text
        );
        let keyword = case["keyword"].as_str().unwrap();
        assert!(error["message"].as_str().unwrap().contains(keyword), "{case}: {}", answer.text);
        let at = case["at"].as_str().unwrap_or_default();
        assert_eq!(error["param"], format!("json_schema{at}"), "{case}");
    }
    for (with, param, words) in [
        (json!({"guided_regex": "(a"}), "guided_regex", "unclosed group"),
        (json!({"guided_regex": "a\\b"}), "guided_regex", "lookaround"),
        (json!({"grammar": "start: b\nb: b"}), "grammar", "without an end"),
        (json!({"grammar": "start: <[1]> \"a\""}), "grammar", "names tokens"),
        (json!({"grammar": "start: <|im_start|> \"a\""}), "grammar", "names tokens"),
        (json!({"grammar": "start: nothing"}), "grammar", "nothing"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format.json_schema.schema",
            "missing",
        ),
    ] {
        let answer = server.post(CHAT, &ask("Anything.", with.clone())).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["param"]),
            (400, &json!(param)),
            "{with}: {}",
            answer.text
        );
        assert!(answer.text.contains(words), "{with}: {}", answer.text);
    }
}

fn person() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"],
        "additionalProperties": false})
}

#[tokio::test]
async fn a_stream_and_n_answers_are_instances_too() {
    let server = real();
    let mut body = ask("Describe a person, as JSON.", of_schema(&person()));
    let whole = server.post(CHAT, &body).await;
    assert_eq!(fault(&person(), &whole.chat_text()), None);
    body["stream"] = true.into();
    let streamed = server.post(CHAT, &body).await;
    assert_eq!(streamed.chat_text(), whole.chat_text());
    body["stream"] = false.into();
    body["n"] = 3.into();
    let three = server.post(CHAT, &body).await;
    let texts: Vec<&str> = three.json["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["message"]["content"].as_str().unwrap())
        .collect();
    assert!(texts.iter().all(|text| fault(&person(), text).is_none()), "{texts:?}");
    assert!(texts[0] != texts[1] || texts[1] != texts[2], "{texts:?}");
}

#[tokio::test]
async fn other_parameters_keep_their_meaning() {
    let server = real();
    let with = |more: Value| {
        let mut body = ask(
            "Is the sky blue? Describe it.",
            json!({"guided_regex": "(yes|no), because [a-z ]{5,40}\\."}),
        );
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let stopped = server.post(CHAT, &with(json!({"stop": ["because"]}))).await;
    assert_eq!(stopped.json["choices"][0]["finish_reason"], "stop");
    assert!(["yes, ", "no, "].contains(&stopped.chat_text().as_str()), "{}", stopped.text);
    let short = server.post(CHAT, &with(json!({"max_tokens": 3}))).await;
    assert_eq!(short.json["choices"][0]["finish_reason"], "length");
    // The end is the grammar's: without end tokens too the answer is complete at its full stop.
    let endless = server.post(CHAT, &with(json!({"ignore_eos": true}))).await;
    assert_eq!(endless.json["choices"][0]["finish_reason"], "stop", "{}", endless.text);
    assert!(endless.chat_text().ends_with('.'), "{}", endless.text);
    // A bias cannot bring in what is not allowed, and log probabilities are the model's own: not those of two tokens.
    let greedy = server
        .post(
            CHAT,
            &with(json!({"temperature": 0, "logprobs": true, "top_logprobs": 5, "logit_bias": {"28": 100}})),
        )
        .await;
    assert!(["yes", "no,"].contains(&&greedy.chat_text()[..3]), "{}", greedy.text);
    let first = &greedy.json["choices"][0]["logprobs"]["content"][0];
    let best = first["top_logprobs"][0]["logprob"].as_f64().unwrap();
    assert!(first["logprob"].as_f64().unwrap() < best, "{first}");
}

#[tokio::test]
async fn each_way_to_ask_is_kept_to() {
    let server = real();
    let is_yes_or_no = |text: &str| ["yes", "no"].contains(&text);
    for with in [
        json!({"guided_choice": ["yes", "no"]}),
        json!({"structured_outputs": {"choice": ["yes", "no"]}}),
        json!({"structured_outputs": {"regex": "yes|no"}}),
        json!({"guided_regex": "^(yes|no)$"}),
        json!({"grammar": "start: \"yes\" | \"no\""}),
        json!({"grammar": "%llguidance {}\nstart: ANSWER\nANSWER: /yes|no/"}),
        json!({"grammar": "root ::= answer\nanswer ::= \"yes\" | \"no\" # or so"}),
        json!({"structured_outputs": {"grammar": "start: \"yes\" | \"no\""}}),
    ] {
        let answer = server.post(CHAT, &ask("Is the sky blue?", with.clone())).await;
        assert!(is_yes_or_no(&answer.chat_text()), "{with}: {}", answer.text);
        assert_eq!(answer.json["choices"][0]["finish_reason"], "stop");
    }
    let completion = json!({"model": SMOLLM2, "prompt": ["The sky is blue:", "Water is dry:"], "n": 2, "seed": 1,
        "max_tokens": 5, "structured_outputs": {"choice": [" yes", " no"]}});
    let answer = server.post("/v1/completions", &completion).await;
    let choices = answer.json["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert!(
        choices.iter().all(|choice| is_yes_or_no(choice["text"].as_str().unwrap().trim())),
        "{}",
        answer.text
    );
    let object = server
        .post(CHAT, &ask("A colour as JSON?", json!({"response_format": {"type": "json_object"}})))
        .await;
    if object.json["choices"][0]["finish_reason"] == "stop" {
        assert_eq!(fault(&json!({"type": "object"}), &object.chat_text()), None);
    }
    let tools = json!({"guided_choice": ["yes"],
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    assert_eq!(server.post(CHAT, &ask("Anything.", tools)).await.status, 400);
}

fn pair(next: Value) -> Value {
    json!({"type": "object", "properties": {"l": next, "r": next}, "required": ["l", "r"]})
}

fn two_pairs(next: Value) -> Value {
    json!({"allOf": [pair(next.clone()), pair(next)]})
}

/// llama.cpp's own example for JSON, whose strings and spaces lead back to nothing, and its values to themselves.
const JSON_IN_GBNF: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;

#[tokio::test]
async fn a_grammar_of_llama_cpp_is_kept_to() {
    let server = real();
    let mut complete = 0;
    for seed in 1..=4 {
        let mut body = ask("Describe a cat, as JSON.", json!({"grammar": JSON_IN_GBNF, "seed": seed}));
        body["max_tokens"] = 120.into();
        let answer = server.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.chat_text().starts_with('{'), "{}", answer.text);
        if answer.json["choices"][0]["finish_reason"] == "stop" {
            assert_eq!(fault(&json!({"type": "object"}), &answer.chat_text()), None);
            complete += 1;
        }
    }
    assert!(complete > 0);
    let sum = "root ::= (expr \"=\" ws term \"\\n\"){2}\nexpr ::= term ([-+*/] ws term){0,3}\n\
        term ::= num | \"(\" ws expr \")\" ws\nnum ::= [0-9]{1,3} ws\nws ::= [ \\t\\n]{0,2}";
    let answer = server.post(CHAT, &ask("Calculate.", json!({"grammar": sum}))).await;
    let text = answer.chat_text();
    assert_eq!(
        (answer.json["choices"][0]["finish_reason"].as_str(), text.matches('=').count()),
        (Some("stop"), 2),
        "{text}"
    );
    assert!(text.ends_with('\n'), "{text:?}");
}

/// Schemas and grammars that would cost a naive reader its stack, its memory or its day.
fn hostile() -> Vec<(&'static str, Value)> {
    let chain = |steps: usize, step: fn(Value) -> Value| {
        let mut definitions: serde_json::Map<String, Value> = (0..steps)
            .map(|at| (format!("d{at}"), step(json!({"$ref": format!("#/$defs/d{}", at + 1)}))))
            .collect();
        definitions.insert(format!("d{steps}"), json!({"type": "null"}));
        json!({"json_schema": {"$ref": "#/$defs/d0", "$defs": definitions}})
    };
    let pattern = |pattern: &str| json!({"json_schema": {"type": "string", "pattern": pattern}});
    let names: Vec<String> = (0..100_000).map(|n| format!("n{n}")).collect();
    let mut nested = json!({});
    for _ in 0..60 {
        nested = json!({"type": "array", "items": nested, "minItems": 1000});
    }
    let rules = |rule: &str| {
        let rules: Vec<String> =
            (0..4000).map(|n| rule.replace('N', &n.to_string()).replace('M', &(n + 1).to_string())).collect();
        json!({"grammar": format!("start: a0\n{}\na4000: \"x\"\n", rules.join("\n"))})
    };
    vec![
        ("references in a row", chain(4000, |next| next)),
        ("arrays in a row", chain(2000, |next| json!({"type": "array", "items": next}))),
        ("two references each, forty deep", chain(40, pair)),
        ("four references each, in pairs to be intersected", chain(30, two_pairs)),
        (
            "intersections of unions",
            json!({"json_schema": {"allOf": (0..24).map(|n| json!({"anyOf": [
            {"properties": {format!("p{n}"): {"const": 1}}}, {"properties": {format!("p{n}"): {"const": 2}}}]})).collect::<Vec<_>>()}}),
        ),
        ("a thousand times a thousand times", json!({"json_schema": nested})),
        ("a hundred thousand names", json!({"json_schema": {"type": "object", "required": names}})),
        ("a hundred thousand constants", json!({"json_schema": {"enum": names}})),
        (
            "a step with sixty million remainders",
            json!({"json_schema": {"type": "integer", "multipleOf": 62_615_533}}),
        ),
        (
            "steps with no common multiple",
            json!({"json_schema": {"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 9967}]}}),
        ),
        ("repetitions of repetitions", pattern("((((a{1,30}){1,30}){1,30}){1,30}){1,30}")),
        ("a pattern whose automaton explodes", pattern("a.{500}b.*c.{1000}d")),
        ("parentheses", pattern(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000)))),
        ("a million times", pattern("(?:(?:(?:a?){100}){100}){100}a{1000000}")),
        ("a text of a megabyte", json!({"json_schema": {"const": "x".repeat(1 << 20)}})),
        ("rules in a row", rules("aN: aM")),
        ("rules nested", rules("aN: (\"(\" aM \")\")*")),
        ("rules that double", rules("aN: aM aM")),
        ("a list that ends with itself", json!({"grammar": "root ::= [^x] root | \"x\""})),
        ("ambiguity in GBNF", json!({"grammar": "root ::= root root | [a-z] | \"\""})),
        ("ambiguity", json!({"grammar": "start: e\ne: e e e | e e | /[a-z]/"})),
        ("more ambiguity", json!({"grammar": "start: e+\ne: a* b* a* b* a* b*\na: /[a-z]/\nb: /[a-z]/"})),
    ]
}

/// A hostile request is refused or answered, and meanwhile another client's stream goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_grammars_are_refused_or_answered_and_hold_up_nobody() {
    let server = real();
    // The first request makes what all share.
    server.post(CHAT, &ask("Yes?", json!({"guided_choice": ["yes"]}))).await;
    for (name, with) in hostile() {
        let mut body = ask("Go on.", with);
        body["max_tokens"] = 8.into();
        let started = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(120), server.post(CHAT, &body)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{name} takes more than {:?}", started.elapsed()));
        assert!([200, 400].contains(&answer.status), "{name}: {}", answer.text);
        if answer.status == 400 {
            assert_eq!(answer.json["error"]["code"], "invalid_grammar", "{name}: {}", answer.text);
        }
    }
    let mut neighbour =
        ask("Tell me a story.", json!({"ignore_eos": true, "max_tokens": 60, "stream": true}));
    neighbour["temperature"] = 0.into();
    let alone = longest_silence(&server, &neighbour).await;
    let ambiguous = hostile().into_iter().filter(|(name, _)| name.contains("ambiguity"));
    let attacks: Vec<Value> = ambiguous.map(|(_, with)| ask("Go on.", with)).collect();
    let (silence, _) = tokio::join!(
        longest_silence(&server, &neighbour),
        join_all(attacks.iter().map(|attack| server.post(CHAT, attack))),
    );
    assert!(silence < alone + Duration::from_millis(400), "{silence:?} of silence, alone {alone:?}");
}

/// The longest time between two pieces of a stream.
async fn longest_silence(server: &Server, body: &Value) -> Duration {
    let mut pieces = server.send(CHAT, body).await.bytes_stream();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut begun = false;
    while let Some(piece) = pieces.next().await {
        piece.unwrap();
        // The first comes when the prompt has been computed.
        if std::mem::replace(&mut begun, true) {
            longest = longest.max(last.elapsed());
        }
        last = Instant::now();
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_while_a_schema_is_read_leaves_nothing_behind() {
    let server = real();
    let (_, slow) = hostile().into_iter().find(|(name, _)| *name == "intersections of unions").unwrap();
    let gone: Vec<Value> = (0..4).map(|_| ask("Anything.", slow.clone())).collect();
    let gone =
        gone.iter().map(|body| tokio::time::timeout(Duration::from_millis(1), server.post(CHAT, body)));
    let _ = join_all(gone).await;
    let answers: Vec<Answer> = join_all(
        (0..3).map(|_| async { server.post(CHAT, &ask("Yes?", json!({"guided_choice": ["yes"]}))).await }),
    )
    .await;
    assert!(answers.iter().all(|answer| answer.chat_text() == "yes"));
    assert_eq!(server.get("/health").await.status, 200);
}
