//! The store at the other end of a simulated network, and the one place where a process can die.
//!
//! Objects lie in memory. Every request is a task of its own, which lives on when its sender is
//! gone: a put may take effect long after the process that sent it was killed, or gave it up. By
//! the seed a request fails before its effect, or has its effect and loses its answer; it is slow,
//! overtakes another, or hangs for a minute.
//!
//! Each life of a process has its own handle with a [`Gate`]. A life dies at its so-and-so-many-th
//! request, before or after its effect; from then on none of its requests returns. When the
//! simulation buries it, whatever waits for the store unwinds, which ends the tasks of that life
//! where they stand: a crash at an await point.
//!
//! A store that is a *folder* differs in what a crash does. Puts are atomic there too: they write a
//! temporary file, sync it and link it, so what can be torn is a temporary file, which has no name
//! that anybody reads or lists. But a request dies with its process, done or not; and a power loss
//! ends all processes at once, undoes deletions (they are not synced) and puts that were not
//! answered yet, unless a later put has synced their folder. A process syncs a folder before it
//! names its first object there, and again if a put of its own has failed there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidelake_catalog::{Store, keys};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::trace::{Trace, note};

/// How long a request hangs that hangs.
pub const HANG: Duration = Duration::from_secs(60);

/// Deletions older than this are on disk.
const DELETION_SYNC: Duration = Duration::from_secs(30);

/// What happens to requests that begin now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Probability that a request fails before its effect.
    pub error: f64,
    /// Probability that a request has its effect, but its answer is lost.
    pub lost: f64,
    /// Probability that a request hangs before its effect.
    pub hang: f64,
    /// Most milliseconds before the effect, and again before the answer.
    pub delay_ms: u64,
    /// Puts fail for want of space.
    pub full: bool,
}

/// The network with its store.
pub struct Network {
    pub inner: Arc<InMemory>,
    pub trace: Arc<Trace>,
    random: Mutex<StdRng>,
    faults: Mutex<Faults>,
    in_flight: AtomicUsize,
    /// Requests that have begun.
    pub requests: AtomicU64,
    /// When each record of the catalog's log got there.
    pub commits: Mutex<BTreeMap<u64, Instant>>,
    folder: Option<Mutex<Folder>>,
}

/// What a power loss may undo.
#[derive(Default)]
struct Folder {
    /// Counts power losses.
    losses: u64,
    deleted: Vec<(Instant, Path, Bytes)>,
    /// Puts that are not answered, with what was there before.
    unanswered: Vec<(Path, Option<Bytes>)>,
}

struct Fate {
    before: Duration,
    after: Duration,
    error: bool,
    lost: bool,
    full: bool,
    /// If the process dies, on a folder.
    survives: bool,
}

fn fault(what: &str) -> Error {
    Error::Generic {
        store: "simulated",
        source: what.into(),
    }
}

