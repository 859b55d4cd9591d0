//! What clients see of a failure: status, type, code, and whether to try again. One exhaustive match, no default arm.
//!
//! Faults of our own go whole to the log, under the request's id; the client gets a plain line.

#![deny(clippy::wildcard_enum_match_arm)]

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::public::without_paths;
use super::request_id::RequestId;
use crate::error::{Error, Kind};

/// What every handler here fails with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The host refused or failed.
    Host(Error),
    /// The request was no request of ours to begin with.
    Wire(WireFault),
}

/// A request that is wrong before anything looks at what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireFault {
    pub(crate) kind: WireKind,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

/// How it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireKind {
    BrokenJson,
    WrongShape,
    NotJson,
    BodyTooLarge,
    HeadersTooLarge,
    TooSlow,
    NoSuchPath,
    NoSuchResponse,
    NoPreviousResponse,
    NoSuchBenchmark,
    BenchmarkRunning,
    ServerBusy,
    WrongMethod,
    NoKey,
    NotAllowed,
    NoSuchUpload,
    WrongPiece,
    ModelExists,
    NoDisk,
}

/// The result of everything here.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What HTTP says about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    retry: Retry,
}

/// What clients that retry by themselves are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Nothing: the status says enough.
    Unsaid,
    /// Waiting this many seconds may help.
    AfterSeconds(u16),
    /// The same request will fail again.
    Never,
}

