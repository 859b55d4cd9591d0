//! `impetus ps`: what a running server has loaded, asked through its API.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::args::Ps;
use super::output::{Table, bytes, or_dash, tell};
use super::run::runtime;
use super::{Outcome, usage};
use crate::config::Config;
use crate::error::{Error, Kind};

/// Prints what is loaded.
pub(super) fn ps(config: &Config, arguments: &Ps) -> Outcome {
    let url = arguments.url.clone().unwrap_or_else(|| own_url(config));
    let answer = runtime()?.block_on(ask(&url, arguments.key.as_deref()))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        return Ok(writeln!(out, "{answer:#}")?);
    }
    let processes = answer["processes"].as_array().cloned().unwrap_or_default();
    if processes.is_empty() {
        tell("nothing is loaded: a model is loaded by its first request");
        return Ok(());
    }
    let headings =
        ["MODEL", "STATE", "PID", "MEMORY", "RUNNING", "WAITING", "TOKENS/S", "IDLE", "CONFINEMENT"];
    let mut table = Table::new(&headings);
    for process in &processes {
        table.row(cells(process), Vec::new());
    }
    Ok(table.write(&mut out)?)
}

fn cells(process: &Value) -> Vec<String> {
    let text = |key: &str| or_dash(process[key].as_str());
    let number = |key: &str| or_dash(process[key].as_u64().map(|number| number.to_string()).as_deref());
    let names: Vec<&str> =
        process["confinement"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let confinement = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    vec![
        text("model"),
        text("state"),
        number("pid"),
        or_dash(process["memory_bytes"].as_u64().map(bytes).as_deref()),
        number("running"),
        number("waiting"),
        or_dash(process["tokens_per_second"].as_f64().map(|speed| format!("{speed:.1}")).as_deref()),
        or_dash(process["idle_secs"].as_u64().map(|seconds| format!("{seconds} s")).as_deref()),
        confinement,
    ]
}

/// Where the server of this configuration is reached from this machine.
fn own_url(config: &Config) -> String {
    let host = match config.server.host {
        host if !host.is_unspecified() => host,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    format!("http://{}", std::net::SocketAddr::new(host, config.server.port))
}

async fn ask(url: &str, key: Option<&str>) -> Outcome<Value> {
    let failed = |what: String| Error::new(Kind::Internal, what);
    let mut request = reqwest::Client::new().get(format!("{}/api/ps", url.trim_end_matches('/')));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.send().await.map_err(|error| {
        failed(format!(
            "no server answers at {url} ({error}): start one with `impetus serve`, or name it with --url"
        ))
    })?;
    let status = response.status();
    if status == reqwest::StatusCode::UNAUTHORIZED {
        return Err(usage(format!("the server at {url} needs a key: give it with --key")));
    }
    let answer: Value = response
        .json()
        .await
        .map_err(|error| failed(format!("what answers at {url} is no server of this kind: {error}")))?;
    match answer["error"]["message"].as_str() {
        None => Ok(answer),
        Some(message) => Err(failed(format!("the server at {url} refused ({status}): {message}")).into()),
    }
}
