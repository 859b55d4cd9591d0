//! The host's errors: what failed, on which thing, and what to do. Free of HTTP: `http/error.rs` maps them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it is; decides status, type and code at the doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request is wrong; `param` names the field.
    InvalidRequest,
    /// Understood, but this model or its plugin cannot do it; `param` names what asked for it.
    Unsupported,
    /// A schema, expression or grammar for the answer cannot be kept to; `param` names the field.
    InvalidGrammar,
    /// Prompt and answer do not fit into the model's context.
    ContextLengthExceeded,
    /// The model's chat template refused the messages, in its own words.
    TemplateRefused,
    /// The model's chat template is broken: no message will do.
    TemplateBroken,
    /// No such model.
    ModelNotFound,
    /// The model is there, but no loaded plugin can run it.
    PluginUnavailable,
    /// The model's file cannot be loaded: corrupt, unsupported, too large.
    LoadFailed,
    /// As many requests as the queue takes are waiting.
    QueueFull,
    /// The time that the request gave itself was over before its answer began.
    DeadlineExceeded,
    /// Memory could not be had.
    InsufficientMemory,
    /// The model takes more than there is for all models.
    ModelTooLarge,
    /// The engine that ran the request failed.
    EngineCrashed,
    /// The model's engine crashed too often and is not started again by itself.
    EngineStopped,
    /// The engine crashed over this very request before.
    RequestCrashes,
    /// The model could not be loaded a moment ago, and is not tried again yet.
    ModelCooling,
    /// The server is stopping.
    ShuttingDown,
    /// plugins.toml or the command line is wrong.
    Configuration,
    /// Our own fault.
    Internal,
}

/// An error of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What kind.
    pub kind: Kind,
    /// One line for the person who caused or can mend it; no path of the server's disk in it.
    pub message: String,
    /// The request's field at fault, as `messages[2].content`.
    pub param: Option<String>,
    /// More, for the log alone.
    pub detail: Option<String>,
    /// Seconds after which another try may succeed, where more is known than the kind says.
    pub retry_after_secs: Option<u16>,
}

/// The host's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without field and detail.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), param: None, detail: None, retry_after_secs: None }
    }

    /// A wrong request, with the field that is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Error { param: Some(param.into()), ..Error::new(Kind::InvalidRequest, message) }
    }

    /// Something that the model or its plugin cannot do, with the field that asked for it.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Error { param: Some(param.into()), ..Error::new(Kind::Unsupported, message) }
    }

    /// The same error with more for the log.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
