//! One simulation: processes live and die beside each other, clients write and read, time passes, and after each step the model
//! says whether all is right.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use object_store::ObjectStoreExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use tidelake_catalog::catalog::AsOf;
use tidelake_catalog::model::{METRICS_TABLE, Matcher};
use tidelake_catalog::segment::scan::ScanUnit;
use tidelake_catalog::{Catalog, CatalogError, CatalogOptions, Environment, Refusal, Snapshot, StoreError};
use tidelake_compactor::CompactError;
use tidelake_compactor::garbage::CollectError;
use tidelake_compactor::merge::MergeError;
use tidelake_compactor::policy::Goal;
use tidelake_ingest::{IngestError, WriteOutcome};
use tidelake_querier::Querier;
use tidelake_querier::tables::{NoRecentRows, Tables};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::figures::Figures;
use crate::model::{Cells, Floor, Model, RequestId};
use crate::network::{Faults, Gate, HANG, Killed, Network};
use crate::process::{Process, Settings, StartError, node_name};
use crate::read::{self, ReadError};
use crate::trace::note;
use crate::workload::{Client, DATABASE, METRICS, Write};

/// Clocks of processes differ by at most so much from the true time, either way.
const SKEW_MS: i64 = 2000;
/// What is left of a grace period when a reader has to be done: clocks differ, and it has to hear of commits.
const MARGIN: Duration = Duration::from_secs(15);

/// What a process does last.
const SHUTDOWN: &str = "shutdown";

/// What a step or a task found: an error is a violation.
pub type Verdict = Result<(), String>;

/// What tasks share with the simulation.
struct Shared {
    network: Arc<Network>,
    model: Mutex<Model>,
    figures: Mutex<Figures>,
    /// Knows every commit, through no network.
    observer: Mutex<Arc<Catalog>>,
    /// By node, the newest epoch that takes requests.
    ready: Mutex<Vec<u64>>,
    /// How long files of removed segments stay.
    kept: Duration,
}

impl Shared {
    fn observer(&self) -> Arc<Catalog> {
        Arc::clone(&self.observer.lock())
    }

    /// Whether a newer process of the node has registered.
    async fn is_superseded(&self, node: usize, epoch: u64) -> Result<bool, String> {
        let snapshot = self.observer().refresh().await.map_err(|error| format!("the log cannot be read: {error}"))?;
        Ok(snapshot.node(&node_name(node)).is_some_and(|newest| newest.epoch > epoch))
    }

    /// Whether a newer process of the node takes requests.
    fn is_replaced(&self, node: usize, epoch: u64) -> bool {
        self.ready.lock()[node] > epoch
    }

    /// How long a catalog has not heard of a commit.
    fn staleness(&self, catalog: &Catalog) -> Duration {
        let commits = self.network.commits.lock();
        commits.get(&(catalog.snapshot().sequence() + 1)).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// How long a reader of this catalog may be sure of its files.
    fn sure_for(&self, catalog: &Catalog) -> Duration {
        self.kept.saturating_sub(MARGIN).saturating_sub(self.staleness(catalog))
    }
}

/// A life of a process.
struct Life {
    number: usize,
    node: usize,
    gate: Arc<Gate>,
    starting: Option<JoinHandle<Result<Process, StartError>>>,
    process: Option<Arc<Process>>,
}

/// Something that runs on a process.
struct Activity {
    life: usize,
    what: &'static str,
    client: Option<usize>,
    handle: JoinHandle<Verdict>,
}

/// A query that was begun and is read later.
struct Held {
    life: usize,
    table: String,
    units: Vec<ScanUnit>,
    cells: Cells,
    until: Instant,
}

/// A state of the past, and how it reads.
struct Past {
    sequence: u64,
    table: String,
    cells: Cells,
    until: Instant,
}

pub struct World {
    shared: Arc<Shared>,
    network: Arc<Network>,
    random: StdRng,
    settings: Settings,
    base_ms: i64,
    began: Instant,
    nodes: usize,
    clients: Vec<Client>,
    /// Requests that clients wait for, by client.
    numbers: u64,
    lives: Vec<Life>,
    next_life: usize,
    activities: Vec<Activity>,
    held: Vec<Held>,
    past: Vec<Past>,
    /// Reads what is in segments, through no network.
    reader: Tables,
    /// By node, what was checked last.
    checked: Vec<Option<Checked>>,
}

/// All that decides how the tables of a process read, but files, which are checked by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    life: usize,
    sequence: u64,
    buffered: (usize, usize),
    acknowledged: usize,
}

