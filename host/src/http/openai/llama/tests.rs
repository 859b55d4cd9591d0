//! Tables: JSON to requests, events to JSON.

use serde_json::{Value, json};

use super::super::answer::tests::script;
use super::super::answer::{Choice, Piece, Shape};
use super::super::params::tests::told;
use super::*;
use crate::engine::message::{Alternative, Event, FinishReason, TokenLogprob, Usage};

fn parse(body: Value) -> Result<LlamaRequest> {
    LlamaRequest::parse(Fields::of("", body).unwrap())
}

#[test]
fn a_request_is_taken() {
    let request =
        parse(json!({"prompt": "a", "n_predict": 7, "n_probs": 3, "cache_prompt": false, "seed": -1,
        "id_slot": -1, "lora": [], "stop": [], "post_sampling_probs": false}));
    let request = request.unwrap();
    assert_eq!((request.parameters.max_tokens, request.probabilities), (Some(7), 3));
    assert!(
        request.afresh && !request.is_list && request.model.is_none() && request.parameters.seed.is_none()
    );
    let request = parse(json!({"model": "m", "prompt": "a", "n_predict": -1, "seed": 4})).unwrap();
    assert_eq!((request.parameters.max_tokens, request.parameters.seed), (None, Some(4)));
    assert!(!request.afresh);
    assert_eq!(parse(json!({"prompt": "a", "n_predict": 0})).unwrap().parameters.max_tokens, Some(0));
    assert_eq!(parse(json!({"prompt": "a", "n_cmpl": 3})).unwrap().parameters.choices, 3);
}

