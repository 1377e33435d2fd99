//! One simulation: processes live and die beside each other, clients write and read, time passes,
//! and after each step the model says whether all is right.

mod checks;
mod lives;
mod outcomes;
mod ways;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tidelake_catalog::segment::scan::ScanUnit;
use tidelake_catalog::{Catalog, CatalogOptions, Environment, Roles};
use tidelake_querier::tables::{NoRecentRows, Tables};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::calls::{CallFaults, CallNetwork};
use crate::figures::Figures;
use crate::model::{Cells, Model, RequestId};
use crate::network::{Faults, Gate, Network};
use crate::process::{Process, Settings, StartError, node_name};
use crate::trace::note;
use crate::workload::Client;

/// Clocks of processes differ by at most so much from the true time, either way.
const SKEW_MS: i64 = 2000;
/// What is left of a grace period when a reader has to be done: clocks differ, and it has to hear
/// of commits.
const MARGIN: Duration = Duration::from_secs(15);

/// No process waits longer for another: an answer to a flush may be lost.
const LONGEST_CALL: Duration = Duration::from_secs(150);

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
    /// By client, requests that it has no answer to: the node and the epoch that they went to.
    unsettled: Mutex<BTreeMap<usize, Vec<(RequestId, usize, u64)>>>,
    /// How long files of removed segments stay.
    kept: Duration,
}

impl Shared {
    fn observer(&self) -> Arc<Catalog> {
        Arc::clone(&self.observer.lock())
    }

    /// Whether a newer process of the node has registered.
    async fn is_superseded(&self, node: usize, epoch: u64) -> Result<bool, String> {
        let snapshot = self
            .observer()
            .refresh()
            .await
            .map_err(|error| format!("the log cannot be read: {error}"))?;
        Ok(snapshot
            .node(&node_name(node))
            .is_some_and(|newest| newest.epoch > epoch))
    }

    /// A request has its answer.
    fn settle(&self, id: RequestId) {
        for requests in self.unsettled.lock().values_mut() {
            requests.retain(|(other, _, _)| *other != id);
        }
    }

    /// Whether what a client asked of other nodes than this has been done, or never will be.
    fn is_settled(&self, client: usize, node: usize) -> bool {
        let snapshot = self.observer().snapshot();
        let mut unsettled = self.unsettled.lock();
        let requests = unsettled.entry(client).or_default();
        // Whoever has replayed the log of the process has all of it that there will ever be.
        requests.retain(|(_, node, epoch)| {
            let is_adopted = snapshot
                .node(&node_name(*node))
                .is_some_and(|now| now.epoch > *epoch && now.has_left);
            !is_adopted && !self.is_replaced(*node, *epoch)
        });
        requests.iter().all(|(_, other, _)| *other == node)
    }

    /// Whether a newer process of the node takes requests.
    fn is_replaced(&self, node: usize, epoch: u64) -> bool {
        self.ready.lock()[node] > epoch
    }

    /// How long a catalog has not heard of a commit.
    fn staleness(&self, catalog: &Catalog) -> Duration {
        let commits = self.network.commits.lock();
        commits
            .get(&(catalog.snapshot().sequence() + 1))
            .map_or(Duration::ZERO, Instant::elapsed)
    }

    /// How long a reader of this catalog may be sure of its files.
    fn sure_for(&self, catalog: &Catalog) -> Duration {
        self.kept
            .saturating_sub(MARGIN)
            .saturating_sub(self.staleness(catalog))
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
    seen_ms: i64,
    table: String,
    cells: Cells,
    until: Instant,
}

pub struct World {
    shared: Arc<Shared>,
    network: Arc<Network>,
    calls: Arc<CallNetwork>,
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
    /// By node, until when nobody starts it.
    away: Vec<Instant>,
    /// Nodes whose logs others have put into segments, with the epochs of that.
    adopted: BTreeSet<(usize, u64)>,
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
    pub async fn new(
        seed: u64,
        network: Arc<Network>,
        calls: Arc<CallNetwork>,
    ) -> Result<Self, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let settings = Settings::draw(&mut random, network.is_folder());
        let nodes = settings.roles.len();
        let writers: Vec<usize> = (0..nodes)
            .filter(|node| settings.roles[*node].has(Roles::INGEST))
            .collect();
        let clients = (0..random.random_range(writers.len()..=4))
            .map(|number| Client::new(number, writers[number % writers.len()]))
            .collect();
        // Some day of 2026, at any time of the day.
        let base_ms = 1_767_225_600_000 + random.random_range(0..300 * 86_400_000i64);
        let observer = observe(&network, base_ms).await?;
        let reader = Tables::new(
            Arc::clone(&observer),
            network.direct(),
            Arc::new(NoRecentRows),
            &crate::process::memory(),
            None,
        );
        let shared = Shared {
            network: Arc::clone(&network),
            model: Mutex::new(Model::new(nodes)),
            figures: Mutex::default(),
            observer: Mutex::new(observer),
            ready: Mutex::new(vec![0; nodes]),
            unsettled: Mutex::default(),
            kept: settings.compactor.grace + settings.compactor.time_travel_window,
        };
        note!(
            network.trace,
            "{nodes} nodes, folder: {}, {settings:?}",
            network.is_folder()
        );
        Ok(Self {
            shared: Arc::new(shared),
            network,
            calls,
            random,
            settings,
            base_ms,
            began: Instant::now(),
            nodes,
            clients,
            numbers: 0,
            lives: Vec::new(),
            next_life: 0,
            away: vec![Instant::now(); nodes],
            adopted: BTreeSet::new(),
            activities: Vec::new(),
            held: Vec::new(),
            past: Vec::new(),
            reader,
            checked: vec![None; nodes],
        })
    }

