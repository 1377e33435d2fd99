//! The object store: the only place where anything outlives the process.
//!
//! [`Store`] is a thin handle over any [`ObjectStore`] with a prefix. It adds what the rest needs
//! to decide by: put-if-absent with two good outcomes, and errors whose kinds say what to do. The
//! whole commit protocol needs no more than put-if-absent, so it runs the same on S3, on a folder
//! and in memory.
//!
//! - [`local`]: a folder, with every put synced to disk (`object_store`'s own never syncs).
//! - [`bucket`]: questions about a bucket of S3 as a whole.
//! - `counted`: counts requests by operation and purpose.
//! - `frozen`: a store as it was at a commit, with everything that is put kept in memory.
//! - [`faulty`]: wraps another store and fails as real ones do, by a seed; for tests.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};

pub mod bucket;
mod counted;
pub mod faulty;
mod frozen;
pub mod local;
#[cfg(test)]
mod tests;

use self::counted::CountedStore;
pub use self::counted::{StoreCounts, StoreOperation, StorePurpose};
use self::frozen::FrozenStore;

/// What went wrong with the store, by what the caller can do about it.
///
/// "Exists already" is not among them: it is a [`PutOutcome`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// The object.
        key: String,
    },
    /// No space left: answer 503 and try again; it works again once there is space.
    #[error("no space left on the store while writing {key}: {reason}")]
    Full {
        /// The object.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The store did not answer, or answered that it cannot now: try again later. Whether a put
    /// took effect is not known.
    #[error("the store is not available ({key}): {reason}")]
    Unavailable {
        /// The object.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The object is there, but it is not what was written: somebody has to look at it.
    #[error("object {key} is corrupt: {reason}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is gone that must be there; it has to be restored.
    #[error("object {key} is missing: {reason}; restore it")]
    Missing {
        /// The object.
        key: String,
        /// What shows that it was there.
        reason: String,
    },
    /// Repeating will not help: wrong credentials, no such bucket, a key that is none.
    #[error("the store refused {key}: {reason}")]
    Other {
        /// The object.
        key: String,
        /// What the store said.
        reason: String,
    },
}

impl StoreError {
    /// Something that may work when it is repeated later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable { .. })
    }

    /// What to do about a refusal that no repetition heals: codes of S3 that tell of settings, in
    /// an error of any kind. A store that is still starting may answer the same for a moment.
    pub fn advice(&self) -> Option<&'static str> {
        let (Self::Unavailable { reason, .. } | Self::Other { reason, .. }) = self else {
            return None;
        };
        let has = |codes: &[&str]| codes.iter().any(|code| reason.contains(code));
        if has(&["NoSuchBucket", "the bucket does not exist"]) {
            Some("create the bucket, or correct its name in the setting store")
        } else if has(&["InvalidBucketName"]) {
            Some("correct the name of the bucket in the setting store")
        } else if has(&["RequestTimeTooSkewed"]) {
            Some("set the clock of this machine")
        } else if has(&[
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "403 Forbidden",
            "401 Unauthorized",
        ]) {
            Some(
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do with the \
                 bucket",
            )
        } else if has(&[
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "301 Moved Permanently",
            "IllegalLocationConstraint",
        ]) {
            Some("set AWS_REGION to the region of the bucket")
        } else if has(&["dns error", "failed to lookup address", "builder error"]) {
            Some("check the setting s3_endpoint: its host is not known")
        } else {
            None
        }
    }

    /// The same error as one that is not repeated, with the advice for it.
    pub fn with_advice(self, advice: &str) -> Self {
        match self {
            Self::Unavailable { key, reason } | Self::Other { key, reason } => Self::Other {
                key,
                reason: format!("{reason}; {advice}"),
            },
            other => other,
        }
    }

    /// Sorts an error of the underlying store, for those who use it directly.
    pub fn from_object_store(key: &str, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let (key, reason) = (key.to_owned(), chain_text(error));
        match error {
            E::NotFound { .. } => Self::NotFound { key },
            _ if is_full(error) => Self::Full { key, reason },
            E::Generic { .. } | E::JoinError { .. } => Self::Unavailable { key, reason },
            _ => Self::Other { key, reason },
        }
    }
}

