//! Every field that a request to a model may have: where, what it is, and what a model must be able to do for it. The one
//! source for the check of capabilities, for `/openapi.json` and for docs/capabilities.md.
//!
//! Reading the fields is the business of `params`, `messages`, `structure` and the endpoints; a test sends each field in a
//! wrong shape and expects it to be known there.

use serde_json::{Value, json};

use crate::error::Error;
use crate::http::error::Result;
use crate::models::Loaded;
use crate::models::capability::{CHAT, EMBEDDINGS, GENERATE, INFILL};

/// A request that a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
}

use Endpoint::{Chat, Completions, Embeddings, Responses};

/// A field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) on: &'static [Endpoint],
    /// The capability that the model must have.
    pub(crate) needs: &'static str,
    /// What it does, for people.
    pub(crate) text: &'static str,
    /// What it is, as a JSON schema.
    pub(crate) schema: fn() -> Value,
}

const ALL: &[Endpoint] = &[Chat, Completions, Responses];
const CHATS: &[Endpoint] = &[Chat, Responses];
const TEXTS: &[Endpoint] = &[Chat, Completions];

const fn field(
    name: &'static str,
    on: &'static [Endpoint],
    needs: &'static str,
    text: &'static str,
    schema: fn() -> Value,
) -> Known {
    Known { name, on, needs, text, schema }
}

fn text() -> Value {
    json!({"type": "string"})
}
fn flag() -> Value {
    json!({"type": "boolean"})
}
fn number() -> Value {
    json!({"type": "number"})
}
fn integer() -> Value {
    json!({"type": "integer"})
}
fn count() -> Value {
    json!({"type": "integer", "minimum": 1})
}
fn object() -> Value {
    json!({"type": "object"})
}
fn any() -> Value {
    json!({})
}
fn penalty() -> Value {
    json!({"type": "number", "minimum": -2, "maximum": 2})
}
fn objects() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}
fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}
fn messages() -> Value {
    json!({"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/RequestMessage"}})
}
fn prompt() -> Value {
    json!({"anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}},
    ]})
}
fn one_or_many() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": 16, "items": {"type": "string"}}]})
}
fn biases() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}})
}
fn choice() -> Value {
    json!({"anyOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})
}
fn input() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
}
fn top() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 20})
}
fn keep_alive() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "number"}]})
}
fn stream_options_of_a_response() -> Value {
    json!({"type": "object", "properties": {"include_obfuscation": {"const": false}}})
}
fn stream_options() -> Value {
    json!({"type": "object", "properties": {"include_usage": {"type": "boolean"}, "continuous_usage_stats": {"type": "boolean"}}})
}
fn format() -> Value {
    json!({"type": "object", "required": ["type"], "properties": {
        "type": {"type": "string", "enum": ["text", "json_object", "json_schema"]},
        "json_schema": {"type": "object"},
    }})
}

