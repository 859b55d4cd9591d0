//! `impetus run`: one answer to a prompt, or a chat where there is none.

use std::future::pending;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::answer::{checked, hint_at_raw, request, stream};
use super::args::Run;
use super::output::tell;
use super::progress::Progress;
use super::{Outcome, chat, resolve, usage};
use crate::chat::{Message, RenderOptions};
use crate::config::Config;
use crate::engine::message::Prompt;
use crate::error::{Error, Kind};
use crate::models::{Loaded, Models};
use crate::plugins::Plugins;
use crate::sampling::Recommended;

/// Loads the model and answers.
pub(super) fn run(config: &Config, arguments: &Run) -> Outcome {
    checked(arguments.settings(&Recommended::default()))?;
    let prompt = prompt_of(arguments)?;
    let runtime = runtime()?;
    let models = Models::new(Plugins::load(config), config);
    let loaded = runtime.block_on(load_model(&models, &arguments.model))?;
    match prompt {
        Some(prompt) => runtime.block_on(answer_once(&loaded, arguments, prompt)),
        None => chat::chat(&runtime, &loaded, arguments),
    }
}

/// What the commands that wait for an engine or a client run on.
pub(super) fn runtime() -> Outcome<Runtime> {
    let built = Builder::new_multi_thread().enable_all().build();
    built
        .map_err(|error| Error::new(Kind::Internal, format!("the runtime cannot be started: {error}")).into())
}

/// The model of this name or path, loaded, with progress on stderr.
pub(super) async fn load_model(models: &Arc<Models>, name: &str) -> Outcome<Arc<Loaded>> {
    let entry = resolve::model(models, name)?;
    if !entry.is_servable() {
        return Ok(models.open_entry(entry, Arc::new(|_| ())).await?);
    }
    let progress = Progress::start(&entry.id);
    let loaded = models.open_entry(entry, progress.listener()).await;
    progress.finish(loaded.is_ok());
    Ok(loaded?)
}

async fn answer_once(loaded: &Loaded, arguments: &Run, prompt: String) -> Outcome {
    let prompt = if arguments.raw { Prompt::Text(prompt) } else { rendered(loaded, arguments, prompt)? };
    // Ctrl-C ends the process, as it does without us.
    let answer =
        stream(loaded, request(arguments, &loaded.metadata().recommended, prompt)?, pending()).await?;
    if arguments.stats || io::stderr().is_terminal() {
        tell(&answer.stats());
    }
    Ok(())
}

fn rendered(loaded: &Loaded, arguments: &Run, prompt: String) -> Outcome<Prompt> {
    let mut messages: Vec<Message> =
        arguments.system.iter().map(|text| Message::new("system", text)).collect();
    messages.push(Message::new("user", prompt));
    Ok(loaded.render_chat(&messages, &RenderOptions::default()).map_err(hint_at_raw)?)
}

/// The prompt from the command line or a pipe; `None` when it is to be a chat.
fn prompt_of(arguments: &Run) -> Outcome<Option<String>> {
    let prompt = match arguments.prompt.as_deref() {
        Some("-") => from_stdin()?,
        Some(prompt) => prompt.to_owned(),
        None if !io::stdin().is_terminal() => from_stdin()?,
        None if arguments.raw => return Err(usage("--raw needs a prompt: a chat is made of messages")),
        None if !io::stdout().is_terminal() => {
            return Err(usage(
                "there is no prompt, and no chat without a terminal: give a prompt, or pipe one in",
            ));
        }
        None => return Ok(None),
    };
    if prompt.is_empty() {
        return Err(usage("the prompt is empty"));
    }
    Ok(Some(prompt))
}

/// All of stdin, less the line end that a shell's `echo` puts behind it.
fn from_stdin() -> Outcome<String> {
    let mut text = io::read_to_string(io::stdin())
        .map_err(|error| usage(format!("the prompt cannot be read from stdin: {error}")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