/// `{"error": {…}}`, all four keys always there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorObject,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    pub(crate) message: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl Failure {
    /// A request that is wrong on the wire.
    pub(crate) fn wire(kind: WireKind, message: impl Into<String>) -> Self {
        Failure::Wire(WireFault { kind, message: message.into(), param: None })
    }

    /// The same, with the field at fault.
    pub(crate) fn wire_at(kind: WireKind, param: &str, message: String) -> Self {
        Failure::Wire(WireFault { kind, message, param: Some(param.to_owned()) })
    }

    /// Right JSON, wrong shape: `param` must be `expected`.
    pub(crate) fn wrong_shape(param: &str, expected: &str, found: &str) -> Self {
        Failure::Wire(WireFault {
            kind: WireKind::WrongShape,
            message: format!("`{param}` must be {expected}; found {found}"),
            param: Some(param.to_owned()),
        })
    }

    /// The body for clients, in an answer of its own or within a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let verdict = self.verdict();
        let (message, param) = match self {
            Failure::Host(error) => (public_message(error), error.param.clone()),
            Failure::Wire(fault) => (fault.message.clone(), fault.param.clone()),
        };
        ErrorBody { error: ErrorObject { message, kind: verdict.kind, param, code: verdict.code } }
    }

    /// Writes to the log what the client is not told.
    pub(crate) fn log(&self, id: &RequestId) {
        let Failure::Host(error) = self else { return };
        let detail = error.detail.as_deref().unwrap_or_default();
        if self.verdict().status.is_server_error() {
            tracing::error!(request = %id, kind = ?error.kind, detail, "{error}");
        } else {
            tracing::debug!(request = %id, kind = ?error.kind, detail, "{error}");
        }
    }

    /// The status that HTTP has for it.
    #[cfg(fuzzing)]
    pub(crate) fn status(&self) -> StatusCode {
        self.verdict().status
    }

    fn verdict(&self) -> Verdict {
        match self {
            Failure::Host(error) => measured(of_host(error.kind), error.retry_after_secs),
            Failure::Wire(fault) => of_wire(fault.kind),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Host(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Verdict { status, retry, .. } = self.verdict();
        let mut response = (status, Json(self.body())).into_response();
        match retry {
            Retry::Unsaid => {}
            Retry::AfterSeconds(seconds) => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Retry::Never => {
                response.headers_mut().insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        // The request's id is known outside: whoever adds it to the answer writes the log line.
        response.extensions_mut().insert(self);
        response
    }
}

fn of_host(kind: Kind) -> Verdict {
    use Retry::{AfterSeconds, Never, Unsaid};

    let verdict = |status, kind, code, retry| Verdict { status, kind, code, retry };
    let refused = |code| verdict(StatusCode::BAD_REQUEST, INVALID_REQUEST, code, Unsaid);
    let unavailable = |code, retry| verdict(StatusCode::SERVICE_UNAVAILABLE, SERVER, Some(code), retry);
    let fault = verdict(StatusCode::INTERNAL_SERVER_ERROR, SERVER, Some("internal_error"), Never);
    match kind {
        Kind::InvalidRequest => refused(None),
        Kind::Unsupported => refused(Some("unsupported_parameter")),
        Kind::InvalidGrammar => refused(Some("invalid_grammar")),
        Kind::ContextLengthExceeded => refused(Some("context_length_exceeded")),
        Kind::TemplateRefused => refused(Some("template_refused")),
        // The official clients retry every 5xx, which mends neither a broken template nor a broken file.
        Kind::TemplateBroken => refused(Some("template_broken")),
        Kind::LoadFailed => refused(Some("model_load_failed")),
        Kind::ModelNotFound => {
            verdict(StatusCode::NOT_FOUND, INVALID_REQUEST, Some("model_not_found"), Unsaid)
        }
        Kind::PluginUnavailable => unavailable("plugin_unavailable", Never),
        Kind::QueueFull => {
            verdict(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), AfterSeconds(1))
        }
        // The same request with the same limit fares alike: a client must not ask again by itself.
        Kind::DeadlineExceeded => {
            verdict(StatusCode::GATEWAY_TIMEOUT, SERVER, Some("deadline_exceeded"), Never)
        }
        Kind::InsufficientMemory => unavailable("insufficient_memory", AfterSeconds(30)),
        Kind::EngineCrashed => unavailable("engine_crashed", AfterSeconds(1)),
        Kind::ModelTooLarge => unavailable("insufficient_memory", Never),
        Kind::EngineStopped => unavailable("engine_crashed", Never),
        Kind::RequestCrashes => refused(Some("request_crashes_engine")),
        Kind::ModelCooling => unavailable("model_load_failed", AfterSeconds(10)),
        Kind::ShuttingDown => unavailable("shutting_down", AfterSeconds(5)),
        Kind::Configuration | Kind::Internal => fault,
    }
}

/// What was measured goes before what is usual.
fn measured(verdict: Verdict, retry_after_secs: Option<u16>) -> Verdict {
    match (verdict.retry, retry_after_secs) {
        (Retry::AfterSeconds(_), Some(seconds)) => Verdict { retry: Retry::AfterSeconds(seconds), ..verdict },
        _ => verdict,
    }
}

fn of_wire(kind: WireKind) -> Verdict {
    let (status, kind, code) = match kind {
        WireKind::BrokenJson => (StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("invalid_json")),
        WireKind::WrongShape => (StatusCode::UNPROCESSABLE_ENTITY, INVALID_REQUEST, None),
        WireKind::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, None),
        WireKind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, Some("body_too_large")),
        WireKind::HeadersTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID_REQUEST, Some("headers_too_large"))
        }
        WireKind::TooSlow => (StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, Some("body_too_slow")),
        WireKind::NoSuchPath => (StatusCode::NOT_FOUND, INVALID_REQUEST, Some("unknown_path")),
        WireKind::NoSuchResponse => (StatusCode::NOT_FOUND, INVALID_REQUEST, Some("response_not_found")),
        WireKind::NoPreviousResponse => {
            (StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("previous_response_not_found"))
        }
        WireKind::NoSuchBenchmark => (StatusCode::NOT_FOUND, INVALID_REQUEST, Some("benchmark_not_found")),
        WireKind::BenchmarkRunning => (StatusCode::CONFLICT, INVALID_REQUEST, Some("benchmark_running")),
        WireKind::ServerBusy => (StatusCode::CONFLICT, INVALID_REQUEST, Some("server_busy")),
        WireKind::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, None),
        WireKind::NoKey => (StatusCode::UNAUTHORIZED, "authentication_error", Some("invalid_api_key")),
        WireKind::NotAllowed => (StatusCode::FORBIDDEN, "permission_error", None),
        WireKind::NoSuchUpload => (StatusCode::NOT_FOUND, INVALID_REQUEST, Some("upload_not_found")),
        WireKind::WrongPiece => (StatusCode::CONFLICT, INVALID_REQUEST, Some("wrong_offset")),
        WireKind::ModelExists => (StatusCode::CONFLICT, INVALID_REQUEST, Some("model_exists")),
        WireKind::NoDisk => (StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, Some("insufficient_disk")),
    };
    Verdict { status, kind, code, retry: Retry::Unsaid }
}

