//! A model's chat template, compiled once and rendered for each chat.

use std::error::Error as _;
use std::fmt;

use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Map, Value};

use super::adapt::adapt;
use super::dialect::Dialect;
use super::environment::{FUEL, Raised, environment, without_generation_marks};
use super::literals::Literals;
use super::message::Message;
use super::reply::{Family, Manner};

/// The texts of a model's special tokens.
#[derive(Debug, Clone, Default)]
pub struct SpecialTokens {
    /// Name and text: `bos`, `eos` …; templates see them as `bos_token`, `eos_token` …
    pub named: Vec<(String, String)>,
    /// Every token that must not come about from what a user wrote.
    pub control: Vec<String>,
}

/// What a template is told besides the messages.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Let the prompt end where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Tools as the template wants them; none is `None`.
    pub tools: Option<Value>,
    /// More variables: `chat_template_kwargs`.
    pub variables: Map<String, Value>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        RenderOptions { add_generation_prompt: true, tools: None, variables: Map::new() }
    }
}

/// A rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// In order. One template segment unless a message contained the text of a control token.
    pub segments: Vec<Segment>,
}

/// A stretch of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// The text of control tokens in here is meant as such.
    Template(String),
    /// The text of a control token that somebody wrote: just text.
    Literal(String),
}

/// Why there is no prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// The template is no Jinja that we understand: no message will do.
    Syntax(String),
    /// The template refused these messages, in its own words.
    Raised(String),
    /// The template failed on these messages.
    Failed(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Syntax(text) | TemplateError::Raised(text) | TemplateError::Failed(text) => {
                f.write_str(text)
            }
        }
    }
}

impl std::error::Error for TemplateError {}

/// A compiled template with the model's special tokens.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: SpecialTokens,
    dialect: Dialect,
    manner: Manner,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Compiles a template's text.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the line.
    pub fn compile(source: &str, tokens: SpecialTokens) -> Result<ChatTemplate, TemplateError> {
        let mut environment = environment().map_err(|error| TemplateError::Syntax(one_line(&error)))?;
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(|error| TemplateError::Syntax(one_line(&error)))?;
        let dialect = Dialect::UNKNOWN;
        let manner = Manner::of(source);
        let mut template = ChatTemplate { environment, source: source.to_owned(), tokens, dialect, manner };
        template.dialect = Dialect::of(&template);
        if manner.family.is_none() && !template.dialect.describes_tools {
            template.dialect.calls = None;
            template.manner.family = Some(Family::GENERIC);
        }
        template.environment.set_fuel(Some(FUEL));
        Ok(template)
    }

    /// Renders a chat as `transformers` does, with nothing adapted.
    #[cfg(test)]
    pub(super) fn render_plain(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Prompt, TemplateError> {
        self.render_as(self.dialect, messages, options)
    }

    /// From here on it is this time for the template.
    #[cfg(test)]
    pub(super) fn stop_the_clock(&mut self, now: chrono::NaiveDateTime) {
        super::environment::stop_the_clock(&mut self.environment, now);
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a chat.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] in the template's own words, or [`TemplateError::Failed`] with the line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Prompt, TemplateError> {
        self.render_with(self.dialect, messages, options, |messages, tools| {
            if let Some(family) = self.manner.family {
                adapt(messages, tools, self.dialect, family, self.takes_tools_in_system());
            }
        })
    }

    /// How models of this template write reasoning and calls of tools.
    pub fn manner(&self) -> &Manner {
        &self.manner
    }

    /// Phi-4-mini's template takes the tools as a field of the system message.
    fn takes_tools_in_system(&self) -> bool {
        self.source.contains("message['tools']")
    }

    /// Renders a chat as if the template had these ways, with nothing adapted to it.
    pub(super) fn render_as(
        &self,
        dialect: Dialect,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Prompt, TemplateError> {
        self.render_with(dialect, messages, options, |_, _| {})
    }

    fn render_with(
        &self,
        dialect: Dialect,
        messages: &[Message],
        options: &RenderOptions,
        adapt: impl FnOnce(&mut Vec<Value>, &Value),
    ) -> Result<Prompt, TemplateError> {
        let mut messages = Value::Array(messages.iter().map(|message| dialect.message(message)).collect());
        let mut tools = options.tools.clone().unwrap_or(Value::Null);
        let mut variables = Value::Object(options.variables.clone());
        let mut literals =
            Literals::new(&self.tokens.control, &self.source, &[&messages, &tools, &variables]);
        for value in [&mut messages, &mut tools, &mut variables] {
            literals.cut_out(value);
        }
        // Behind the cutting: what is written here on the template's behalf may have control tokens.
        if let Value::Array(messages) = &mut messages {
            adapt(messages, &tools);
        }
        let context = self.context(messages, tools, variables, options.add_generation_prompt);
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        let rendered =
            template.render(minijinja::Value::from(Serde(context))).map_err(|error| failed(&error))?;
        Ok(Prompt { segments: literals.split(rendered)? })
    }

    /// The variables that Hugging Face gives: the special tokens, those of the request over them, and the chat.
    fn context(
        &self,
        messages: Value,
        tools: Value,
        variables: Value,
        add_generation_prompt: bool,
    ) -> Map<String, Value> {
        let mut context = Map::new();
        for (name, text) in &self.tokens.named {
            context.insert(format!("{name}_token"), text.clone().into());
        }
        if let Value::Object(variables) = variables {
            context.extend(variables);
        }
        context.insert("messages".to_owned(), messages);
        context.insert("tools".to_owned(), tools);
        context.insert("documents".to_owned(), Value::Null);
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        context
    }
}

fn failed(error: &minijinja::Error) -> TemplateError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Raised(message.clone());
        }
        source = inner.source();
    }
    TemplateError::Failed(one_line(error))
}

/// minijinja's text names the template and the line; the first line of it says what is wrong.
fn one_line(error: &minijinja::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
