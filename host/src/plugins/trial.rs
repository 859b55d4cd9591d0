//! The part of a plugin's check that runs its code, in a child process that lives for nothing else.
//!
//! The child opens the library, starts it and asks it about a file; whatever the plugin does meanwhile (abort, hang,
//! end the process, flood its output) ends the child alone and becomes a verdict. Both sides are here: `run` in the
//! host, [`answer`] in the child, which is this very program. Between them go lines of JSON, the spec on the child's
//! stdin and reports on its stdout, which is taken away from the plugin before its code runs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::library::{Identity, Library};
use super::record::{Refusal, State};
use super::spec::Spec;
use crate::child::confine;
use crate::error::{Error, Kind, Result};

/// How long opening, starting and a question may take together.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The hidden command that runs [`answer`].
const COMMAND: [&str; 2] = ["engine", "trial"];

/// What a plugin may write to its output meanwhile; more is a flood.
const MOST_OUTPUT: usize = 1 << 20;
/// How much of the end of its output is shown.
const SHOWN_OUTPUT: usize = 2000;
/// What the child may take of memory: to be opened and started needs little, and endless must not become the host's.
const MOST_MEMORY: u64 = 8 << 30;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It opens, starts and answers.
    Sound(Identity),
    /// It does not.
    Refused(Refusal),
}

/// A line of the child's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// What comes next.
    Next(Step),
    /// All is said.
    Verdict(Verdict),
}

/// What a plugin is doing when it crashes or hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Open,
    Probe,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Step::Open => "while it was opened and started",
            Step::Probe => "when it was asked about a file",
        }
    }
}

/// Tries a plugin in a child of `program`, which is this program. Blocks, for [`DEADLINE`] at most.
pub(super) fn run(program: &Path, spec: &Spec) -> Verdict {
    match start(program, spec) {
        Ok(child) => Trial { child, step: Step::Open }.watch(DEADLINE),
        Err(error) => Verdict::Refused(Refusal::new(
            State::LoadFailed,
            format!("no process could be started to check it in: {error}"),
            "free memory or processes on this machine, then run `impetus plugins check FILE`",
        )),
    }
}

fn start(program: &Path, spec: &Spec) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(COMMAND).env_clear().envs(harmless_environment()).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ended already is seen by what it does not say.
        let _ = stdin.write_all(serde_json::to_string(spec)?.as_bytes());
    }
    Ok(child)
}

/// What a plugin's process may know of our environment: where things are and which devices to use, and no variable
/// that steers the loader or that could be a secret.
fn harmless_environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    const NAMES: [&str; 8] = ["HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR"];
    const BEGINNINGS: [&str; 6] = ["CUDA_", "GGML_", "HIP_", "LC_", "ROCR_", "VK_"];
    std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        NAMES.contains(&&*name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    })
}

/// What is heard of the child.
enum Heard {
    Report(Report),
    /// It can say no more.
    End,
    Flood,
    /// The end of what it wrote to its output.
    Output(String),
}

struct Trial {
    child: Child,
    step: Step,
}

impl Trial {
    fn watch(mut self, limit: Duration) -> Verdict {
        let deadline = Instant::now() + limit;
        let (tell, heard) = mpsc::channel();
        if let Some(stdout) = self.child.stdout.take() {
            let tell = tell.clone();
            std::thread::spawn(move || hear_reports(stdout, &tell));
        }
        if let Some(stderr) = self.child.stderr.take() {
            std::thread::spawn(move || hear_output(stderr, &tell));
        }
        let mut output = None;
        loop {
            match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Heard::Report(Report::Next(step))) => self.step = step,
                Ok(Heard::Report(Report::Verdict(verdict))) => {
                    self.end();
                    return verdict;
                }
                Ok(Heard::Output(text)) => output = Some(text),
                Ok(Heard::Flood) => return self.quarantine(&flooded()),
                Ok(Heard::End) => return self.crashed(output, &heard),
                Err(_) => return self.quarantine(&format!("it hung for {} seconds", limit.as_secs())),
            }
        }
    }

    /// Ends the child and whatever it started.
    fn end(&mut self) -> Option<ExitStatus> {
        use nix::sys::signal::{Signal, killpg};

        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
        }
        self.child.wait().ok()
    }

    fn quarantine(&mut self, what: &str) -> Verdict {
        self.end();
        let reason = format!("{what} {}, and is kept out", self.step.words());
        Verdict::Refused(Refusal::new(State::Quarantined, reason, self.hint()))
    }

    fn crashed(&mut self, output: Option<String>, heard: &Receiver<Heard>) -> Verdict {
        // A process that closed its output ends, or has ended; how it did was decided before it is killed here.
        let how = self.end().map_or_else(|| "it ended".to_owned(), how_it_ended);
        let rest = || {
            let late = heard.recv_timeout(Duration::from_secs(1));
            late.ok().and_then(|heard| if let Heard::Output(text) = heard { Some(text) } else { None })
        };
        let refusal = Refusal::new(State::Crashed, format!("{how} {}", self.step.words()), self.hint());
        Verdict::Refused(match output.or_else(rest).filter(|text| !text.trim().is_empty()) {
            Some(text) => refusal.with_detail(format!("its last words: {}", text.trim())),
            None => refusal,
        })
    }

    fn hint(&self) -> &'static str {
        "report it to the plugin's author, and remove the library or get another version; \
         `impetus plugins check FILE` tries it again"
    }
}