impl World {
    pub async fn new(seed: u64, network: Arc<Network>) -> Result<Self, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let settings = Settings::draw(&mut random, network.is_folder());
        let nodes = random.random_range(1..=2);
        let clients = (0..random.random_range(nodes..=4)).map(|number| Client::new(number, number % nodes)).collect();
        // Some day of 2026, at any time of the day.
        let base_ms = 1_767_225_600_000 + random.random_range(0..300 * 86_400_000i64);
        let observer = observe(&network, base_ms).await?;
        let reader = Tables::new(Arc::clone(&observer), network.direct(), Arc::new(NoRecentRows), 1 << 20);
        let shared = Shared {
            network: Arc::clone(&network),
            model: Mutex::new(Model::new(nodes)),
            figures: Mutex::default(),
            observer: Mutex::new(observer),
            ready: Mutex::new(vec![0; nodes]),
            kept: settings.compactor.grace + settings.compactor.time_travel_window,
        };
        note!(network.trace, "{nodes} nodes, folder: {}, {settings:?}", network.is_folder());
        Ok(Self {
            shared: Arc::new(shared),
            network,
            random,
            settings,
            base_ms,
            began: Instant::now(),
            nodes,
            clients,
            numbers: 0,
            lives: Vec::new(),
            next_life: 0,
            activities: Vec::new(),
            held: Vec::new(),
            past: Vec::new(),
            reader,
            checked: vec![None; nodes],
        })
    }

    pub fn figures(&self) -> Figures {
        let model = self.shared.model.lock();
        Figures {
            requests: self.network.requests.load(std::sync::atomic::Ordering::Relaxed),
            acknowledged: model.acknowledged() as u64,
            points: model.acknowledged_cells() as u64,
            simulated_s: self.began.elapsed().as_secs(),
            ..self.shared.figures.lock().clone()
        }
    }

    /// The whole simulation.
    pub async fn run(&mut self) -> Verdict {
        self.start_missing();
        self.pass(1000).await;
        self.collect_finished().await?;
        for _ in 0..self.random.random_range(20..90) {
            self.shared.figures.lock().steps += 1;
            self.step().await?;
            self.pass(200).await;
            self.collect_finished().await?;
            self.check().await?;
        }
        self.end().await
    }

    fn now_ms(&self) -> i64 {
        self.base_ms + i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn step(&mut self) -> Verdict {
        self.start_missing();
        match self.random.random_range(0..100) {
            0 => self.write_and_flush(),
            1..=33 => self.write(),
            34..=46 => self.pass(3000).await,
            47..=56 => self.change_faults(),
            57..=63 => self.flush(),
            64..=68 => self.compact(),
            69..=71 => self.collect_garbage(),
            72..=76 => self.query(),
            77..=79 => self.hold().await?,
            80..=82 => self.delete(),
            83..=84 => self.remember().await?,
            85..=88 => self.kill_one(),
            89..=90 => self.take_over(),
            91..=92 => self.pause(),
            93 => self.stop_gracefully(),
            94 => self.go_away(),
            95 => self.lose_power().await?,
            96..=97 => self.pass(90_000).await,
            _ => self.jump().await,
        }
        Ok(())
    }

    /// Lets some time pass.
    async fn pass(&mut self, most_ms: u64) {
        let pause = Duration::from_millis(self.random.random_range(1..=most_ms));
        if most_ms > 1000 {
            note!(self.network.trace, "{pause:?} pass");
        }
        tokio::time::sleep(pause).await;
    }

    /// The machines stand still for hours or days. No request is on its way for so long.
    async fn jump(&mut self) {
        for life in &self.lives {
            life.gate.set_paused(false);
        }
        self.drain().await;
        let minutes = *[7, 60, 13 * 60, 26 * 60, 3 * 24 * 60].choose(&mut self.random).expect("there are some");
        note!(self.network.trace, "{minutes} minutes go by");
        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
        // Whoever wakes up looks at the catalog first.
        tokio::time::sleep(self.settings.ingest.fence_check_interval + Duration::from_secs(2)).await;
    }

    /// Waits until nothing is on the network.
    async fn drain(&mut self) {
        self.network.set_faults(Faults { delay_ms: 5, ..Faults::default() });
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.network.in_flight() == 0 {
                return;
            }
        }
    }

    fn change_faults(&mut self) {
        let random = &mut self.random;
        let delay_ms = *[0, 20, 400, 3000].choose(random).expect("there are some");
        let well = Faults { delay_ms, ..Faults::default() };
        let faults = match random.random_range(0..10) {
            0..=1 | 8..=9 => well,
            2 => Faults { error: 0.2, ..well },
            3 => Faults { lost: 0.2, ..well },
            4 => Faults { error: 1.0, ..well },
            5 => Faults { hang: 0.1, lost: 0.1, error: 0.1, ..well },
            6 => Faults { full: true, ..well },
            _ => Faults { lost: 0.5, error: 0.2, ..well },
        };
        note!(self.network.trace, "{faults:?}");
        self.network.set_faults(faults);
    }

    // ---- processes

    fn start(&mut self, node: usize) {
        let number = self.next_life;
        self.next_life += 1;
        // Most die within hundreds of requests, some live until they are killed.
        let dies_at = match self.random.random_range(0..10) {
            0..=3 => u64::MAX,
            4..=6 => self.random.random_range(1..40),
            _ => self.random.random_range(1..600),
        };
        let gate = Gate::new(number, dies_at, self.random.random());
        let skew = self.random.random_range(-SKEW_MS..=SKEW_MS);
        let environment = Environment::simulated(self.random.random(), self.now_ms() + skew);
        note!(self.network.trace, "L{number} starts as node {node}, dies at request {dies_at}");
        let (store, direct) = (self.network.store(&gate), self.network.direct());
        let starting = tokio::spawn(Process::start(node, store, direct, environment, self.settings.clone()));
        self.lives.push(Life { number, node, gate, starting: Some(starting), process: None });
        self.shared.figures.lock().lives += 1;
    }

    fn start_missing(&mut self) {
        for node in 0..self.nodes {
            if !self.lives.iter().any(|life| life.node == node && !life.gate.is_dead()) && self.random.random_bool(0.7) {
                self.start(node);
            }
        }
    }

    /// The process of a node that clients talk to: the newest that ever was ready, if it is still there.
    fn current(&self, node: usize) -> Option<&Life> {
        let newest = self.shared.ready.lock()[node];
        let is_newest = |process: &Arc<Process>| process.node == node && process.epoch == newest;
        self.lives.iter().find(|life| life.process.as_ref().is_some_and(is_newest))
    }

    /// Any process that has started, even one that was taken over.
    fn any_running(&mut self) -> Option<(usize, Arc<Process>)> {
        let running = self.lives.iter().filter(|life| !life.gate.is_dead());
        let running = running.filter_map(|life| life.process.as_ref().map(|process| (life.number, Arc::clone(process))));
        running.choose(&mut self.random)
    }

    /// Ends a life: whatever it does stops where it stands.
    fn bury(&mut self, number: usize, why: &str) {
        let Some(at) = self.lives.iter().position(|life| life.number == number) else { return };
        let life = self.lives.swap_remove(at);
        note!(self.network.trace, "L{number} ends: {why}");
        life.gate.bury();
        if let Some(starting) = life.starting {
            starting.abort();
        }
        self.activities.retain(|activity| {
            if activity.life == number {
                activity.handle.abort();
            }
            activity.life != number
        });
        self.held.retain(|held| held.life != number);
        self.shared.figures.lock().crashes += 1;
    }

    fn kill_one(&mut self) {
        if let Some(number) = self.lives.iter().map(|life| life.number).choose(&mut self.random) {
            self.bury(number, "killed");
        }
    }

    /// A second process of a node starts while the first is still there.
    fn take_over(&mut self) {
        let node = self.random.random_range(0..self.nodes);
        self.start(node);
    }

    fn pause(&mut self) {
        if let Some(life) = self.lives.iter().choose(&mut self.random) {
            let pauses = !life.gate.is_paused();
            note!(self.network.trace, "L{} {}", life.number, if pauses { "is paused" } else { "goes on" });
            life.gate.set_paused(pauses);
        }
    }

    fn stop_gracefully(&mut self) {
        let Some((life, process)) = self.any_running() else { return };
        let shared = Arc::clone(&self.shared);
        self.spawn(life, SHUTDOWN, None, async move {
            let began = shared.model.lock().now();
            let result = process.ingester.shutdown().await;
            flushed(&shared, &process, result, began).await
        });
    }

    /// A power loss; on a bucket all processes are killed at once.
    async fn lose_power(&mut self) -> Verdict {
        if !self.random.random_bool(0.5) {
            return Ok(());
        }
        let all: Vec<usize> = self.lives.iter().map(|life| life.number).collect();
        for number in all {
            self.bury(number, "power loss");
        }
        self.network.lose_power().await;
        // Whoever saw what was not on disk yet has lost power too.
        let observer = observe(&self.network, self.now_ms()).await?;
        let sequence = observer.snapshot().sequence();
        *self.shared.observer.lock() = observer;
        self.past.retain(|past| past.sequence <= sequence);
        Ok(())
    }

    // ---- what processes are asked

    fn spawn(&mut self, life: usize, what: &'static str, client: Option<usize>, task: impl Future<Output = Verdict> + Send + 'static) {
        note!(self.network.trace, "L{life} {what}");
        self.activities.push(Activity { life, what, client, handle: tokio::spawn(task) });
    }

    fn is_busy(&self, client: usize) -> bool {
        self.activities.iter().any(|activity| activity.client == Some(client))
    }

    /// Some clients write.
    fn write(&mut self) {
        for at in 0..self.clients.len() {
            let (client, node) = (self.clients[at].number, self.clients[at].node);
            if self.is_busy(client) || self.random.random_bool(0.3) {
                continue;
            }
            let current = self.current(node).map(|life| life.number);
            // Somebody may still know the old address.
            let old = self.lives.iter().filter(|life| life.node == node && Some(life.number) != current && life.process.is_some());
            let old = old.map(|life| life.number).choose(&mut self.random).filter(|_| self.random.random_bool(0.2));
            let Some(life) = old.or(current) else { continue };
            let Some(process) = self.lives.iter().find(|l| l.number == life).and_then(|life| life.process.clone()) else { continue };
            let count = self.random.random_range(1..4);
            self.write_some(at, life, process, count);
        }
    }

    /// A client writes, and all is flushed after each request: so many segments come that two hours are merged.
    fn write_and_flush(&mut self) {
        let at = self.random.random_range(0..self.clients.len());
        let (client, node) = (self.clients[at].number, self.clients[at].node);
        let Some((life, process)) = self.current(node).and_then(|life| Some((life.number, life.process.clone()?))) else { return };
        if self.is_busy(client) {
            return;
        }
        let writes = self.draw_writes(at, node, 24);
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "write and flush", Some(client), async move {
            for (id, write) in writes {
                send(&shared, &process, id, write).await?;
                let began = shared.model.lock().now();
                let result = process.ingester.flush().await;
                flushed(&shared, &process, result, began).await?;
            }
            Ok(())
        });
    }

    /// Requests that a client is about to send.
    fn draw_writes(&mut self, at: usize, node: usize, count: usize) -> Vec<(RequestId, Write)> {
        let now_ms = self.now_ms();
        let client = &self.clients[at];
        let mut model = self.shared.model.lock();
        let mut writes = Vec::new();
        for _ in 0..count {
            let write = client.write(&mut self.random, &model, now_ms, &mut self.numbers);
            let id = model.begin(node, write.cells.clone());
            note!(self.network.trace, "client {} has request {id} with {} cells", client.number, write.cells.len());
            writes.push((id, write));
        }
        writes
    }

    /// A client sends requests, one after the other.
    fn write_some(&mut self, at: usize, life: usize, process: Arc<Process>, count: usize) {
        let shared = Arc::clone(&self.shared);
        let client = self.clients[at].number;
        let writes = self.draw_writes(at, process.node, count);
        self.spawn(life, "write", Some(client), async move {
            for (id, write) in writes {
                send(&shared, &process, id, write).await?;
            }
            Ok(())
        });
    }

    /// A client does not wait for its answer any longer.
    fn go_away(&mut self) {
        let waiting: Vec<usize> = (0..self.activities.len()).filter(|&at| self.activities[at].client.is_some()).collect();
        if let Some(&at) = waiting.choose(&mut self.random) {
            let activity = self.activities.swap_remove(at);
            note!(self.network.trace, "client {:?} goes away", activity.client);
            activity.handle.abort();
        }
    }

    fn flush(&mut self) {
        let Some((life, process)) = self.any_running() else { return };
        self.flush_on(life, process);
    }

    fn flush_on(&mut self, life: usize, process: Arc<Process>) {
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "flush", None, async move {
            let began = shared.model.lock().now();
            let result = process.ingester.flush().await;
            flushed(&shared, &process, result, began).await
        });
    }

    /// A client deletes some of what it wrote: as the server does it, after a flush.
    fn delete(&mut self) {
        let at = self.random.random_range(0..self.clients.len());
        let (client, node) = (self.clients[at].number, self.clients[at].node);
        let Some((life, process)) = self.current(node).and_then(|life| Some((life.number, life.process.clone()?))) else { return };
        if self.is_busy(client) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let (delete, id) = {
            let mut model = shared.model.lock();
            let Some(delete) = self.clients[at].delete(&mut self.random, &model) else { return };
            let id = model.begin_delete(node, &delete.table, |key| delete.takes(key));
            (delete, id)
        };
        note!(self.network.trace, "client {client} deletes as request {id}: {delete:?}");
        self.spawn(life, "delete", Some(client), async move {
            let began = shared.model.lock().now();
            let is_replaced = shared.is_replaced(process.node, process.epoch);
            let result = process.ingester.flush().await;
            let is_flushed = result.is_ok();
            flushed(&shared, &process, result, began).await?;
            if !is_flushed {
                // Nothing was deleted.
                return shared.model.lock().refuse(id);
            }
            let matchers = delete.matchers.iter().map(|(name, value)| Matcher::equal(*name, value)).collect();
            match process.catalog.delete(DATABASE, &delete.table, matchers, delete.range).await {
                Ok(_) if is_replaced => Err(format!("delete {id} was acknowledged by a process that had been replaced")),
                Ok(_) => {
                    shared.model.lock().acknowledge(id);
                    shared.figures.lock().deletes += 1;
                    Ok(())
                }
                // Nobody has written to it yet.
                Err(CatalogError::Refused(Refusal::NoTable { .. } | Refusal::NoDatabase { .. })) => shared.model.lock().refuse(id),
                Err(error) => catalog_failed(&shared, &process, "delete", error).await,
            }
        });
    }

    /// Notes a state of the catalog and what can be read of it, for later.
    async fn remember(&mut self) -> Verdict {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else { return Ok(()) };
        let snapshot = self.shared.observer().refresh().await.map_err(|error| error.to_string())?;
        let cells = self.read_past(Arc::clone(&snapshot), &table).await?;
        note!(self.network.trace, "state {} of {table} is remembered with {} cells", snapshot.sequence(), cells.len());
        let until = Instant::now() + self.settings.compactor.time_travel_window.saturating_sub(MARGIN);
        self.past.push(Past { sequence: snapshot.sequence(), table, cells, until });
        Ok(())
    }

    async fn read_past(&self, snapshot: Arc<Snapshot>, table: &str) -> Result<Cells, String> {
        let sequence = snapshot.sequence();
        let tables = self.reader.at(snapshot);
        read::scan(&tables, table).await.map_err(|error| format!("state {sequence} of {table}: {error}"))
    }

    /// States of the past read as they were.
    async fn check_past(&mut self) -> Verdict {
        let (random, now) = (&mut self.random, Instant::now());
        let due: Vec<Past> = self.past.extract_if(.., |past| past.until < now || random.random_bool(0.1)).collect();
        for past in due.into_iter().filter(|past| past.until >= now) {
            let (window, at) = (self.settings.compactor.time_travel_window, AsOf::Sequence(past.sequence));
            let snapshot = self.shared.observer().as_of(at, window, self.now_ms()).await;
            let snapshot = snapshot.map_err(|error| format!("state {} cannot be read: {error}", past.sequence))?;
            if self.read_past(snapshot, &past.table).await? != past.cells {
                return Err(format!("state {} of {} reads otherwise than it did", past.sequence, past.table));
            }
            self.shared.figures.lock().past += 1;
        }
        Ok(())
    }

    fn compact(&mut self) {
        let goal = if self.random.random_bool(0.6) { Goal::Full } else { Goal::Steady };
        let Some((life, process)) = self.any_running() else { return };
        self.compact_on(life, process, goal);
    }

    fn compact_on(&mut self, life: usize, process: Arc<Process>, goal: Goal) {
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "compact", None, async move {
            let sure = shared.sure_for(&process.catalog);
            let began = Instant::now();
            match process.compactor.compact(goal).await {
                Ok(merges) => {
                    shared.figures.lock().merges += merges as u64;
                    Ok(())
                }
                Err(error) => compact_failed(&shared, &process, error, began.elapsed() >= sure).await,
            }
        });
    }

    fn collect_garbage(&mut self) {
        if let Some((life, process)) = self.any_running() {
            self.collect_garbage_on(life, process);
        }
    }

    fn collect_garbage_on(&mut self, life: usize, process: Arc<Process>) {
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "collect garbage", None, async move {
            match process.compactor.collect().await {
                Ok(()) => Ok(()),
                Err(CollectError::Store(error)) if error.is_transient() => Ok(()),
                Err(CollectError::Catalog(error)) => catalog_failed(&shared, &process, "collect garbage", error).await,
                Err(error) => Err(format!("collect garbage: {error}")),
            }
        });
    }

    /// A query over the store that fails.
    fn query(&mut self) {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else { return };
        let node = self.random.random_range(0..self.nodes);
        let Some((life, process)) = self.current(node).and_then(|life| Some((life.number, life.process.clone()?))) else { return };
        let way = Way::draw(&mut self.random, &self.shared.model.lock(), &table);
        let (shared, now_ms) = (Arc::clone(&self.shared), self.now_ms());
        self.spawn(life, "query", None, async move {
            if shared.is_replaced(process.node, process.epoch) {
                return Ok(());
            }
            let began = Instant::now();
            let sure = shared.sure_for(&process.catalog);
            let floor = shared.model.lock().floor(Some(process.node), process.catalog.snapshot().sequence());
            let result = way.read(&process.querier, &table, now_ms).await;
            shared.figures.lock().queries += 1;
            match result {
                Ok(cells) => judge(&shared, &way, &table, &cells, &floor, &format!("a query of node {}", process.node)),
                Err(ReadError::Unavailable(_)) => Ok(()),
                Err(ReadError::Missing(_)) if began.elapsed() >= sure => Ok(()),
                Err(error) => Err(format!("{way:?} of {table}: {error}")),
            }
        });
    }

    /// A query is planned now and read later, over what merges and garbage collection do meanwhile.
    async fn hold(&mut self) -> Verdict {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else { return Ok(()) };
        let node = self.random.random_range(0..self.nodes);
        let Some((life, process)) = self.current(node).and_then(|life| Some((life.number, life.process.clone()?))) else { return Ok(()) };
        let sure = self.shared.sure_for(&process.catalog);
        if sure.is_zero() {
            return Ok(());
        }
        let failed = |error: ReadError| format!("a held query of {table}: {error}");
        let units = read::plan(process.judged.tables(), &table).await.map_err(failed)?;
        let cells = read::read(&units).await.map_err(failed)?;
        note!(self.network.trace, "L{life} holds a query of {table} with {} cells", cells.len());
        self.held.push(Held { life, table, units, cells, until: Instant::now() + sure });
        Ok(())
    }

    // ---- what is judged

    /// Takes note of what has come to its end.
    async fn collect_finished(&mut self) -> Verdict {
        let mut at = 0;
        while at < self.activities.len() {
            if !self.activities[at].handle.is_finished() {
                at += 1;
                continue;
            }
            let activity = self.activities.remove(at);
            let (what, life) = (activity.what, activity.life);
            finished(activity.handle.await)?.unwrap_or(Ok(())).map_err(|error| format!("L{life} {what}: {error}"))?;
            if what == SHUTDOWN {
                self.bury(life, "it was stopped");
            }
        }
        let mut ended = Vec::new();
        for at in 0..self.lives.len() {
            let life = &mut self.lives[at];
            if let Some(starting) = life.starting.take_if(|starting| starting.is_finished()) {
                let number = life.number;
                match finished(starting.await)? {
                    None => ended.push((number, "it died at its start".to_owned())),
                    Some(Ok(process)) => {
                        note!(self.network.trace, "L{number} is ready with epoch {}", process.epoch);
                        let ready = &mut self.shared.ready.lock()[process.node];
                        *ready = (*ready).max(process.epoch);
                        self.lives[at].process = Some(Arc::new(process));
                    }
                    Some(Err(error)) => {
                        start_failed(&self.shared, self.lives[at].node, &error).await?;
                        ended.push((number, format!("it cannot start: {error}")));
                    }
                }
                continue;
            }
            if life.gate.is_dead() && self.random.random_bool(0.5) {
                ended.push((life.number, "it died".to_owned()));
            } else if let Some(process) = &life.process
                && process.ingester.fenced().now_or_never().is_some()
                && self.random.random_bool(0.3)
            {
                // The server ends when it is told so, sooner or later.
                if !self.shared.is_superseded(process.node, process.epoch).await? {
                    return Err(format!("L{} thinks that it is fenced, but nobody has taken over", life.number));
                }
                self.shared.figures.lock().fenced += 1;
                ended.push((life.number, "it is fenced".to_owned()));
            }
        }
        for (number, why) in ended {
            self.bury(number, &why);
        }
        match crate::panics::first() {
            Some(panic) => Err(format!("a task panicked: {panic}")),
            None => Ok(()),
        }
    }

    /// What must hold at any time.
    async fn check(&mut self) -> Verdict {
        self.check_files().await?;
        self.check_held().await?;
        self.check_past().await?;
        for node in 0..self.nodes {
            let Some(life) = self.current(node).filter(|life| !life.gate.is_dead()) else { continue };
            let (number, Some(process)) = (life.number, life.process.clone()) else { continue };
            if self.shared.sure_for(&process.catalog).is_zero() {
                self.shared.figures.lock().stale += 1;
                continue;
            }
            let sequence = process.catalog.snapshot().sequence();
            let buffered = process.ingester.buffered();
            let acknowledged = self.shared.model.lock().acknowledged();
            let now = Some(Checked { life: number, sequence, buffered, acknowledged });
            if self.checked[node] == now {
                continue;
            }
            self.checked[node] = now;
            let tables = self.shared.model.lock().tables();
            for table in tables {
                let mut ways = vec![Way::Scan];
                if self.random.random_bool(0.08) {
                    ways.push(Way::draw(&mut self.random, &self.shared.model.lock(), &table));
                }
                for way in ways {
                    let floor = self.shared.model.lock().floor(Some(node), process.catalog.snapshot().sequence());
                    let what = format!("node {node} (L{number})");
                    check_table(&self.shared, &process.judged, &way, &table, &floor, self.now_ms(), &what).await?;
                }
            }
        }
        Ok(())
    }

    /// Every file that the catalog names is there, and those that went not long ago.
    async fn check_files(&self) -> Verdict {
        let snapshot = self.shared.observer().refresh().await.map_err(|error| format!("the log is broken: {error}"))?;
        let head = async |key: String| {
            let there = self.network.inner.head(&object_store::path::Path::from(key.as_str())).await;
            there.map(drop).map_err(|_| format!("the catalog at {} names {key}, which is not there", snapshot.sequence()))
        };
        {
            let mut figures = self.shared.figures.lock();
            figures.windows += u64::from(snapshot.segments().any(|segment| segment.level == 1));
            figures.days += u64::from(snapshot.segments().any(|segment| segment.level == 2));
        }
        for segment in snapshot.segments() {
            head(segment.data_key()).await?;
            head(segment.index_key()).await?;
        }
        let kept = i64::try_from(self.shared.kept.as_millis()).unwrap_or(i64::MAX);
        let due = self.now_ms() - kept + 2 * SKEW_MS;
        for retired in snapshot.retired().filter(|retired| retired.time_ms > due) {
            let segment = &retired.segment;
            let (database, table, day, id) = (&segment.database, &segment.table, segment.day, segment.id);
            head(tidelake_catalog::keys::data_file(database, table, day, id)).await?;
            head(tidelake_catalog::keys::series_index(database, table, day, id)).await?;
        }
        Ok(())
    }

    /// Held queries still read what they began with.
    async fn check_held(&mut self) -> Verdict {
        let (random, now) = (&mut self.random, Instant::now());
        let due: Vec<Held> = self.held.extract_if(.., |held| held.until < now || random.random_bool(0.2)).collect();
        for held in due.into_iter().filter(|held| held.until >= now) {
            let cells = read::read(&held.units).await.map_err(|error| format!("a held query of {}: {error}", held.table))?;
            if cells != held.cells {
                return Err(format!("a held query of {} changed", held.table));
            }
            self.shared.figures.lock().held += 1;
        }
        Ok(())
    }

    // ---- the end

    /// The store is well again: everything comes back by itself, is right, and leaves nothing behind.
    async fn end(&mut self) -> Verdict {
        note!(self.network.trace, "the store is well again");
        self.network.set_faults(Faults { delay_ms: 5, ..Faults::default() });
        let doomed: Vec<usize> = self.lives.iter().filter(|life| life.gate.is_dead() || life.gate.is_paused()).map(|l| l.number).collect();
        for number in doomed {
            self.bury(number, "the end");
        }
        tokio::time::sleep(HANG + Duration::from_secs(10)).await;
        self.collect_finished().await?;
        self.check().await?;
        let mut processes = Vec::new();
        for node in 0..self.nodes {
            processes.push((node, self.running_of(node).await?));
        }
        // Some may have died since the store is well.
        let dead: Vec<usize> = self.lives.iter().filter(|life| life.gate.is_dead()).map(|life| life.number).collect();
        for number in dead {
            self.bury(number, "the end");
        }
        // Whoever could not write before can now.
        for at in 0..self.clients.len() {
            let node = self.clients[at].node;
            if self.is_busy(self.clients[at].number) {
                return Err(format!("client {at} was not answered"));
            }
            let before = self.shared.model.lock().acknowledged();
            // Some requests are wrong, and after a flush there is room again.
            for _ in 0..12 {
                let Some((_, (life, process))) = processes.iter().find(|(other, _)| *other == node).cloned() else { continue };
                self.write_some(at, life, process, 1);
                self.settle(Duration::from_secs(30)).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                if self.shared.model.lock().acknowledged() > before {
                    break;
                }
            }
            if self.shared.model.lock().acknowledged() == before {
                return Err(format!("client {at} cannot write though the store is well"));
            }
        }
        for (life, process) in processes.iter().map(|(_, running)| running.clone()) {
            self.flush_on(life, process);
            self.settle(Duration::from_secs(60)).await?;
        }
        self.check().await?;
        if let Some((_, (life, process))) = processes.first().cloned() {
            self.compact_on(life, Arc::clone(&process), Goal::Full);
            self.settle(Duration::from_secs(120)).await?;
            self.check().await?;
            self.check_whole().await?;
            self.check_garbage(life, process).await?;
        }
        Ok(())
    }

    /// The process of a node, started if there is none, that is not going to die.
    async fn running_of(&mut self, node: usize) -> Result<(usize, Arc<Process>), String> {
        for _ in 0..20 {
            if let Some(life) = self.current(node).filter(|life| !life.gate.is_dead())
                && let Some(process) = &life.process
                && process.ingester.fenced().now_or_never().is_none()
            {
                life.gate.make_immortal();
                return Ok((life.number, Arc::clone(process)));
            }
            let starting = self.lives.iter().any(|life| life.node == node && life.starting.is_some() && !life.gate.is_dead());
            if !starting {
                self.start(node);
            }
            for life in self.lives.iter().filter(|life| life.node == node && !life.gate.is_dead()) {
                life.gate.make_immortal();
            }
            tokio::time::sleep(Duration::from_secs(15)).await;
            self.collect_finished().await?;
        }
        Err(format!("node {node} does not start though the store is well"))
    }

    /// Waits until all activities are done.
    async fn settle(&mut self, most: Duration) -> Verdict {
        let began = Instant::now();
        while !self.activities.is_empty() {
            if began.elapsed() > most {
                return Err(format!("{} did not end within {most:?} though the store is well", self.activities[0].what));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.collect_finished().await?;
        }
        Ok(())
    }

    /// Everything was flushed: a process that only reads sees all of it, by every way out.
    async fn check_whole(&mut self) -> Verdict {
        let catalog = observe(&self.network, self.now_ms()).await?;
        let environment = catalog.environment().clone();
        let tables = Tables::new(catalog, self.network.direct(), Arc::new(NoRecentRows), 1 << 20);
        let sql = tidelake_querier::sql::SqlOptions { target_partitions: 1, environment, ..Default::default() };
        let querier = Querier::new(tables, Default::default(), sql).map_err(|error| error.to_string())?;
        let names = self.shared.model.lock().tables();
        for table in names {
            let fields = self.shared.model.lock().fields(&table);
            let sql = if table == METRICS_TABLE { METRICS.map(str::to_owned).to_vec() } else { vec![String::new()] };
            let ways = std::iter::once(Way::Scan)
                .chain(fields.into_iter().filter(|field| is_number(field)).map(Way::Promql))
                .chain(sql.into_iter().map(Way::Sql));
            for way in ways {
                let floor = self.shared.model.lock().whole();
                check_table(&self.shared, &querier, &way, &table, &floor, self.now_ms(), "a new reader").await?;
            }
        }
        Ok(())
    }

    /// After days of rest nothing is on the store but what the catalog names.
    async fn check_garbage(&mut self, life: usize, process: Arc<Process>) -> Verdict {
        let others: Vec<usize> = self.lives.iter().map(|life| life.number).filter(|number| *number != life).collect();
        for number in others {
            self.bury(number, "the end");
        }
        for _ in 0..2 {
            self.jump_by(Duration::from_secs(30 * 3600)).await;
            for _ in 0..4 {
                self.collect_garbage_on(life, Arc::clone(&process));
                self.settle(Duration::from_secs(60)).await?;
                tokio::time::sleep(self.settings.compactor.sweep_interval).await;
            }
        }
        self.check_files().await?;
        let snapshot = self.shared.observer().refresh().await.map_err(|error| error.to_string())?;
        let named: BTreeSet<String> = snapshot.segments().flat_map(|segment| [segment.data_key(), segment.index_key()]).collect();
        use futures::TryStreamExt;
        let listed: Vec<_> = self.network.direct().list("data").try_collect().await.map_err(|error: StoreError| error.to_string())?;
        let tables = self.shared.model.lock().tables();
        match listed.iter().find(|info| !named.contains(&info.key)) {
            Some(info) if !tables.is_empty() => Err(format!("{} was never collected", info.key)),
            _ => Ok(()),
        }
    }

    async fn jump_by(&mut self, duration: Duration) {
        self.drain().await;
        tokio::time::advance(duration).await;
        tokio::time::sleep(self.settings.ingest.fence_check_interval + Duration::from_secs(2)).await;
    }
}

