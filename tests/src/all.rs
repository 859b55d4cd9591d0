//! All end-to-end tests, one binary: the real host, the real plugins, the doors that users use.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod benchmarks;
mod benchmarks_model;
mod benchmarks_served;
mod benchmarks_traced;
mod calls;
mod capabilities;
mod chat;
mod checkpoints;
mod compatibility;
mod confinement;
mod crowd;
mod embeddings;
mod engine;
mod events;
mod guesses;
mod guide;
mod house;
mod http;
mod layout;
mod life;
mod live;
mod llama;
mod metrics;
mod openai_python;
mod openapi;
mod plugin_commands;
mod plugins;
mod processes;
mod responses;
mod scores;
mod security;
mod states;
mod structured;
mod tokens;
mod tools;
mod web;
mod workers;