fn flooded() -> String {
    format!("it wrote more than {} KiB of output", MOST_OUTPUT >> 10)
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("an unknown signal");
            format!("it crashed ({name}, signal {signal})")
        }
        (None, Some(code)) => format!("it ended its process with exit code {code}"),
        (None, None) => "it ended its process".to_owned(),
    }
}

fn hear_reports(stdout: impl Read, tell: &Sender<Heard>) {
    let mut lines = BufReader::new(stdout.take(MOST_OUTPUT as u64));
    loop {
        let mut line = Vec::new();
        let heard = match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Heard::End,
            // A line that is no report is somebody else's.
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(report) => Heard::Report(report),
                Err(_) => continue,
            },
        };
        let last = matches!(heard, Heard::End);
        if tell.send(heard).is_err() || last {
            return;
        }
    }
}

fn hear_output(mut stderr: impl Read, tell: &Sender<Heard>) {
    let mut kept: Vec<u8> = Vec::new();
    let mut total = 0;
    let mut buffer = vec![0; 1 << 14];
    while let Ok(length) = stderr.read(&mut buffer) {
        if length == 0 {
            break;
        }
        total += length;
        if total > MOST_OUTPUT {
            let _ = tell.send(Heard::Flood);
            return;
        }
        kept.extend(&buffer[..length]);
        kept.drain(..kept.len().saturating_sub(SHOWN_OUTPUT));
    }
    let _ = tell.send(Heard::Output(String::from_utf8_lossy(&kept).into_owned()));
}

/// What the child does: reads a spec from stdin, tries the plugin, and reports on stdout. The process is to be ended
/// after it, without running destructors, which are the plugin's too.
///
/// # Errors
/// [`Kind::Internal`] with what is wrong with stdin or stdout.
pub fn answer() -> Result<()> {
    try_as_told().map_err(|error| Error::new(Kind::Internal, format!("the plugin cannot be tried: {error}")))
}

fn try_as_told() -> io::Result<()> {
    confine::leave_stopping_to_the_host();
    limit()?;
    let mut reports = std::fs::File::from(nix::unistd::dup(io::stdout())?);
    nix::unistd::dup2_stdout(io::stderr())?;
    let spec: Spec = serde_json::from_reader(io::stdin().lock())?;
    // As in a worker: what it may not do there it need not try here.
    confine::confine(&spec.folders(), spec.confinement);
    let mut say = |report: &Report| writeln!(reports, "{}", serde_json::to_string(report)?);
    say(&Report::Next(Step::Open))?;
    let (library, identity) = match Library::open(&spec) {
        Ok(opened) => opened,
        Err(refusal) => return say(&Report::Verdict(Verdict::Refused(refusal))),
    };
    say(&Report::Next(Step::Probe))?;
    // Any answer will do: there is no such file.
    for ending in library.extensions() {
        let _ = library.probe_head(&Path::new("/nonexistent/trial").with_extension(ending), b"");
    }
    say(&Report::Verdict(Verdict::Sound(identity)))
}

/// No core dumps, no new privileges, bounded memory, and no life after the host's.
fn limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};

    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    #[cfg(target_os = "linux")]
    {
        use nix::sys::prctl;

        setrlimit(Resource::RLIMIT_DATA, MOST_MEMORY, MOST_MEMORY)?;
        prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        prctl::set_no_new_privs()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a child that runs this shell script.
    fn verdict(script: &str) -> Refusal {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let trial = Trial { child: command.spawn().unwrap(), step: Step::Open };
        match trial.watch(Duration::from_secs(1)) {
            Verdict::Refused(refusal) => refusal,
            sound @ Verdict::Sound(_) => panic!("{sound:?}"),
        }
    }

    #[test]
    fn each_way_to_fail_is_a_verdict() {
        let check = |script: &str, state: State, words: &str| {
            let refusal = verdict(script);
            assert_eq!(refusal.state, state, "{script}");
            assert!(refusal.reason.contains(words), "{script}: {}", refusal.reason);
        };
        check("kill -ABRT $$", State::Crashed, "SIGABRT, signal 6) while it was opened");
        check("echo '{\"next\":\"probe\"}'; exit 3", State::Crashed, "exit code 3 when it was asked");
        check("echo noise; exit 2", State::Crashed, "exit code 2");
        check("sleep 60", State::Quarantined, "it hung for 1 seconds");
        check("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx >&2; done", State::Quarantined, "1024 KiB");
        let spoke = verdict("echo first >&2; echo last words >&2; exit 1");
        assert!(spoke.detail.unwrap().ends_with("first\nlast words"));
    }

    #[test]
    fn what_the_child_says_counts() {
        let refusal = Refusal::new(State::InitFailed, "no", "yes");
        let line = serde_json::to_string(&Report::Verdict(Verdict::Refused(refusal.clone()))).unwrap();
        assert_eq!(verdict(&format!("echo '{line}'; sleep 60")), refusal);
    }

    #[test]
    fn secrets_and_the_loaders_variables_stay_here() {
        let passed: Vec<_> =
            harmless_environment().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        assert!(!passed.iter().any(|name| name.starts_with("LD_") || name.contains("KEY")), "{passed:?}");
    }
}
