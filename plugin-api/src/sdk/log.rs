//! Carries the plugin's `tracing` events and panic messages into the host's log.
//!
//! Statics are per library: the plugin's `tracing` and panic hook are its own, so setting them here touches nobody
//! else. Spans are not forwarded.

use std::fmt::{self, Write as _};
use std::panic::PanicHookInfo;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

use crate::{HostApi, LogLevel};

/// Installs both. A plugin that set a `tracing` subscriber of its own keeps it.
pub(crate) fn forward_to(host: HostApi) {
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        host.log(LogLevel::Error, "panic", &info.to_string());
    }));
    // An error here means that a subscriber is already set: the plugin's own wish.
    let _ = tracing::subscriber::set_global_default(Forwarder { host });
}

struct Forwarder {
    host: HostApi,
}

impl Subscriber for Forwarder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level(metadata.level()) <= self.host.max_log_level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.message.push_str(&line.fields);
        let metadata = event.metadata();
        self.host.log(level(metadata.level()), metadata.target(), &line.message);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn level(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// One event as text: the message, then ` key=value` for each field.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a `String` fails only if the value's own `Debug` does: what was written stays.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
