//! Plugins that are open in this very process, as `isolation = "none"` wants it: their code cannot be exchanged.

use super::library::Library;
use super::pipeline::Judged;
use super::record::{Refusal, State};
use super::spec::Spec;
use super::table::Table;
use super::trial::Verdict;
use super::{Plugins, held};
use crate::config::Isolation;

impl Plugins {
    /// The verdict on a plugin that was tried; one that is to run here is opened.
    pub(super) fn try_out(&self, spec: &Spec) -> Verdict {
        match self.verdicts.of(spec) {
            Verdict::Sound(_) if spec.isolation == Isolation::None => self.open_here(spec),
            verdict => verdict,
        }
    }

    /// Opens a plugin in this process, once.
    fn open_here(&self, spec: &Spec) -> Verdict {
        let mut open = held(&self.open_here);
        if let Some((same, library)) = open.get(&spec.path) {
            return if same.is_same_code(spec) {
                Verdict::Sound(library.identity())
            } else {
                another_is_open()
            };
        }
        match Library::open(spec) {
            Ok((library, identity)) => {
                open.insert(spec.path.clone(), (spec.clone(), library));
                Verdict::Sound(identity)
            }
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    /// Code that runs in this process cannot be exchanged, nor started anew with other options: what was there stays.
    pub(super) fn keep_what_is_open_here(&self, judged: &mut Judged, older: &Table) {
        let Some(spec) = judged.spec.as_ref().filter(|spec| spec.isolation == Isolation::None) else {
            return;
        };
        let open = held(&self.open_here);
        let Some((running, _)) = open.get(&spec.path).filter(|(running, _)| !running.is_same_code(spec))
        else {
            return;
        };
        let Some(record) = older.records.iter().find(|record| record.path == judged.record.path) else {
            return;
        };
        let mut record = record.clone();
        record.hint = Some(
            "its library or its options were changed: restart the server to use them, which runs it in its own process"
                .to_owned(),
        );
        *judged = Judged { record, spec: Some(running.clone()) };
    }
}

fn another_is_open() -> Verdict {
    Verdict::Refused(Refusal::new(
        State::LoadFailed,
        "an earlier file of this name is still open in the server's process",
        "restart the server, which runs this plugin in its own process",
    ))
}
