//! One life of a process: the whole engine over its own handle of the store, put together as the
//! server does.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rand::Rng;
use rand::rngs::StdRng;
use tidelake_api::cluster::log_rows::LogRows;
use tidelake_api::cluster::recent_rows::ClusterRows;
use tidelake_api::cluster::{Cluster, ClusterError};
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::segment::ValueLayout;
use tidelake_catalog::{
    Catalog, CatalogError, CatalogOptions, Environment, Registration, Roles, Store,
};
use tidelake_compactor::{Compactor, CompactorOptions};
use tidelake_ingest::wal::{WalOptions, WalState};
use tidelake_ingest::{IngestError, IngestOptions, Ingester};
use tidelake_querier::Querier;
use tidelake_querier::promql::exec::EngineOptions;
use tidelake_querier::sql::SqlOptions;
use tidelake_querier::tables::{NoRecentRows, RecentRows, Tables};
use tokio::runtime::Handle;

use crate::calls::CallNetwork;
use crate::network::{Gate, Network};
use crate::read::OwnRows;

/// Memory that is never short, with a cache that is.
pub fn memory() -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(1 << 40).with_cap(Share::Caches, 1 << 20))
}

/// How the processes of a simulation are set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub checkpoint_every: u64,
    pub ingest: IngestOptions,
    pub compactor: CompactorOptions,
    pub lease: Duration,
    /// What each node does.
    pub roles: Vec<Roles>,
    /// Whether each life of a node has an address of its own.
    pub new_addresses: bool,
}

impl Settings {
    /// How long after a commit a process may not know it.
    pub fn most_stale(&self) -> Duration {
        self.lease + Duration::from_secs(5)
    }

    pub fn draw(random: &mut StdRng, is_folder: bool) -> Self {
        let mut pick = |choices: &[u64]| choices[random.random_range(0..choices.len())];
        let base = if is_folder {
            WalOptions::local()
        } else {
            WalOptions::remote()
        };
        let wal = WalOptions {
            group_bytes: pick(&[200, 2000, 8 << 20]) as usize,
            queued_bytes: pick(&[1000, 100_000, 64 << 20]) as usize,
            max_in_flight: if is_folder {
                1
            } else {
                pick(&[1, 4, 16]) as usize
            },
            ..base
        };
        let ingest = IngestOptions {
            buffer_bytes: pick(&[8_000, 1 << 30, 1 << 30]) as usize,
            flush_bytes: pick(&[1_000, 20_000, 256 << 20]) as usize,
            flush_interval: Duration::from_secs(pick(&[7, 60, 600])),
            series_bytes: pick(&[20_000, 512 << 20, 512 << 20]) as usize,
            // The cluster follows the catalog.
            fence_check_interval: None,
            wal,
            ..IngestOptions::default()
        };
        let compactor = CompactorOptions {
            interval: Duration::from_secs(pick(&[10, 60, 3600])),
            grace: Duration::from_secs(pick(&[60, 120, 300])),
            time_travel_window: Duration::from_secs(pick(&[0, 60, 3600])),
            sweep_interval: Duration::from_secs(pick(&[30, 600])),
            value_layout: [ValueLayout::Plain, ValueLayout::Decimal][pick(&[0, 1]) as usize],
            ..CompactorOptions::default()
        };
        let checkpoint_every = pick(&[3, 10, 100]);
        let lease = Duration::from_secs(pick(&[3, 6, 10]));
        let new_addresses = pick(&[0, 1]) == 1;
        // The first does everything, so that everything is done.
        let mut roles = vec![Roles::ALL];
        for _ in 1..pick(&[1, 2, 2, 3, 4]) {
            roles.push(match pick(&[0, 0, 1, 2, 3]) {
                0 => Roles::ALL,
                1 => Roles::INGEST,
                2 => Roles::QUERY,
                _ => "query,compact".parse().expect("these are roles"),
            });
        }
        Self {
            checkpoint_every,
            ingest,
            compactor,
            lease,
            roles,
            new_addresses,
        }
    }
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error("{0}")]
    Querier(String),
}

/// A process that takes requests.
pub struct Process {
    pub node: usize,
    pub epoch: u64,
    pub catalog: Arc<Catalog>,
    pub cluster: Arc<Cluster>,
    /// Only of a process that takes writes.
    pub ingester: Option<Arc<Ingester>>,
    /// Only of a process that merges.
    pub compactor: Option<Arc<Compactor>>,
    /// Over its own handle of the store, and with the rows of all processes.
    pub querier: Querier,
    /// What it would answer of its own rows if the store were well: for judging at any time.
    pub judged: Querier,
}

