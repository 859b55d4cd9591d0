//! Turns a panic into an error: one that reached the border would end the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{ErrorCode, PluginError};

/// Runs `call`; a panic in it is the error [`ErrorCode::PANICKED`] that names `what`.
pub(crate) fn guard<T>(what: &str, call: impl FnOnce() -> Result<T, PluginError>) -> Result<T, PluginError> {
    // Unwind safety: whoever owns the object behind `call` poisons it, so that no broken state is seen again.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let error = PluginError::new(
            ErrorCode::PANICKED,
            format!("the plugin panicked in {what}: {}", text(&*payload)),
        );
        // A payload of another type could panic once more while it is dropped.
        std::mem::forget(payload);
        Err(error)
    })
}

fn text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a payload that is no text"
    }
}

/// Remembers that an object panicked: it answers nothing from then on.
#[derive(Default)]
pub(crate) struct Poison(AtomicBool);

impl Poison {
    /// Like [`guard`], for a call on the object that this belongs to.
    pub(crate) fn guard<T>(
        &self,
        what: &str,
        call: impl FnOnce() -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        if self.0.load(Ordering::Acquire) {
            return Err(PluginError::new(
                ErrorCode::POISONED,
                format!(
                    "{what} refused: this object panicked earlier and its state cannot be trusted; load it anew"
                ),
            ));
        }
        let result = guard(what, call);
        if matches!(&result, Err(error) if error.code == ErrorCode::PANICKED) {
            self.0.store(true, Ordering::Release);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_poisons_its_object() {
        let poison = Poison::default();
        let first = poison.guard("decode", || -> Result<(), _> { panic!("row {}", 7) }).unwrap_err();
        assert_eq!(first.code, ErrorCode::PANICKED);
        assert_eq!(first.message.as_str(), "the plugin panicked in decode: row 7");
        let second = poison.guard("logits", || Ok(1)).unwrap_err();
        assert_eq!(second.code, ErrorCode::POISONED);
        assert!(second.message.starts_with("logits refused"));
    }

    #[test]
    fn an_error_does_not_poison() {
        let poison = Poison::default();
        let full = PluginError::new(ErrorCode::CACHE_FULL, "full");
        assert_eq!(poison.guard("decode", || Err::<(), _>(full.clone())).unwrap_err(), full);
        assert_eq!(poison.guard("decode", || Ok(3)), Ok(3));
    }
}
