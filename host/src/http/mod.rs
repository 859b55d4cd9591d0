//! The only place that knows axum, wire JSON and status codes.
//!
//! A request's way: `serve` takes its connection (`tls` where that is encrypted), `request_id` names it and `account`
//! keeps what it takes, `guard` says whether it may, `body` and `fields` read it, `openai` turns it into an engine's request and
//! the engine's events into answers (`sse` where they are streamed), `error` says what went wrong. Nothing here
//! schedules, samples or renders; a client that goes away is a dropped future, and so a dropped `EventStream`.

mod account;
mod api;
mod benchmarks;
mod body;
mod error;
mod fields;
mod guard;
mod health;
mod life;
mod metrics;
mod openai;
mod openapi;
mod page;
mod public;
mod request_id;
mod serve;
mod sse;
mod status;
mod tls;
mod uploads;
mod web;

#[cfg(fuzzing)]
pub use self::openai::fuzzing;

use std::sync::Arc;

use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{get, post, put};
use axum::{Extension, Router};

use self::error::{Failure, WireKind};
pub use self::serve::{Private, privately, serve};
pub use self::tls::tls;
use crate::bench::Jobs;
use crate::config::Config;
use crate::models::Models;
use crate::models::uploads::Uploads;
use crate::plugins::Plugins;

/// What every handler works with.
#[derive(Clone)]
pub struct App {
    /// Every plugin that was found.
    pub plugins: Arc<Plugins>,
    /// Every model that was found.
    pub models: Arc<Models>,
    /// What the host was told.
    pub config: Arc<Config>,
}

/// What clients find that leave `/v1` out of their base URL, as llama-server's do, and its own two names of one thing: another
/// name, and the name.
pub(crate) const ALIASES: [(&str, &str); 3] = [
    ("/chat/completions", "/v1/chat/completions"),
    ("/models", "/v1/models"),
    ("/completions", "/completion"),
];

fn aliases() -> Router<App> {
    let [(chat, _), (models, _), (completions, _)] = ALIASES;
    let chats = Router::new().route(chat, post(openai::chat::handle));
    chats.route(models, get(openai::models::list)).route(completions, post(openai::llama::handle))
}

/// All routes.
pub fn router(app: App) -> Router {
    let jobs = benchmarks::jobs(&app);
    router_with(app, jobs)
}

/// The same with these benchmarks.
fn router_with(app: App, jobs: Arc<Jobs>) -> Router {
    status::start_clock();
    let server = &app.config.server;
    let responses = openai::responses::Store::new(server.kept_responses, server.kept_response_bytes);
    let noticed = middleware::from_fn_with_state(Arc::clone(&jobs), benchmarks::notice);
    Router::new()
        .route("/", get(web::page))
        .route("/assets/{*path}", get(web::asset))
        .route("/api/uploads", get(uploads::list).post(uploads::begin))
        .route("/api/uploads/{id}", put(uploads::take).delete(uploads::discard))
        .layer(Extension(Arc::new(Uploads::new(Arc::clone(&app.models)))))
        .route("/v1/responses", post(openai::responses::create))
        .route("/v1/responses/{id}", get(openai::responses::one).delete(openai::responses::delete))
        .layer(Extension(Arc::new(responses)))
        .route("/v1/chat/completions", post(openai::chat::handle))
        .route("/v1/completions", post(openai::completions::handle))
        .route("/v1/embeddings", post(openai::embeddings::handle))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one))
        .route("/completion", post(openai::llama::handle))
        .route("/tokenize", post(openai::tokens::tokenize))
        .route("/detokenize", post(openai::tokens::detokenize))
        .route("/apply-template", post(openai::tokens::apply_template))
        .route("/api/plugins", get(api::plugins))
        .route("/api/formats", get(api::formats))
        .route("/api/models", get(api::models))
        .route("/api/models/{*path}", get(life::about).post(life::change).delete(life::delete))
        .route("/api/ps", get(life::processes))
        .route("/api/server", get(status::read))
        .route("/api/events", get(api::events))
        .merge(benchmarks_of(jobs))
        .route("/metrics", get(metrics::read))
        .route("/openapi.json", get(openapi::read))
        .route("/docs", get(page::read))
        .route("/health", get(health::alive))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .merge(aliases())
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(noticed)
        .layer(middleware::from_fn_with_state(app.clone(), guard::around))
        .layer(middleware::from_fn_with_state(app.clone(), request_id::around))
        .with_state(app)
}

fn benchmarks_of(jobs: Arc<Jobs>) -> Router<App> {
    Router::new()
        .route("/api/benchmarks", get(benchmarks::list).post(benchmarks::start))
        .route("/api/benchmarks/{id}", get(benchmarks::one).delete(benchmarks::remove))
        .route("/api/benchmarks/{id}/against/{other}", get(benchmarks::against))
        .layer(Extension(jobs))
}

async fn no_such_path(uri: Uri) -> Failure {
    let message = format!(
        "there is no `{}` here; there are /v1/models, /v1/chat/completions, /v1/completions, /v1/responses, \
         /v1/embeddings, /completion, /tokenize, /detokenize, /apply-template, /api/plugins, /api/formats, /api/models, /api/ps, /api/server, \
         /api/uploads, /api/benchmarks, /api/events, /metrics, /openapi.json, /docs, /health, /livez and /readyz",
        uri.path()
    );
    Failure::wire(WireKind::NoSuchPath, message)
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let message = format!("`{}` does not take {method}; the header `allow` says what it takes", uri.path());
    Failure::wire(WireKind::WrongMethod, message)
}

#[cfg(test)]
mod tests;