/// All of them, in the order in which they are told.
pub(crate) const KNOWN: &[Known] = &[
    field("model", ALL, GENERATE, "the model's id, as GET /v1/models has it", text),
    field("messages", &[Chat], CHAT, "the chat so far", messages),
    field(
        "prompt",
        &[Completions],
        GENERATE,
        "what to go on from: a text, texts, tokens, lists of tokens",
        prompt,
    ),
    field("input", &[Responses], CHAT, "a text, or messages, function calls and their outputs", input),
    field("input", &[Embeddings], EMBEDDINGS, "as prompt; up to 2048, none empty", prompt),
    field(
        "encoding_format",
        &[Embeddings],
        EMBEDDINGS,
        "float, or base64 of little-endian 32-bit floats",
        text,
    ),
    field("dimensions", &[Embeddings], EMBEDDINGS, "where the model was trained for shorter vectors", count),
    field("instructions", &[Responses], GENERATE, "the system message", text),
    field(
        "previous_response_id",
        &[Responses],
        GENERATE,
        "a kept response from whose end the chat goes on",
        text,
    ),
    field("max_tokens", TEXTS, GENERATE, "tokens to generate at most", count),
    field("max_completion_tokens", TEXTS, GENERATE, "another name of max_tokens", count),
    field(
        "max_output_tokens",
        &[Responses],
        GENERATE,
        "tokens to generate at most, reasoning included",
        count,
    ),
    field("temperature", ALL, "temperature", "0 to 5; 0 takes the best token; 1 if absent", number),
    field("top_k", ALL, "top_k", "from the best k tokens; 0 and -1 are off", integer),
    field("top_p", ALL, "top_p", "from the fewest tokens of this probability together", number),
    field("min_p", ALL, "min_p", "from tokens of at least this share of the best one's probability", number),
    field("repeat_penalty", ALL, "penalties", "over 0, 1 is off", number),
    field("repetition_penalty", ALL, "penalties", "another name of repeat_penalty", number),
    field("presence_penalty", ALL, "penalties", "taken once from tokens that the answer has", penalty),
    field(
        "frequency_penalty",
        ALL,
        "penalties",
        "taken from tokens for each time that the answer has them",
        penalty,
    ),
    field("repeat_last_n", ALL, "penalties", "tokens that repeat_penalty looks at; -1: all", integer),
    field(
        "top_n_sigma",
        ALL,
        "top_n_sigma",
        "from tokens within n deviations of the best; 0, -1: off",
        number,
    ),
    field("typical_p", ALL, "typical_p", "locally typical sampling; 1 is off", number),
    field("xtc_probability", ALL, "xtc", "how often the most probable tokens are left out; 0 is off", number),
    field("xtc_threshold", ALL, "xtc", "from which probability on", number),
    field("dynatemp_range", ALL, "dynatemp", "temperature by entropy, up and down by this; 0 is off", number),
    field("dynatemp_exponent", ALL, "dynatemp", "how entropy bends it", number),
    field("mirostat", ALL, "mirostat", "0, 1 or 2: keeps the surprise of the answer level", integer),
    field("mirostat_tau", ALL, "mirostat", "the surprise to keep to, in bits", number),
    field("mirostat_eta", ALL, "mirostat", "how fast it is learnt", number),
    field("dry_multiplier", ALL, "dry", "against repeated sequences; 0 is off", number),
    field("dry_base", ALL, "dry", "how the penalty grows with the repetition's length", number),
    field("dry_allowed_length", ALL, "dry", "repetitions up to this length are free", integer),
    field("dry_penalty_last_n", ALL, "dry", "tokens that are looked at; -1: all", integer),
    field("dry_sequence_breakers", ALL, "dry", "texts that no repetition goes across", texts),
    field(
        "keep_alive",
        ALL,
        GENERATE,
        "how long the model stays loaded without use: seconds, or 90s, 5m, 1h; negative: for ever",
        keep_alive,
    ),
    field("priority", ALL, GENERATE, "-1000 to 1000: smaller goes first", integer),
    field("deadline_ms", ALL, GENERATE, "the answer ends so long after the request came", count),
    field("logit_bias", ALL, "logit_bias", "token id to what is added to its logit", biases),
    field("seed", ALL, "seed", "the same answer for the same seed; answer i of n has seed + i", integer),
    field("stop", ALL, "stop", "the answer ends before the first of these", one_or_many),
    field("ignore_eos", ALL, "stop", "end tokens are never sampled", flag),
    field("n", TEXTS, "choices", "answers to each prompt, 1 to 128", count),
    field(
        "best_of",
        &[Completions],
        "choices",
        "answers computed, of which the n most probable are told; above n not in streams",
        count,
    ),
    field("stream", ALL, GENERATE, "the answer comes piece by piece, as server-sent events", flag),
    field(
        "stream_options",
        TEXTS,
        GENERATE,
        "with stream; include_usage: the last event tells what it took; continuous_usage_stats: so does each before",
        stream_options,
    ),
    field(
        "stream_options",
        &[Responses],
        GENERATE,
        "with stream; include_obfuscation: only false; the last event tells what it took by itself",
        stream_options_of_a_response,
    ),
    field("logprobs", &[Chat], "logprobs", "tell each token's log probability", flag),
    field("logprobs", &[Completions], "logprobs", "tell these with so many alternatives", top),
    field("top_logprobs", CHATS, "logprobs", "alternatives told for each token", top),
    field("include", &[Responses], "logprobs", "only message.output_text.logprobs", texts),
    field(
        "echo",
        &[Completions],
        GENERATE,
        "the prompt before the answer; with logprobs those of its tokens",
        flag,
    ),
    field(
        "suffix",
        &[Completions],
        INFILL,
        "what follows the answer, which fills the gap; one text as prompt",
        text,
    ),
    field(
        "response_format",
        TEXTS,
        "json",
        "text, json_object or json_schema; enforced while sampling",
        format,
    ),
    field("text", &[Responses], "json", "format: text, json_object or json_schema", object),
    field(
        "json_schema",
        ALL,
        "json",
        "a schema that the answer is an instance of, as llama-server has it",
        object,
    ),
    field("grammar", ALL, "grammar", "GBNF or Lark that the answer follows, as llama-server has it", text),
    field("structured_outputs", ALL, "json", "json, regex, choice or grammar, as vLLM has them", object),
    field("guided_json", ALL, "json", "as older vLLM has it", any),
    field("guided_regex", ALL, "regex", "as older vLLM has it", text),
    field("guided_choice", ALL, "regex", "as older vLLM has it", texts),
    field("guided_grammar", ALL, "grammar", "as older vLLM has it", text),
    field(
        "tools",
        CHATS,
        CHAT,
        "functions that the model may call; a template without tools is told in the system message",
        objects,
    ),
    field("tool_choice", CHATS, CHAT, "none, auto, required, or a function by its name", choice),
    field("parallel_tool_calls", CHATS, CHAT, "false: calls beyond the first are dropped", flag),
    field("chat_template_kwargs", CHATS, CHAT, "variables of the model's chat template", object),
    field("reasoning_effort", &[Chat], CHAT, "the template's variable of that name", text),
    field("reasoning", &[Responses], CHAT, "effort: the template's variable reasoning_effort", object),
    field("modalities", &[Chat], GENERATE, "only [\"text\"]", texts),
    field("service_tier", ALL, GENERATE, "only auto and default", text),
    field("store", TEXTS, GENERATE, "only false: nothing is kept", flag),
    field("store", &[Responses], GENERATE, "false: the response is not kept", flag),
    field("background", &[Responses], GENERATE, "only false", flag),
    field("truncation", &[Responses], GENERATE, "only disabled", text),
    field("user", ALL, GENERATE, "bookkeeping: no effect", text),
    field("safety_identifier", ALL, GENERATE, "bookkeeping: no effect", text),
    field("prompt_cache_key", ALL, GENERATE, "bookkeeping: no effect", text),
    field("metadata", ALL, GENERATE, "bookkeeping; a response tells it back", object),
];

