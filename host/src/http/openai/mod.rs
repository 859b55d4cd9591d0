//! The OpenAI shapes (`responses` has a table of its own), and those of llama-server (`llama`, `tokens`): what clients write becomes an `engine::message::Request` at once, events become what they read.
//!
//! Every field that a request may have is in this table; any other is refused by name, and so is a value that cannot be
//! honoured. `null` counts as absent.
//!
//! | field | what becomes of it |
//! |---|---|
//! | `model`, `messages`, `prompt` | required |
//! | `max_tokens`, `max_completion_tokens` | from 1; both only if equal; absent: what the context has room for (16 for `/v1/completions`, as the original) |
//! | `temperature`, `top_p`, `min_p`, `presence_penalty`, `frequency_penalty`, `repeat_penalty` = `repetition_penalty` | `sampling::Settings` |
//! | `top_k`, `top_n_sigma` | 0 and -1 are off |
//! | `typical_p`, `xtc_probability`, `xtc_threshold`, `dynatemp_range`, `dynatemp_exponent` | `sampling::Filters` |
//! | `mirostat`, `mirostat_tau`, `mirostat_eta` | `sampling::Mirostat`; filters beside it are refused |
//! | `dry_multiplier`, `dry_base`, `dry_allowed_length`, `dry_penalty_last_n`, `dry_sequence_breakers` | `sampling::Dry` |
//! | `repeat_last_n` | the tokens that `repeat_penalty` looks at, 64 where it is not said; -1: all |
//! | `logit_bias` | token id to -100 … 100; an id beyond the vocabulary is refused |
//! | `seed` | choice `i` is drawn with `seed + i`; absent: random |
//! | `stop` | a string or up to 16, none empty |
//! | `ignore_eos` | end tokens are never sampled |
//! | `n` | 1 to 128, as far as the queue takes so many |
//! | `stream`, `stream_options.include_usage`, `stream_options.continuous_usage_stats` | `stream_options` only with `stream: true` |
//! | `logprobs`, `top_logprobs` | chat: a flag and 0 to 20; completions: a number, 0 to 20 |
//! | `chat_template_kwargs` | variables of the model's template; one that it never names is refused, unless it switches something off |
//! | `reasoning_effort` | the template's variable of that name; refused where it has none |
//! | `echo` | the prompt stands before its answer; with `logprobs` its tokens are scored too |
//! | `best_of` | from `n` to 128, above `n` not in streams: the answers whose tokens are the most probable on average are told |
//! | `suffix` | with the capability `infill`, and where `prompt` is text; not with `echo` |
//! | `tools` | functions; for the model's template, or where it knows none, for the system message; `strict`: arguments are kept to the schema; else a call is kept to its family's form from its mark on, where that is known |
//! | `tool_choice` | `auto`; `none`, with which no tools are offered; `required`, or a function by its name: the answer is kept to calls |
//! | `parallel_tool_calls` | `false`: calls beyond the first are dropped |
//! | `response_format` | `text`, `json_object`, `json_schema`; a schema is enforced also without `strict`; with `tools` the answer is a call or an instance, with a `tool_choice` that must call it is only checked |
//! | `json_schema`, `grammar` | as llama-server has them, a grammar not with `tools`; it is GBNF, or Lark as llguidance has it |
//! | `structured_outputs`, `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` | as vLLM has them; with `tools` only what is JSON |
//! | `priority` | -1000 to 1000, as vLLM has it: smaller goes first |
//! | `deadline_ms` | the answer ends so long after the request came: with `length` where it has begun, else with an error |
//! | `keep_alive` | how long the model stays loaded when nobody uses it any more |
//! | `modalities` | only `["text"]` |
//! | `service_tier` | only `auto` and `default`: there is one |
//! | `store` | only `false`: nothing is kept |
//! | `input` | of embeddings: as `prompt`; up to 2048, none empty, none longer than the model takes |
//! | `encoding_format` | `float`, or `base64` of little-endian 32-bit floats |
//! | `dimensions` | of embeddings: where the model was trained for shorter vectors |
//! | `user`, `metadata`, `safety_identifier`, `prompt_cache_key` | bookkeeping: no effect |

mod answer;
mod calls;
pub(crate) mod chat;
mod chat_shape;
pub(crate) mod completions;
pub(crate) mod embeddings;
#[cfg(fuzzing)]
pub mod fuzzing;
mod generation;
pub(crate) mod known;
pub(crate) mod llama;
mod logprobs;
mod messages;
mod meter;
pub(crate) mod models;
mod params;
mod prompts;
pub(crate) mod responses;
mod sampling;
mod structure;
pub(crate) mod tokens;
mod tools;
mod types;
