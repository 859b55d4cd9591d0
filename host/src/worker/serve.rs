//! The worker's side: opens the plugin and the model, runs the loop, and ends with the host.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{Loading, Ready, Task};
use crate::child::{self, Begun, FrameReader, FrameWriter, confine};
use crate::engine::message::{Command, Event, Question, RequestId};
use crate::engine::remote::{In, Out};
use crate::engine::{self, Running, Stats, Wire};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Model;
use crate::plugins::{Library, Refusal};

/// How often the loop says that it is alive, while it is.
const ALIVE: Duration = Duration::from_millis(100);

/// Does what the host says until the host has had enough.
///
/// # Errors
/// When there is no host.
pub fn serve() -> Result<()> {
    let Begun { from_host, to_host, task, limits } = child::begin::<Task>()?;
    let to_host = Shared(Arc::new(Mutex::new(to_host)));
    let mut readable = confine::folders_of(&task.path);
    readable.extend(task.spec.folders());
    let mut confinement = confine::confine(&readable, task.spec.confinement);
    confinement.extend(limits);
    // From here on the host is listened to: when it is gone, so is this process, whatever the plugin is at.
    let (commands, questions) = listen(from_host)?;
    match load(&task, &to_host) {
        Err(error) => {
            to_host.send(&Loading::Refused(error));
            Ok(())
        }
        Ok((model, running)) => {
            let ready = Ready {
                metadata: model.metadata().json(),
                capabilities: model.capabilities().0,
                embeds: model.embeds(),
                vocab_size: model.vocab_size(),
                room: running.room,
                confinement,
            };
            to_host.send(&Loading::Ready(Box::new(ready)));
            run(model, running, (commands, questions), to_host)
        }
    }
}

fn load(task: &Task, to_host: &Shared) -> Result<(Arc<Model>, Running)> {
    let (library, _) = Library::open(&task.spec).map_err(|refusal| refused(task, refusal))?;
    let (reporting, told) = (to_host.clone(), Mutex::new(0));
    let progress = move |fraction: f32| {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0) as u32;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if percent > *told {
            *told = percent;
            reporting.send(&Loading::Progress(fraction));
        }
        true
    };
    let model = library.load_model(&task.path, (&task.format, &task.options), progress)?;
    let wire = Box::new(ToHost { writer: to_host.clone(), said: Mutex::new(None) });
    let running = engine::start(&task.model, Arc::clone(&model), task.settings, wire)?;
    Ok((model, running))
}

fn refused(task: &Task, refusal: Refusal) -> Error {
    let message = format!("plugin `{}` is {}: {}", task.spec.id, refusal.state, refusal.reason);
    let error = Error::new(Kind::PluginUnavailable, message);
    match refusal.detail {
        Some(detail) => error.with_detail(detail),
        None => error,
    }
}

/// Hands on what the host says, until the loop has ended.
fn run(
    model: Arc<Model>,
    running: Running,
    (commands, questions): (Receiver<Command>, Receiver<(u64, Question)>),
    to_host: Shared,
) -> Result<()> {
    let started = |error: std::io::Error| {
        Error::new(Kind::Internal, format!("a thread of the worker cannot be started: {error}"))
    };
    let answering = move || {
        for (number, question) in questions {
            to_host.send(&In::Told(number, engine::answer(&model, question)));
        }
    };
    Builder::new().name("questions".to_owned()).spawn(answering).map_err(started)?;
    let to_loop = running.commands;
    let handing_on = move || {
        for command in commands {
            let _ = to_loop.send(command);
        }
    };
    Builder::new().name("commands".to_owned()).spawn(handing_on).map_err(started)?;
    let _ = running.thread.join();
    Ok(())
}

/// What the host says: commands for the loop, and questions with their numbers.
type Words = (Receiver<Command>, Receiver<(u64, Question)>);

/// Starts to listen to the host. The end of its words is the end of this process.
fn listen(mut from_host: FrameReader) -> Result<Words> {
    let (commands, received): (Sender<Command>, _) = channel();
    let (questions, asked) = channel();
    let body = move || {
        loop {
            match from_host.receive() {
                Ok(Some(Out::Command(command))) => {
                    let _ = commands.send(command);
                }
                Ok(Some(Out::Ask(number, question))) => {
                    let _ = questions.send((number, question));
                }
                Ok(None) => leave(),
                Err(error) => {
                    tracing::error!("the host is not understood: {error}");
                    leave();
                }
            }
        }
    };
    let thread = Builder::new().name("host's words".to_owned()).spawn(body);
    thread.map_err(|error| Error::new(Kind::Internal, format!("no thread can be started: {error}")))?;
    Ok((received, asked))
}

/// Ends the process without destructors: a plugin may be in the middle of something.
fn leave() -> ! {
    signal_hook::low_level::exit(0)
}

/// The writing end, for several threads. A host that cannot be written to is gone.
#[derive(Clone)]
struct Shared(Arc<Mutex<FrameWriter>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, FrameWriter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send<T: serde::Serialize>(&self, value: &T) {
        if self.lock().send(value).is_err() {
            leave();
        }
    }
}

/// The loop's events on their way to the host. A step's texts are written together, at its end.
struct ToHost {
    writer: Shared,
    /// When it was last said that the loop is alive, and what it did.
    said: Mutex<Option<(Instant, Stats)>>,
}

impl ToHost {
    fn is_due(&self, stats: Stats) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_none_or(|(at, before)| {
            let same = (before.running, before.waiting) == (stats.running, stats.waiting);
            !same || at.elapsed() >= ALIVE
        });
        if due {
            *said = Some((Instant::now(), stats));
        }
        due
    }
}

impl Wire for ToHost {
    fn event(&self, id: RequestId, event: Event) {
        let waits = matches!(event, Event::Text { .. });
        let mut writer = self.writer.lock();
        let added = writer.add(&In::Event(id, event));
        if added.and_then(|()| if waits { Ok(()) } else { writer.flush() }).is_err() {
            leave();
        }
    }

    fn alive(&self, stats: Stats) {
        let due = self.is_due(stats);
        let mut writer = self.writer.lock();
        let added = if due { writer.add(&In::Alive(stats)) } else { Ok(()) };
        if added.and_then(|()| writer.flush()).is_err() {
            leave();
        }
    }

    fn computing(&self, requests: &[RequestId]) {
        self.writer.send(&In::Computing(requests.to_vec()));
    }

    fn end(&self, error: &Error) {
        self.writer.send(&In::Ended(error.clone()));
    }
}