fn parent(path: &Path) -> &str {
    path.as_ref()
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

impl Network {
    pub fn new(seed: u64, is_folder: bool, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::default(),
            trace,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            faults: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            commits: Mutex::default(),
            folder: is_folder.then(Mutex::default),
        })
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    pub fn faults(&self) -> Faults {
        *self.faults.lock()
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn is_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// The store as it is, without a network before it.
    pub fn direct(&self) -> Store {
        Store::new(Arc::clone(&self.inner) as Arc<dyn ObjectStore>, "")
            .expect("no prefix is a prefix")
    }

    /// The store as a process sees it.
    pub fn store(self: &Arc<Self>, gate: &Arc<Gate>) -> Store {
        let handle = Handle {
            network: Arc::clone(self),
            gate: Arc::clone(gate),
        };
        Store::new(Arc::new(handle), "").expect("no prefix is a prefix")
    }

    fn fate(&self) -> Fate {
        let faults = self.faults();
        let random = &mut *self.random.lock();
        let hang = if random.random_bool(faults.hang) {
            HANG
        } else {
            Duration::ZERO
        };
        let mut delay = || Duration::from_millis(random.random_range(0..=faults.delay_ms));
        let (before, after) = (delay() + hang, delay());
        Fate {
            before,
            after,
            error: random.random_bool(faults.error),
            lost: random.random_bool(faults.lost),
            full: faults.full,
            survives: random.random(),
        }
    }

    /// All processes must be dead. Undoes what was not on disk.
    pub async fn lose_power(&self) {
        let Some(folder) = &self.folder else { return };
        let (deleted, unanswered) = {
            let mut folder = folder.lock();
            folder.losses += 1;
            (
                std::mem::take(&mut folder.deleted),
                std::mem::take(&mut folder.unanswered),
            )
        };
        for (at, path, bytes) in deleted {
            let undone = self.random.lock().random_bool(0.5);
            if undone && at.elapsed() <= DELETION_SYNC && self.inner.head(&path).await.is_err() {
                note!(self.trace, "power loss: {path} is back");
                let _ = self.inner.put(&path, bytes.into()).await;
            }
        }
        for (path, before) in unanswered.into_iter().rev() {
            if self.random.lock().random_bool(0.5) {
                continue;
            }
            note!(self.trace, "power loss: the put of {path} is undone");
            let _ = match before {
                Some(bytes) => self.inner.put(&path, bytes.into()).await.map(drop),
                None => self.inner.delete(&path).await,
            };
        }
    }

    fn losses(&self) -> u64 {
        self.folder
            .as_ref()
            .map_or(0, |folder| folder.lock().losses)
    }

    async fn bytes(&self, path: &Path) -> Option<Bytes> {
        self.inner.get(path).await.ok()?.bytes().await.ok()
    }

    async fn put(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let before = if self.is_folder() {
            self.bytes(path).await
        } else {
            None
        };
        let result = self.inner.put_opts(path, payload, options).await?;
        if let Some(sequence) = keys::parse_log_record(path.as_ref()) {
            self.commits.lock().insert(sequence, Instant::now());
        }
        if let Some(folder) = &self.folder {
            folder.lock().unanswered.push((path.clone(), before));
        }
        Ok(result)
    }

    /// The folder of a put is synced.
    fn answered(&self, path: &Path) {
        if let Some(folder) = &self.folder {
            folder
                .lock()
                .unanswered
                .retain(|(other, _)| parent(other) != parent(path));
        }
    }

    async fn delete(&self, path: &Path) -> Result<()> {
        if let Some(folder) = &self.folder
            && let Some(bytes) = self.bytes(path).await
        {
            folder
                .lock()
                .deleted
                .push((Instant::now(), path.clone(), bytes));
        }
        self.inner.delete(path).await
    }
}

/// How a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Stopped by somebody: it goes on later.
    Paused,
    /// Its requests do not return.
    Dead,
    /// Whatever waits unwinds.
    Buried,
}

/// Between one life of a process and the network.
pub struct Gate {
    pub life: usize,
    phase: Mutex<Phase>,
    /// Wakes those who wait in the order in which they came; tokio's `watch` wakes them in any
    /// order.
    changed: Notify,
    /// Requests until it dies,
    left: AtomicU64,
    /// and whether the last one has its effect.
    dies_after: bool,
    /// Folders that it has synced, and in which no put of its own has failed since.
    synced: Mutex<BTreeSet<String>>,
}

/// What unwinds the tasks of a dead process.
pub struct Killed;

impl Gate {
    /// For a life that dies at request `dies_at`.
    pub fn new(life: usize, dies_at: u64, dies_after: bool) -> Arc<Self> {
        Arc::new(Self {
            life,
            phase: Mutex::new(Phase::Running),
            changed: Notify::new(),
            left: AtomicU64::new(dies_at),
            dies_after,
            synced: Mutex::default(),
        })
    }

    pub fn is_dead(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Dead | Phase::Buried)
    }

    pub fn is_paused(&self) -> bool {
        *self.phase.lock() == Phase::Paused
    }

    pub fn set_paused(&self, paused: bool) {
        let phase = if paused {
            Phase::Paused
        } else {
            Phase::Running
        };
        if !self.is_dead() {
            self.set(phase);
        }
    }

    /// It does not die by itself any more.
    pub fn make_immortal(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    pub fn bury(&self) {
        self.set(Phase::Buried);
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_waiters();
    }

    pub async fn until_running(&self) {
        loop {
            let changed = self.changed.notified();
            let now = *self.phase.lock();
            match now {
                Phase::Running => return,
                Phase::Buried => resume_unwind(Box::new(Killed)),
                Phase::Paused | Phase::Dead => changed.await,
            }
        }
    }

    /// Before a request. True if it is the last one, which is still sent.
    async fn enter(&self) -> bool {
        self.until_running().await;
        if self.left.fetch_sub(1, Ordering::Relaxed) > 1 {
            return false;
        }
        self.set(Phase::Dead);
        if !self.dies_after {
            self.until_running().await;
        }
        true
    }
}

/// The store as one life of a process sees it.
#[derive(Clone)]
struct Handle {
    network: Arc<Network>,
    gate: Arc<Gate>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated store of life {}", self.gate.life)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Handle {
    /// Sends a request that goes on without us, and waits for its answer.
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        is_put: bool,
        effect: BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        let is_last = self.gate.enter().await;
        let mut fate = self.network.fate();
        if is_last {
            fate = Fate {
                error: false,
                full: false,
                survives: true,
                ..fate
            };
        }
        let (sender, receiver) = oneshot::channel();
        self.network.in_flight.fetch_add(1, Ordering::Relaxed);
        self.network.requests.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(
            Arc::clone(&self.network),
            Arc::clone(&self.gate),
            what,
            is_put,
            fate,
            effect,
            sender,
        ));
        let answer = receiver.await;
        self.gate.until_running().await;
        answer.unwrap_or_else(|_| Err(fault("the network is gone")))
    }
}

