//! A model in memory: its engine, its chat template, what it can do.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::capability;
use crate::chat::{self, ChatTemplate, Infill, RenderOptions, SpecialTokens, TemplateError};
use crate::engine::message::{Prompt, Question, Segment, Told};
use crate::engine::{Engine, Settings};
use crate::error::{Error, Kind, Result};
use crate::plugins::Spec;
use crate::plugins::model::{Capabilities, Model, ModelMetadata};
use crate::worker::Worker;

const DEVELOPER: &str = "developer";

/// Over how long tokens a second are counted.
const PACE_WINDOW: Duration = Duration::from_secs(5);

/// What a plugin is told of a model of which nothing was said.
pub(super) const NO_OPTIONS: &str = "{}";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A model in use: as long as one of these is there, it is not unloaded to make room.
pub struct Loaded {
    resident: Arc<Resident>,
}

impl Loaded {
    pub(super) fn of(resident: &Arc<Resident>) -> Arc<Self> {
        resident.users.fetch_add(1, Ordering::Relaxed);
        Arc::new(Loaded { resident: Arc::clone(resident) })
    }
}

impl Deref for Loaded {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.resident
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        *lock(&self.resident.last_used) = Instant::now();
        self.resident.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a model stays when nobody uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Until room is needed.
    Forever,
    /// So long.
    For(Duration),
}

/// A model that answers.
pub struct Resident {
    /// Its name in requests.
    pub id: String,
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// Runs its requests.
    pub engine: Engine,
    /// Which plugin it runs on. Held while it runs: so it is known of a replaced plugin.
    pub plugin: Arc<Spec>,
    /// What its plugin was told of this model alone, a JSON object.
    pub(super) options: String,
    /// The process that it runs in; `None` for this one.
    pub worker: Option<Arc<Worker>>,
    users: AtomicUsize,
    last_used: Mutex<Instant>,
    keep_alive: Mutex<KeepAlive>,
    /// What it was expected to take.
    expected_bytes: AtomicU64,
    crash_noted: AtomicBool,
    /// Tokens told at some times of the last seconds.
    pace: Mutex<VecDeque<(Instant, u64)>>,
    metadata: ModelMetadata,
    vocab_size: u32,
    /// Its chat template; a broken one is told at each chat, and plain completions go on.
    template: Option<Result<ChatTemplate>>,
    /// The same for chats with tools, where they have one of their own.
    tool_template: Option<Result<ChatTemplate>>,
}

impl Resident {
    /// Starts the engine of a model that its plugin has loaded into this process. Blocks while the plugin makes the context.
    ///
    /// # Errors
    /// What the plugin refuses, and [`Kind::LoadFailed`] for a model that neither generates text nor embeds.
    pub(super) fn start(
        id: String,
        plugin: Arc<Spec>,
        model: Arc<Model>,
        settings: Settings,
    ) -> Result<Resident> {
        let (metadata, vocab_size) = (model.metadata().clone(), model.vocab_size());
        let can = Abilities { capabilities: model.capabilities(), embeds: model.embeds() };
        let (capabilities, template) = describe(&id, &metadata, can);
        let engine = Engine::start(&id, model, settings)?;
        Ok(Resident::new(id, engine, (plugin, None), (metadata, vocab_size, capabilities, template)))
    }

    /// The model whose engine runs in this worker.
    ///
    /// # Errors
    /// [`Kind::LoadFailed`] when the plugin's description of it is broken.
    pub(super) fn in_worker(
        id: String,
        plugin: Arc<Spec>,
        worker: Worker,
        settings: Settings,
    ) -> Result<Resident> {
        let ready = &worker.ready;
        let metadata = ModelMetadata::parse(&ready.metadata)?;
        let engine = Engine::elsewhere(Arc::clone(&worker.remote), ready.room, settings);
        let can = Abilities { capabilities: Capabilities(ready.capabilities), embeds: ready.embeds };
        let (capabilities, template) = describe(&id, &metadata, can);
        let vocab_size = ready.vocab_size;
        Ok(Resident::new(
            id,
            engine,
            (plugin, Some(Arc::new(worker))),
            (metadata, vocab_size, capabilities, template),
        ))
    }

