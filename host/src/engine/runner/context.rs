//! Where the loop has to do with its context: made with room for what is kept, edited as the scheduler decides, made anew
//! when it is lost.

use std::sync::Arc;

use super::Runner;
use crate::engine::Settings;
use crate::engine::scheduler::{Edit, Limits, Reuse};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Capabilities, Context, Model};

impl Runner {
    /// A context that panicked answers nothing any more; the model behind it still may.
    pub(super) fn rebuild_context(&mut self) -> Result<()> {
        self.context = new_context(&self.model, self.settings).map_err(|error| {
            Error::new(Kind::EngineCrashed, format!("the plugin crashed and gives no new context: {error}"))
        })?;
        self.scheduler.take_edits();
        self.scheduler.resynchronise(|_| 0);
        Ok(())
    }

    /// Does to the context what the scheduler has decided. `false` when it had to be made anew: what was planned for the
    /// old one is void.
    pub(super) fn edit_context(&mut self) -> Result<bool> {
        for edit in self.scheduler.take_edits() {
            let done = match edit {
                Edit::Copy { from, to, tokens } => self.context.copy(from, to, tokens as u32),
                Edit::Cut { slot, tokens } => self.context.cut(slot, tokens as u32),
            };
            if let Err(error) = done {
                tracing::error!(code = error.code.name(), "{edit:?} failed: {error}");
                self.rebuild_context()?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What of an ended sequence a context of this model can use again.
fn reuse(model: &Model, settings: Settings) -> Reuse {
    let editable = Capabilities::PARTIAL_SEQ_RM.with(Capabilities::SEQ_CP);
    if settings.kept_sequences == 0 {
        Reuse::Nothing
    } else if model.capabilities().has(editable) {
        Reuse::Beginnings
    } else {
        Reuse::WholeStates
    }
}

/// Slots beyond those that run are asked for where they cost nothing: a state that cannot be shared has memory of its own
/// for each.
pub(super) fn new_context(model: &Arc<Model>, settings: Settings) -> Result<Context> {
    let kept = if reuse(model, settings) == Reuse::Beginnings { settings.kept_sequences } else { 0 };
    model.new_context(settings.max_sequences.saturating_add(kept))
}

/// What a context really has room for, under what the host was told.
pub(super) fn limits(model: &Model, context: &Context, settings: Settings) -> Limits {
    let found = context.limits();
    let running = found.max_sequences.min(settings.max_sequences);
    Limits {
        total_tokens: found.total_tokens as usize,
        sequence_tokens: found.sequence_tokens as usize,
        running: running as usize,
        slots: found.max_sequences as usize,
        // Every running sequence must be able to take its one token in each step.
        step_tokens: settings.step_tokens.max(running).min(found.batch_tokens) as usize,
        reuse: reuse(model, settings),
    }
}
