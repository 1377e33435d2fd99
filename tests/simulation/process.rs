//! One life of a process: the whole engine over its own handle of the store, put together as the
//! server does.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::segment::ValueLayout;
use tidelake_catalog::{
    Catalog, CatalogError, CatalogOptions, Environment, Registration, Roles, Store,
};
use tidelake_compactor::{Compactor, CompactorOptions};
use tidelake_ingest::wal::WalOptions;
use tidelake_ingest::write_clock::{Orders, WriteClock};
use tidelake_ingest::{IngestError, IngestOptions, Ingester};
use tidelake_querier::Querier;
use tidelake_querier::promql::exec::EngineOptions;
use tidelake_querier::sql::SqlOptions;
use tidelake_querier::tables::Tables;

use crate::peers::{Clocks, Others};
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
}

impl Settings {
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
            fence_check_interval: Some(Duration::from_secs(pick(&[1, 10, 10]))),
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
        Self {
            checkpoint_every: pick(&[3, 10, 100]),
            ingest,
            compactor,
        }
    }
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
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
    pub ingester: Arc<Ingester>,
    pub compactor: Arc<Compactor>,
    /// Over its own handle of the store.
    pub querier: Querier,
    /// What it would answer if the store were well: for judging at any time.
    pub judged: Querier,
}

pub fn node_name(node: usize) -> String {
    format!("n{node}")
}

fn querier(
    catalog: &Arc<Catalog>,
    ingester: &Arc<Ingester>,
    store: Store,
    environment: &Environment,
) -> Result<Querier, StartError> {
    let recent = Arc::new(OwnRows(Arc::clone(ingester)));
    let tables = Tables::new(Arc::clone(catalog), store, recent, &memory(), None);
    let sql = SqlOptions {
        target_partitions: 1,
        environment: environment.clone(),
        ..SqlOptions::default()
    };
    Querier::new(tables, EngineOptions::default(), sql)
        .map_err(|error| StartError::Querier(error.to_string()))
}

impl Process {
    /// Starts a process of a node. `store` fails, `direct` does not.
    pub async fn start(
        node: usize,
        store: Store,
        direct: Store,
        environment: Environment,
        settings: Settings,
        nodes: usize,
        clocks: Arc<Clocks>,
    ) -> Result<Self, StartError> {
        let options = CatalogOptions {
            checkpoint_every: settings.checkpoint_every,
            load_timeout: Duration::from_secs(30),
            environment: environment.clone(),
            ..CatalogOptions::default()
        };
        let catalog = Arc::new(Catalog::load(store.clone(), options).await?);
        let name = node_name(node);
        let registration = Registration {
            address: "here:1".to_owned(),
            roles: Roles::ALL,
        };
        let epoch = catalog.register(&name, registration).await?;
        let clock = Arc::new(WriteClock::new(&environment, &name));
        let others = Others {
            node,
            nodes,
            catalog: Arc::clone(&catalog),
            clocks: Arc::clone(&clocks),
        };
        let options = IngestOptions {
            orders: Some(Orders {
                clock: Arc::clone(&clock),
                peers: Arc::new(others),
            }),
            ..settings.ingest
        };
        let ingester = Ingester::start(Arc::clone(&catalog), options).await?;
        clocks.add(node, epoch, &clock);
        let judged = querier(&catalog, &ingester, direct, &environment)?;
        let querier = querier(&catalog, &ingester, store, &environment)?;
        let compactor = Compactor::start(Arc::clone(&catalog), settings.compactor);
        Ok(Self {
            node,
            epoch,
            catalog,
            ingester,
            compactor,
            querier,
            judged,
        })
    }
}