/// A plugin's words may name files of this machine; our own do not.
fn public_message(error: &Error) -> String {
    match error.kind {
        Kind::Configuration | Kind::Internal => {
            "the server failed at this request; its log says more under the x-request-id of this answer"
                .to_owned()
        }
        Kind::PluginUnavailable
        | Kind::LoadFailed
        | Kind::InsufficientMemory
        | Kind::EngineCrashed
        | Kind::EngineStopped
        | Kind::ModelTooLarge
        | Kind::ModelCooling => without_paths(&error.message),
        Kind::InvalidRequest
        | Kind::Unsupported
        | Kind::InvalidGrammar
        | Kind::ContextLengthExceeded
        | Kind::TemplateRefused
        | Kind::TemplateBroken
        | Kind::ModelNotFound
        | Kind::QueueFull
        | Kind::RequestCrashes
        | Kind::DeadlineExceeded
        | Kind::ShuttingDown => error.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(failure: impl Into<Failure>) -> Response {
        failure.into().into_response()
    }

    #[test]
    fn every_kind_has_its_status_code_and_advice() {
        let check = |kind: Kind,
                     status: u16,
                     code: Option<&str>,
                     retry_after: Option<&str>,
                     should_retry: Option<&str>| {
            let response = answer(Error::new(kind, "m"));
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(response.status().as_u16(), status, "{kind:?}");
            assert_eq!(of_host(kind).code, code, "{kind:?}");
            assert_eq!(header("retry-after"), retry_after, "{kind:?}");
            assert_eq!(header("x-should-retry"), should_retry, "{kind:?}");
        };
        check(Kind::InvalidRequest, 400, None, None, None);
        check(Kind::Unsupported, 400, Some("unsupported_parameter"), None, None);
        check(Kind::InvalidGrammar, 400, Some("invalid_grammar"), None, None);
        check(Kind::ContextLengthExceeded, 400, Some("context_length_exceeded"), None, None);
        check(Kind::TemplateRefused, 400, Some("template_refused"), None, None);
        check(Kind::TemplateBroken, 400, Some("template_broken"), None, None);
        check(Kind::LoadFailed, 400, Some("model_load_failed"), None, None);
        check(Kind::ModelNotFound, 404, Some("model_not_found"), None, None);
        check(Kind::PluginUnavailable, 503, Some("plugin_unavailable"), None, Some("false"));
        check(Kind::QueueFull, 429, Some("queue_full"), Some("1"), None);
        check(Kind::DeadlineExceeded, 504, Some("deadline_exceeded"), None, Some("false"));
        check(Kind::InsufficientMemory, 503, Some("insufficient_memory"), Some("30"), None);
        check(Kind::EngineCrashed, 503, Some("engine_crashed"), Some("1"), None);
        check(Kind::ModelTooLarge, 503, Some("insufficient_memory"), None, Some("false"));
        check(Kind::EngineStopped, 503, Some("engine_crashed"), None, Some("false"));
        check(Kind::RequestCrashes, 400, Some("request_crashes_engine"), None, None);
        check(Kind::ModelCooling, 503, Some("model_load_failed"), Some("10"), None);
        check(Kind::ShuttingDown, 503, Some("shutting_down"), Some("5"), None);
        check(Kind::Configuration, 500, Some("internal_error"), None, Some("false"));
        check(Kind::Internal, 500, Some("internal_error"), None, Some("false"));
    }

    #[test]
    fn a_measured_time_goes_before_the_usual_one() {
        let error = Error { retry_after_secs: Some(17), ..Error::new(Kind::QueueFull, "m") };
        assert_eq!(answer(error).headers()["retry-after"], "17");
        let error = Error { retry_after_secs: Some(17), ..Error::new(Kind::InvalidRequest, "m") };
        assert!(!answer(error).headers().contains_key("retry-after"));
    }

    #[test]
    fn a_body_has_all_four_keys() {
        let body = serde_json::to_value(Failure::from(Error::new(Kind::InvalidRequest, "m")).body()).unwrap();
        let expected = serde_json::json!({
            "error": {"message": "m", "type": "invalid_request_error", "param": null, "code": null}
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_fault_of_our_own_tells_the_client_nothing_of_its_cause() {
        let body = Failure::from(Error::new(Kind::Internal, "secret").with_detail("/home/someone")).body();
        let text = serde_json::to_string(&body).unwrap();
        assert!(!text.contains("secret") && !text.contains("/home"), "{text}");
    }

    #[test]
    fn a_plugin_s_words_lose_the_folders_of_this_machine() {
        let body =
            Failure::from(Error::new(Kind::LoadFailed, "cannot map /data/models/a.gguf: short read")).body();
        assert_eq!(body.error.message, "cannot map a.gguf: short read");
    }
}