#[test]
fn prompts_have_many_shapes() {
    let count = |prompt: Value| {
        let request = parse(json!({"prompt": prompt})).unwrap();
        (request.prompts.len(), request.is_list)
    };
    assert_eq!(count(json!("a")), (1, false));
    assert_eq!(count(json!([1, 2])), (1, false));
    assert_eq!(count(json!([1, "a", 2, "b"])), (1, false));
    assert_eq!(count(json!({"prompt_string": "a"})), (1, false));
    assert_eq!(count(json!(["a"])), (1, true));
    assert_eq!(count(json!([[1, "a", 2], "b", {"prompt_string": "c", "multimodal_data": []}])), (3, true));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |extra: Value, status: u16, param: &str| {
        let mut body = json!({"prompt": "a"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (found_status, found_param, message) = told(parse(body.clone()));
        assert_eq!((found_status, found_param.as_str()), (status, param), "{body}: {message}");
    };
    check(json!({"prompt": null}), 400, "prompt");
    check(json!({"prompt": []}), 400, "prompt");
    check(json!({"prompt": [[]]}), 400, "prompt[0]");
    check(json!({"prompt": true}), 422, "prompt");
    check(json!({"prompt": [1, -2]}), 400, "prompt[1]");
    check(json!({"prompt": [1, [2]]}), 422, "prompt[1]");
    check(json!({"prompt": {"prompt_string": "a", "multimodal_data": ["x"]}}), 400, "prompt.multimodal_data");
    check(json!({"prompt": {"prompt_string": "a", "other": 1}}), 400, "prompt.other");
    check(json!({"n_predict": -2}), 400, "n_predict");
    check(json!({"n_predict": 3, "max_tokens": 4}), 400, "n_predict");
    check(json!({"n_cmpl": 3, "n": 2}), 400, "n_cmpl");
    check(json!({"n_probs": 21}), 400, "n_probs");
    check(json!({"id_slot": 0}), 400, "id_slot");
    check(json!({"post_sampling_probs": true}), 400, "post_sampling_probs");
    check(json!({"samplers": ["top_k"]}), 400, "samplers");
    check(json!({"logit_bias": [[1]]}), 422, "logit_bias[0]");
    check(json!({"logit_bias": [[1, true]]}), 422, "logit_bias[0][1]");
    check(json!({"logit_bias": [[-1, 1.0]]}), 400, "logit_bias[0][0]");
    check(json!({"logit_bias": 1}), 422, "logit_bias");
    check(json!({"response_fields": [1]}), 422, "response_fields[0]");
}

#[test]
fn tokens_are_named_by_number_or_text() {
    let biases = |biases: Value| parse(json!({"prompt": "a", "logit_bias": biases})).unwrap().biases;
    assert_eq!(biases(json!([[5, -1.5], ["x", false]])), biases(json!({"5": -1.5, "x": false})));
    assert_ne!(biases(json!([["5", 1.0]])), biases(json!({"5": 1.0})), "a text in a pair is a text");
}

const USAGE: Usage =
    Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2, drafted_tokens: 0, accepted_tokens: 0 };

fn shape(fields: Value) -> LlamaShape {
    let mut body = json!({"prompt": "a", "stop": ["x", "yz"], "seed": 9});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let request = parse(body).unwrap();
    let probabilities = request.probabilities;
    let answers = Answers {
        model: "m".to_owned(),
        settings: GenerationSettings::of(&request.parameters, 9, probabilities, 100),
        prompts: vec!["a".to_owned(); request.prompts.len()],
        choices_per_prompt: request.parameters.choices as usize,
        is_list: request.is_list,
        wants_tokens: request.return_tokens || request.parameters.delivery != Delivery::Whole,
        wants_probabilities: probabilities > 0,
        response_fields: request.response_fields,
    };
    let so_far = vec![Usage { prompt_tokens: 3, ..Usage::default() }; 2];
    LlamaShape::new(answers, &so_far)
}

fn piece(text: &str) -> Piece {
    let alternative = |token| Alternative { token, bytes: text.as_bytes().to_vec(), logprob: -0.5 };
    let token = TokenLogprob { chosen: alternative(7), top: vec![alternative(8)] };
    Piece { text: text.to_owned(), tokens: vec![token], told: 1 }
}

fn whole(fields: Value, reason: FinishReason) -> Value {
    let choice = Choice { pieces: vec![piece("b\n")], reason, usage: USAGE, ..Choice::new() };
    serde_json::from_str(&shape(fields).whole(vec![choice], USAGE)).unwrap()
}

#[test]
fn an_answer_has_the_original_s_shape() {
    let answer = whole(json!({"temperature": 0.7, "n_predict": 2}), FinishReason::StopString(1));
    let said = |name: &str| &answer[name];
    assert_eq!((said("content"), said("stop"), said("tokens")), (&json!("b\n"), &json!(true), &json!([])));
    assert_eq!((said("stop_type"), said("stopping_word")), (&json!("word"), &json!("yz")));
    assert_eq!(
        (said("tokens_predicted"), said("tokens_evaluated"), said("tokens_cached")),
        (&json!(2), &json!(3), &json!(1))
    );
    assert_eq!(
        (said("has_new_line"), said("truncated"), said("prompt")),
        (&json!(true), &json!(false), &json!("a"))
    );
    assert_eq!(answer["generation_settings"]["temperature"], 0.7);
    assert_eq!((&answer["timings"]["prompt_n"], &answer["timings"]["cache_n"]), (&json!(2), &json!(1)));
    assert!(answer.get("completion_probabilities").is_none(), "they were not asked for");
    assert_eq!(whole(json!({}), FinishReason::Stop)["stop_type"], "eos");
    assert_eq!(whole(json!({}), FinishReason::Length)["stop_type"], "limit");
    assert!(whole(json!({"prompt": ["a"]}), FinishReason::Stop).is_array());
}

#[test]
fn tokens_and_probabilities_come_where_they_are_wanted() {
    let answer = whole(json!({"n_probs": 1, "return_tokens": true}), FinishReason::Stop);
    assert_eq!(answer["tokens"], json!([7]));
    let expected = json!([{"id": 7, "token": "b\n", "bytes": [98, 10], "logprob": -0.5, "top_logprobs": [
        {"id": 8, "token": "b\n", "bytes": [98, 10], "logprob": -0.5}]}]);
    assert_eq!(answer["completion_probabilities"], expected);
}

#[test]
fn only_the_fields_that_are_wanted_come() {
    let fields = json!(["content", "generation_settings/seed", "timings/no", "nothing"]);
    let answer = whole(json!({"response_fields": fields}), FinishReason::Stop);
    assert_eq!(answer, json!({"content": "b\n", "generation_settings/seed": 9}));
}

#[test]
fn a_stream_ends_with_the_piece_that_says_stop() {
    let text = |Piece { text, tokens, told }| Event::Text { text, tokens, told };
    let finished = Event::Finished { reason: FinishReason::Length, usage: USAGE };
    let events = [(0, text(piece("b\n"))), (1, text(piece("c"))), (1, finished.clone()), (0, finished)];
    let said = script(shape(json!({"stream": true, "n_cmpl": 2})), 2, &events);
    let piece = json!({"index": 0, "content": "b\n", "tokens": [7], "stop": false, "tokens_predicted": 1,
        "tokens_evaluated": 3});
    assert_eq!(said[0], piece);
    assert_eq!(
        (&said[2]["index"], &said[2]["content"], &said[2]["has_new_line"]),
        (&json!(1), &json!(""), &json!(false))
    );
    assert_eq!(said[2]["generation_settings"]["seed"], 10);
    assert_eq!(
        (&said[3]["index"], &said[3]["stop"], &said[3]["has_new_line"]),
        (&json!(0), &json!(true), &json!(true))
    );
    assert_eq!(said.len(), 4, "nothing comes after them");
}