    pub fn figures(&self) -> Figures {
        let model = self.shared.model.lock();
        let calls = self.calls.figures();
        Figures {
            calls: calls.calls,
            calls_lost: calls.lost,
            calls_twice: calls.twice,
            calls_cut: calls.cut,
            requests: self
                .network
                .requests
                .load(std::sync::atomic::Ordering::Relaxed),
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
            1..=26 => self.write(),
            27..=29 => {
                self.write();
                self.pass(500).await;
                self.query();
            }
            30..=38 => self.pass(3000).await,
            39..=45 => self.change_faults(),
            46..=49 => self.change_call_faults(),
            50..=55 => self.flush(),
            56..=60 => self.compact(),
            61..=63 => self.collect_garbage(),
            64..=74 => self.query(),
            75..=77 => self.hold().await?,
            78..=82 => self.delete(),
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
        let minutes = *[7, 60, 13 * 60, 26 * 60, 3 * 24 * 60]
            .choose(&mut self.random)
            .expect("there are some");
        note!(self.network.trace, "{minutes} minutes go by");
        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
        self.look_at_catalogs().await;
    }

    /// Whoever wakes up looks at the catalog first.
    async fn look_at_catalogs(&self) {
        tokio::time::sleep(self.settings.most_stale()).await;
    }

    /// Waits until nothing is on the network.
    async fn drain(&mut self) {
        self.network.set_faults(Faults {
            delay_ms: 5,
            ..Faults::default()
        });
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
        let well = Faults {
            delay_ms,
            ..Faults::default()
        };
        let faults = match random.random_range(0..10) {
            0..=1 | 8..=9 => well,
            2 => Faults { error: 0.2, ..well },
            3 => Faults { lost: 0.2, ..well },
            4 => Faults { error: 1.0, ..well },
            5 => Faults {
                hang: 0.1,
                lost: 0.1,
                error: 0.1,
                ..well
            },
            6 => Faults { full: true, ..well },
            _ => Faults {
                lost: 0.5,
                error: 0.2,
                ..well
            },
        };
        note!(self.network.trace, "{faults:?}");
        self.network.set_faults(faults);
    }

    fn change_call_faults(&mut self) {
        let random = &mut self.random;
        let delay_ms = *[0, 5, 100, 1500].choose(random).expect("there are some");
        let well = CallFaults {
            delay_ms,
            ..CallFaults::default()
        };
        let mut faults = match random.random_range(0..8) {
            0..=2 => well,
            3 => CallFaults { lost: 0.3, ..well },
            4 => CallFaults {
                answer_lost: 0.3,
                twice: 0.3,
                ..well
            },
            5 => CallFaults {
                lost: 0.1,
                answer_lost: 0.1,
                twice: 0.1,
                ..well
            },
            6 => CallFaults { lost: 1.0, ..well },
            _ => CallFaults { twice: 0.5, ..well },
        };
        if self.nodes > 1 && random.random_bool(0.5) {
            let one = random.random_range(0..self.nodes);
            for other in (0..self.nodes).filter(|other| *other != one) {
                // Some links, and most of them both ways.
                if random.random_bool(0.6) {
                    faults.cut.insert((one, other));
                }
                if random.random_bool(0.6) {
                    faults.cut.insert((other, one));
                }
            }
        }
        note!(self.network.trace, "{faults:?}");
        self.calls.set_faults(faults);
    }

    async fn jump_by(&mut self, duration: Duration) {
        self.drain().await;
        tokio::time::advance(duration).await;
        self.look_at_catalogs().await;
    }
}

/// A catalog that reads the log through no network.
async fn observe(network: &Network, now_ms: i64) -> Result<Arc<Catalog>, String> {
    let options = CatalogOptions {
        environment: Environment::simulated(0, now_ms),
        ..CatalogOptions::default()
    };
    let catalog = Catalog::load(network.direct(), options)
        .await
        .map_err(|error| format!("the log is broken: {error}"))?;
    Ok(Arc::new(catalog))
}
