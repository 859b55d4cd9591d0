//! A chat in the terminal: a line in, an answer out, until the user has enough.

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use tokio::runtime::Runtime;

use super::answer::{End, hint_at_raw, request, stream};
use super::args::Run;
use super::output::tell;
use super::{Failure, Outcome, complaint};
use crate::chat::{Message, RenderOptions};
use crate::error::{Error, Kind};
use crate::models::Loaded;

const HELP: &str = "\
/clear  forget what was said and begin anew
/bye    end, as Ctrl-D does
/help   this
Ctrl-C stops an answer; a second one ends the chat. Pasted text may have several lines.";

struct Chat<'a> {
    runtime: &'a Runtime,
    loaded: &'a Loaded,
    arguments: &'a Run,
    messages: Vec<Message>,
    /// The last thing that happened was a Ctrl-C.
    interrupted: bool,
}

enum Line {
    Say(String),
    Clear,
    Help,
    Unknown(String),
    Nothing,
    End,
}

/// Chats until the user ends it.
pub(super) fn chat(runtime: &Runtime, loaded: &Loaded, arguments: &Run) -> Outcome {
    let mut chat = Chat { runtime, loaded, arguments, messages: Vec::new(), interrupted: false };
    chat.clear();
    if !loaded.capabilities.iter().any(|capability| capability == "chat") {
        // Told before the first message is typed, in the template's own words where it is broken.
        loaded
            .render_chat(&[Message::new("user", "Hello")], &RenderOptions::default())
            .map_err(hint_at_raw)?;
    }
    let config = Config::builder().auto_add_history(true).build();
    let mut editor: Editor<(), MemHistory> =
        Editor::with_history(config, MemHistory::new()).map_err(|error| terminal_error(&error))?;
    tell(&format!("{}: /help says what else can be typed", loaded.id));
    loop {
        match chat.read(editor.readline(">>> "))? {
            Line::Say(text) => chat.answer(&text)?,
            Line::Clear => chat.clear(),
            Line::Help => tell(HELP),
            Line::Unknown(word) => tell(&format!("there is no {word}; /help says what there is")),
            Line::Nothing => {}
            Line::End => return Ok(()),
        }
    }
}

impl Chat<'_> {
    fn clear(&mut self) {
        self.messages = self.arguments.system.iter().map(|text| Message::new("system", text)).collect();
    }

    fn read(&mut self, read: rustyline::Result<String>) -> Outcome<Line> {
        let again = std::mem::take(&mut self.interrupted);
        match read {
            Ok(line) => Ok(line_of(&line)),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) if again => Ok(Line::End),
            Err(ReadlineError::Interrupted) => {
                self.interrupted = true;
                tell("(once more, or /bye, to end)");
                Ok(Line::Nothing)
            }
            Err(error) => Err(terminal_error(&error)),
        }
    }

    /// Streams the answer and remembers it. What fails is told; the chat goes on without that message.
    fn answer(&mut self, text: &str) -> Outcome {
        self.messages.push(Message::new("user", text));
        match self.stream() {
            Ok(text) => self.messages.push(Message::new("assistant", &text)),
            Err(Failure::Error(error)) if error.kind != Kind::EngineCrashed => {
                self.messages.pop();
                tell(&complaint(&error));
                if error.kind == Kind::ContextLengthExceeded {
                    tell("the chat has become too long for the model: /clear begins anew");
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn stream(&mut self) -> Outcome<String> {
        let prompt = self.loaded.render_chat(&self.messages, &RenderOptions::default())?;
        let request = request(self.arguments, &self.loaded.metadata().recommended, prompt)?;
        let interrupt = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let answer = self.runtime.block_on(stream(self.loaded, request, interrupt))?;
        match answer.end {
            // The line of figures says it too.
            End::Length if !self.arguments.stats => tell("(cut off by its length)"),
            End::Complete | End::Length => {}
            End::Stopped => {
                self.interrupted = true;
                tell("(stopped)");
            }
        }
        if self.arguments.stats {
            tell(&answer.stats());
        }
        Ok(answer.text)
    }
}

/// A line that begins with a slash is a command when it is a single word: paths and prose are said.
fn line_of(line: &str) -> Line {
    match line.trim() {
        "" => Line::Nothing,
        "/bye" | "/exit" | "/quit" => Line::End,
        "/clear" => Line::Clear,
        "/help" | "/?" => Line::Help,
        word if is_command(word) => Line::Unknown(word.to_owned()),
        _ => Line::Say(line.to_owned()),
    }
}

fn is_command(word: &str) -> bool {
    word.strip_prefix('/')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn terminal_error(error: &ReadlineError) -> Failure {
    Error::new(Kind::Internal, format!("the terminal cannot be read: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_words_behind_a_slash_are_commands() {
        assert!(matches!(line_of(" /bye "), Line::End));
        assert!(matches!(line_of("/clear"), Line::Clear));
        assert!(matches!(line_of("/nonsense"), Line::Unknown(_)));
        assert!(matches!(line_of("  "), Line::Nothing));
        for said in ["/etc/passwd", "/help me with this", " leading space", "/", "a /bye"] {
            assert!(matches!(line_of(said), Line::Say(text) if text == said), "{said}");
        }
    }
}
