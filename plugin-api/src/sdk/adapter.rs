//! Stands between the ABI traits and an author's own: guards every call, checks what crosses.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use abi_stable::sabi_trait::{TD_CanDowncast, TD_Opaque};
use abi_stable::std_types::{ROption, RResult, RSlice, RStr, RString, RVec};

use super::guard::{Poison, guard};
use super::{Context, Model};
use crate::{
    AbiContext, AbiContext_TO, AbiModel, AbiModel_TO, Batch, Capabilities, ContextBox, ContextLimits,
    ErrorCode, Extension, ModelBox, PluginError, PosRange, Position, SeqId, Token, TokenizeOptions,
};

/// Gives a model to the host.
pub(crate) fn model_box<M: Model>(model: M) -> Result<ModelBox, PluginError> {
    let vocab_size = model.vocab_size();
    if vocab_size == 0 {
        return Err(PluginError::corrupt_model("the model has an empty vocabulary"));
    }
    let adapter =
        ModelAdapter { model: ManuallyDrop::new(Arc::new(model)), vocab_size, poison: Poison::default() };
    // An extension's function finds the author's model again in what the host hands it.
    Ok(AbiModel_TO::from_value(adapter, TD_CanDowncast))
}

pub(super) struct ModelAdapter<M: Model> {
    model: ManuallyDrop<Arc<M>>,
    vocab_size: u32,
    poison: Poison,
}

impl<M: Model> ModelAdapter<M> {
    /// Calls an extension's function on the author's model, as guarded as every other call on it.
    pub(super) fn guarded<T>(
        &self,
        what: &str,
        call: impl FnOnce(Arc<M>) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        self.poison.guard(what, || call(Arc::clone(&self.model)))
    }
}

impl<M: Model> AbiModel for ModelAdapter<M> {
    fn metadata_json(&self) -> RResult<RString, PluginError> {
        self.poison.guard("metadata_json", || Ok(self.model.metadata_json().into())).into()
    }

    fn capabilities(&self) -> Capabilities {
        self.poison.guard("capabilities", || Ok(self.model.capabilities())).unwrap_or_default()
    }

    fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    fn tokenize(&self, text: RStr<'_>, options: TokenizeOptions) -> RResult<RVec<Token>, PluginError> {
        self.poison.guard("tokenize", || Ok(self.model.tokenize(text.as_str(), options)?.into())).into()
    }

    fn token_bytes(&self, token: Token) -> RResult<RVec<u8>, PluginError> {
        self.poison
            .guard("token_bytes", || {
                check_token(token, self.vocab_size)?;
                Ok(self.model.token_bytes(token)?.into())
            })
            .into()
    }

    fn is_end_of_generation(&self, token: Token) -> bool {
        let answer = || Ok(token.0 < self.vocab_size && self.model.is_end_of_generation(token));
        self.poison.guard("is_end_of_generation", answer).unwrap_or(false)
    }

    fn new_context(&self, params_json: RStr<'_>) -> RResult<ContextBox, PluginError> {
        let make = || {
            let model = Arc::clone(&self.model);
            let context = Arc::clone(&model).new_context(params_json.as_str())?;
            context_box(model, context, self.vocab_size)
        };
        self.poison.guard("new_context", make).into()
    }

    fn extension(&self, name: RStr<'_>) -> ROption<Extension> {
        self.poison.guard("extension", || Ok(self.model.extension(name.as_str()))).unwrap_or(None).into()
    }
}

impl<M: Model> Drop for ModelAdapter<M> {
    fn drop(&mut self) {
        // SAFETY: `model` is not used again: this is `drop`.
        let model = unsafe { ManuallyDrop::take(&mut self.model) };
        drop_guarded("dropping a model", model);
    }
}

fn context_box<M: Model>(
    model: Arc<M>,
    context: M::Context,
    vocab_size: u32,
) -> Result<ContextBox, PluginError> {
    let limits = context.limits();
    let ContextLimits { total_tokens, sequence_tokens, max_sequences, batch_tokens } = limits;
    if [total_tokens, sequence_tokens, max_sequences, batch_tokens].contains(&0) {
        return Err(PluginError::internal(format!("the new context has a limit of zero: {limits:?}")));
    }
    let adapter: ContextAdapter<M> = ContextAdapter {
        context: ManuallyDrop::new(context),
        model: ManuallyDrop::new(model),
        limits,
        vocab_size,
        wants_logits: Vec::with_capacity(batch_tokens as usize),
        poison: Poison::default(),
    };
    Ok(AbiContext_TO::from_value(adapter, TD_Opaque))
}

struct ContextAdapter<M: Model> {
    context: ManuallyDrop<M::Context>,
    /// Keeps the weights alive as long as the context, whatever the host drops first.
    model: ManuallyDrop<Arc<M>>,
    limits: ContextLimits,
    vocab_size: u32,
    /// The last successful batch's wishes: which rows may be asked for.
    wants_logits: Vec<bool>,
    poison: Poison,
}