/// A catalog that reads the log through no network.
async fn observe(network: &Network, now_ms: i64) -> Result<Arc<Catalog>, String> {
    let options = CatalogOptions { environment: Environment::simulated(0, now_ms), ..CatalogOptions::default() };
    let catalog = Catalog::load(network.direct(), options).await.map_err(|error| format!("the log is broken: {error}"))?;
    Ok(Arc::new(catalog))
}

/// A way out of the database.
#[derive(Debug, Clone)]
enum Way {
    Scan,
    /// A field.
    Promql(String),
    /// Of the metrics table a metric.
    Sql(String),
}

fn is_number(field: &str) -> bool {
    !field.starts_with('s')
}

impl Way {
    fn draw(random: &mut StdRng, model: &Model, table: &str) -> Self {
        let fields: Vec<String> = model.fields(table).into_iter().filter(|field| is_number(field)).collect();
        match (random.random_range(0..3), fields.choose(random)) {
            (0, _) => Self::Scan,
            (1, Some(field)) => Self::Promql(field.clone()),
            _ => Self::Sql(METRICS.choose(random).map_or(String::new(), |metric| (*metric).to_owned())),
        }
    }

    async fn read(&self, querier: &Querier, table: &str, now_ms: i64) -> Result<Cells, ReadError> {
        match self {
            Self::Scan => read::scan(querier.tables(), table).await,
            Self::Promql(field) => read::promql(querier, table, field, now_ms).await,
            Self::Sql(metric) => read::sql(querier, table, metric).await,
        }
    }
}

