//! Which token comes next: a slice of logits in, a token out. Pure numbers: no model, no tokenizer, no clock, no I/O.
//!
//! The stages, in llama.cpp's default order (`common_params_sampling::samplers`), so that settings found for one give
//! the same distribution in the other. docs/sampling.md has the same order with the formulas, the sources and what is
//! different on purpose:
//!
//! 1. penalties (repeat, then frequency and presence), in `penalties.rs`, then DRY, in `dry.rs`
//! 2. logit bias, then the ban of tokens that may not come. llama.cpp adds the bias before the penalties; here it comes
//!    after them, so that a repeat penalty never scales what the caller asked for. Without a repeat penalty it is one
//! 3. temperature 0: the best token, ties to the smaller id, and nothing below applies
//! 4. top-n-sigma, top-k, typical, top-p, min-p, XTC, each over what the one before left and at temperature 1, in
//!    `candidates.rs`
//! 5. temperature, or one that follows from the entropy of what is left, then one random draw, in `draw.rs`
//!
//! Mirostat stands in for 4: it filters at the temperature, by a border that it moves itself.
//!
//! Temperature last is what sets this order apart from Hugging Face's and vLLM's: a high temperature makes the tokens
//! that passed more equal, it lets no further ones in. The mask of what a grammar allows comes before all of it.
//!
//! Nothing here sorts the vocabulary: it is read in blocks (`blocks.rs`), and only blocks whose best logit can matter
//! are read again. Buffers are kept from token to token.

mod blocks;
mod candidates;
pub mod constraint;
mod draw;
mod dry;
mod logprobs;
mod penalties;
mod recommended;
mod sampler;
mod settings;

pub use dry::Breakers;
pub use logprobs::{LogProbs, log_probabilities};
pub use recommended::Recommended;
pub use sampler::{SampleError, Sampler};
pub use settings::{
    Dry, DynamicTemperature, Filters, InvalidSetting, Mirostat, MirostatVersion, Selection, Settings, Xtc,
};
