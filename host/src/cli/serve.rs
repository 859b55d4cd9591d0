//! `impetus serve`: says where it listens and what it can serve, then serves until it is told to stop.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::lists::{format_names, no_models, no_plugins};
use super::output::{harmless, tell};
use super::{Failure, Outcome, run, usage};
use crate::config::{Config, Overrides, Reader};
use crate::error::{Error, Kind};
use crate::events::Change;
use crate::http::{self, App};
use crate::models::{Entry, Models};
use crate::plugins::watch::{self, Watched};
use crate::plugins::{Plugins, Record, State};

/// How long plugins that were never tried before are waited for. Who takes longer is told of when it is known.
const TRIALS: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM.
pub(super) fn serve(config: Config, overrides: Overrides) -> Outcome {
    let runtime = run::runtime()?;
    let reader = Reader::new(overrides, &config);
    let result = runtime.block_on(listen(config, reader));
    // A load that still runs is not waited for: whoever asked for it is gone.
    runtime.shutdown_background();
    result
}

async fn listen(config: Config, reader: Reader) -> Outcome {
    let wanted = SocketAddr::new(config.server.host, config.server.port);
    let server = &config.server;
    if !server.host.is_loopback() && server.api_keys.is_empty() && !server.open {
        return Err(usage(format!(
            "{} can be reached from other machines, and no API key is set: set api_keys or api_key_file under [server] \
             of plugins.toml or IMPETUS_API_KEYS, or say --open if everybody there may use it",
            server.host
        )));
    }
    let tls = http::tls(server)?;
    let listener = TcpListener::bind(wanted).await.map_err(|error| cannot_listen(wanted, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(wanted, &error))?;
    let signals = Signals::new()?;
    if !address.ip().is_loopback() && config.server.api_keys.is_empty() {
        tell("warning: whoever reaches this address can use the server: no API key is set");
    }
    let plugins = Plugins::load_within(&config, TRIALS);
    let models = Models::new(Arc::clone(&plugins), &config);
    models.sweep();
    let app = App { plugins, models, config: Arc::new(config) };
    count_failures(&app);
    keep_up(&app, reader);
    match write_welcome(&app, address) {
        // A server goes on when nobody reads what it says.
        Ok(()) | Err(Failure::Closed) => {}
        Err(failure) => return Err(failure),
    }
    http::serve(listener, app, tls, stopped_by(signals)).await;
    Ok(())
}

/// Counts the plugins that could not be loaded: those that were found now, and every one that comes to be so later.
fn count_failures(app: &App) {
    let models = Arc::clone(&app.models);
    let mut changes = app.plugins.events().listen();
    let count = move |change: &Change| match change {
        Change::Plugin { state: State::Loaded | State::Disabled, .. } => {}
        Change::Plugin { state, .. } => models.metrics().plugin_load_failed(&state.to_string()),
        _ => {}
    };
    app.plugins.now().iter().for_each(&count);
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            count(&change);
        }
    });
}

/// From now on what is dropped into the plugin folder or written into plugins.toml takes effect.
fn keep_up(app: &App, reader: Reader) {
    let plugins = Arc::clone(&app.plugins);
    let config = Config::clone(&app.config);
    let models = Arc::clone(&app.models);
    let then = Box::new(move |config: &Config| {
        models.configure(config);
        models.let_go_of_replaced();
    });
    if let Err(error) = watch::start(Watched { plugins, config, reader, then }) {
        tell(&format!("warning: changes of plugins need a restart: the system cannot watch files ({error})"));
    }
}

fn write_welcome(app: &App, address: SocketAddr) -> Outcome {
    let mut out = io::stdout().lock();
    let text = welcome(app, reachable(address));
    out.write_all(harmless(&text).as_bytes())?;
    Ok(out.flush()?)
}