    fn new(
        id: String,
        engine: Engine,
        (plugin, worker): (Arc<Spec>, Option<Arc<Worker>>),
        (metadata, vocab_size, capabilities, template): (
            ModelMetadata,
            u32,
            Vec<String>,
            Option<Result<ChatTemplate>>,
        ),
    ) -> Resident {
        let tool_template = tool_template(&id, &metadata);
        Resident {
            id,
            capabilities,
            engine,
            plugin,
            options: NO_OPTIONS.to_owned(),
            worker,
            users: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            keep_alive: Mutex::new(KeepAlive::Forever),
            expected_bytes: AtomicU64::new(0),
            crash_noted: AtomicBool::new(false),
            pace: Mutex::default(),
            metadata,
            vocab_size,
            template,
            tool_template,
        }
    }

    /// How many use it now.
    pub fn users(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    /// For how long nobody has used it; `None` while somebody does.
    pub fn idle(&self) -> Option<Duration> {
        (self.users() == 0).then(|| lock(&self.last_used).elapsed())
    }

    /// It stays so long from now on when nobody uses it.
    pub fn keep(&self, keep_alive: KeepAlive) {
        *lock(&self.keep_alive) = keep_alive;
    }

    /// After how long without use it is unloaded.
    pub fn keep_alive(&self) -> KeepAlive {
        *lock(&self.keep_alive)
    }

    /// Notes what it was expected to take, in bytes.
    pub(super) fn expect_bytes(&self, bytes: u64) {
        self.expected_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What it was expected to take, in bytes.
    pub(super) fn expected_bytes(&self) -> u64 {
        self.expected_bytes.load(Ordering::Relaxed)
    }

    /// Notes that its engine crashed. `false` when that is known.
    pub(super) fn note_crash(&self) -> bool {
        !self.crash_noted.swap(true, Ordering::Relaxed)
    }

    /// Looks how many tokens were told until now.
    pub(super) fn sample(&self) {
        let mut pace = lock(&self.pace);
        pace.push_back((Instant::now(), self.engine.generated_tokens()));
        while pace.front().is_some_and(|(at, _)| pace.len() > 1 && at.elapsed() > PACE_WINDOW) {
            pace.pop_front();
        }
    }

    /// Tokens of all answers in a second, lately.
    pub fn tokens_per_second(&self) -> f64 {
        let pace = lock(&self.pace);
        let Some((since, before)) = pace.front() else { return 0.0 };
        let (seconds, now) = (since.elapsed().as_secs_f64(), self.engine.generated_tokens());
        if seconds > 0.0 { now.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    /// Whether it can do something, by the capability's name.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] with the capability that it lacks, and those that it has.
    pub fn require(&self, capability: &str) -> Result<()> {
        if self.can(capability) {
            return Ok(());
        }
        let message = format!(
            "model `{}` lacks the capability `{capability}`; it has: {}",
            self.id,
            self.capabilities.join(", ")
        );
        Err(Error::unsupported("model", message))
    }

    /// Whether it can do what has this name.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|own| own == capability)
    }

    /// What the plugin tells about it.
    pub fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    /// The tokens that a question asks for.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn tokens(&self, question: Question) -> Result<Vec<u32>> {
        match self.engine.ask(question).await? {
            Told::Tokens(tokens) => Ok(tokens),
            Told::Bytes(_) => Err(Error::new(Kind::Internal, "bytes were told for tokens: this is a bug")),
        }
    }

    /// The bytes of each of these tokens.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn token_bytes(&self, tokens: Vec<u32>) -> Result<Vec<Vec<u8>>> {
        match self.engine.ask(Question::Bytes(tokens)).await? {
            Told::Bytes(bytes) => Ok(bytes),
            Told::Tokens(_) => Err(Error::new(Kind::Internal, "tokens were told for bytes: this is a bug")),
        }
    }

    /// The longest that prompt and answer together may be here, in tokens.
    pub fn context_tokens(&self) -> u32 {
        self.engine.longest_sequence()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The text of the chat template that a chat goes by.
    pub fn template_source(&self, with_tools: bool) -> Option<&str> {
        let of_tools = self.metadata.tool_template.as_deref().filter(|_| with_tools);
        of_tools.or(self.metadata.chat_template.as_deref())
    }

    /// The model's own chat template; for chats with tools the one that is for these, where there is one.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without one, [`Kind::TemplateBroken`] for a broken one.
    pub fn chat_template(&self, with_tools: bool) -> Result<&ChatTemplate> {
        let of_tools = self.tool_template.as_ref().filter(|_| with_tools);
        match of_tools.or(self.template.as_ref()) {
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

    /// How it is asked for what stands between two texts, where it can be.
    pub fn infill(&self) -> Option<&'static Infill> {
        infill(&self.metadata)
    }

    /// Messages to a prompt, by the model's own template. One that has never heard of developers gets what they say as
    /// the system's: it would pass over it.
    ///
    /// # Errors
    /// As [`Resident::chat_template`], and [`Kind::TemplateRefused`] with the template's own words.
    pub fn render_chat(&self, messages: &[chat::Message], options: &RenderOptions) -> Result<Prompt> {
        let template = self.chat_template(options.tools.is_some())?;
        let messages = as_the_template_knows_them(messages, template);
        let rendered = template.render(&messages, options).map_err(|error| render_error(&self.id, &error))?;
        let segment = |segment: chat::Segment| match segment {
            chat::Segment::Template(text) => Segment::Template(text),
            chat::Segment::Literal(text) => Segment::Literal(text),
        };
        Ok(Prompt::Chat(rendered.segments.into_iter().map(segment).collect()))
    }
}

fn as_the_template_knows_them<'a>(
    messages: &'a [chat::Message],
    template: &ChatTemplate,
) -> Cow<'a, [chat::Message]> {
    let is_developer = |message: &chat::Message| message.role == DEVELOPER;
    if template.source().contains(DEVELOPER) || !messages.iter().any(is_developer) {
        return Cow::Borrowed(messages);
    }
    let mut messages = messages.to_vec();
    for message in messages.iter_mut().filter(|message| is_developer(message)) {
        message.role = "system".to_owned();
    }
    Cow::Owned(messages)
}

/// What a model's plugin says that it can do.
#[derive(Clone, Copy)]
struct Abilities {
    capabilities: Capabilities,
    embeds: bool,
}

/// What a model can do, by name, and its chat template.
fn describe(
    id: &str,
    metadata: &ModelMetadata,
    can: Abilities,
) -> (Vec<String>, Option<Result<ChatTemplate>>) {
    let template = metadata.chat_template.as_deref().map(|source| compile(id, source, metadata));
    let of_tools = tool_template(id, metadata);
    let working = |template: &Option<Result<ChatTemplate>>| matches!(template, Some(Ok(_)));
    let best = if working(&of_tools) && working(&template) { &of_tools } else { &template };
    let best = best.as_ref().and_then(|template| template.as_ref().ok());
    let fills = infill(metadata).is_some();
    let capabilities = capability::record(can.capabilities, can.embeds, fills, best);
    (capabilities, template)
}

fn tool_template(id: &str, metadata: &ModelMetadata) -> Option<Result<ChatTemplate>> {
    metadata.tool_template.as_deref().map(|source| compile(id, source, metadata))
}

/// How the model is asked for what stands between two texts.
fn infill(metadata: &ModelMetadata) -> Option<&'static Infill> {
    Infill::of(metadata.control_tokens.iter().map(|token| token.text.as_str()))
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