/// Refuses what the request to this endpoint asks for and the model cannot do.
///
/// # Errors
/// The first field of `asked` that needs a capability which the model has not.
pub(super) fn check(model: &Loaded, endpoint: Endpoint, asked: &[String]) -> Result<(), Error> {
    let lacking = |name: &String| {
        let known = KNOWN.iter().find(|known| known.name == *name && known.on.contains(&endpoint))?;
        (!model.can(known.needs)).then_some(known)
    };
    let Some(Known { name, needs, .. }) = asked.iter().find_map(lacking) else { return Ok(()) };
    if *needs == CHAT && model.can(GENERATE) {
        // Whether it has no template or a broken one.
        model.chat_template(false).map_err(|error| Error { param: Some((*name).to_owned()), ..error })?;
    }
    let message = format!(
        "`{name}` needs the capability `{needs}`, which model `{}` does not have; it has: {}",
        model.id,
        model.capabilities.join(", ")
    );
    Err(Error::unsupported(*name, message))
}

#[cfg(test)]
mod tests {
    use super::super::chat::ChatRequest;
    use super::super::completions::CompletionRequest;
    use super::super::embeddings::EmbeddingRequest;
    use super::*;
    use crate::http::fields::{Fields, looked_for};
    use crate::models::capability::MEANINGS;

