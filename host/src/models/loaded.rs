//! A model in memory: its engine, its chat template, what it can do.

use std::sync::Arc;

use super::capability;
use crate::chat::{self, ChatTemplate, RenderOptions, SpecialTokens, TemplateError};
use crate::engine::message::{Prompt, Segment};
use crate::engine::{Engine, Settings};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Capabilities, Model, ModelMetadata};

/// A model that answers.
pub struct Loaded {
    /// Its name in requests.
    pub id: String,
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// Runs its requests.
    pub engine: Engine,
    model: Arc<Model>,
    /// Its chat template; a broken one is told at each chat, and plain completions go on.
    template: Option<Result<ChatTemplate>>,
}

impl Loaded {
    /// Starts the engine of a model that its plugin has loaded. Blocks while the plugin makes the context.
    ///
    /// # Errors
    /// What the plugin refuses, and [`Kind::LoadFailed`] for a model that cannot generate text.
    pub(super) fn start(id: String, model: Arc<Model>, settings: Settings) -> Result<Loaded> {
        let found = model.capabilities();
        if !found.has(Capabilities::GENERATE) {
            return Err(Error::new(
                Kind::LoadFailed,
                "it cannot generate text, and this version serves nothing else",
            ));
        }
        let template =
            model.metadata().chat_template.as_deref().map(|source| compile(&id, source, model.metadata()));
        let working = template.as_ref().and_then(|template| template.as_ref().ok());
        let capabilities = capability::record(found, working);
        let engine = Engine::start(&id, Arc::clone(&model), settings)?;
        Ok(Loaded { id, capabilities, engine, model, template })
    }

    /// Whether it can do what has this name.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|own| own == capability)
    }

    /// What the plugin tells about it.
    pub fn metadata(&self) -> &ModelMetadata {
        self.model.metadata()
    }

    /// The model itself.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The longest that prompt and answer together may be here, in tokens.
    pub fn context_tokens(&self) -> u32 {
        self.engine.longest_sequence()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> u32 {
        self.model.vocab_size()
    }

    /// The model's own chat template.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without one, [`Kind::TemplateBroken`] for a broken one.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        match &self.template {
            None => {
                let message = format!(
                    "model `{}` has no chat template: use /v1/completions with a whole prompt",
                    self.id
                );
                Err(Error::unsupported("messages", message))
            }
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(template)) => Ok(template),
        }
    }

    /// Messages to a prompt, by the model's own template.
    ///
    /// # Errors
    /// As [`Loaded::chat_template`], and [`Kind::TemplateRefused`] with the template's own words.
    pub fn render_chat(&self, messages: &[chat::Message], options: &RenderOptions) -> Result<Prompt> {
        let template = self.chat_template()?;
        let rendered = template.render(messages, options).map_err(|error| render_error(&self.id, &error))?;
        let segment = |segment: chat::Segment| match segment {
            chat::Segment::Template(text) => Segment::Template(text),
            chat::Segment::Literal(text) => Segment::Literal(text),
        };
        Ok(Prompt::Chat(rendered.segments.into_iter().map(segment).collect()))
    }
}

fn compile(id: &str, source: &str, metadata: &ModelMetadata) -> Result<ChatTemplate> {
    let tokens = SpecialTokens {
        named: metadata.special_tokens.clone(),
        control: metadata.control_tokens.iter().map(|token| token.text.clone()).collect(),
    };
    ChatTemplate::compile(source, tokens).map_err(|error| {
        tracing::warn!(model = %id, "the chat template is broken: {error}");
        Error::new(
            Kind::TemplateBroken,
            format!("the chat template of model `{id}` is broken: {error}; use /v1/completions with a whole prompt"),
        )
    })
}

fn render_error(id: &str, error: &TemplateError) -> Error {
    match error {
        TemplateError::Raised(words) => Error {
            param: Some("messages".to_owned()),
            ..Error::new(
                Kind::TemplateRefused,
                format!("the chat template of model `{id}` refuses this chat: {words}"),
            )
        },
        TemplateError::Syntax(text) | TemplateError::Failed(text) => Error {
            param: Some("messages".to_owned()),
            ..Error::new(Kind::TemplateBroken, format!("the chat template of model `{id}` failed: {text}"))
        },
    }
}
