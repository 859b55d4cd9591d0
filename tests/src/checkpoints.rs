//! Hugging Face checkpoints through the host: the real one that `scripts/checkpoint.sh` makes, and small broken ones.

use std::path::{Path, PathBuf};

use impetus_tests::{House, Server, root, target_folder};
use serde_json::{Value, json};

const CHECKPOINT: &str = "SmolLM2-135M-Instruct";

/// Where `make test` has put the real checkpoint and the same weights as a GGUF.
fn made() -> PathBuf {
    let folder = target_folder().parent().unwrap().join("checkpoints");
    assert!(folder.join(CHECKPOINT).join("config.json").exists(), "no checkpoint: run `make test`");
    folder
}

fn link(house: &House, name: &str) {
    std::os::unix::fs::symlink(made().join(name), house.path("models").join(name)).unwrap();
}

/// A small random checkpoint, to be broken.
fn small(house: &House, name: &str) -> PathBuf {
    fixture(house, "checkpoints/llama", name)
}

fn fixture(house: &House, from: &str, name: &str) -> PathBuf {
    let folder = house.path("models").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(root().join("tests/fixtures").join(from).join(file), folder.join(file)).unwrap();
    }
    folder
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

async fn complete(server: &Server, model: &str, prompt: &str, tokens: u32) -> Value {
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": 1,
    });
    let answer = server.post("/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

#[tokio::test]
async fn a_checkpoint_answers_as_transformers_does() {
    let exact = "[plugin.safetensors.options]\nkernels = \"portable\"\ncache_type = \"f32\"";
    let house = House::with(&["safetensors"]).config(exact);
    link(&house, CHECKPOINT);
    let server = house.serve();
    let cases = std::fs::read(root().join("tests/fixtures/checkpoint_answers.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let prompt = case["prompt"].as_str().unwrap();
        let tokens = server.post("/tokenize", &json!({"content": prompt, "model": CHECKPOINT})).await;
        assert_eq!(tokens.json["tokens"], case["tokens"], "{prompt}");
        let answer = complete(&server, CHECKPOINT, prompt, 24).await;
        assert_eq!(answer["choices"][0]["text"], case["answer"], "{prompt}");
    }
}

/// What generation_config.json recommends holds where a request says nothing, and ends answers.
#[tokio::test]
async fn generation_config_says_how_tokens_are_chosen_and_what_ends_answers() {
    let house = House::with(&["safetensors"]);
    let plain = small(&house, "plain");
    let write = |house: &House, name: &str, config: Value| {
        std::fs::write(small(house, name).join("generation_config.json"), config.to_string()).unwrap();
    };
    write(&house, "greedy", json!({"do_sample": false, "temperature": 0.9}));
    write(&house, "narrow", json!({"do_sample": true, "temperature": 0.5, "top_k": 1, "top_p": 0.75}));
    std::fs::write(plain.parent().unwrap().join("narrow/chat_template.jinja"), "{{ messages[0].content }}")
        .unwrap();
    let server = house.serve();
    let ask = async |model: &str, more: Value| {
        let mut body =
            json!({"model": model, "prompt": "some bytes", "max_tokens": 12, "seed": 3, "ignore_eos": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.post("/v1/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["choices"][0]["text"].clone()
    };
    let best = ask("plain", json!({"temperature": 0})).await;
    assert_ne!(ask("plain", json!({})).await, best, "weights are random: the draw finds other tokens");
    for model in ["greedy", "narrow"] {
        assert_eq!(ask(model, json!({})).await, best, "{model}");
    }
    assert_ne!(ask("greedy", json!({"temperature": 1})).await, best, "the request's own goes before");
    assert_ne!(ask("narrow", json!({"top_k": 0, "top_p": 1, "temperature": 1})).await, best);
    let told = server
        .post("/v1/responses", &json!({"model": "narrow", "input": "hi", "max_output_tokens": 1}))
        .await;
    assert_eq!(
        (&told.json["temperature"], &told.json["top_p"]),
        (&json!(0.5), &json!(0.75)),
        "{}",
        told.text
    );
    let own = json!({"model": "narrow", "input": "hi", "max_output_tokens": 1, "top_p": 0.5});
    assert_eq!(server.post("/v1/responses", &own).await.json["top_p"], 0.5);
    // The first token of the best answer ends it, once the file says so.
    let first = json!({"model": "plain", "prompt": "some bytes", "max_tokens": 1, "temperature": 0, "ignore_eos": true});
    let first = server.post("/v1/completions", &first).await.json["choices"][0]["text"].clone();
    let ids =
        server.post("/tokenize", &json!({"content": first, "add_special": false, "model": "plain"})).await;
    let end = ids.json["tokens"][0].as_u64().unwrap_or_else(|| panic!("{first}: {}", ids.text));
    write(&server.house, "ending", json!({"eos_token_id": [end], "do_sample": false}));
    let body = json!({"model": "ending", "prompt": "some bytes", "max_tokens": 5});
    let answer = server.post("/v1/completions", &body).await;
    assert_eq!(answer.json["choices"][0]["finish_reason"], "stop", "{}", answer.text);
    assert_eq!(answer.json["usage"]["completion_tokens"].as_u64().map(|tokens| tokens <= 1), Some(true));
}

/// A template of its own for chats with tools, as `transformers` takes it.
#[tokio::test]
async fn chats_with_tools_go_by_the_template_for_tools() {
    let house = House::with(&["safetensors"]);
    let folder = small(&house, "named");
    let tools = "tools:{% for tool in tools %}{{ tool.function.name }}{% endfor %}{% if false %}<tool_call>\
                 {% endif %}{{ messages[0].content }}";
    let templates = json!([
        {"name": "default", "template": "plain:{{ messages[0].content }}"}, {"name": "tool_use", "template": tools},
    ]);
    std::fs::write(folder.join("tokenizer_config.json"), json!({"chat_template": templates}).to_string())
        .unwrap();
    let server = house.serve();
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
    let messages = json!([{"role": "user", "content": "hi"}]);
    let mut lengths = Vec::new();
    for tools in [Value::Null, json!([tool])] {
        let body = json!({"model": "named", "messages": messages, "tools": tools, "max_tokens": 1});
        let answer = server.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        lengths.push(answer.json["usage"]["prompt_tokens"].as_u64().unwrap());
    }
    // A token for each byte: `plain:hi` and `tools:lookhi`.
    assert_eq!(lengths[1], lengths[0] + 4, "{lengths:?}");
}

/// Of two models of the same weights one is rounded, by its own options over the plugin's; the gguf plugin takes its
/// models' own as well.
#[tokio::test]
async fn a_models_own_options_hold_for_it_alone() {
    let told = "[plugin.safetensors.options]\nkernels = \"portable\"\ncache_type = \"f32\"\n\
                [model.rounded.options]\nquantize = \"int8\"\n[model.wrong.options]\nquantise = \"int8\"\n\
                [model.short.options]\ncontext_tokens = 96";
    let house = House::with(&["gguf", "safetensors"]).config(told);
    for name in ["whole", "rounded", "again", "wrong"] {
        small(&house, name);
    }
    let gguf = made().join("SmolLM2-135M-Instruct.BF16.gguf");
    for name in ["short.gguf", "usual.gguf"] {
        std::os::unix::fs::symlink(&gguf, house.path("models").join(name)).unwrap();
    }
    let server = house.serve();
    let mut first = Vec::new();
    for name in ["whole", "again", "rounded"] {
        let answer = complete(&server, name, "some bytes", 1).await;
        first.push(answer["choices"][0]["logprobs"]["token_logprobs"][0].as_f64().unwrap());
    }
    let [whole, again, rounded] = first[..] else { unreachable!() };
    assert!(whole == again && whole != rounded && (whole - rounded).abs() < 0.5, "{whole} {again} {rounded}");
    let body = json!({"model": "wrong", "prompt": "x", "max_tokens": 1});
    let answer = server.post("/v1/completions", &body).await;
    assert!(answer.status != 200 && answer.text.contains("unknown field `quantise`"), "{}", answer.text);
    for (name, expected) in [("short", true), ("usual", false)] {
        complete(&server, name, "One", 1).await;
        let processes = server.get("/api/ps").await.json;
        let all = processes["processes"].as_array().unwrap();
        let one = all.iter().find(|process| process["model"] == name).unwrap();
        // Rounded up to what a cache can have.
        assert_eq!(one["context_tokens"].as_u64().unwrap() <= 256, expected, "{name}: {one}");
    }
}

#[tokio::test]
async fn both_plugins_agree_on_the_same_weights() {
    let house = House::with(&["gguf", "safetensors"]);
    link(&house, CHECKPOINT);
    link(&house, "SmolLM2-135M-Instruct.BF16.gguf");
    let server = house.serve();
    for prompt in ["The capital of France is", "One, two, three,", "Water boils at"] {
        let of = |answer: Value| {
            let choice = &answer["choices"][0];
            let first = choice["logprobs"]["token_logprobs"][0].as_f64().unwrap();
            (choice["text"].as_str().unwrap().to_owned(), first)
        };
        let ours = of(complete(&server, CHECKPOINT, prompt, 4).await);
        let theirs = of(complete(&server, "SmolLM2-135M-Instruct.BF16", prompt, 4).await);
        assert_eq!(ours.0, theirs.0, "{prompt}");
        assert!((ours.1 - theirs.1).abs() < 0.05, "{prompt}: {} and {}", ours.1, theirs.1);
    }
}

/// The same with its columns in another order. The real one's weights come from a file of four bits in groups of 32 columns,
/// and rounding them to such groups again would lose next to nothing.
const SHUFFLED: &str = "SmolLM2-135M-Instruct.shuffled";

/// The perplexity of the shuffled checkpoint on the beginning of a text.
fn perplexity(options: &str) -> f64 {
    let house = House::with(&["safetensors"]).config(&format!("[plugin.safetensors.options]\n{options}"));
    link(&house, SHUFFLED);
    let text = std::fs::read_to_string(root().join("tests/fixtures/texts/alice.txt")).unwrap();
    let file = house.path("text.txt");
    std::fs::write(&file, &text[..20_000]).unwrap();
    let output = house.run(&["bench", "perplexity", SHUFFLED, file.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["measured"]["perplexity"].as_f64().unwrap()
}

#[test]
fn rounded_weights_foretell_a_text_almost_as_well() {
    let plain = perplexity("");
    for (option, least, most) in [("int8", 0.99, 1.01), ("int4", 1.005, 1.05)] {
        let rounded = perplexity(&format!("quantize = \"{option}\""));
        // Four bits cost something here: weights that they find again would prove nothing.
        let share = rounded / plain;
        assert!(rounded != plain && (least..most).contains(&share), "{option}: {rounded}, plain {plain}");
    }
}

#[tokio::test]
async fn mlx_checkpoints_are_a_format_of_their_own_and_answer_as_mlx_does() {
    let house = House::with(&["safetensors"]).config("[plugin.safetensors.options]\ncache_type = \"f32\"");
    fixture(&house, "mlx/qwen3_8bit", "eight");
    let server = house.serve();
    let entry = server.get("/v1/models/eight").await.json;
    assert_eq!((&entry["meta"]["format"], &entry["meta"]["quantization"]), (&json!("mlx"), &json!("8-bit")));
    // 2 layers of 64 wide: the embedding, and 6 matrices and 4 norms each.
    assert_eq!(entry["meta"]["parameters"], 258 * 64 + 2 * (64 * (2 * 64 + 2 * 32 + 3 * 128) + 160) + 64);
    let answers = std::fs::read(root().join("tests/fixtures/mlx/answers.json")).unwrap();
    let case = &serde_json::from_slice::<Value>(&answers).unwrap()["cases"]["qwen3_8bit"];
    let body = json!({
        "model": "eight", "prompt": case["prompt"], "max_tokens": 1, "temperature": 0, "logprobs": 1, "ignore_eos": true,
    });
    let answer = server.post("/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let last = case["log_probabilities"].as_array().unwrap().last().unwrap();
    let best = case["greedy"][0].as_u64().unwrap() as usize;
    let found = answer.json["choices"][0]["logprobs"]["token_logprobs"][0].as_f64().unwrap();
    let expected = last[best].as_f64().unwrap();
    assert!((found - expected).abs() < 0.3, "{found} for {expected}");
}

#[tokio::test]
async fn a_checkpoint_quantised_on_load_answers_nearly_the_same() {
    let plain = House::with(&["safetensors"]);
    link(&plain, CHECKPOINT);
    let plain = plain.serve();
    let first = |answer: Value| {
        let choice = &answer["choices"][0];
        let first = choice["logprobs"]["token_logprobs"][0].as_f64().unwrap();
        (choice["text"].as_str().unwrap().to_owned(), first)
    };
    for kind in ["int8", "int4"] {
        let option = format!("[plugin.safetensors.options]\nquantize = \"{kind}\"");
        let house = House::with(&["safetensors"]).config(&option);
        link(&house, CHECKPOINT);
        let server = house.serve();
        let entry = server.get(&format!("/v1/models/{CHECKPOINT}")).await.json;
        assert_eq!(entry["meta"]["quantization"], format!("BF16 to {kind}"));
        for prompt in ["The capital of France is", "One, two, three,"] {
            let expected = first(complete(&plain, CHECKPOINT, prompt, 3).await);
            let found = first(complete(&server, CHECKPOINT, prompt, 3).await);
            assert_eq!(found.0, expected.0, "{kind}: {prompt}");
            assert!((found.1 - expected.1).abs() < 0.2, "{kind}: {prompt}: {found:?} for {expected:?}");
        }
    }
}

#[test]
fn perplexity_tells_a_text_from_its_words_in_disorder() {
    let house = House::with(&["safetensors"]);
    link(&house, CHECKPOINT);
    let text = std::fs::read_to_string(root().join("LICENSE-APACHE")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    std::fs::write(house.path("text"), words.join(" ")).unwrap();
    let mut disorder: Vec<(usize, &str)> =
        words.into_iter().enumerate().map(|(i, word)| (i * 7919 % 1009, word)).collect();
    disorder.sort_unstable();
    let disorder: Vec<&str> = disorder.into_iter().map(|(_, word)| word).collect();
    std::fs::write(house.path("disorder"), disorder.join(" ")).unwrap();
    let measure = |file: &str| {
        let output = house.run(&["bench", "perplexity", CHECKPOINT, file, "--window", "128", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["measured"].clone()
    };
    let (order, disorder) = (measure("text"), measure("disorder"));
    let perplexity = |found: &Value| found["perplexity"].as_f64().unwrap();
    assert!(
        perplexity(&order) > 1.0 && perplexity(&order) * 3.0 < perplexity(&disorder),
        "{order} {disorder}"
    );
    // The figure can be traced to its windows.
    let windows: Vec<f64> =
        order["windows"].as_array().unwrap().iter().map(|cost| cost.as_f64().unwrap()).collect();
    let mean = windows.iter().sum::<f64>() / windows.len() as f64;
    assert!((mean.exp() - perplexity(&order)).abs() < 1e-6 * perplexity(&order));
    assert_eq!(order["tokens"], windows.len() * 64);
    let short = house.run(&["bench", "perplexity", CHECKPOINT, "text", "--window", "100000"]);
    assert!(!short.status.success());
    assert!(String::from_utf8_lossy(&short.stderr).contains("give a longer text"));
}

#[tokio::test]
async fn what_the_host_gives_works_for_checkpoints_too() {
    let house = House::with(&["safetensors"]);
    link(&house, CHECKPOINT);
    let server = house.serve();
    let schema = json!({
        "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
        "additionalProperties": false,
    });
    let mut body = json!({
        "model": CHECKPOINT,
        "messages": [{"role": "user", "content": "Which city is the capital of France? Answer in JSON."}],
        "max_tokens": 40,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    });
    let answer = server.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let city: Value = serde_json::from_str(&answer.chat_text()).unwrap();
    assert!(city["city"] == "Paris" || city["city"] == "Rome", "{city}");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let (events, done) = server.post("/v1/chat/completions", &body).await.events();
    assert!(done);
    let usage = &events.last().unwrap()["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached, usage["prompt_tokens"].as_u64().unwrap() - 1, "the same prompt again: {usage}");
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let house = House::with(&["safetensors"]);
    edit(&small(&house, "rwkv").join("config.json"), |config| config["model_type"] = "rwkv".into());
    edit(&small(&house, "twist").join("config.json"), |config| config["rope_twist"] = 2.into());
    edit(&small(&house, "awq").join("config.json"), |config| {
        config["quantization_config"] = json!({"quant_method": "awq"});
    });
    edit(&fixture(&house, "mlx/llama_3bit", "untold").join("config.json"), |config| {
        config["quantization"] = Value::Null;
        config["quantization_config"] = Value::Null;
    });
    std::fs::remove_file(small(&house, "mute").join("tokenizer.json")).unwrap();
    let cut = small(&house, "cut").join("model.safetensors");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 10]).unwrap();
    let alone = small(&house, "alone");
    std::fs::remove_file(alone.join("config.json")).unwrap();
    // Only seen when the tensors are looked at.
    edit(&small(&house, "deep").join("config.json"), |config| config["num_hidden_layers"] = 4.into());
    small(&house, "good");
    let server = house.serve();
    let models = server.get("/api/models").await.json;
    for (id, expected) in [
        ("rwkv", "architecture `rwkv` is not supported by safetensors 1.0.0; supported are llama"),
        ("twist", "the field `rope_twist` is not understood"),
        ("awq", "the weights are quantised, `quantization_config` says `awq`"),
        ("untold", "config.json has no `quantization`"),
        ("mute", "tokenizer.json is missing"),
        ("cut", "model.safetensors: tensor `"),
        ("alone/model", "it is weights alone"),
    ] {
        let entry = models["models"]
            .as_array()
            .or(models["data"].as_array())
            .or(models.as_array())
            .unwrap()
            .iter()
            .find(|entry| entry["id"] == id);
        let entry = entry.unwrap_or_else(|| panic!("{id} is not listed: {models}"));
        assert_eq!(entry["state"], "unavailable", "{id}");
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains(expected), "{id}: {reason}");
    }
    let body = json!({"model": "deep", "prompt": "x", "max_tokens": 1});
    let answer = server.post("/v1/completions", &body).await;
    assert!(
        answer.text.contains("tensor `model.layers.3.") && answer.text.contains("is missing"),
        "{}",
        answer.text
    );
    let answer = complete(&server, "good", "some bytes", 8).await;
    assert_eq!(answer["usage"]["prompt_tokens"], 11, "a token for each byte, and the first");
}