/// Where it listens, what became of each plugin, how many models there are, and a line to try.
fn welcome(app: &App, address: SocketAddr) -> String {
    let base = format!("{}://{address}", if app.config.server.tls_cert.is_some() { "https" } else { "http" });
    let mut lines = vec![format!("Impetus {} listens on {base}", env!("CARGO_PKG_VERSION"))];
    let records = app.plugins.records();
    lines.extend(records.iter().map(plugin_line));
    let late = app.plugins.late();
    lines.extend(late.iter().map(|id| format!("  plugin {id}: it is still being tried")));
    if records.is_empty() && late.is_empty() {
        lines.push(format!("  {}", no_plugins(&app.config)));
    } else {
        let missing = app.plugins.named_in_vain(&app.config);
        lines.extend(
            missing
                .iter()
                .map(|id| format!("  plugin {id}: plugins.toml names it, but there is no such library")),
        );
    }
    let entries = app.models.list();
    let named_in_vain = app.config.model.keys().filter(|id| !entries.iter().any(|entry| entry.id == **id));
    lines.extend(
        named_in_vain.map(|id| format!("  model {id}: plugins.toml names it, but there is no such model")),
    );
    let servable: Vec<&Entry> = entries.iter().filter(|entry| entry.is_servable()).collect();
    lines.push(models_line(app, entries.len(), servable.len()));
    lines.extend(example(&servable, &base));
    lines.join("\n") + "\n"
}

fn plugin_line(record: &Record) -> String {
    let version = record.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let what = match (record.state, &record.reason) {
        (State::Loaded, _) => format!("loaded, runs {}", format_names(&record.formats)),
        (state, None) => state.to_string(),
        (state, Some(reason)) => format!("{state}: {reason}"),
    };
    let hint = record.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("  plugin {}{version}: {what}{hint}", record.id).replace('\n', " ")
}

fn models_line(app: &App, found: usize, servable: usize) -> String {
    match found - servable {
        0 if found == 0 => format!("  {}", no_models(&app.config, &app.plugins)),
        0 => format!("  {servable} {} can be served", plural(servable)),
        others => format!(
            "  {servable} {} can be served; {others} cannot: `impetus models` says why",
            plural(servable)
        ),
    }
}

fn plural(models: usize) -> &'static str {
    if models == 1 { "model" } else { "models" }
}

/// A command that gets a first answer, where a model can give one.
fn example(servable: &[&Entry], base: &str) -> Option<String> {
    let chats = |entry: &&&Entry| entry.summary.chat_template == Some(true);
    let (path, body) = match servable.iter().find(chats) {
        Some(entry) => {
            let messages = json!([{"role": "user", "content": "Name three primary colors."}]);
            ("chat/completions", json!({"model": entry.id, "messages": messages, "temperature": 0}))
        }
        None => {
            let Some(entry) = servable.iter().find(|entry| entry.may_generate()) else {
                let entry = servable.first()?;
                return Some(curl(base, "embeddings", &json!({"model": entry.id, "input": "Hello"})));
            };
            ("completions", json!({"model": entry.id, "prompt": "Once upon a time", "max_tokens": 64}))
        }
    };
    Some(curl(base, path, &body))
}

/// A request as a person can type it.
fn curl(base: &str, path: &str, body: &Value) -> String {
    let body = spaced(body).replace('\'', r"'\''");
    format!("\nTry:\n  curl {base}/v1/{path} -H 'content-type: application/json' \\\n    -d '{body}'\n")
}

/// JSON on one line, with spaces where a person would put them.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{}: {}", json!(key), spaced(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Where a client on this machine finds a server that listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} on {} is in use: stop the server that listens there, or choose another port with --port",
            address.port(),
            address.ip()
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: choose another with --host", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {} may not be used by this user: choose one above 1023 with --port", address.port())
        }
        _ => format!("cannot listen on {address}: {error}"),
    };
    Error::new(Kind::Internal, message)
}

/// The two ways to be told to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::new(Kind::Internal, format!("signals cannot be received: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => signal_hook::consts::SIGINT,
            _ = self.terminate.recv() => signal_hook::consts::SIGTERM,
        }
    }
}

/// Completes at the first signal. A second one then ends the process at once, as it would without us.
async fn stopped_by(mut signals: Signals) {
    signals.next().await;
    tell("stopping: running answers may end; a second signal ends at once");
    tokio::spawn(async move {
        let second = signals.next().await;
        let _ = signal_hook::low_level::emulate_default_handler(second);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_survives_the_shell() {
        let body = json!({"model": "it's \"x\"", "n": [1, null]});
        assert_eq!(spaced(&body), r#"{"model": "it's \"x\"", "n": [1, null]}"#);
    }

    #[test]
    fn every_address_is_reached_through_loopback() {
        for (bound, shown) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            let (bound, shown): (SocketAddr, SocketAddr) = (bound.parse().unwrap(), shown.parse().unwrap());
            assert_eq!(reachable(bound), shown);
        }
    }
}
