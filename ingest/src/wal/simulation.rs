//! The log under simulated time and a simulated network: one seed, one course of events.
//!
//! A request to the store lives on when its caller is gone, as on a real network: a put may take
//! effect long after the process that sent it was killed, or gave it up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::LocalPool;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::task::LocalSpawnExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidelake_catalog::store::Store;

use super::clock::Clock;
use super::{ContentEncoding, Frame, Protocol};
use crate::label_limits::LabelLimits;

mod lives;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A frame whose body is a number.
pub(super) fn frame(id: u64) -> Frame {
    let body = Bytes::copy_from_slice(&id.to_le_bytes());
    Frame {
        database: "db".into(),
        protocol: Protocol::RemoteWrite1,
        encoding: ContentEncoding::Snappy,
        received_ns: 1,
        limits: LabelLimits::NONE,
        body,
    }
}

/// The numbers of frames.
pub(super) fn ids(frames: &[Frame]) -> Vec<u64> {
    frames
        .iter()
        .map(|frame| u64::from_le_bytes(frame.body[..].try_into().unwrap()))
        .collect()
}

#[derive(Default)]
struct Timers {
    now: Duration,
    count: u64,
    waiting: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
}

/// Time that passes when nothing else happens.
#[derive(Clone, Default)]
pub(super) struct VirtualClock(Arc<Mutex<Timers>>);

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.0.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let mut timers = self.0.lock();
        timers.count += 1;
        let key = (timers.now + duration, timers.count);
        timers.waiting.insert(key, sender);
        Box::pin(async { receiver.await.unwrap_or(()) })
    }
}

impl VirtualClock {
    /// Goes to the next timer, but not beyond `end`. False when there is none.
    fn advance(&self, end: Duration) -> bool {
        let mut timers = self.0.lock();
        while let Some(entry) = timers.waiting.first_entry() {
            if entry.get().is_canceled() {
                entry.remove();
                continue;
            }
            let &(at, _) = entry.key();
            if at > end {
                break;
            }
            let sender = entry.remove();
            timers.now = timers.now.max(at);
            drop(timers);
            let _ = sender.send(());
            return true;
        }
        timers.now = end;
        false
    }
}

/// What happens to requests that begin now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Probability that a request fails before its effect.
    pub(super) error: f64,
    /// Probability that a put takes effect, but its answer is lost.
    pub(super) lost_answer: f64,
    /// Most milliseconds before the effect, and again before the answer.
    pub(super) delay_ms: u64,
    /// Probability that a request hangs for a minute before its effect.
    pub(super) hang: f64,
    /// Puts fail for want of space.
    pub(super) full: bool,
    /// Objects are listed but not found.
    pub(super) unreadable: bool,
}

struct Network {
    inner: InMemory,
    clock: VirtualClock,
    random: Mutex<StdRng>,
    faults: Mutex<Faults>,
    /// Requests that wait for their place in the pool.
    begun: Mutex<Vec<BoxFuture<'static, ()>>>,
}

/// The fault of one request.
struct Fate {
    before: Duration,
    after: Duration,
    error: bool,
    lost: bool,
    faults: Faults,
}

impl Network {
    fn fate(&self) -> Fate {
        let faults = *self.faults.lock();
        let mut random = self.random.lock();
        let hang = if random.random_bool(faults.hang) {
            ms(60_000)
        } else {
            Duration::ZERO
        };
        Fate {
            before: ms(random.random_range(0..=faults.delay_ms)) + hang,
            after: ms(random.random_range(0..=faults.delay_ms)),
            error: random.random_bool(faults.error),
            lost: random.random_bool(faults.lost_answer),
            faults,
        }
    }
}

fn fault(what: &str) -> Error {
    Error::Generic {
        store: "simulated",
        source: what.into(),
    }
}

/// A store at the other end of the simulated network.
struct SimulatedStore(Arc<Network>);

impl SimulatedStore {
    /// Sends a request that goes on without us.
    async fn request<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.begun.lock().push(Box::pin(async move {
            let _ = sender.send(request.await);
        }));
        receiver
            .await
            .unwrap_or_else(|_| Err(fault("the network is gone")))
    }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedStore")
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait::async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (network, location, fate) = (Arc::clone(&self.0), location.clone(), self.0.fate());
        self.request(async move {
            network.clock.sleep(fate.before).await;
            if fate.error {
                return Err(fault("the put failed"));
            }
            if fate.faults.full {
                return Err(Error::Generic {
                    store: "simulated",
                    source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
                });
            }
            let result = network.inner.put_opts(&location, payload, opts).await;
            network.clock.sleep(fate.after).await;
            if fate.lost {
                Err(fault("the answer was lost"))
            } else {
                result
            }
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (network, location, fate) = (Arc::clone(&self.0), location.clone(), self.0.fate());
        self.request(async move {
            network.clock.sleep(fate.before).await;
            if fate.error {
                return Err(fault("the get failed"));
            }
            if fate.faults.unreadable {
                return Err(Error::NotFound {
                    path: location.to_string(),
                    source: "not yet".into(),
                });
            }
            network.inner.get_opts(&location, options).await
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.0.fate().error {
            return Box::pin(futures::stream::iter([Err(fault("the deletion failed"))]));
        }
        self.0.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.0.fate().error {
            return Box::pin(futures::stream::iter([Err(fault("the listing failed"))]));
        }
        self.0.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}

/// Tasks, their time and their store.
pub(super) struct Simulation {
    pool: LocalPool,
    network: Arc<Network>,
    pub(super) clock: VirtualClock,
    pub(super) store: Store,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        let clock = VirtualClock::default();
        let network = Arc::new(Network {
            inner: InMemory::new(),
            clock: clock.clone(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            faults: Mutex::default(),
            begun: Mutex::default(),
        });
        let store = Store::new(Arc::new(SimulatedStore(Arc::clone(&network))), "").unwrap();
        Self {
            pool: LocalPool::new(),
            network,
            clock,
            store,
        }
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.network.faults.lock() = faults;
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.network.begun.lock().push(Box::pin(task));
    }

    /// Lets `duration` pass.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.clock.now() + duration;
        loop {
            self.pool.run_until_stalled();
            let begun = std::mem::take(&mut *self.network.begun.lock());
            if begun.is_empty() {
                if !self.clock.advance(end) {
                    return;
                }
                continue;
            }
            for task in begun {
                self.pool.spawner().spawn_local(task).unwrap();
            }
        }
    }

    /// Runs until `task` is done, at most ten simulated minutes, and returns its result and the
    /// time it took.
    pub(super) fn finish<T: Send + 'static>(
        &mut self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> (T, Duration) {
        let result = Arc::new(Mutex::new(None));
        let (slot, clock, began) = (Arc::clone(&result), self.clock.clone(), self.clock.now());
        self.spawn(async move {
            let output = task.await;
            *slot.lock() = Some((output, clock.now() - began));
        });
        for _ in 0..6000 {
            self.run_for(ms(100));
            if let Some(result) = result.lock().take() {
                return result;
            }
        }
        panic!("a task did not end within ten minutes");
    }
}
