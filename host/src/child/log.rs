//! What children say: their own log lines by level, and what plugins print, become lines of the host's log.
//!
//! A child writes to a pipe. Its log lines begin with a mark and their level; everything else was printed by a plugin or
//! a library under it. However fast it comes, the pipe is emptied, and only so many lines a second reach the log.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Under this target the host logs what children say. It was filtered by them already.
pub const CHILD_TARGET: &str = "impetus::child::said";

/// Begins a log line of a child; followed by the level's digit.
const MARK: char = '\u{1}';

/// Lines that are kept to be told when the child ends badly.
const LAST_LINES: usize = 20;

/// A longer line is cut.
const LINE_BYTES: u64 = 2000;

/// Lines of one child that reach the log in a second.
const LINES_PER_SECOND: u32 = 100;

static DIRECTIVES: OnceLock<String> = OnceLock::new();

/// What `--log` says, to be told to children.
pub fn keep_directives(directives: &str) {
    let _ = DIRECTIVES.set(directives.to_owned());
}

pub(super) fn directives() -> String {
    DIRECTIVES.get().cloned().unwrap_or_else(|| "error".to_owned())
}

/// Starts the log of a child, towards the host's pipe.
pub(super) fn start_in_child(directives: &str) {
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The host does not start its log anew for each child, and a second start is no reason to fail.
    let _ = tracing::subscriber::set_global_default(subscriber.event_format(Marked).finish());
}

/// `\x01LEVEL message fields`, in one line.
struct Marked;

impl<S, N> FormatEvent<S, N> for Marked
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 0,
            Level::WARN => 1,
            Level::INFO => 2,
            Level::DEBUG => 3,
            Level::TRACE => 4,
        };
        let mut fields = FormattedFields::<N>::new(String::new());
        context.format_fields(fields.as_writer(), event)?;
        writeln!(writer, "{MARK}{level}{}", fields.fields.replace('\n', " / "))
    }
}

/// The last lines that a child said.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Empties the pipe until every writer has closed it.
pub(super) fn pump(name: &str, pipe: PipeReader, last: &LastLines) {
    let mut pipe = BufReader::new(pipe);
    let mut pace = Pace { second: Instant::now(), lines: 0, left_out: 0 };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match pipe.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        let (level, line) = read(text.trim_end());
        if line.is_empty() {
            continue;
        }
        last.push(line);
        if pace.may_log() {
            pace.tell_left_out(name);
            say(name, level, line);
        }
    }
    pace.tell_left_out(name);
}

/// A line's level and text; what was not written by our own log is information.
fn read(line: &str) -> (u32, &str) {
    let marked = line.strip_prefix(MARK).and_then(|rest| Some((rest.chars().next()?.to_digit(10)?, rest)));
    marked.map_or((2, line), |(level, rest)| (level, &rest[1..]))
}

fn say(model: &str, level: u32, line: &str) {
    match level {
        0 => tracing::error!(target: CHILD_TARGET, model, "{line}"),
        1 => tracing::warn!(target: CHILD_TARGET, model, "{line}"),
        2 => tracing::info!(target: CHILD_TARGET, model, "{line}"),
        3 => tracing::debug!(target: CHILD_TARGET, model, "{line}"),
        _ => tracing::trace!(target: CHILD_TARGET, model, "{line}"),
    }
}

struct Pace {
    second: Instant,
    lines: u32,
    left_out: u64,
}

impl Pace {
    fn may_log(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.lines) = (Instant::now(), 0);
        }
        self.lines += 1;
        let may = self.lines <= LINES_PER_SECOND;
        self.left_out += u64::from(!may);
        may
    }

    fn tell_left_out(&mut self, model: &str) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let mut text = String::new();
            let _ = write!(text, "{left_out} more lines were said too fast and are left out");
            tracing::warn!(target: CHILD_TARGET, model, "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_and_a_printed_one_is_information() {
        assert_eq!(read("\u{1}0it failed"), (0, "it failed"));
        assert_eq!(read("printed by C"), (2, "printed by C"));
        assert_eq!(read("\u{1}"), (2, "\u{1}"));
    }

    #[test]
    fn a_flood_is_read_whole_and_its_last_lines_are_kept() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let last = LastLines::default();
        let kept = last.clone();
        let pumping = std::thread::spawn(move || pump("m", reader, &kept));
        for number in 0..20_000 {
            std::io::Write::write_all(&mut writer, format!("line {number}\n").as_bytes()).unwrap();
        }
        drop(writer);
        pumping.join().unwrap();
        let told = last.told();
        assert_eq!((told.len(), told.last().map(String::as_str)), (LAST_LINES, Some("line 19999")));
    }
}