/// The message with its causes; `object_store` repeats most of them in its own message.
fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                return true;
            }
            // An io::Error is transparent: `source` skips what it wraps.
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
                continue;
            }
        }
        next = error.source();
    }
    false
}

/// What became of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is ours and durable.
    Created,
    /// There is an object by this name; it may be ours, from a try whose answer was lost: read it
    /// back.
    AlreadyExists,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key, without the store's prefix.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// How to reach S3; what is not here comes from the usual `AWS_*` variables.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// Another endpoint than Amazon's.
    pub endpoint: Option<String>,
    /// Allow an endpoint without TLS.
    pub allow_http: bool,
}

/// Longest time that retries of one request may take. Writers wait for it, so it is seconds.
const S3_RETRY_TIMEOUT: Duration = Duration::from_secs(4);

/// A handle to the object store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    name: Arc<str>,
    /// Where it lies, if it is a folder.
    folder: Option<Arc<std::path::Path>>,
    counts: Arc<StoreCounts>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

/// The address as it was given.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Store {
    /// Over any store, with all keys below `prefix` (empty for none).
    pub fn new(inner: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, StoreError> {
        let name = if prefix.is_empty() {
            inner.to_string()
        } else {
            format!("{inner}/{prefix}")
        };
        Self::named(inner, prefix, name)
    }

    fn named(inner: Arc<dyn ObjectStore>, prefix: &str, name: String) -> Result<Self, StoreError> {
        let prefix =
            Path::parse(prefix).map_err(|error| other(prefix, format!("not a prefix: {error}")))?;
        Ok(Self {
            inner,
            prefix,
            name: name.into(),
            folder: None,
            counts: Arc::default(),
        })
    }

    /// The same with its requests counted.
    fn counted(self, is_remote: bool) -> Self {
        let counts = Arc::<StoreCounts>::default();
        let (inner, prefix) = (self.inner, self.prefix.clone());
        let counted = CountedStore::new(inner, prefix, Arc::clone(&counts), is_remote);
        Self {
            inner: Arc::new(counted),
            counts,
            ..self
        }
    }

    /// Requests so far, of this handle and its clones; none are counted in memory.
    pub fn counts(&self) -> &Arc<StoreCounts> {
        &self.counts
    }

    /// The folder that it is in, if it is in one.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }

    /// This store as of the commit `sequence` of its catalog, without logs and leases. What is put
    /// or deleted from now on stays in memory: nothing below is changed.
    pub fn frozen_at(&self, sequence: u64) -> Self {
        let (below, prefix) = (Arc::clone(&self.inner), self.prefix.clone());
        Self {
            inner: Arc::new(FrozenStore::new(below, prefix, sequence)),
            folder: None,
            ..self.clone()
        }
    }

    /// A store in memory, gone with the last handle.
    pub fn memory() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            prefix: Path::default(),
            name: "memory:".into(),
            folder: None,
            counts: Arc::default(),
        }
    }

    /// Opens `memory:`, `s3://bucket/prefix`, `file:///folder` or a folder, which is created if it
    /// is not there.
    ///
    /// No request is made to S3: a store that is down does not prevent opening it.
    pub fn open(address: &str, s3: &S3Settings) -> Result<Self, StoreError> {
        Self::open_with(address, s3, |folder| local::LocalStore::open(folder))
    }

    /// The same for those who only read: a folder must be there, and nothing in it is changed.
    pub fn open_to_read(address: &str, s3: &S3Settings) -> Result<Self, StoreError> {
        Self::open_with(address, s3, |folder| {
            local::LocalStore::open_existing(folder)
        })
    }

    fn open_with(
        address: &str,
        s3: &S3Settings,
        open_folder: impl FnOnce(&str) -> object_store::Result<local::LocalStore>,
    ) -> Result<Self, StoreError> {
        if address == "memory:" {
            return Ok(Self::memory());
        }
        if let Some(rest) = address.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let inner = open_s3(address, bucket, s3)?;
            let store = Self::named(inner, prefix.trim_end_matches('/'), address.to_owned())?;
            return Ok(store.counted(true));
        }
        let folder = match address.strip_prefix("file://") {
            Some(path) => path,
            None if address.contains("://") => {
                return Err(other(
                    address,
                    "not a store: use a folder, s3://bucket/prefix or memory:".to_owned(),
                ));
            }
            None => address,
        };
        let inner =
            open_folder(folder).map_err(|error| StoreError::from_object_store(folder, &error))?;
        let store = Self::named(Arc::new(inner), "", address.to_owned())?;
        Ok(Self {
            folder: Some(std::path::Path::new(folder).into()),
            ..store.counted(false)
        })
    }

    /// Files that puts which did not end have left in a folder, by their paths in it, and how long
    /// nobody has written to them.
    #[expect(
        clippy::disallowed_methods,
        reason = "a folder of the machine is in no simulation"
    )]
    pub async fn temporaries(&self) -> Result<Vec<(String, Duration)>, StoreError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(Vec::new());
        };
        let found = tokio::task::spawn_blocking(move || local::temporaries(&folder)).await;
        found.map_err(|error| other(&self.name, error.to_string()))
    }

    /// The store below, for readers and writers of Parquet. Use with [`path`](Self::path).
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// The full path of a key on the store below.
    pub fn path(&self, key: &str) -> Result<Path, StoreError> {
        let key_path =
            Path::parse(key).map_err(|error| other(key, format!("not a key: {error}")))?;
        if self.prefix.is_root() {
            return Ok(key_path);
        }
        Path::parse(format!("{}/{key}", self.prefix))
            .map_err(|error| other(key, format!("not a key: {error}")))
    }

    /// Writes an object if there is none by this name. It is durable when this returns `Created`.
    ///
    /// After [`StoreError::Unavailable`] it may be there or not, or appear later.
    pub async fn put_if_absent(
        &self,
        key: &str,
        bytes: impl Into<PutPayload> + Send,
    ) -> Result<PutOutcome, StoreError> {
        match self
            .inner
            .put_opts(&self.path(key)?, bytes.into(), PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(PutOutcome::Created),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(put_error(key, &error)),
        }
    }

    /// Writes an object, over one that may be there. It is durable when this returns.
    pub async fn put(
        &self,
        key: &str,
        bytes: impl Into<PutPayload> + Send,
    ) -> Result<(), StoreError> {
        match self
            .inner
            .put_opts(&self.path(key)?, bytes.into(), PutMode::Overwrite.into())
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(put_error(key, &error)),
        }
    }

    /// Reads an object.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let map = |error| StoreError::from_object_store(key, &error);
        let found = self.inner.get(&self.path(key)?).await.map_err(map)?;
        found.bytes().await.map_err(map)
    }

    /// Reads bytes of an object. A range that does not lie within it is an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self
            .inner
            .get_range(&self.path(key)?, range)
            .await
            .map_err(|error| StoreError::from_object_store(key, &error))?;
        whole(key, bytes, wanted)
    }

    /// Reads several ranges of an object; ranges that lie close together are read by one request.
    pub async fn get_ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        let found = self
            .inner
            .get_ranges(&self.path(key)?, ranges)
            .await
            .map_err(|error| StoreError::from_object_store(key, &error))?;
        found
            .into_iter()
            .zip(ranges)
            .map(|(bytes, range)| whole(key, bytes, range.end.saturating_sub(range.start)))
            .collect()
    }

    /// Size and age of an object.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let meta = self
            .inner
            .head(&self.path(key)?)
            .await
            .map_err(|error| StoreError::from_object_store(key, &error))?;
        Ok(ObjectInfo {
            key: key.to_owned(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        })
    }

    /// Deletes an object; that it is gone already is no error.
    ///
    /// On a folder a deletion may be undone by a power loss: whoever deletes must not depend on it.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.inner.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::from_object_store(key, &error)),
        }
    }

    /// Everything below a folder of keys, in no particular order.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        match self.path(folder) {
            Ok(path) => self.infos(folder, self.inner.list(Some(&path))),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    /// Everything below a folder whose key comes after `after`, in no particular order.
    pub fn list_from(
        &self,
        folder: &str,
        after: &str,
    ) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        match self
            .path(folder)
            .and_then(|path| Ok((path, self.path(after)?)))
        {
            Ok((path, after)) => {
                self.infos(folder, self.inner.list_with_offset(Some(&path), &after))
            }
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn infos(
        &self,
        folder: &str,
        metas: BoxStream<'static, object_store::Result<object_store::ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let folder = folder.to_owned();
        let skip = if self.prefix.is_root() {
            0
        } else {
            self.prefix.as_ref().len() + 1
        };
        metas
            .map_ok(move |meta| ObjectInfo {
                key: meta
                    .location
                    .as_ref()
                    .get(skip..)
                    .unwrap_or_default()
                    .to_owned(),
                bytes: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .map_err(
                move |error| match StoreError::from_object_store(&folder, &error) {
                    // A folder that is not there lists as empty; what is not found here is the
                    // bucket.
                    StoreError::NotFound { key } => StoreError::Unavailable {
                        key,
                        reason: chain_text(&error),
                    },
                    error => error,
                },
            )
            .boxed()
    }
}

/// Stores cut a range that ends after the object; here nothing reads beyond what the catalog
/// promised.
fn whole(key: &str, bytes: Bytes, wanted: u64) -> Result<Bytes, StoreError> {
    if bytes.len() as u64 == wanted {
        return Ok(bytes);
    }
    Err(StoreError::Corrupt {
        key: key.to_owned(),
        reason: format!("it ends early: {} of {wanted} bytes", bytes.len()),
    })
}

fn other(key: &str, reason: String) -> StoreError {
    StoreError::Other {
        key: key.to_owned(),
        reason,
    }
}

/// Nothing that is put can be "not found", except what it is put into.
pub(crate) fn put_error(key: &str, error: &object_store::Error) -> StoreError {
    match StoreError::from_object_store(key, error) {
        StoreError::NotFound { key } => StoreError::Other {
            key,
            reason: format!("the bucket does not exist: {}", chain_text(error)),
        },
        error => error,
    }
}

fn open_s3(
    address: &str,
    bucket: &str,
    settings: &S3Settings,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let builder = s3_builder(address, bucket, settings)?;
    match builder.build() {
        Ok(s3) => Ok(Arc::new(s3)),
        Err(error) => Err(other(address, chain_text(&error))),
    }
}

fn s3_builder(
    address: &str,
    bucket: &str,
    settings: &S3Settings,
) -> Result<AmazonS3Builder, StoreError> {
    if bucket.is_empty() {
        return Err(other(
            address,
            "there is no bucket in it: use s3://bucket/prefix".to_owned(),
        ));
    }
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(1),
                base: 2.0,
            },
            max_retries: 5,
            retry_timeout: S3_RETRY_TIMEOUT,
        });
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if settings.allow_http {
        builder = builder.with_allow_http(true);
    }
    builder = builder.with_config(
        AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout),
        "2 seconds",
    );
    if builder
        .get_config_value(&AmazonS3ConfigKey::Region)
        .is_none()
    {
        builder = builder.with_region("us-east-1");
    }
    Ok(builder)
}