impl<M: Model> ContextAdapter<M> {
    fn check_batch(&self, batch: &Batch<'_>) -> Result<(), PluginError> {
        let rows = batch.tokens.len();
        let others = [batch.positions.len(), batch.sequences.len(), batch.wants_logits.len()];
        if others.iter().any(|&len| len != rows) {
            return Err(PluginError::invalid_argument(format!(
                "a batch's slices must have one length; found {rows} tokens and {others:?} positions, sequences, wishes"
            )));
        }
        if rows == 0 || rows > self.limits.batch_tokens as usize {
            return Err(PluginError::invalid_argument(format!(
                "a batch holds 1 to {} rows; found {rows}",
                self.limits.batch_tokens
            )));
        }
        if let Some(sequence) = batch.sequences.iter().find(|s| s.0 >= self.limits.max_sequences) {
            return Err(self.unknown_sequence(*sequence));
        }
        batch.tokens.iter().try_for_each(|&token| check_token(token, self.vocab_size))
    }

    fn check_sequence(&self, sequence: SeqId) -> Result<(), PluginError> {
        if sequence.0 < self.limits.max_sequences { Ok(()) } else { Err(self.unknown_sequence(sequence)) }
    }

    fn unknown_sequence(&self, sequence: SeqId) -> PluginError {
        let slots = self.limits.max_sequences;
        PluginError::invalid_argument(format!(
            "sequence {} is beyond the context's {slots} slots",
            sequence.0
        ))
    }

    fn checked_logits(&self, row: usize) -> Result<&[f32], PluginError> {
        if !self.wants_logits.get(row).copied().unwrap_or(false) {
            return Err(PluginError::invalid_argument(format!(
                "row {row} has no logits: the last batch had {} rows and did not want them there",
                self.wants_logits.len()
            )));
        }
        let logits = self.context.logits(row)?;
        if logits.len() != self.vocab_size as usize {
            return Err(PluginError::internal(format!(
                "row {row} has {} logits where the vocabulary has {} tokens",
                logits.len(),
                self.vocab_size
            )));
        }
        Ok(logits)
    }
}

impl<M: Model> AbiContext for ContextAdapter<M> {
    fn limits(&self) -> ContextLimits {
        self.limits
    }

    fn decode(&mut self, batch: Batch<'_>) -> RResult<(), PluginError> {
        if let Err(error) = self.check_batch(&batch) {
            return RResult::RErr(error);
        }
        self.wants_logits.clear();
        let result = self.poison.guard("decode", || self.context.decode(batch));
        if result.is_ok() {
            self.wants_logits.extend_from_slice(batch.wants_logits.as_slice());
        }
        result.into()
    }

    fn logits(&self, row: u32) -> RResult<RSlice<'_, f32>, PluginError> {
        self.poison.guard("logits", || Ok(self.checked_logits(row as usize)?.into())).into()
    }

    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> RResult<(), PluginError> {
        let checked = self.check_sequence(sequence);
        self.poison.guard("seq_rm", || checked.and_then(|()| self.context.seq_rm(sequence, range))).into()
    }

    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> RResult<(), PluginError> {
        let checked = self.check_sequence(from).and_then(|()| self.check_sequence(to));
        self.poison.guard("seq_cp", || checked.and_then(|()| self.context.seq_cp(from, to, range))).into()
    }

    fn seq_pos_max(&self, sequence: SeqId) -> ROption<Position> {
        let answer = || self.check_sequence(sequence).map(|()| self.context.seq_pos_max(sequence));
        self.poison.guard("seq_pos_max", answer).unwrap_or(None).into()
    }

    fn memory_stats_json(&self) -> RString {
        let answer = || Ok(RString::from(self.context.memory_stats_json()));
        self.poison.guard("memory_stats_json", answer).unwrap_or_else(|_| "{}".into())
    }

    fn clear(&mut self) -> RResult<(), PluginError> {
        self.wants_logits.clear();
        self.poison.guard("clear", || self.context.clear()).into()
    }
}

impl<M: Model> Drop for ContextAdapter<M> {
    fn drop(&mut self) {
        // SAFETY: neither field is used again: this is `drop`. The context goes before the model it stands on.
        let (context, model) =
            unsafe { (ManuallyDrop::take(&mut self.context), ManuallyDrop::take(&mut self.model)) };
        drop_guarded("dropping a context", context);
        drop_guarded("dropping a model", model);
    }
}

pub(super) fn check_token(token: Token, vocab_size: u32) -> Result<(), PluginError> {
    if token.0 < vocab_size {
        return Ok(());
    }
    let message = format!("token {} is beyond the vocabulary of {vocab_size}", token.0);
    Err(PluginError::new(ErrorCode::INVALID_ARGUMENT, message))
}

/// Drops the author's value; a panic while doing so has nobody to be told to and is only logged by the panic hook.
pub(super) fn drop_guarded<T>(what: &str, value: T) {
    let _ = guard(what, || {
        drop(value);
        Ok(())
    });
}