    #[test]
    fn every_need_is_a_capability() {
        for Known { name, needs, .. } in KNOWN {
            assert!(MEANINGS.iter().any(|(known, _)| known == needs), "`{name}` needs an unknown `{needs}`");
        }
    }

    /// The table of the fields in `openai/mod.rs` and this one are of the same.
    #[test]
    fn what_the_module_s_table_names_is_known() {
        let table = include_str!("mod.rs").lines().filter(|line| line.starts_with("//! | `"));
        for row in table {
            let names = row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
            for name in names.map(|name| name.split('.').next().unwrap_or_default()) {
                assert!(KNOWN.iter().any(|known| known.name == name), "`{name}` is not in KNOWN");
            }
        }
    }

    /// A request to each endpoint that has all that is required.
    const ENDPOINTS: [Endpoint; 4] = [Chat, Completions, Responses, Embeddings];

    fn parse(endpoint: Endpoint, fields: Value) -> Result<()> {
        let body = match endpoint {
            Chat => json!({"model": "m", "messages": [{"role": "user", "content": "c"}]}),
            Completions => json!({"model": "m", "prompt": "p"}),
            Responses | Embeddings => json!({"model": "m", "input": "i"}),
        };
        let (Value::Object(mut body), Value::Object(fields)) = (body, fields) else { panic!("two objects") };
        body.extend(fields);
        let fields = Fields::of_body(body);
        match endpoint {
            Chat => ChatRequest::parse(fields).map(drop),
            Completions => CompletionRequest::parse(fields).map(drop),
            Responses => super::super::responses::parse_alone(fields),
            Embeddings => EmbeddingRequest::parse(fields).map(drop),
        }
    }

    /// What `/openapi.json` says that an endpoint takes, as `openapi.rs` has it.
    fn told(endpoint: Endpoint) -> Vec<&'static str> {
        let everywhere = |known: &Known| endpoint == Embeddings && ["model", "user"].contains(&known.name);
        let here = KNOWN.iter().filter(|known| known.on.contains(&endpoint) || everywhere(known));
        here.map(|known| known.name).collect()
    }

    /// A field in a shape that nothing has is refused by its own name, not as one that nobody knows.
    #[test]
    fn every_field_that_is_told_is_read() {
        for endpoint in ENDPOINTS {
            parse(endpoint, json!({})).unwrap_or_else(|_| panic!("{endpoint:?} without anything more"));
            for name in told(endpoint) {
                // No field of a request is a list that holds a list with nothing in it and the truth.
                let refused = parse(endpoint, json!({name: [[], true]}));
                // A schema may be any JSON until it is looked into.
                if refused.is_ok() {
                    continue;
                }
                let told = super::super::params::tests::told(refused);
                assert!(told.1.starts_with(name), "{endpoint:?} {name}: {told:?}");
                assert!(!told.2.contains("no field"), "{endpoint:?} {name}: {told:?}");
            }
        }
    }

    /// Whatever a parser looks for is told, unless it is looked for to be refused with a word on what to send instead.
    #[test]
    fn every_field_that_is_read_is_told() {
        let refused_by_name = [
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "response_format",
            "reasoning_effort",
            "logprobs",
            "n",
        ];
        for endpoint in ENDPOINTS {
            looked_for::take();
            parse(endpoint, json!({})).unwrap_or_else(|_| panic!("{endpoint:?} without anything more"));
            let told = told(endpoint);
            for name in looked_for::take() {
                let is_refused = endpoint == Responses && refused_by_name.contains(&name.as_str());
                assert!(
                    told.contains(&name.as_str()) || is_refused,
                    "{endpoint:?} reads `{name}`, KNOWN lacks it"
                );
                if is_refused {
                    assert!(parse(endpoint, json!({name.as_str(): 1})).is_err(), "{name}");
                }
            }
        }
    }
}
