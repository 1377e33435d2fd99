//! Counts what a store is asked for: by operation, and by what for, as far as the key tells.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// An operation of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOperation {
    /// An object, or a part of one, is written.
    Put,
    /// Bytes of an object, or what it is, are read.
    Get,
    /// Keys are listed.
    List,
    /// An object is deleted.
    Delete,
}

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorePurpose {
    /// Commits and checkpoints.
    Catalog,
    /// The write-ahead log.
    Wal,
    /// Segments.
    Data,
    /// Anything else.
    Other,
}

impl StoreOperation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Put, Self::Get, Self::List, Self::Delete];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

impl StorePurpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Catalog, Self::Wal, Self::Data, Self::Other];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Wal => "wal",
            Self::Data => "data",
            Self::Other => "other",
        }
    }
}

/// Requests so far.
#[derive(Debug, Default)]
pub struct StoreCounts([[AtomicU64; StorePurpose::ALL.len()]; StoreOperation::ALL.len()]);

impl StoreCounts {
    fn count(&self, operation: StoreOperation, purpose: StorePurpose) {
        self.0[operation as usize][purpose as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were of each kind.
    pub fn all(&self) -> impl Iterator<Item = (StoreOperation, StorePurpose, u64)> + '_ {
        StoreOperation::ALL.into_iter().flat_map(move |operation| {
            StorePurpose::ALL.into_iter().map(move |purpose| {
                let count = &self.0[operation as usize][purpose as usize];
                (operation, purpose, count.load(Ordering::Relaxed))
            })
        })
    }
}

/// A store whose requests are counted.
#[derive(Debug)]
pub(super) struct CountedStore {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    counts: Arc<StoreCounts>,
    /// Whether several ranges are as many requests as they make when near ones are read together.
    is_remote: bool,
}

impl CountedStore {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        prefix: Path,
        counts: Arc<StoreCounts>,
        is_remote: bool,
    ) -> Self {
        Self {
            inner,
            prefix,
            counts,
            is_remote,
        }
    }

    fn purpose(&self, location: &Path) -> StorePurpose {
        let mut parts = location.prefix_match(&self.prefix).into_iter().flatten();
        match parts.next().as_ref().map(AsRef::as_ref) {
            Some("catalog") => StorePurpose::Catalog,
            Some("wal") => StorePurpose::Wal,
            Some("data") => StorePurpose::Data,
            _ => StorePurpose::Other,
        }
    }

    fn count(&self, operation: StoreOperation, location: &Path) {
        self.counts.count(operation, self.purpose(location));
    }

    fn count_list(&self, prefix: Option<&Path>) {
        self.count(StoreOperation::List, prefix.unwrap_or(&self.prefix));
    }
}

impl fmt::Display for CountedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for CountedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.count(StoreOperation::Put, location);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count(StoreOperation::Put, location);
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(CountedUpload {
            upload,
            purpose: self.purpose(location),
            counts: Arc::clone(&self.counts),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count(StoreOperation::Get, location);
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !self.is_remote {
            self.count(StoreOperation::Get, location);
            return self.inner.get_ranges(location, ranges).await;
        }
        // As the trait does it, with each request counted.
        let fetch = |range| async move { self.get_range(location, range).await };
        object_store::coalesce_ranges(ranges, fetch, object_store::OBJECT_STORE_COALESCE_DEFAULT)
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (counts, prefix) = (Arc::clone(&self.counts), self.prefix.clone());
        let inner = Arc::clone(&self.inner);
        let counted = CountedStore::new(inner, prefix, counts, self.is_remote);
        let locations = locations.inspect(move |location| {
            if let Ok(location) = location {
                counted.count(StoreOperation::Delete, location);
            }
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_list(prefix);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_list(prefix);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count_list(prefix);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count(StoreOperation::Put, to);
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload in parts, each of which is a request.
#[derive(Debug)]
struct CountedUpload {
    upload: Box<dyn MultipartUpload>,
    purpose: StorePurpose,
    counts: Arc<StoreCounts>,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.counts.count(StoreOperation::Put, self.purpose);
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.counts.count(StoreOperation::Put, self.purpose);
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.counts.count(StoreOperation::Delete, self.purpose);
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_what_they_are_for() {
        let counts = Arc::new(StoreCounts::default());
        let prefix = Path::from("a/data");
        let inner = Arc::new(InMemory::new());
        let store = CountedStore::new(inner, prefix, Arc::clone(&counts), true);
        let key = |key: &str| Path::from(format!("a/data/{key}"));
        store
            .put(&key("wal/n/1"), "0123456789".into())
            .await
            .unwrap();
        store.put(&key("catalog/log/1"), "x".into()).await.unwrap();
        store.put(&key("else"), "x".into()).await.unwrap();
        // Near ranges are one request.
        let ranges = [0..2, 3..5];
        let got = store.get_ranges(&key("wal/n/1"), &ranges).await.unwrap();
        assert_eq!(got, ["01", "34"]);
        store.head(&key("wal/n/1")).await.unwrap();
        let mut upload = store.put_multipart(&key("data/d/t/x")).await.unwrap();
        upload.put_part("x".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.delete(&key("data/d/t/x")).await.unwrap();
        let _: Vec<_> = store.list(Some(&key("wal"))).collect().await;
        let some = counts.all().filter(|(_, _, count)| *count > 0);
        let named: Vec<_> = some
            .map(|(operation, purpose, count)| (operation.name(), purpose.name(), count))
            .collect();
        let expected = [
            ("put", "catalog", 1),
            ("put", "wal", 1),
            ("put", "data", 3),
            ("put", "other", 1),
            ("get", "wal", 2),
            ("list", "wal", 1),
            ("delete", "data", 1),
        ];
        assert_eq!(named, expected);
    }
}
