//! A store that fails as real ones do, for tests: the same seed, the same faults.
//!
//! Faults: a request that fails before it had any effect; a put that takes effect but whose answer
//! is lost; requests that finish in another order than they began; a store that is down, full, or
//! lists what it cannot read yet. It never lies about content, and puts stay atomic: no real store
//! breaks that promise either.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How often what happens; probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A request fails without effect.
    pub error: f64,
    /// A put takes effect and then fails.
    pub lost_answer: f64,
    /// Most times that a request lets other tasks go first, before and after its effect.
    pub max_delay: u32,
    /// Every request fails.
    pub down: bool,
    /// Every put fails for want of space.
    pub full: bool,
    /// Objects are listed, but reading one fails.
    pub unreadable: bool,
}

/// A store with faults; see the module.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<(StdRng, Faults)>,
}

impl FaultyStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64, faults: Faults) -> Self {
        Self {
            inner,
            state: Mutex::new((StdRng::seed_from_u64(seed), faults)),
        }
    }

    /// From now on these faults.
    pub fn set(&self, faults: Faults) {
        self.state.lock().1 = faults;
    }

    /// Waits a random while, and fails if it is time to.
    async fn enter(&self) -> Result<()> {
        let (delay, fails) = {
            let (random, faults) = &mut *self.state.lock();
            (
                random.random_range(0..=faults.max_delay),
                faults.down || random.random_bool(faults.error),
            )
        };
        delayed(delay).await;
        if fails {
            Err(fault("the request failed"))
        } else {
            Ok(())
        }
    }

    async fn enter_put(&self) -> Result<()> {
        self.enter().await?;
        if self.state.lock().1.full {
            return Err(Error::Generic {
                store: "faulty",
                source: io::Error::from(io::ErrorKind::StorageFull).into(),
            });
        }
        Ok(())
    }

    /// Waits a random while after the effect, and loses the answer if it is time to.
    async fn leave_put(&self) -> Result<()> {
        let (delay, fails) = {
            let (random, faults) = &mut *self.state.lock();
            (
                random.random_range(0..=faults.max_delay),
                random.random_bool(faults.lost_answer),
            )
        };
        delayed(delay).await;
        if fails {
            Err(fault("the answer was lost"))
        } else {
            Ok(())
        }
    }

    async fn enter_get(&self) -> Result<()> {
        self.enter().await?;
        if self.state.lock().1.unreadable {
            Err(fault("not readable yet"))
        } else {
            Ok(())
        }
    }
}

async fn delayed(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn fault(reason: &str) -> Error {
    Error::Generic {
        store: "faulty",
        source: reason.into(),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.enter_put().await?;
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.leave_put().await?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.enter_put().await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.enter_get().await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.enter_get().await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.state.lock().1.down {
            return locations.map(|_| Err(fault("the request failed"))).boxed();
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.enter().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.enter_put().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

impl FaultyStore {
    fn listed(
        &self,
        metas: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (random, faults) = &mut *self.state.lock();
        if faults.down || random.random_bool(faults.error) {
            return futures::stream::iter([Err(fault("the listing failed"))]).boxed();
        }
        metas
    }
}
