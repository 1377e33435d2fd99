//! Objects that are put to see what the store does: rights, what is seen after a write, conditional
//! puts.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::{join_all, try_join};
use parking_lot::Mutex;
use tidelake_catalog::store::{ObjectInfo, PutOutcome, Store, StoreError};
use tidelake_catalog::{Environment, keys};
use tokio::time::Instant;

use super::bucket::clock;
use super::report::{Check, Report};
use super::{LIMIT, time, within};

/// Probes of a run that was killed; no run takes so long.
const LEFTOVER_MS: i64 = 3_600_000;
/// Puts to one key at once,
const RACERS: usize = 8;
/// and how often.
const RACES: usize = 4;
/// S3 takes no smaller part, but as the last one.
const PART_BYTES: usize = 5 << 20;
const LAST_PART_BYTES: usize = 64 << 10;

const OTHER_STORE: &str = "use a store that has If-None-Match for puts, as S3 has: without it \
                           processes overwrite each other's commits and lose data";
const STALE: &str = "use a store whose reads and listings show every write that has ended: caches \
                     between may not answer for it";

/// The probes of one run.
pub struct Probes {
    store: Store,
    folder: String,
    /// Every key that may have been put.
    keys: Mutex<BTreeSet<String>>,
}

impl Probes {
    /// Puts nothing yet.
    pub fn new(store: Store, environment: &Environment) -> Self {
        Self {
            store,
            folder: keys::probes(environment.random()),
            keys: Mutex::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The folder of the probes.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The key of a probe, which is deleted at the end.
    pub fn key(&self, name: &str) -> String {
        let key = format!("{}/{name}", self.folder);
        self.keys.lock().insert(key.clone());
        key
    }

    /// An error of the store as a check.
    pub fn refused(&self, name: &'static str, error: &StoreError, action: &str) -> Check {
        Check::refused(name, error, self.store.folder().is_some(), action)
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.store.list(folder).try_collect().await
    }

    /// Whether the store answers at all, by a listing of what killed runs have left, which is then
    /// deleted.
    pub async fn answers(&self, report: &mut Report<'_>) -> Result<(), StoreError> {
        let began = Instant::now();
        let found = within(LIMIT, self.list(keys::PROBES)).await;
        let found = found.inspect_err(|error| {
            report.add(self.refused("store", error, "s3:ListBucket"));
        })?;
        let seen = format!("it answered in {}", time(began.elapsed()));
        report.add(Check::ok("store", seen));
        let now_ms = Environment::system().now_ms();
        let old = found
            .into_iter()
            .filter(|info| info.modified_ms.saturating_add(LEFTOVER_MS) < now_ms);
        self.keys.lock().extend(old.map(|info| info.key));
        Ok(())
    }

    /// What the keys, or the user, may do, and whether reads and listings see at once what was
    /// written. Returns whether objects can be put.
    pub async fn rights(&self, report: &mut Report<'_>) -> bool {
        const FIRST: &[u8] = b"the first";
        const SECOND: &[u8] = b"the second, which is longer";
        let (store, key) = (&self.store, self.key("object"));
        if let Err(error) = within(LIMIT, store.put(&key, FIRST)).await {
            self.keys.lock().remove(&key);
            report.add(self.refused("put", &error, "s3:PutObject"));
            return false;
        }
        report.add(Check::ok("put", "an object was put"));

        let read = async {
            let first = store.get(&key).await?;
            store.put(&key, SECOND).await?;
            let second = store.get(&key).await?;
            Ok((first == FIRST && second == SECOND).then_some("each put is read at once"))
        };
        self.add(report, "get", "s3:GetObject", within(LIMIT, read).await);

        let ranged = async {
            let part = store.get_range(&key, 4..10).await?;
            Ok((part == SECOND[4..10]).then_some("a part of an object is read"))
        };
        let ranged = within(LIMIT, ranged).await;
        self.add(report, "ranged get", "s3:GetObject", ranged);

        let listed = async {
            let found = self.list(&self.folder).await?;
            let is_there = |info: &ObjectInfo| info.key == key && info.bytes == SECOND.len() as u64;
            Ok((found.iter().any(is_there)).then_some("an object is listed at once"))
        };
        let listed = within(LIMIT, listed).await;
        self.add(report, "list", "s3:ListBucket", listed);

        let deleted = async {
            store.delete(&key).await?;
            let is_gone = matches!(store.get(&key).await, Err(StoreError::NotFound { .. }));
            let is_listed = self.list(&self.folder).await?.iter().any(|i| i.key == key);
            Ok((is_gone && !is_listed).then_some("a deleted object is gone at once"))
        };
        let deleted = within(LIMIT, deleted).await;
        self.add(report, "delete", "s3:DeleteObject", deleted);
        true
    }

    /// Of a probe that says what is right, or that a write is not seen.
    fn add(
        &self,
        report: &mut Report<'_>,
        name: &'static str,
        action: &str,
        result: Result<Option<&str>, StoreError>,
    ) {
        report.add(match result {
            Ok(Some(seen)) => Check::ok(name, seen),
            Ok(None) | Err(StoreError::Corrupt { .. }) => {
                Check::error(name, "it does not show what was written before", STALE)
            }
            Err(error) => self.refused(name, &error, action),
        });
    }

    /// The clock of a folder, as its files show it.
    pub async fn clock(&self, environment: &Environment, report: &mut Report<'_>) {
        let key = self.key("clock");
        let before_ms = environment.now_ms();
        let put = async {
            self.store.put(&key, "x").await?;
            self.store.head(&key).await
        };
        report.add(match within(LIMIT, put).await {
            Ok(info) => clock(info.modified_ms, 0, before_ms, environment.now_ms()),
            Err(error) => self.refused("clock", &error, "s3:GetObject"),
        });
    }

    /// Whether of several puts to one key exactly one is taken: all commits rest on it.
    pub async fn conditional_puts(&self, report: &mut Report<'_>) {
        const NAME: &str = "put if absent";
        let (store, key) = (&self.store, self.key("absent"));
        let twice = async {
            let first = store.put_if_absent(&key, "the first").await?;
            let second = store.put_if_absent(&key, "the second").await?;
            Ok((first, second, store.get(&key).await?))
        };
        let is_kept = match within(LIMIT, twice).await {
            Ok((_, PutOutcome::AlreadyExists, kept)) if kept == "the first" => true,
            Ok(_) => {
                let seen = "a second put replaced the first instead of being refused";
                report.add(Check::error(NAME, seen, OTHER_STORE));
                false
            }
            Err(error) => {
                report.add(match &error {
                    StoreError::Other { reason, .. } if is_not_implemented(reason) => {
                        Check::error(NAME, &error, OTHER_STORE)
                    }
                    _ => self.refused(NAME, &error, "s3:PutObject with If-None-Match"),
                });
                false
            }
        };
        if !is_kept {
            return;
        }
        report.add(Check::ok(NAME, "a second put to the same key was refused"));
        const RACE: &str = "puts at once";
        for race in 0..RACES {
            let key = self.key(&format!("race-{race}"));
            match within(LIMIT, self.race(&key)).await {
                Ok(None) => {}
                Ok(Some(seen)) => return report.add(Check::error(RACE, seen, OTHER_STORE)),
                Err(error) => return report.add(self.refused(RACE, &error, "s3:PutObject")),
            }
        }
        let seen = format!("of {RACERS} to the same key one was taken, {RACES} times");
        report.add(Check::ok(RACE, seen));
    }

    /// What is wrong with puts to one key at once; `None` if exactly one was taken.
    async fn race(&self, key: &str) -> Result<Option<String>, StoreError> {
        let texts: Vec<String> = (0..RACERS).map(|racer| format!("racer {racer}")).collect();
        let puts = texts
            .iter()
            .map(|text| self.store.put_if_absent(key, text.clone()));
        let outcomes: Vec<PutOutcome> =
            join_all(puts).await.into_iter().collect::<Result<_, _>>()?;
        let kept = self.store.get(key).await?;
        let winners: Vec<&String> = texts
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == PutOutcome::Created)
            .map(|(text, _)| text)
            .collect();
        Ok(match winners[..] {
            [winner] if kept == *winner => None,
            // The answer to it was lost, and the put that repeated it was refused.
            [] if texts.iter().any(|text| kept == *text) => None,
            [_] => Some("the object is not that of the put that was taken".to_owned()),
            _ => Some(format!(
                "{} of {RACERS} puts to one key were taken",
                winners.len()
            )),
        })
    }

    /// Large segments come in parts.
    pub async fn upload_in_parts(&self, environment: &Environment, report: &mut Report<'_>) {
        const NAME: &str = "multipart upload";
        let key = self.key("parts");
        let bytes = random_bytes(environment, PART_BYTES + LAST_PART_BYTES);
        let uploaded = async {
            self.upload(&key, bytes.clone()).await?;
            Ok((self.store.get(&key).await? == bytes).then_some("an object was put in two parts"))
        };
        let uploaded = within(3 * LIMIT, uploaded).await;
        self.add(
            report,
            NAME,
            "s3:PutObject and s3:AbortMultipartUpload",
            uploaded,
        );
    }

    async fn upload(&self, key: &str, mut bytes: Bytes) -> Result<(), StoreError> {
        let path = self.store.path(key)?;
        let last = bytes.split_off(PART_BYTES);
        let begun = self
            .store
            .object_store()
            .put_multipart_opts(&path, Default::default());
        let mut upload = begun
            .await
            .map_err(|error| StoreError::from_object_store(key, &error))?;
        let parts = try_join(upload.put_part(bytes.into()), upload.put_part(last.into())).await;
        let done = match parts {
            Ok(_) => upload.complete().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // What is left of it costs money; the first error is the one to be shown.
            let _ = upload.abort().await;
            return Err(StoreError::from_object_store(key, &error));
        }
        Ok(())
    }

    /// Deletes all probes, those that are listed and those that may have been put.
    pub async fn delete_all(&self, report: &mut Report<'_>) {
        let mut keys = std::mem::take(&mut *self.keys.lock());
        if keys.is_empty() {
            return;
        }
        let listed = within(LIMIT, self.list(&self.folder)).await;
        keys.extend(listed.unwrap_or_default().into_iter().map(|info| info.key));
        let deletes = keys.iter().map(|key| self.store.delete(key));
        let deleted = within(3 * LIMIT, async { Ok(join_all(deletes).await) }).await;
        let error = match deleted {
            Ok(results) => results.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let seen = format!("probes could not be deleted: {error}");
            let advice = format!("delete what is below {}/", self.folder);
            report.add(Check::error("cleaning up", seen, &advice));
        }
        if let Some(root) = self.store.folder() {
            // Only empty folders go; another run may be using the second.
            for folder in [self.folder.as_str(), keys::PROBES] {
                let _ = tokio::fs::remove_dir(root.join(folder)).await;
            }
        }
    }
}

fn is_not_implemented(reason: &str) -> bool {
    ["NotImplemented", "not implemented", "501 "]
        .iter()
        .any(|text| reason.contains(text))
}

/// Bytes that no store can make smaller: those of a xorshift generator.
pub fn random_bytes(environment: &Environment, count: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(count + size_of::<u64>());
    let mut state = environment.random() as u64 | 1;
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes.into()
}

/// How long each of some requests took, in order of time, until `limit` is used up.
pub async fn timed<F>(
    count: usize,
    limit: Duration,
    mut request: impl FnMut(usize) -> F,
) -> Result<Vec<Duration>, StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let began = Instant::now();
    let mut times = Vec::with_capacity(count);
    for i in 0..count {
        let request_began = Instant::now();
        within(LIMIT, request(i)).await?;
        times.push(request_began.elapsed());
        if began.elapsed() > limit {
            break;
        }
    }
    times.sort_unstable();
    Ok(times)
}
