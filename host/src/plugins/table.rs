//! All plugins at one moment: a record of each library, how to open those that are loaded, and who has which format.
//! Never changed: what comes later is another table. Pure but for the trials.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::pipeline::Judged;
use super::record::{Record, Refusal, State};
use super::spec::Spec;
use super::trial::Verdict;
use crate::events::Change;

/// The plugins of one moment.
#[derive(Default)]
pub(super) struct Table {
    pub(super) records: Vec<Record>,
    /// Those whose formats are served, by id.
    pub(super) running: BTreeMap<String, Arc<Spec>>,
}

/// A format that can be served now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ActiveFormat {
    /// The format's name.
    pub id: String,
    /// The plugin that runs it.
    pub plugin: String,
    /// That plugin's version.
    pub plugin_version: String,
    /// File name endings, without the dot.
    pub extensions: Vec<String>,
}

impl Table {
    /// Tries what was judged, libraries of different ids at once, and gives each format to one plugin.
    pub(super) fn of(
        judged: Vec<Judged>,
        pins: &BTreeMap<String, String>,
        try_out: impl Fn(&Spec) -> Verdict + Sync,
    ) -> Self {
        let mut by_id: BTreeMap<String, Vec<(&mut Record, Spec)>> = BTreeMap::new();
        let (mut records, specs): (Vec<Record>, Vec<Option<Spec>>) =
            judged.into_iter().map(|judged| (judged.record, judged.spec)).unzip();
        for (record, spec) in records.iter_mut().zip(specs) {
            if let Some(spec) = spec {
                by_id.entry(spec.id.clone()).or_default().push((record, spec));
            }
        }
        let try_out = &try_out;
        let running = std::thread::scope(|scope| {
            let trials: Vec<_> = by_id
                .into_values()
                .map(|libraries| scope.spawn(move || first_sound(libraries, try_out)))
                .collect();
            let sound = trials.into_iter().filter_map(|trial| trial.join().ok().flatten());
            sound.map(|spec| (spec.id.clone(), Arc::new(spec))).collect()
        });
        let mut table = Table { records, running };
        table.resolve_formats(pins);
        table
    }

    /// What was found out about a library, to be said of it again.
    pub(super) fn judged(&self, library: &Path) -> Option<Judged> {
        let record = self.records.iter().find(|record| record.path == library)?.clone();
        let runs = record.state == State::Loaded;
        let spec = runs.then(|| self.running.get(&record.id).map(|spec| Spec::clone(spec))).flatten();
        Some(Judged { record, spec })
    }

    /// The formats that can be served now, by name.
    pub(super) fn formats(&self) -> Vec<ActiveFormat> {
        let of_record = |record: &Record| -> Vec<ActiveFormat> {
            let active = record.formats.iter().filter(|format| format.active);
            active
                .map(|format| ActiveFormat {
                    id: format.id.clone(),
                    plugin: record.id.clone(),
                    plugin_version: record.version.clone().unwrap_or_default(),
                    extensions: format.extensions.clone(),
                })
                .collect()
        };
        let mut formats: Vec<ActiveFormat> = self.records.iter().flat_map(of_record).collect();
        formats.sort_by(|a, b| a.id.cmp(&b.id));
        formats
    }

    /// Gives each contested format to one plugin: the pin of plugins.toml, else the priority, else the first id.
    fn resolve_formats(&mut self, pins: &BTreeMap<String, String>) {
        let mut claims: BTreeMap<String, Vec<(bool, u32, String)>> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.state == State::Loaded) {
            for format in &record.formats {
                let pinned = pins.get(&format.id) == Some(&record.id);
                let claim = (pinned, format.priority, record.id.clone());
                claims.entry(format.id.clone()).or_default().push(claim);
            }
        }
        let better = |a: &&(bool, u32, String), b: &&(bool, u32, String)| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| b.2.cmp(&a.2))
        };
        let winners: BTreeMap<String, String> = claims
            .iter()
            .filter_map(|(format, claims)| Some((format.clone(), claims.iter().max_by(better)?.2.clone())))
            .collect();
        for record in self.records.iter_mut().filter(|record| record.state == State::Loaded) {
            apply_winners(record, &winners);
        }
        let records = &self.records;
        let loaded = |id: &str| records.iter().any(|record| record.id == id && record.state == State::Loaded);
        self.running.retain(|id, _| loaded(id));
    }

    /// What to tell of the way from an older table to this one.
    pub(super) fn changes_since(&self, older: &Table) -> Vec<Change> {
        let same = |record: &Record| older.records.iter().find(|other| other.path == record.path);
        let is_news = |record: &&Record| {
            same(record).is_none_or(|other| {
                (&other.id, &other.version, other.state, &other.reason, &other.sha256)
                    != (&record.id, &record.version, record.state, &record.reason, &record.sha256)
            })
        };
        let told = |record: &Record| Change::Plugin {
            id: record.id.clone(),
            version: record.version.clone(),
            state: record.state,
            reason: record.reason.clone(),
            hint: record.hint.clone(),
        };
        let is_gone = |record: &&Record| !self.records.iter().any(|other| other.path == record.path);
        let gone = older.records.iter().filter(is_gone).map(removed);
        let mut changes: Vec<Change> = self.records.iter().filter(is_news).map(told).chain(gone).collect();
        let names = |table: &Table| table.formats().into_iter().map(|format| format.id).collect::<Vec<_>>();
        if names(self) != names(older) {
            changes.push(Change::Formats { formats: names(self) });
        }
        changes
    }
}

/// What to tell of a library that is no longer there.
pub(super) fn removed(record: &Record) -> Change {
    Change::PluginRemoved { id: record.id.clone(), version: record.version.clone() }
}

/// Of libraries with one id the first that proves sound is loaded; those behind it are duplicates.
fn first_sound(libraries: Vec<(&mut Record, Spec)>, try_out: &impl Fn(&Spec) -> Verdict) -> Option<Spec> {
    let mut sound: Option<Spec> = None;
    for (record, spec) in libraries {
        if let Some(first) = &sound {
            record.refuse(Refusal::new(
                State::DuplicatePlugin,
                format!("the plugin `{}` is already loaded from {}", spec.id, first.path.display()),
                "remove one of the two libraries",
            ));
            continue;
        }
        match try_out(&spec) {
            Verdict::Sound(identity) => {
                record.load(identity);
                sound = Some(spec);
            }
            Verdict::Refused(refusal) => record.refuse(refusal),
        }
    }
    sound
}

fn apply_winners(record: &mut Record, winners: &BTreeMap<String, String>) {
    for format in &mut record.formats {
        let winner = winners.get(&format.id);
        format.active = winner == Some(&record.id);
        format.shadowed_by = winner.filter(|&winner| *winner != record.id).cloned();
    }
    if record.formats.iter().any(|format| format.active) {
        return;
    }
    let by: Vec<&str> = record.formats.iter().filter_map(|format| format.shadowed_by.as_deref()).collect();
    record.refuse(Refusal::new(
        State::DuplicateFormat,
        format!("all its formats are run by: {}", by.join(", ")),
        "pin a format to this plugin under [formats] in plugins.toml, or remove the other plugin",
    ));
}
