//! A store as it was, over which everything that is put stays in memory.
//!
//! Commands work on it as a server would, write-ahead logs included, and the store below is only
//! read. Of what changes under its key or grows, the catalog up to one commit is to be seen; logs
//! and leases are not, whoever needs them copies them.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use parking_lot::Mutex;

use crate::keys;

/// See the module.
#[derive(Debug)]
pub(super) struct FrozenStore {
    below: Arc<dyn ObjectStore>,
    above: Arc<InMemory>,
    shown: Arc<Shown>,
}

/// What of the store below is to be seen.
#[derive(Debug)]
struct Shown {
    prefix: Path,
    /// The last commit.
    sequence: u64,
    deleted: Mutex<HashSet<Path>>,
}

impl Shown {
    fn has(&self, location: &Path) -> bool {
        let Some(parts) = location.prefix_match(&self.prefix) else {
            return false;
        };
        let key = Path::from_iter(parts);
        let key = key.as_ref();
        let of_catalog = keys::parse_log_record(key).or_else(|| keys::parse_checkpoint(key));
        let is_in = |folder: &str| key.starts_with(folder) && key[folder.len()..].starts_with('/');
        of_catalog.is_none_or(|sequence| sequence <= self.sequence)
            && !is_in(keys::WAL)
            && !is_in(keys::LEASES)
            && !self.deleted.lock().contains(location)
    }
}

impl FrozenStore {
    pub fn new(below: Arc<dyn ObjectStore>, prefix: Path, sequence: u64) -> Self {
        Self {
            below,
            above: Arc::default(),
            shown: Arc::new(Shown {
                prefix,
                sequence,
                deleted: Mutex::default(),
            }),
        }
    }

    /// A listing of what is above, and then what is to be seen below.
    fn joined(
        &self,
        above: BoxStream<'static, Result<ObjectMeta>>,
        below: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let shown = Arc::clone(&self.shown);
        let joined = async move {
            let above: Vec<ObjectMeta> = above.try_collect().await?;
            let hidden: HashSet<Path> = above.iter().map(|meta| meta.location.clone()).collect();
            let below = below.try_filter(move |meta| {
                let is_shown = shown.has(&meta.location) && !hidden.contains(&meta.location);
                futures::future::ready(is_shown)
            });
            Ok::<_, Error>(futures::stream::iter(above.into_iter().map(Ok)).chain(below))
        };
        futures::stream::once(joined).try_flatten().boxed()
    }

    async fn is_above(&self, location: &Path) -> bool {
        self.above.head(location).await.is_ok()
    }

    fn not_found(location: &Path) -> Error {
        Error::NotFound {
            path: location.to_string(),
            source: "the store is frozen before it".into(),
        }
    }
}

impl fmt::Display for FrozenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.below.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for FrozenStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let may_be_below = matches!(opts.mode, PutMode::Create)
            && self.shown.has(location)
            && !self.is_above(location).await;
        if may_be_below && self.below.head(location).await.is_ok() {
            return Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "it is in the store below".into(),
            });
        }
        self.above.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.above.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.above.get_opts(location, options.clone()).await {
            Err(Error::NotFound { .. }) if self.shown.has(location) => {
                self.below.get_opts(location, options).await
            }
            found => found,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.is_above(location).await {
            return self.above.get_ranges(location, ranges).await;
        }
        match self.shown.has(location) {
            true => self.below.get_ranges(location, ranges).await,
            false => Err(Self::not_found(location)),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (above, shown) = (Arc::clone(&self.above), Arc::clone(&self.shown));
        let delete = move |location: Path| {
            let (above, shown) = (Arc::clone(&above), Arc::clone(&shown));
            async move {
                shown.deleted.lock().insert(location.clone());
                match above.delete(&location).await {
                    Ok(()) | Err(Error::NotFound { .. }) => Ok(location),
                    Err(error) => Err(error),
                }
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.joined(self.above.list(prefix), self.below.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let above = self.above.list_with_offset(prefix, offset);
        self.joined(above, self.below.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotSupported {
            source: "a frozen store lists no folders".into(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotSupported {
            source: "a frozen store copies nothing".into(),
        })
    }
}