fn judge(shared: &Shared, way: &Way, table: &str, cells: &Cells, floor: &Floor, what: &str) -> Verdict {
    let prefix = match way {
        Way::Sql(metric) if table == METRICS_TABLE => format!("__name__={metric},"),
        _ => String::new(),
    };
    let is_read = |(series, _, field): &(String, i64, String)| match way {
        Way::Promql(wanted) => field == wanted,
        _ => series.starts_with(&prefix),
    };
    shared.model.lock().judge(table, cells, floor, is_read).map_err(|error| format!("{what}, {way:?}: {error}"))
}

async fn check_table(shared: &Shared, querier: &Querier, way: &Way, table: &str, floor: &Floor, now_ms: i64, what: &str) -> Verdict {
    shared.figures.lock().queries += 1;
    let cells = way.read(querier, table, now_ms).await.map_err(|error| format!("{what}, {way:?} of {table}: {error}"))?;
    judge(shared, way, table, &cells, floor, what)
}

fn brief(result: &Result<WriteOutcome, IngestError>) -> String {
    match result {
        Ok(outcome) => format!("{} written, {} refused", outcome.written.samples, outcome.refused),
        Err(error) => error.to_string(),
    }
}

/// Sends one request, and notes its answer.
async fn send(shared: &Shared, process: &Process, id: RequestId, write: Write) -> Verdict {
    let is_replaced = shared.is_replaced(process.node, process.epoch);
    if is_replaced {
        // It must never appear.
        shared.model.lock().refuse(id)?;
    }
    let (body, accept_partial) = (write.request.body.clone(), write.request.accept_partial);
    let result = process.ingester.write(write.request).await;
    note!(shared.network.trace, "request {id}: {}", brief(&result));
    match result {
        Ok(outcome) => acknowledged(shared, id, &outcome, accept_partial, &write.bad_lines, is_replaced)
            .map_err(|error| format!("{error}; it was {}", String::from_utf8_lossy(&body))),
        Err(error) => refused(shared, process, id, error).await,
    }
}

