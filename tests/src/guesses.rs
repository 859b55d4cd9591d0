//! Guesses of a lone answer's next tokens: the answer is what it would be without.

use std::os::unix::fs::symlink;

use impetus_tests::{House, SMOLLM2, Server, target_folder};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

const DRAFTED: &str = "impetus_spec_decode_num_draft_tokens_total";
const ACCEPTED: &str = "impetus_spec_decode_num_accepted_tokens_total";

fn chat(model: &str, content: &str, max_tokens: u32) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "temperature": 0})
}

/// What `/metrics` counts under this name.
async fn counted(server: &Server, model: &str, name: &str) -> u64 {
    let text = server.get("/metrics").await.text;
    let start = format!("{name}{{model=\"{model}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Answers that repeat themselves, and one that does not, are the same with guesses and without; also where nothing of ended
/// sequences is kept.
#[tokio::test]
async fn guesses_change_nothing_but_the_number_of_steps() {
    let repeats = "one two three, four; one two three, five; one two four, one two three";
    for (say, comes_again) in [(format!("say = {repeats}"), true), (String::new(), false)] {
        let script = format!("stall_ms = 2\n{say}");
        let server = |engine: &str| House::with(&["fake"]).model("m.fake", &script).config(engine).serve();
        let mut texts = Vec::new();
        for (engine, guesses) in [
            ("[engine]\nspeculate = false", false),
            ("[engine]\nspeculate = true", comes_again),
            ("[engine]\nspeculate = true\nkept_sequences = 0", comes_again),
        ] {
            let server = server(engine);
            for seed in [1, 2] {
                let mut body = chat("m", "say", 240);
                (body["seed"], body["temperature"]) = (seed.into(), seed.into());
                let answer = server.post(CHAT, &body).await;
                assert_eq!(answer.json["usage"]["completion_tokens"], 240, "{}", answer.text);
                texts.push(answer.chat_text());
            }
            let drafted = counted(&server, "m", DRAFTED).await;
            let accepted = counted(&server, "m", ACCEPTED).await;
            assert!(accepted <= drafted, "{accepted} of {drafted}");
            if comes_again {
                assert_eq!(accepted > 100, guesses, "{engine}: {accepted} of {drafted}");
            }
            if engine.contains("false") {
                assert_eq!(drafted, 0, "{engine}");
            }
        }
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    }
}

/// A state that cannot be cut is never guessed on: what did not come could not be taken back.
#[tokio::test]
async fn a_state_that_cannot_be_cut_is_not_guessed_on() {
    let script = "recurrent\nstall_ms = 2\nsay = one two three, four; one two three, five";
    let server = House::with(&["fake"]).model("m.fake", script).serve();
    let answer = server.post(CHAT, &chat("m", "say", 300)).await;
    assert_eq!(answer.json["usage"]["completion_tokens"], 300, "{}", answer.text);
    assert_eq!(counted(&server, "m", DRAFTED).await, 0);
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog. The dog was sleeping in the garden behind the old house. \
     Every morning the farmer walked along the river and counted his sheep. In the evening the children came home from \
     school and played in the garden until dinner was ready.";

/// A token, its log probability, and that of the next best.
type Told = (String, f64, f64);

/// Greedy answers that repeat much of their prompts; how many of their tokens were guessed.
async fn repeated(server: &Server, model: &str) -> (Vec<Vec<Told>>, u64) {
    let mut answers = Vec::new();
    for ask in
        ["Repeat this text word by word:", "Explain this text, quoting each sentence:", "Say this twice:"]
    {
        let mut body = chat(model, &format!("{ask}\n\n{TEXT}"), 160);
        (body["logprobs"], body["top_logprobs"]) = (true.into(), 2.into());
        let answer = server.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let logprob = |of: &Value| of["logprob"].as_f64().unwrap();
        let tokens = answer.json["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let told = |token: &Value| {
            let text = token["token"].as_str().unwrap().to_owned();
            (text, logprob(token), logprob(&token["top_logprobs"][1]))
        };
        answers.push(tokens.iter().map(told).collect());
    }
    (answers, counted(server, model, ACCEPTED).await)
}

fn speculating(plugin: &str, speculate: bool) -> House {
    House::with(&[plugin]).config(&format!("[engine]\nspeculate = {speculate}"))
}

/// A few rows are computed alike alone and together: guesses do not change the last bit.
#[tokio::test]
async fn a_checkpoint_says_to_the_last_bit_what_it_would_say_without() {
    const CHECKPOINT: &str = "SmolLM2-135M-Instruct";
    let server = |speculate| {
        let house = speculating("safetensors", speculate);
        let checkpoint = target_folder().parent().unwrap().join("checkpoints").join(CHECKPOINT);
        assert!(checkpoint.exists(), "no checkpoint: run `make test`");
        symlink(checkpoint, house.path("models").join(CHECKPOINT)).unwrap();
        house.serve()
    };
    let (with, guessed) = repeated(&server(true), CHECKPOINT).await;
    let (without, none) = repeated(&server(false), CHECKPOINT).await;
    // How many depends on measured times, but one draft is always tried.
    assert!(guessed > 0 && none == 0, "{guessed} and {none} tokens were guessed");
    assert_eq!(with, without);
}

/// llama.cpp computes one row and several with different kernels: greedy answers may part where the model holds two
/// tokens for about equally good, by as much as the gguf plugin's documentation says.
#[tokio::test]
async fn a_gguf_parts_only_between_tokens_that_are_about_equal() {
    const TOLERANCE: f64 = 0.7;
    let (with, _) = repeated(&speculating("gguf", true).smollm2().serve(), SMOLLM2).await;
    let (without, none) = repeated(&speculating("gguf", false).smollm2().serve(), SMOLLM2).await;
    assert_eq!(none, 0);
    for (with, without) in with.iter().zip(&without) {
        let parting = with.iter().zip(without).find(|(one, other)| one.0 != other.0);
        for (token, logprob, next) in parting.into_iter().flat_map(|(one, other)| [one, other]) {
            assert!(logprob - next < TOLERANCE, "{token} at {logprob}, before {next}");
        }
        assert!(parting.is_some() || with.len() == without.len());
    }
}
