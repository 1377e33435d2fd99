//! The log of commit records on the store. It is only read and appended to.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::keys;
use crate::record::{Record, envelope};
use crate::store::{PutOutcome, Store, StoreError};

/// How often an append is tried while the store does not answer,
const APPEND_TRIES: u32 = 3;
/// and after how long it is not tried again: a writer waits for the answer.
const APPEND_PATIENCE: Duration = Duration::from_secs(3);
/// How many records are read at once when a process starts.
const READ_AHEAD: usize = 16;

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Appended {
    /// The record is in the log.
    Ours,
    /// Another one took its place.
    Theirs(Box<Record>),
}

/// The log of commit records.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    store: Store,
    /// Time before the second try; it doubles for each further one.
    retry_delay: Duration,
}

/// Records that are read ahead of their use.
pub(crate) struct Records<'a>(BoxStream<'a, Result<Record, StoreError>>);

impl Records<'_> {
    /// The next record in order.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        self.0.try_next().await
    }
}

impl Log {
    pub(crate) fn new(store: Store, retry_delay: Duration) -> Self {
        Self { store, retry_delay }
    }

    /// Record `sequence`; `None` if it is not written yet.
    pub(crate) async fn read(&self, sequence: u64) -> Result<Option<Record>, StoreError> {
        let key = keys::log_record(sequence);
        let bytes = match self.store.get(&key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Record = envelope::open(&key, &bytes)?;
        if record.sequence != sequence {
            return Err(StoreError::Corrupt {
                key,
                reason: format!("it is record {}", record.sequence),
            });
        }
        Ok(Some(record))
    }

    /// Writes a record in its place, unless another one has it.
    ///
    /// An error of kind `Unavailable` leaves open whether the record is in the log, or will be.
    /// Nothing is read back after such an error: only a put that answers says that the object
    /// is durable, and "exists already" is such an answer.
    pub(crate) async fn append(&self, record: &Record) -> Result<Appended, StoreError> {
        let key = keys::log_record(record.sequence);
        let bytes = envelope::seal(record);
        let started = Instant::now();
        let mut delay = self.retry_delay;
        for attempt in 1.. {
            let error = match self.store.put_if_absent(&key, bytes.clone()).await {
                Ok(PutOutcome::Created) => return Ok(Appended::Ours),
                Ok(PutOutcome::AlreadyExists) => match self.read(record.sequence).await {
                    Ok(Some(found)) if found.node == record.node && found.nonce == record.nonce => {
                        return Ok(Appended::Ours);
                    }
                    Ok(Some(found)) => return Ok(Appended::Theirs(Box::new(found))),
                    // S3 answers a conflict also while another put to the same key is under way.
                    Ok(None) => StoreError::Unavailable {
                        key: key.clone(),
                        reason: "it exists, but cannot be read".to_owned(),
                    },
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !matches!(error, StoreError::Unavailable { .. })
                || attempt >= APPEND_TRIES
                || started.elapsed() >= APPEND_PATIENCE
            {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "commit is tried again");
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        // The loop above has no end but its returns.
        Err(StoreError::Unavailable {
            key,
            reason: "too many tries".to_owned(),
        })
    }

    /// The records after `sequence` up to `last`, which is known to be there.
    pub(crate) fn read_between(&self, sequence: u64, last: u64) -> Records<'_> {
        let read = move |sequence| async move {
            let missing = || StoreError::Missing {
                key: keys::log_record(sequence),
                reason: format!("record {last} of the log is there, so this one was"),
            };
            self.read(sequence).await?.ok_or_else(missing)
        };
        Records(
            futures::stream::iter(sequence.saturating_add(1)..=last)
                .map(read)
                .buffered(READ_AHEAD)
                .boxed(),
        )
    }

    /// Gives all records after `sequence`, that of a checkpoint or 0, to `use_record`, in order.
    /// `known` is the sequence of the newest checkpoint that there is.
    pub(crate) async fn replay<E: From<StoreError>>(
        &self,
        sequence: u64,
        known: u64,
        mut use_record: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        // The listing only says how far to read ahead: a listing that runs while records come may
        // miss one.
        let mut listing = self.store.list_from(keys::LOG, &keys::log_record(sequence));
        let mut listed = Listed::default();
        while let Some(info) = listing.try_next().await? {
            if let Some(found) = keys::parse_log_record(&info.key) {
                listed.add(found);
            }
        }
        let mut last = sequence.max(listed.last());
        let mut records = self.read_between(sequence, last);
        while let Some(record) = records.next().await.map_err(|error| listed.judge(error))? {
            use_record(record)?;
        }
        while let Some(record) = self.read(last.saturating_add(1)).await? {
            last = record.sequence;
            use_record(record)?;
        }
        // A log that ends before a checkpoint has lost its end, and perhaps more than the
        // checkpoint makes up for.
        let missing = if last < known {
            last.saturating_add(1)
        } else if last == sequence && sequence > 0 && !self.is_there(sequence).await? {
            sequence
        } else {
            return Ok(());
        };
        let reason = format!(
            "{} is there, so this record was",
            keys::checkpoint(known.max(sequence))
        );
        let key = keys::log_record(missing);
        Err(StoreError::Missing { key, reason }.into())
    }

    async fn is_there(&self, sequence: u64) -> Result<bool, StoreError> {
        match self.store.head(&keys::log_record(sequence)).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Which records a listing showed, as runs without gaps.
#[derive(Debug, Default)]
struct Listed(Vec<RangeInclusive<u64>>);

impl Listed {
    fn add(&mut self, sequence: u64) {
        match self.0.last_mut() {
            Some(run) if run.end().checked_add(1) == Some(sequence) => {
                *run = *run.start()..=sequence;
            }
            _ => self.0.push(sequence..=sequence),
        }
    }

    fn last(&self) -> u64 {
        self.0.iter().map(|run| *run.end()).max().unwrap_or(0)
    }

    /// Stores have been seen that list, after a restart, what they cannot read yet: what is listed
    /// is not missing.
    fn judge(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Missing { key, .. }
                if keys::parse_log_record(&key)
                    .is_some_and(|sequence| self.0.iter().any(|run| run.contains(&sequence))) =>
            {
                StoreError::Unavailable {
                    key,
                    reason: "the record is listed, but cannot be found".to_owned(),
                }
            }
            error => error,
        }
    }
}