/// A client got a 2xx, or a 4xx that names lines.
fn acknowledged(
    shared: &Shared,
    id: RequestId,
    outcome: &WriteOutcome,
    accept_partial: bool,
    bad_lines: &[usize],
    is_replaced: bool,
) -> Verdict {
    let refused: Vec<usize> = outcome.errors.iter().map(|error| error.line).collect();
    // A node that has not heard of a column takes the first type that a request gives it, and learns better when it adds the column,
    // which it does not if the request is refused as a whole anyway.
    let is_enough = !accept_partial && outcome.written.samples == 0 && !refused.is_empty() && !bad_lines.is_empty();
    if refused != bad_lines && !is_enough {
        return Err(format!("request {id} has bad lines {bad_lines:?}, but {refused:?} were refused: {:?}", outcome.errors));
    }
    let mut model = shared.model.lock();
    if outcome.written.samples == 0 {
        return model.refuse(id);
    }
    if is_replaced {
        return Err(format!("request {id} was acknowledged by a process that had been replaced"));
    }
    model.acknowledge(id);
    Ok(())
}

async fn refused(shared: &Shared, process: &Process, id: RequestId, error: IngestError) -> Verdict {
    match error {
        IngestError::Unavailable { .. } => Ok(()),
        IngestError::Fenced(_) if shared.is_superseded(process.node, process.epoch).await? => Ok(()),
        error => Err(format!("request {id}: {error:?}")),
    }
}

