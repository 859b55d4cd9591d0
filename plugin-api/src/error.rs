//! What a plugin answers when it cannot do what was asked. Knows nothing of HTTP or of the host's own errors.

use std::fmt;

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RString};

/// Why a call failed: a closed meaning, an open number, so that a newer plugin's code is still a code.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// A fault of the plugin that no caller can mend.
    pub const INTERNAL: ErrorCode = ErrorCode(1);
    /// The caller sent something the contract or the options do not allow.
    pub const INVALID_ARGUMENT: ErrorCode = ErrorCode(2);
    /// The thing is understood, but this plugin cannot do it (an architecture, a tensor type, an operation).
    pub const UNSUPPORTED: ErrorCode = ErrorCode(3);
    /// A file that was named is not there.
    pub const NOT_FOUND: ErrorCode = ErrorCode(4);
    /// The model file contradicts itself or its format.
    pub const CORRUPT_MODEL: ErrorCode = ErrorCode(5);
    /// Memory could not be had.
    pub const OUT_OF_MEMORY: ErrorCode = ErrorCode(6);
    /// No cells for the batch. The context's state is what it was before the call.
    pub const CACHE_FULL: ErrorCode = ErrorCode(7);
    /// The host asked to stop, through the progress callback.
    pub const CANCELLED: ErrorCode = ErrorCode(8);
    /// The plugin panicked; the SDK caught it.
    pub const PANICKED: ErrorCode = ErrorCode(9);
    /// The object panicked in an earlier call and answers nothing any more.
    pub const POISONED: ErrorCode = ErrorCode(10);

    /// The constant's name in small letters, or `unknown` for a number that this version has no name for.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::INTERNAL => "internal",
            ErrorCode::INVALID_ARGUMENT => "invalid_argument",
            ErrorCode::UNSUPPORTED => "unsupported",
            ErrorCode::NOT_FOUND => "not_found",
            ErrorCode::CORRUPT_MODEL => "corrupt_model",
            ErrorCode::OUT_OF_MEMORY => "out_of_memory",
            ErrorCode::CACHE_FULL => "cache_full",
            ErrorCode::CANCELLED => "cancelled",
            ErrorCode::PANICKED => "panicked",
            ErrorCode::POISONED => "poisoned",
            _ => "unknown",
        }
    }
}

/// The error of every call across the border.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct PluginError {
    /// What kind of failure it is.
    pub code: ErrorCode,
    /// One line: what failed on which thing, what was expected and found, what to do.
    pub message: RString,
    /// More for a log: a library's own lines, a backtrace. May be many lines.
    pub detail: ROption<RString>,
}

impl PluginError {
    /// An error without detail.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message: String = message.into();
        PluginError { code, message: message.into(), detail: ROption::RNone }
    }

    /// The same error with detail for the log.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        self.detail = ROption::RSome(detail.into());
        self
    }

    /// [`ErrorCode::INTERNAL`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INTERNAL, message)
    }

    /// [`ErrorCode::INVALID_ARGUMENT`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ARGUMENT, message)
    }

    /// [`ErrorCode::UNSUPPORTED`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::UNSUPPORTED, message)
    }

    /// [`ErrorCode::CORRUPT_MODEL`].
    pub fn corrupt_model(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::CORRUPT_MODEL, message)
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PluginError {}
