//! Checks that everything on the store is what the catalog says, and that the catalog agrees with
//! itself. Repairs nothing.
//!
//! In order: the log of commits and the checkpoints (`log`), every segment of the newest state file
//! by file and row by row (`segments`, `rows`), what no commit names (`orphans`). Write-ahead logs
//! are the ingester's and checked by it, into the same [`Report`].
//!
//! It may run beside a server. What looks wrong is then compared with the newest catalog: a segment
//! that was merged meanwhile may be gone. Memory holds the catalog, and of a few segments at a time
//! the series index and one row group.

use std::fmt;

use crate::log::Log;
use crate::snapshot::Snapshot;
use crate::store::{Store, StoreError};

mod log;
mod orphans;
mod rows;
mod segments;
#[cfg(test)]
mod tests;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something is lost, wrong, or could not be read.
    Damage,
    /// Something that no query sees.
    Note,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Key of the object.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: &'static str,
}

impl Finding {
    /// Something is lost or wrong.
    pub fn damage(object: impl Into<String>, problem: impl ToString, advice: &'static str) -> Self {
        Self {
            severity: Severity::Damage,
            object: object.into(),
            problem: problem.to_string(),
            advice,
        }
    }

    /// Something that does no harm.
    pub fn note(object: impl Into<String>, problem: impl ToString, advice: &'static str) -> Self {
        Self {
            severity: Severity::Note,
            object: object.into(),
            problem: problem.to_string(),
            advice,
        }
    }

    /// The store did not deliver, so that nothing is known.
    pub fn unread(object: impl Into<String>, error: impl ToString) -> Self {
        Self::damage(
            object,
            format!("it could not be checked: {}", error.to_string()),
            "see that the store answers, and verify again",
        )
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Damage => "damage",
            Severity::Note => "note",
        };
        let line = format!("{word}: {}: {}; {}", self.object, self.problem, self.advice);
        // Texts of stores and decoders may have several lines.
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Commit records.
    pub records: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Segments.
    pub segments: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Objects of write-ahead logs.
    pub log_objects: u64,
    /// Files that no commit names yet, which is normal.
    pub young_orphans: u64,
}

/// Collects findings and hands each on as it comes.
pub struct Report<'a> {
    emit: &'a mut (dyn FnMut(&Finding) + Send),
    /// What was looked at.
    pub checked: Checked,
    damage: u64,
    notes: u64,
}

impl<'a> Report<'a> {
    /// A report without findings.
    pub fn new(emit: &'a mut (dyn FnMut(&Finding) + Send)) -> Self {
        Self {
            emit,
            checked: Checked::default(),
            damage: 0,
            notes: 0,
        }
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Damage => self.damage += 1,
            Severity::Note => self.notes += 1,
        }
        (self.emit)(&finding);
    }

    /// Whether nothing is lost or wrong.
    pub fn is_clean(&self) -> bool {
        self.damage == 0
    }

    /// One line about all.
    pub fn summary(&self) -> String {
        let Checked {
            records,
            checkpoints,
            segments,
            rows,
            bytes,
            log_objects,
            young_orphans,
        } = self.checked;
        format!(
            "checked {records} commit records, {checkpoints} checkpoints, {segments} segments \
             ({rows} rows, {bytes} bytes), {log_objects} write-ahead log objects; {young_orphans} \
             files await their commit; {} damaged, {} notes",
            self.damage, self.notes
        )
    }
}

/// The catalog as it is followed while a check runs.
#[derive(Debug)]
pub struct Followed {
    log: Log,
    snapshot: Snapshot,
    /// Whether `snapshot` is what all records give; if not, it may name too few or too many
    /// segments.
    is_complete: bool,
}

impl Followed {
    /// The newest state that is known.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Applies what was committed meanwhile. A record that does not fit was reported, or will be by
    /// the next check.
    pub async fn refresh(&mut self) -> Result<(), StoreError> {
        while self.is_complete {
            match self.log.read(self.snapshot.sequence() + 1).await {
                Ok(Some(record)) => match crate::apply::apply(&self.snapshot, &record) {
                    Ok(next) => self.snapshot = next,
                    Err(_) => return Ok(()),
                },
                Ok(None) | Err(StoreError::Corrupt { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Checks all but the write-ahead logs, and returns the catalog for those. `now_ms` is milliseconds
/// since 1970.
///
/// An error means that the store does not answer; what is wrong with objects is in the report.
pub async fn verify(
    store: &Store,
    now_ms: u64,
    report: &mut Report<'_>,
) -> Result<Followed, StoreError> {
    let mut followed = log::check(store, report).await?;
    segments::check(store, &mut followed, report).await?;
    orphans::check(store, &mut followed, now_ms, report).await?;
    Ok(followed)
}