pub fn node_name(node: usize) -> String {
    format!("n{node}")
}

fn querier(
    catalog: &Arc<Catalog>,
    recent: Arc<dyn RecentRows>,
    store: Store,
    environment: &Environment,
) -> Result<Querier, StartError> {
    let tables = Tables::new(Arc::clone(catalog), store, recent, &memory(), None);
    let sql = SqlOptions {
        target_partitions: 1,
        environment: environment.clone(),
        ..SqlOptions::default()
    };
    Querier::new(tables, EngineOptions::default(), sql)
        .map_err(|error| StartError::Querier(error.to_string()))
}

/// Where a process lives.
pub struct Place {
    pub node: usize,
    pub gate: Arc<Gate>,
    pub network: Arc<Network>,
    pub calls: Arc<CallNetwork>,
}

impl Process {
    /// Starts a process of a node.
    pub async fn start(
        place: Place,
        environment: Environment,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let Place {
            node,
            gate,
            network,
            calls,
        } = place;
        let store = network.store(&gate);
        let options = CatalogOptions {
            checkpoint_every: settings.checkpoint_every,
            load_timeout: Duration::from_secs(30),
            environment: environment.clone(),
            ..CatalogOptions::default()
        };
        let catalog = Arc::new(Catalog::load(store.clone(), options).await?);
        let (name, roles) = (node_name(node), settings.roles[node]);
        let address = match settings.new_addresses {
            true => format!("{name}:{}", gate.life),
            false => format!("{name}:1"),
        };
        let registration = Registration {
            address: address.clone(),
            roles,
        };
        let (line, lease) = (calls.line(node, &gate), settings.lease);
        let joined = Cluster::join_over(
            line,
            String::new(),
            Arc::clone(&catalog),
            &name,
            registration,
            lease,
        );
        let cluster = joined.await?;
        calls.listen(&address, node, &gate, &cluster);
        let epoch = catalog.node().map_or(0, |(_, epoch)| epoch);
        let of_logs = settings.ingest.clone();
        let ingester = match roles.has(Roles::INGEST) {
            true => Some(cluster.start_ingester(settings.ingest).await?),
            false => None,
        };
        let own: Arc<dyn RecentRows> = match &ingester {
            Some(ingester) => Arc::new(OwnRows(Arc::clone(ingester))),
            None => Arc::new(NoRecentRows),
        };
        let judged = querier(&catalog, own, network.direct(), &environment)?;
        let logs = LogRows::new(of_logs, Handle::current());
        let everybodys = ClusterRows::new(ingester.clone(), Arc::clone(&cluster), &memory(), logs);
        let querier = querier(&catalog, Arc::new(everybodys), store, &environment)?;
        let compactor = roles
            .has(Roles::COMPACT)
            .then(|| Compactor::start(Arc::clone(&catalog), settings.compactor));
        Ok(Self {
            node,
            epoch,
            catalog,
            cluster,
            ingester,
            compactor,
            querier,
            judged,
        })
    }

    /// Whether it knows that another process has its node.
    pub fn is_fenced(&self) -> bool {
        let log = self.ingester.as_ref();
        self.catalog.is_fenced()
            || log.is_some_and(|ingester| ingester.fenced().now_or_never().is_some())
    }

    /// Whether an object of its log may be on the store without its knowledge.
    pub fn has_open_log(&self) -> bool {
        self.ingester.as_ref().is_some_and(|ingester| {
            ingester.has_open_log() || matches!(ingester.log_state(), WalState::Unavailable { .. })
        })
    }

    /// Puts what it has into segments.
    pub async fn flush(&self) -> Result<(), IngestError> {
        match &self.ingester {
            Some(ingester) => ingester.flush().await,
            None => Ok(()),
        }
    }

    /// Stops as the server does.
    pub async fn stop(&self) -> Result<(), IngestError> {
        self.cluster.set_leaving();
        if let Some(ingester) = &self.ingester {
            ingester.shutdown().await?;
            if ingester.has_open_log() {
                return Ok(());
            }
        }
        // If it cannot, others find it dead.
        let _ = self.catalog.leave().await;
        Ok(())
    }
}
