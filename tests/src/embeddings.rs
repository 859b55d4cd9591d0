//! `/v1/embeddings` end to end: the fake plugin's vectors, which tell every mix-up; small and real encoders.

use std::time::Duration;

use futures_util::future::join_all;
use impetus_tests::{House, Server, root, target_folder};
use serde_json::{Value, json};

const ROUTE: &str = "/v1/embeddings";
const MINILM: &str = "all-MiniLM-L6-v2";

fn fake(script: &str) -> Server {
    House::with(&["fake"]).model("m.fake", format!("embeddings = 8\n{script}")).serve()
}

fn body(input: impl Into<Value>) -> Value {
    json!({"model": "m", "input": input.into()})
}

/// What the fake plugin makes of bytes.
fn vector_of(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; 8];
    for (place, byte) in text.bytes().enumerate() {
        vector[usize::from(byte) % 8] += (place + 1) as f32 + f32::from(byte) / 256.0;
    }
    vector
}

fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let numbers = |object: &Value| -> Vec<f32> {
        let embedding = object["embedding"].as_array().unwrap();
        embedding.iter().map(|number| number.as_f64().unwrap() as f32).collect()
    };
    data.iter().map(numbers).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

#[tokio::test]
async fn every_shape_of_input_gives_its_vectors_in_order() {
    let server = fake("generates_nothing");
    let one = server.post(ROUTE, &body("ab")).await.json;
    assert_eq!((&one["object"], &one["model"]), (&json!("list"), &json!("m")));
    assert_eq!((&one["data"][0]["object"], &one["data"][0]["index"]), (&json!("embedding"), &json!(0)));
    assert_eq!(one["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    assert_eq!(vectors(&one), [vector_of("ab")]);
    let texts: Vec<String> = (0..100).map(|n| format!("text number {n}")).collect();
    let many = server.post(ROUTE, &body(texts.clone())).await.json;
    assert_eq!(vectors(&many), texts.iter().map(|text| vector_of(text)).collect::<Vec<_>>());
    assert_eq!(many["data"][99]["index"], 99);
    let tokens: u64 = texts.iter().map(|text| text.len() as u64).sum();
    assert_eq!(many["usage"]["prompt_tokens"], tokens);
    assert_eq!(vectors(&server.post(ROUTE, &body(vec![97, 98])).await.json), [vector_of("ab")]);
    let lists = server.post(ROUTE, &body(json!([[97, 98], [99]]))).await.json;
    assert_eq!(vectors(&lists), [vector_of("ab"), vector_of("c")]);
    let encoded = json!({"model": "m", "input": "ab", "encoding_format": "base64", "user": "u"});
    let encoded = server.post(ROUTE, &encoded).await.json;
    // 3.758 is at the place of `b`: 98 % 8.
    let bytes: Vec<u8> = vector_of("ab").iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(encoded["data"][0]["embedding"].as_str().unwrap(), base64(&bytes));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |part: &[u8]| {
        let number =
            part.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte)) << (8 * (3 - part.len()));
        let digit = |i: usize| {
            if i <= part.len() { DIGITS[(number >> (18 - 6 * i)) as usize % 64] as char } else { '=' }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_by_name() {
    let server = fake("generates_nothing\nsequence_tokens = 10");
    for (change, status, param, code) in [
        (json!({"input": "eleven byte"}), 400, "input", json!("context_length_exceeded")),
        (json!({"input": ["a", "eleven byte"]}), 400, "input[1]", json!("context_length_exceeded")),
        (json!({"input": [97, 300]}), 400, "input", Value::Null),
        (json!({"input": [[97], [300]]}), 400, "input[1]", Value::Null),
        (json!({"input": ""}), 400, "input", Value::Null),
        (json!({"input": 7}), 422, "input", Value::Null),
        (json!({"dimensions": 4}), 400, "dimensions", json!("unsupported_parameter")),
        (json!({"dimensions": 9}), 400, "dimensions", json!("unsupported_parameter")),
        (json!({"encoding_format": "hex"}), 400, "encoding_format", Value::Null),
        (json!({"input_type": "query"}), 400, "input_type", json!("unsupported_parameter")),
        (json!({"model": "none"}), 404, "model", json!("model_not_found")),
    ] {
        let mut asked = body("a");
        change.as_object().unwrap().iter().for_each(|(name, value)| asked[name] = value.clone());
        let answer = server.post(ROUTE, &asked).await;
        assert_eq!(answer.status, status, "{change}: {}", answer.text);
        let error = &answer.json["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &code), "{change}: {}", answer.text);
        assert_eq!(error["type"], "invalid_request_error");
    }
    let long = server.post(ROUTE, &body("eleven byte")).await;
    assert!(long.text.contains("at most 10 tokens") && long.text.contains("has 11"), "{}", long.text);
    assert_eq!(server.post(ROUTE, &body("ten bytes!")).await.status, 200);
    let full = json!({"model": "m", "input": "a", "dimensions": 8});
    assert_eq!(server.post(ROUTE, &full).await.status, 200, "the model's own length is no change");
}

#[tokio::test]
async fn shorter_vectors_are_given_where_the_model_allows_them() {
    for (allowed, wanted, fits) in
        [("true", 1, true), ("true", 7, true), ("true", 9, false), ("[2, 4]", 4, true), ("[2, 4]", 3, false)]
    {
        let server = fake(&format!("matryoshka = {allowed}"));
        let answer =
            server.post(ROUTE, &json!({"model": "m", "input": "abcdefgh", "dimensions": wanted})).await;
        assert_eq!(answer.status, if fits { 200 } else { 400 }, "{allowed}, {wanted}: {}", answer.text);
        if fits {
            assert_eq!(vectors(&answer.json), [vector_of("abcdefgh")[..wanted as usize].to_vec()]);
        } else {
            assert_eq!(answer.json["error"]["param"], "dimensions");
        }
    }
}

#[tokio::test]
async fn a_model_does_what_it_can_and_names_what_it_cannot() {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2});
    let only = fake("generates_nothing");
    assert_eq!(
        only.get("/v1/models/m").await.json["meta"]["capabilities"],
        json!(["embeddings"]),
        "before loading"
    );
    assert_eq!(only.post(ROUTE, &body("a")).await.status, 200);
    assert_eq!(only.get("/v1/models/m").await.json["meta"]["capabilities"], json!(["embeddings"]));
    for (route, request) in [
        ("/v1/chat/completions", chat.clone()),
        ("/v1/completions", json!({"model": "m", "prompt": "hello"})),
        ("/v1/responses", json!({"model": "m", "input": "hello"})),
    ] {
        let answer = only.post(route, &request).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["param"]),
            (400, &json!("model")),
            "{}",
            answer.text
        );
        assert!(answer.text.contains("`generate`") && answer.text.contains("embeddings"), "{}", answer.text);
    }
    let tokens = only.post("/tokenize", &json!({"model": "m", "content": "a"})).await;
    assert_eq!(tokens.json["tokens"], json!([97]));

    let both = fake("");
    assert_eq!(both.post("/v1/chat/completions", &chat).await.status, 200);
    assert_eq!(vectors(&both.post(ROUTE, &body("ab")).await.json), [vector_of("ab")]);
    let capabilities = both.get("/v1/models/m").await.json["meta"]["capabilities"].clone();
    assert!(
        ["generate", "embeddings"].iter().all(|name| capabilities.to_string().contains(name)),
        "{capabilities}"
    );

    let neither = House::with(&["fake"]).model("m.fake", "").serve();
    let answer = neither.post(ROUTE, &body("a")).await;
    assert_eq!((answer.status, &answer.json["error"]["param"]), (400, &json!("model")), "{}", answer.text);
    assert!(answer.text.contains("`embeddings`"), "{}", answer.text);
    let nothing = House::with(&["fake"]).model("m.fake", "generates_nothing").serve();
    let answer = nothing.post(ROUTE, &body("a")).await;
    assert_eq!(
        (answer.status, &answer.json["error"]["code"]),
        (400, &json!("model_load_failed")),
        "{}",
        answer.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_batched_together_and_each_gets_its_own() {
    // The first number of each vector is how many sequences were embedded with it.
    let server = fake("generates_nothing\ntell_company\nstall_ms = 50");
    let bodies: Vec<Value> = (0..12).map(|n| body(format!("{n} in company"))).collect();
    let answers = join_all(bodies.iter().map(|body| server.post(ROUTE, body))).await;
    let mut most = 0.0f32;
    for (n, answer) in answers.iter().enumerate() {
        let found = vectors(&answer.json).remove(0);
        assert_eq!(found[1..], vector_of(&format!("{n} in company"))[1..]);
        most = most.max(found[0]);
    }
    assert!(most > 1.0, "each was embedded alone");
    // A batch stays within the budget of tokens, and within what the plugin takes.
    let config = "[engine]\nstep_tokens = 32";
    let house = House::with(&["fake"]).config(config);
    let server =
        house.model("m.fake", "embeddings = 8\ngenerates_nothing\ntell_company\nbatch_sequences = 3").serve();
    let company = |answer: &Value| vectors(answer).iter().map(|vector| vector[0]).collect::<Vec<_>>();
    let short = server.post(ROUTE, &body(vec!["a"; 5])).await.json;
    assert_eq!(company(&short), [3.0, 3.0, 3.0, 2.0, 2.0]);
    let long = server.post(ROUTE, &body(vec!["sixteen bytes it"; 3])).await.json;
    assert_eq!(company(&long), [2.0, 2.0, 1.0]);
    let beyond = server.post(ROUTE, &body("x".repeat(100))).await.json;
    assert_eq!(company(&beyond), [1.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_has_an_end_and_a_client_that_leaves_stops_its_work() {
    let config = "[engine]\nmax_sequences = 1\nqueue = 1\nstep_tokens = 1";
    let house = House::with(&["fake"]).config(config);
    let server = house.model("m.fake", "embeddings = 8\ngenerates_nothing\nstall_ms = 20").serve();
    assert_eq!(server.post(ROUTE, &body("a")).await.status, 200);
    // Each of 2048 texts would take a batch of its own: 40 seconds.
    let long = body(vec!["ab"; 2048]);
    let leaving = tokio::time::timeout(Duration::from_millis(300), server.post(ROUTE, &long)).await;
    assert!(leaving.is_err());
    let answers = join_all((0..8).map(|_| async { server.post(ROUTE, &body(vec!["ab"; 4])).await })).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(200) + count(429), 8);
    assert!(count(200) >= 1 && count(429) >= 1, "{} answers, {} refusals", count(200), count(429));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.json["error"]["code"], "queue_full");
    let next = tokio::time::timeout(Duration::from_secs(10), server.post(ROUTE, &body("a"))).await;
    assert_eq!(next.unwrap().status, 200, "the long list was not given up");
}

#[tokio::test]
async fn a_plugin_that_fails_or_panics_while_embedding_costs_its_requests_alone() {
    for (script, words) in [
        ("panic_at = 1", "told to panic"),
        ("fail_at = 1", "told to fail"),
        ("short_vectors", "7 numbers for 1 vectors of 8"),
        ("no_numbers", "NaN"),
    ] {
        for generates in ["generates_nothing", ""] {
            let server = fake(&format!("{script}\n{generates}"));
            let failed = server.post(ROUTE, &body("a")).await;
            assert_eq!(
                (failed.status, &failed.json["error"]["code"]),
                (503, &json!("engine_crashed")),
                "{}",
                failed.text
            );
            assert!(failed.text.contains(words), "{}", failed.text);
            let next = server.post(ROUTE, &body("a")).await;
            // A new embedder counts its calls anew, and panics again.
            let again = if script == "fail_at = 1" { 200 } else { 503 };
            assert_eq!(next.status, again, "{script}: {}", next.text);
            assert_eq!(server.get("/health").await.status, 200);
        }
    }
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(root().join("tests/fixtures/minilm.json")).unwrap()).unwrap()
}

/// The real encoder, as `scripts/minilm.sh` fetches it.
fn with_minilm(house: &House, names: &[&str]) {
    let folder = target_folder().parent().unwrap().join("checkpoints");
    for name in names {
        assert!(folder.join(name).exists(), "{name} is missing: run `make test`");
        std::os::unix::fs::symlink(folder.join(name), house.path("models").join(name)).unwrap();
    }
}

#[tokio::test]
async fn the_real_encoder_makes_the_vectors_of_sentence_transformers() {
    let house = House::with(&["safetensors"]);
    with_minilm(&house, &[MINILM]);
    let server = house.serve();
    let golden = golden();
    let texts = golden["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 10);
    for (text, tokens) in texts.iter().zip(golden["tokens"].as_array().unwrap()) {
        let asked = json!({"model": MINILM, "content": text, "add_special": true, "parse_special": false});
        assert_eq!(server.post("/tokenize", &asked).await.json["tokens"], *tokens, "{text}");
    }
    let expected = vectors(&json!({"data": golden["vectors"].as_array().unwrap().iter()
        .map(|vector| json!({"embedding": vector})).collect::<Vec<_>>()}));
    let answer = server.post(ROUTE, &json!({"model": MINILM, "input": texts})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let together = vectors(&answer.json);
    for (at, (found, expected)) in together.iter().zip(&expected).enumerate() {
        let cosine = cosine(found, expected);
        assert!(cosine >= 0.9999, "text {at}: {cosine}");
        let alone =
            vectors(&server.post(ROUTE, &json!({"model": MINILM, "input": texts[at]})).await.json).remove(0);
        let difference = alone.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference <= 2e-6, "text {at} alone: {difference}");
    }
    let meta = server.get(&format!("/v1/models/{MINILM}")).await.json["meta"].clone();
    assert_eq!((&meta["architecture"], &meta["context_length"]), (&json!("bert"), &json!(256)));
    let long = server.post(ROUTE, &json!({"model": MINILM, "input": "word ".repeat(255)})).await;
    assert_eq!(
        (long.status, &long.json["error"]["code"]),
        (400, &json!("context_length_exceeded")),
        "{}",
        long.text
    );
    assert!(long.text.contains("256") && long.text.contains("257"), "{}", long.text);
}

#[tokio::test]
async fn both_plugins_make_the_same_vectors_of_the_same_weights() {
    let house = House::with(&["gguf", "safetensors"]);
    let file = format!("{MINILM}.F32.gguf");
    with_minilm(&house, &[MINILM, &file]);
    let server = house.serve();
    let texts = golden()["texts"].clone();
    let of = async |model: &str| {
        let answer = server.post(ROUTE, &json!({"model": model, "input": texts})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        vectors(&answer.json)
    };
    let (ours, theirs) = (of(MINILM).await, of(&format!("{MINILM}.F32")).await);
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let cosine = cosine(ours, theirs);
        assert!(cosine >= 0.999, "text {at}: {cosine}");
    }
    // Together and alone, and beyond what the model takes.
    let gguf = format!("{MINILM}.F32");
    let alone = vectors(&server.post(ROUTE, &json!({"model": gguf, "input": texts[0]})).await.json).remove(0);
    assert!(cosine(&alone, &theirs[0]) > 0.99999);
    let meta = server.get(&format!("/v1/models/{gguf}")).await.json["meta"].clone();
    assert_eq!(meta["capabilities"], json!(["embeddings"]));
    let long = server.post(ROUTE, &json!({"model": gguf, "input": "word ".repeat(600)})).await;
    assert_eq!(
        (long.status, &long.json["error"]["code"]),
        (400, &json!("context_length_exceeded")),
        "{}",
        long.text
    );
    let completion = server.post("/v1/completions", &json!({"model": gguf, "prompt": "a"})).await;
    assert_eq!(completion.status, 400, "{}", completion.text);
}
