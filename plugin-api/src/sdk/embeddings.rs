//! Embeddings for authors: two safe traits, and the adapter that stands between them and the ABI.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RStr, RString, RVec};

use super::Model;
use super::adapter::{ModelAdapter, check_token, drop_guarded};
use super::guard::{Poison, guard};
use crate::{
    AbiEmbedder, AbiEmbedder_TO, EmbedderBox, EmbeddingBatch, EmbeddingLimits, EmbeddingsTable, Extension,
    ModelBox, PluginError, Token,
};

/// A model that turns token sequences into vectors. Its [`Model::extension`] answers [`embeddings`] to the name
/// [`EMBEDDINGS`](crate::EMBEDDINGS); a model that does not always can answers `None` where it cannot.
///
/// ```
/// use std::sync::Arc;
/// use impetus_plugin_api::{sdk::*, *};
/// # struct Nothing;
/// # impl Context for Nothing {
/// #     fn limits(&self) -> ContextLimits { unreachable!() }
/// #     fn decode(&mut self, _: Batch<'_>) -> Result<(), PluginError> { unreachable!() }
/// #     fn logits(&self, _: usize) -> Result<&[f32], PluginError> { unreachable!() }
/// #     fn seq_rm(&mut self, _: SeqId, _: PosRange) -> Result<(), PluginError> { unreachable!() }
/// #     fn seq_cp(&mut self, _: SeqId, _: SeqId, _: PosRange) -> Result<(), PluginError> { unreachable!() }
/// #     fn seq_pos_max(&self, _: SeqId) -> Option<Position> { unreachable!() }
/// #     fn clear(&mut self) -> Result<(), PluginError> { unreachable!() }
/// # }
///
/// /// How often each of four letters stands in a text.
/// struct Letters;
///
/// impl Model for Letters {
///     type Context = Nothing;
///     fn extension(&self, name: &str) -> Option<Extension> {
///         (name == EMBEDDINGS).then(embeddings::<Self>)
///     }
///     // It generates nothing: no capability, and no context.
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::default()
///     }
///     fn new_context(self: Arc<Self>, _: &str) -> Result<Nothing, PluginError> {
///         Err(PluginError::unsupported("it only counts letters"))
///     }
///     // …
/// #   fn metadata_json(&self) -> String { "{}".to_owned() }
/// #   fn vocab_size(&self) -> u32 { 4 }
/// #   fn tokenize(&self, _: &str, _: TokenizeOptions) -> Result<Vec<Token>, PluginError> { Ok(Vec::new()) }
/// #   fn token_bytes(&self, _: Token) -> Result<Vec<u8>, PluginError> { Ok(Vec::new()) }
/// #   fn is_end_of_generation(&self, _: Token) -> bool { false }
/// }
///
/// impl Embedding for Letters {
///     type Embedder = Counter;
///     fn new_embedder(self: Arc<Self>, _params_json: &str) -> Result<Counter, PluginError> {
///         Ok(Counter)
///     }
/// }
///
/// struct Counter;
///
/// impl Embedder for Counter {
///     fn limits(&self) -> EmbeddingLimits {
///         EmbeddingLimits { dimensions: 4, sequence_tokens: 512, batch_tokens: 4096, batch_sequences: 64 }
///     }
///     fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError> {
///         let count = |tokens: &[Token], id| tokens.iter().filter(|token| token.0 == id).count() as f32;
///         Ok(sequences.iter().flat_map(|tokens| (0..4).map(move |id| count(tokens, id))).collect())
///     }
/// }
/// ```
pub trait Embedding: Model {
    /// The working state.
    type Embedder: Embedder;

    /// Makes an embedder. `params_json` is a JSON object of wishes, every key optional: `batch_tokens`,
    /// `batch_sequences`. What comes true is in [`Embedder::limits`].
    ///
    /// # Errors
    /// [`OUT_OF_MEMORY`](crate::ErrorCode::OUT_OF_MEMORY) with the figures, or
    /// [`INVALID_ARGUMENT`](crate::ErrorCode::INVALID_ARGUMENT).
    fn new_embedder(self: Arc<Self>, params_json: &str) -> Result<Self::Embedder, PluginError>;
}

/// The working state of a model that embeds: moved between threads, used by one at a time.
pub trait Embedder: Send + 'static {
    /// The bounds, constant for an embedder's life.
    fn limits(&self) -> EmbeddingLimits;

    /// A JSON object that says how vectors are made; every key is optional. The host uses `pooling` (text for people,
    /// such as `mean`, `cls`, `last`, `max`), `normalized` (whether vectors have length 1) and `matryoshka`: `true`
    /// where a vector's beginning of any length is a vector of its own, or a list of the lengths of which that is so.
    /// `{}` unless overridden.
    fn metadata_json(&self) -> String {
        "{}".to_owned()
    }

    /// One vector for each sequence, one behind the other: `[sequences][dimensions]`. A sequence's vector does not
    /// depend on the others but for its last bits. The adapter has checked that there is at least one sequence, that
    /// none is empty, that lengths and their sum are within `limits()`, and that tokens are in range. The tokens are
    /// all that the model is to see: the caller has added special ones.
    ///
    /// # Errors
    /// Whatever fails; nothing of a failed batch is used.
    fn embed(&mut self, sequences: &[&[Token]]) -> Result<Vec<f32>, PluginError>;
}

