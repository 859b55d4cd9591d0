//! Reports that are kept, in a small database of the user's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::report::{Kind, Report};
use crate::error::{self, Error};

/// The database's file, in the user's folder for data.
pub const DATABASE: &str = "benchmarks.sqlite";

/// The layout of the database; another number is another layout.
const LAYOUT: i64 = 1;

/// How long another program that writes to it is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where reports are kept. The file is made by the first that is saved.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

/// A report without its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saved {
    /// Its name.
    pub id: String,
    /// What was measured.
    pub kind: Kind,
    /// Of what.
    pub subject: String,
    /// When it began, UTC.
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// A new name of a report: random, short enough to type.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

impl Store {
    /// In this file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Store { path: path.into() }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a report.
    ///
    /// # Errors
    /// What the system or the database says.
    pub fn save(&self, id: &str, report: &Report) -> error::Result<()> {
        let text = serde_json::to_string(report).map_err(|error| self.failed(&error))?;
        let write = "INSERT OR REPLACE INTO reports (id, kind, subject, started_at, seconds, interrupted, report) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let Report { kind, subject, started_at, seconds, interrupted, .. } = report;
        let values = params![id, kind.name(), subject, started_at, seconds, interrupted, text];
        self.open()?.execute(write, values).map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// What is kept, newest first.
    ///
    /// # Errors
    /// What the system or the database says.
    pub fn list(&self) -> error::Result<Vec<Saved>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let read = || -> rusqlite::Result<Vec<Saved>> {
            let connection = self.connect()?;
            let mut query = connection.prepare(
                "SELECT id, kind, subject, started_at, seconds, interrupted FROM reports ORDER BY started_at DESC, rowid DESC",
            )?;
            let saved = query.query_map([], |row| {
                let kind: String = row.get(1)?;
                Ok(Saved {
                    id: row.get(0)?,
                    kind: kind_of(&kind),
                    subject: row.get(2)?,
                    started_at: row.get(3)?,
                    seconds: row.get(4)?,
                    interrupted: row.get(5)?,
                })
            })?;
            saved.collect()
        };
        read().map_err(|error| self.failed(&error))
    }

    /// The report of this name, or of the only name that begins so.
    ///
    /// # Errors
    /// What the system or the database says.
    pub fn get(&self, id: &str) -> error::Result<Option<(String, Report)>> {
        let names: Vec<String> = self.list()?.into_iter().map(|saved| saved.id).collect();
        let beginning = || {
            let mut found = names.iter().filter(|name| !id.is_empty() && name.starts_with(id));
            found.next().filter(|_| found.next().is_none())
        };
        let Some(name) = names.iter().find(|name| *name == id).or_else(beginning) else { return Ok(None) };
        let read = |name: &String| {
            let connection = self.connect()?;
            let report =
                connection.query_row("SELECT report FROM reports WHERE id = ?1", [name], |row| row.get(0));
            report.optional()
        };
        let text: Option<String> = read(name).map_err(|error| self.failed(&error))?;
        let Some(text) = text else { return Ok(None) };
        let report = serde_json::from_str(&text).map_err(|error| self.failed(&error))?;
        Ok(Some((name.clone(), report)))
    }

    /// Forgets a report. `false` where there is none of this name.
    ///
    /// # Errors
    /// What the system or the database says.
    pub fn delete(&self, id: &str) -> error::Result<bool> {
        if !self.path.exists() {
            return Ok(false);
        }
        let gone = self.open()?.execute("DELETE FROM reports WHERE id = ?1", [id]);
        gone.map(|count| count > 0).map_err(|error| self.failed(&error))
    }

    fn open(&self) -> error::Result<Connection> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| self.failed(&error))?;
        }
        let connection = self.connect().map_err(|error| self.failed(&error))?;
        let layout = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        match layout.map_err(|error| self.failed(&error))? {
            LAYOUT => {}
            0 => connection.execute_batch(TABLE).map_err(|error| self.failed(&error))?,
            other => {
                let message =
                    format!("it has layout {other}, and this version knows {LAYOUT}: upgrade impetus");
                return Err(self.failed(&message));
            }
        }
        Ok(connection)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        Error::new(error::Kind::Internal, format!("the benchmarks' database {file} cannot be used: {error}"))
            .with_detail(self.path.display().to_string())
    }
}

const TABLE: &str = "BEGIN;
    CREATE TABLE reports (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, started_at TEXT NOT NULL,
        seconds REAL NOT NULL, interrupted INTEGER NOT NULL, report TEXT NOT NULL
    );
    PRAGMA user_version = 1;
    COMMIT;";

fn kind_of(name: &str) -> Kind {
    [Kind::Model, Kind::Serve].into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::Machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::recorder::{Recorder, Stopper};
    use crate::bench::report::{Named, Unit};

    fn report(subject: &str, value: f64) -> Report {
        let tell = std::sync::Arc::new(|_: &crate::bench::recorder::Progress| ());
        let mut recorder =
            Recorder::new(Kind::Model, serde_json::json!({"runs": 1}), Stopper::default(), tell);
        recorder.subject = subject.to_owned();
        recorder.add(
            Named::new("decode.1", "decode", Unit::TokensPerSecond).measured([value].into_iter().collect()),
        );
        recorder.report()
    }

    #[test]
    fn what_is_saved_is_found_again_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("below/benchmarks.sqlite"));
        assert_eq!((store.list().unwrap(), store.get("a").unwrap()), (Vec::new(), None));
        assert!(!store.path().exists());
        let (first, second) = (report("m", 0.1 + 0.2), report("n", 2.0));
        store.save("abc1", &first).unwrap();
        store.save("abd2", &second).unwrap();
        assert_eq!(store.get("abc1").unwrap(), Some(("abc1".to_owned(), first)));
        assert_eq!(store.get("abd").unwrap().unwrap().1, second);
        assert_eq!(store.get("ab").unwrap(), None);
        let subjects: Vec<String> = store.list().unwrap().into_iter().map(|saved| saved.subject).collect();
        assert_eq!(subjects, ["n", "m"]);
        assert!(store.delete("abd2").unwrap() && !store.delete("abd2").unwrap());
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("x"));
        store.save("a", &report("m", 1.0)).unwrap();
        store.connect().unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(store.save("b", &report("m", 1.0)).unwrap_err().message.contains("layout 9"));
    }
}