/// One request on its way.
async fn carry<T: Send + 'static>(
    network: Arc<Network>,
    gate: Arc<Gate>,
    what: String,
    is_put: bool,
    fate: Fate,
    effect: BoxFuture<'static, Result<T>>,
    sender: oneshot::Sender<Result<T>>,
) {
    let losses = network.losses();
    tokio::time::sleep(fate.before).await;
    let cut_off =
        network.is_folder() && ((gate.is_dead() && !fate.survives) || network.losses() != losses);
    let result = if cut_off || fate.error {
        Err(fault("the request failed"))
    } else if is_put && fate.full {
        Err(Error::Generic {
            store: "simulated",
            source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        })
    } else {
        effect.await
    };
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Error::AlreadyExists { .. }) => "exists already",
        Err(Error::NotFound { .. }) => "not found",
        Err(_) if cut_off => "cut off",
        Err(_) => "failed",
    };
    let lost = if fate.lost { ", answer lost" } else { "" };
    note!(network.trace, "  L{} {what}: {outcome}{lost}", gate.life);
    tokio::time::sleep(fate.after).await;
    network.in_flight.fetch_sub(1, Ordering::Relaxed);
    let _ = sender.send(if fate.lost {
        Err(fault("the answer was lost"))
    } else {
        result
    });
}

#[async_trait]
impl ObjectStore for Handle {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (network, path) = (Arc::clone(&self.network), location.clone());
        let gate = Arc::clone(&self.gate);
        let effect = async move {
            // The folder is synced before the first object gets its name.
            if gate.synced.lock().insert(parent(&path).to_owned()) {
                network.answered(&path);
            }
            network.put(&path, payload, options).await
        };
        let result = self
            .call(format!("put {location}"), true, effect.boxed())
            .await;
        match result {
            Ok(_) | Err(Error::AlreadyExists { .. }) => self.network.answered(location),
            Err(_) => {
                self.gate.synced.lock().remove(parent(location));
            }
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(format!("begin {location}"), true, async { Ok(()) }.boxed())
            .await?;
        Ok(Box::new(Upload {
            handle: self.clone(),
            path: location.clone(),
            parts: Vec::new(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (network, path) = (Arc::clone(&self.network), location.clone());
        let effect = async move { network.inner.get_opts(&path, options).await };
        self.call(format!("get {location}"), false, effect.boxed())
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let handle = self.clone();
        let delete = move |path: Path| {
            let (handle, network) = (handle.clone(), Arc::clone(&handle.network));
            async move {
                let what = format!("delete {path}");
                let effect = async move { network.delete(&path).await.map(|()| path) };
                handle.call(what, false, effect.boxed()).await
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (network, prefix) = (Arc::clone(&self.network), prefix.cloned());
        let effect = async move { network.inner.list_with_delimiter(prefix.as_ref()).await };
        self.call("list a folder".to_owned(), false, effect.boxed())
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (network, from, to) = (Arc::clone(&self.network), from.clone(), to.clone());
        let effect = async move { network.inner.copy_opts(&from, &to, options).await };
        self.call("copy".to_owned(), true, effect.boxed()).await
    }
}

impl Handle {
    /// The whole listing is one request.
    fn listed(
        &self,
        prefix: Option<Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let handle = self.clone();
        let listing = async move {
            let what = format!(
                "list {}",
                prefix.as_ref().map_or("", |prefix| prefix.as_ref())
            );
            let network = Arc::clone(&handle.network);
            let effect = async move {
                let metas = match &offset {
                    Some(offset) => network.inner.list_with_offset(prefix.as_ref(), offset),
                    None => network.inner.list(prefix.as_ref()),
                };
                metas.try_collect::<Vec<_>>().await
            };
            let metas = handle.call(what, false, effect.boxed()).await;
            metas.map(|metas| futures::stream::iter(metas.into_iter().map(Ok)))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }
}

/// An upload in parts, which shows nothing until it is complete.
#[derive(Debug)]
struct Upload {
    handle: Handle,
    path: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        let (handle, what) = (self.handle.clone(), format!("part of {}", self.path));
        async move { handle.call(what, true, async { Ok(()) }.boxed()).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload: PutPayload = self
            .parts
            .iter()
            .flat_map(|part| part.iter().cloned())
            .collect();
        self.handle
            .put_opts(&self.path, payload, PutOptions::default())
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