/// What [`Model::extension`] answers to the name [`EMBEDDINGS`](crate::EMBEDDINGS).
pub fn embeddings<M: Embedding>() -> Extension {
    Extension::new(const { &EmbeddingsTable { new_embedder: new_embedder::<M> } })
}

extern "C" fn new_embedder<M: Embedding>(
    model: &ModelBox,
    params_json: RStr<'_>,
) -> RResult<EmbedderBox, PluginError> {
    let make = || {
        let adapter = model.obj.downcast_as::<ModelAdapter<M>>().map_err(|_| {
            PluginError::invalid_argument("this model is of another plugin than the table it was given to")
        })?;
        adapter.guarded("new_embedder", |model| {
            let embedder = Arc::clone(&model).new_embedder(params_json.as_str())?;
            embedder_box::<M>(model, embedder)
        })
    };
    guard("new_embedder", make).into()
}

fn embedder_box<M: Embedding>(model: Arc<M>, embedder: M::Embedder) -> Result<EmbedderBox, PluginError> {
    let limits = embedder.limits();
    let EmbeddingLimits { dimensions, sequence_tokens, batch_tokens, batch_sequences } = limits;
    if [dimensions, sequence_tokens, batch_sequences].contains(&0) || batch_tokens < sequence_tokens {
        return Err(PluginError::internal(format!("the new embedder has limits of no use: {limits:?}")));
    }
    let adapter: EmbedderAdapter<M> = EmbedderAdapter {
        embedder: ManuallyDrop::new(embedder),
        vocab_size: model.vocab_size(),
        model: ManuallyDrop::new(model),
        limits,
        poison: Poison::default(),
    };
    Ok(AbiEmbedder_TO::from_value(adapter, TD_Opaque))
}

struct EmbedderAdapter<M: Embedding> {
    embedder: ManuallyDrop<M::Embedder>,
    /// Keeps the weights alive as long as the embedder, whatever the host drops first.
    model: ManuallyDrop<Arc<M>>,
    limits: EmbeddingLimits,
    vocab_size: u32,
    poison: Poison,
}

impl<M: Embedding> EmbedderAdapter<M> {
    /// The batch's sequences, checked.
    fn sequences<'a>(&self, batch: &EmbeddingBatch<'a>) -> Result<Vec<&'a [Token]>, PluginError> {
        let EmbeddingLimits { sequence_tokens, batch_tokens, batch_sequences, .. } = self.limits;
        let (mut tokens, lengths) = (batch.tokens.as_slice(), batch.lengths.as_slice());
        let told: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        if told != tokens.len() as u64 || told > batch_tokens.into() {
            return Err(PluginError::invalid_argument(format!(
                "a batch's lengths add up to its tokens, at most {batch_tokens}; found {told} for {} tokens",
                tokens.len()
            )));
        }
        if lengths.is_empty() || lengths.len() > batch_sequences as usize {
            return Err(PluginError::invalid_argument(format!(
                "a batch holds 1 to {batch_sequences} sequences; found {}",
                lengths.len()
            )));
        }
        if let Some(length) = lengths.iter().find(|length| !(1..=sequence_tokens).contains(*length)) {
            return Err(PluginError::invalid_argument(format!(
                "a sequence has 1 to {sequence_tokens} tokens; found {length}"
            )));
        }
        tokens.iter().try_for_each(|&token| check_token(token, self.vocab_size))?;
        let cut = |&length: &u32| {
            let (sequence, rest) = tokens.split_at(length as usize);
            tokens = rest;
            sequence
        };
        Ok(lengths.iter().map(cut).collect())
    }
}

fn checked_vectors(
    embedder: &mut impl Embedder,
    sequences: &[&[Token]],
    dimensions: u32,
) -> Result<Vec<f32>, PluginError> {
    let vectors = embedder.embed(sequences)?;
    if vectors.len() == sequences.len() * dimensions as usize {
        return Ok(vectors);
    }
    Err(PluginError::internal(format!(
        "the embedder gave {} numbers for {} vectors of {dimensions}",
        vectors.len(),
        sequences.len()
    )))
}

impl<M: Embedding> AbiEmbedder for EmbedderAdapter<M> {
    fn limits(&self) -> EmbeddingLimits {
        self.limits
    }

    fn metadata_json(&self) -> RResult<RString, PluginError> {
        self.poison.guard("metadata_json", || Ok(self.embedder.metadata_json().into())).into()
    }

    fn embed(&mut self, batch: EmbeddingBatch<'_>) -> RResult<RVec<f32>, PluginError> {
        let sequences = match self.sequences(&batch) {
            Ok(sequences) => sequences,
            Err(error) => return RResult::RErr(error),
        };
        let (embedder, dimensions) = (&mut *self.embedder, self.limits.dimensions);
        let embed = || Ok(checked_vectors(embedder, &sequences, dimensions)?.into());
        self.poison.guard("embed", embed).into()
    }
}

impl<M: Embedding> Drop for EmbedderAdapter<M> {
    fn drop(&mut self) {
        // SAFETY: neither field is used again: this is `drop`. The embedder goes before the model it stands on.
        let (embedder, model) =
            unsafe { (ManuallyDrop::take(&mut self.embedder), ManuallyDrop::take(&mut self.model)) };
        drop_guarded("dropping an embedder", embedder);
        drop_guarded("dropping a model", model);
    }
}