async fn catalog_failed(shared: &Shared, process: &Process, what: &str, error: CatalogError) -> Verdict {
    match error {
        CatalogError::Store(error) if error.is_transient() => Ok(()),
        CatalogError::Fenced { .. } if shared.is_superseded(process.node, process.epoch).await? => Ok(()),
        error => Err(format!("{what}: {error}")),
    }
}

/// `is_stale`: what it was to merge may be gone.
async fn compact_failed(shared: &Shared, process: &Process, error: CompactError, is_stale: bool) -> Verdict {
    let error = match error {
        CompactError::Some { first, .. } => *first,
        error => error,
    };
    match error {
        CompactError::Catalog(error) => catalog_failed(shared, process, "compact", error).await,
        CompactError::Merge(MergeError::Store(error)) if error.is_transient() => Ok(()),
        CompactError::Merge(MergeError::Segment(error)) | CompactError::Quarantined { error, .. } => match error.into() {
            ReadError::Unavailable(_) => Ok(()),
            ReadError::Missing(_) if is_stale => Ok(()),
            error => Err(format!("compact: {error}")),
        },
        error => Err(format!("compact: {error}")),
    }
}

async fn flushed(shared: &Shared, process: &Process, result: Result<(), IngestError>, began: u64) -> Verdict {
    match result {
        Ok(()) => {
            shared.figures.lock().flushes += 1;
            if !shared.is_replaced(process.node, process.epoch) {
                shared.model.lock().flushed(process.node, process.catalog.snapshot().sequence(), began);
            }
            Ok(())
        }
        Err(IngestError::Unavailable { .. }) => Ok(()),
        Err(IngestError::Fenced(_)) if shared.is_superseded(process.node, process.epoch).await? => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}

async fn start_failed(shared: &Shared, node: usize, error: &StartError) -> Verdict {
    let text = error.to_string();
    let is_transient = match error {
        StartError::Catalog(CatalogError::Store(error)) => error.is_transient(),
        // Another process of the node started meanwhile: it fences, covers and deletes.
        StartError::Catalog(CatalogError::Fenced { .. }) | StartError::Ingest(IngestError::Fenced(_)) => true,
        StartError::Ingest(IngestError::Unavailable { .. }) => true,
        StartError::Ingest(IngestError::Internal(text)) => text.contains("not available") || text.contains("no space left"),
        _ => false,
    };
    let raced = shared.observer().refresh().await.ok().and_then(|s| s.node(&node_name(node)).map(|n| n.epoch)).unwrap_or(0);
    let is_raced = text.contains("does not exist") && shared.ready.lock()[node] == raced;
    if is_transient || is_raced { Ok(()) } else { Err(format!("node {node} cannot start: {text}")) }
}

/// The result of a task; `None` if it was killed.
fn finished<T>(result: Result<T, tokio::task::JoinError>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_cancelled() => Ok(None),
        Err(error) => match error.into_panic().downcast::<Killed>() {
            Ok(_) => Ok(None),
            Err(_) => Err(format!("a task panicked: {}", crate::panics::first().unwrap_or_default())),
        },
    }
}
