//! Which servers are to be loaded: addresses, or this program's own for the time of the benchmark.

use serde_json::{Map, Value, json};

use super::args::BenchServe;
use crate::bench::Target;
use crate::cli::{Outcome, usage};
use crate::http::Private;

/// What was typed, checked.
pub(super) struct Named {
    /// The first server's address; without one, this program serves the model itself.
    pub(super) url: Option<String>,
    /// The first server's model.
    pub(super) model: String,
    key: Option<String>,
    body: Map<String, Value>,
    against: Option<Against>,
}

/// The second server, where it is not the first in everything.
struct Against {
    url: Option<String>,
    model: String,
    key: Option<String>,
    body: Map<String, Value>,
}

/// What the command line means.
pub(super) fn named(arguments: &BenchServe) -> Outcome<Named> {
    let is_address = arguments.target.contains("://");
    let model = match (is_address, &arguments.model) {
        (true, None) => return Err(usage("--model is missing: which model shall the server be asked for?")),
        (false, Some(_)) => {
            return Err(usage(format!(
                "--model goes with an address, and `{}` is none: without --model it is the model to serve",
                arguments.target
            )));
        }
        (true, Some(model)) => model.clone(),
        (false, None) => arguments.target.clone(),
    };
    let url = if is_address { Some(address(&arguments.target, arguments.remote)?) } else { None };
    let has_second =
        arguments.against.is_some() || arguments.against_body.is_some() || arguments.against_model.is_some();
    let against = if has_second {
        let url = match &arguments.against {
            Some(url) => Some(address(url, arguments.remote)?),
            None => url.clone(),
        };
        Some(Against {
            url,
            model: arguments.against_model.clone().unwrap_or_else(|| model.clone()),
            key: arguments.against_key.clone().or_else(|| arguments.key.clone()),
            body: body(arguments.against_body.as_deref())?,
        })
    } else {
        None
    };
    Ok(Named { url, model, key: arguments.key.clone(), body: body(arguments.body.as_deref())?, against })
}

impl Named {
    /// The servers, of which `own` is this program's.
    pub(super) fn targets(&self, own: Option<&Private>) -> Vec<Target> {
        let target = |url: &Option<String>, model: &str, key: &Option<String>, body: &Map<String, Value>| {
            let (url, key) = match (url, own) {
                (Some(url), _) => (url.clone(), key.clone()),
                (None, own) => {
                    (own.map(|own| own.url.clone()).unwrap_or_default(), own.map(|own| own.key.clone()))
                }
            };
            Target { url, key, model: model.to_owned(), body: body.clone() }
        };
        let first = target(&self.url, &self.model, &self.key, &self.body);
        let second = self.against.iter().map(|two| target(&two.url, &two.model, &two.key, &two.body));
        std::iter::once(first).chain(second).collect()
    }

    /// What a report says of them.
    pub(super) fn told(&self) -> Value {
        let one = |url: &Option<String>, model: &str, body: &Map<String, Value>| json!({ "url": url, "model": model, "body": body });
        let second = self.against.iter().map(|two| one(&two.url, &two.model, &two.body));
        std::iter::once(one(&self.url, &self.model, &self.body)).chain(second).collect()
    }

    /// A report's subject.
    pub(super) fn subject(&self) -> String {
        let of = |url: &Option<String>, model: &str| match url {
            Some(url) => format!("{model} at {url}"),
            None => model.to_owned(),
        };
        let first = of(&self.url, &self.model);
        self.against
            .as_ref()
            .map_or(first.clone(), |two| format!("{first}, against {}", of(&two.url, &two.model)))
    }
}

fn body(text: Option<&str>) -> Outcome<Map<String, Value>> {
    serde_json::from_str(text.unwrap_or("{}"))
        .map_err(|error| usage(format!("--body and --against-body must be JSON objects: {error}")))
}

/// A server's address without `/v1`.
fn address(url: &str, remote: bool) -> Outcome<String> {
    let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
    if !remote && !is_loopback(&url) {
        return Err(usage(format!(
            "{url} is not this machine: load on somebody's server is not for tests; say --remote if it is yours"
        )));
    }
    Ok(url)
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:8484", true),
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://192.168.0.1", false),
            ("http://localhost.example.org", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}
