//! A small database for tests: segments as flushes write them, in a catalog on a store in memory,
//! and recent rows beside them.

mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{
    ColumnType, Day, EXEMPLARS_TABLE, METRICS_TABLE, TableKind, TimeRange,
};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::{SegmentError, SortOrder, SortedRows, ValueLayout, WriteOrder};
use tidelake_catalog::segment_upload::{SegmentShape, SegmentUpload};
use tidelake_catalog::snapshot::{SegmentMeta, WalPosition};
use tidelake_catalog::store::faulty::{Faults, FaultyStore};
use tidelake_catalog::{Catalog, CatalogOptions, Environment, Store, TableColumns};

use crate::tables::{Recent, RecentChunk, RecentRows, TableRange, Tables};

pub(crate) use rows::{Cell, Row, labels, matchers, row, sample, words};
use rows::{fields_of, sorted};

/// The database of all tables.
pub(crate) const DATABASE: &str = "db";
/// 2026-11-22T00:00:00Z in milliseconds: the catalog's clock begins there.
pub(crate) const NOW_MS: i64 = 1_795_305_600_000;
/// An hour in milliseconds.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Recent rows: every call of [`TestTables::buffer`] is a chunk.
#[derive(Default)]
pub(crate) struct TestRecent {
    chunks: Mutex<Vec<(String, Arc<SortedRows>)>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    is_remote: AtomicBool,
}

impl TestRecent {
    /// Forgets all rows, as the end of a flush does.
    pub(crate) fn clear(&self) {
        self.chunks.lock().clear();
    }

    /// From now on the rows are those of another process.
    pub(crate) fn set_remote(&self) {
        self.is_remote.store(true, Ordering::Relaxed);
    }

    /// The next reader waits for `event` after it was given recent rows.
    pub(crate) fn meanwhile(&self, event: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock() = Some(Box::pin(event));
    }
}

#[async_trait]
impl RecentRows for TestRecent {
    async fn recent(&self, database: &str, tables: &[TableRange]) -> Result<Recent, SegmentError> {
        let all = self.chunks.lock().clone();
        let of_table = |(table, range): &TableRange| {
            let is_asked_for = |name: &str, rows: &SortedRows| {
                let time = rows.time_range();
                (database, &**table) == (DATABASE, name)
                    && time.is_some_and(|time| time.overlaps(range))
            };
            // Later than every commit.
            let found = (1 << 60..).zip(&all);
            let found = found.filter(|(_, (name, rows))| is_asked_for(name, rows));
            let found = found.map(|(order, (_, rows))| RecentChunk {
                key: None,
                order: WriteOrder::of((order, order)),
                rows: Arc::clone(rows),
            });
            found.collect()
        };
        let tables = tables.iter().map(of_table).collect();
        let event = self.meanwhile.lock().take();
        if let Some(event) = event {
            event.await;
        }
        Ok(Recent {
            tables,
            missing: Vec::new(),
        })
    }

    fn is_remote(&self) -> bool {
        self.is_remote.load(Ordering::Relaxed)
    }
}

/// Tables, and what they are made of.
pub(crate) struct TestTables {
    pub(crate) tables: Tables,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    faults: Arc<FaultyStore>,
    pub(crate) recent: Arc<TestRecent>,
    flushes: AtomicU64,
}

impl TestTables {
    /// No tables.
    pub(crate) async fn new() -> Self {
        let memory = Arc::clone(Store::memory().object_store());
        let faults = Arc::new(FaultyStore::new(memory, 1, Faults::default()));
        let store = Store::new(faults.clone(), "").unwrap();
        let options = CatalogOptions {
            environment: Environment::simulated(1, NOW_MS),
            ..CatalogOptions::default()
        };
        let catalog = Catalog::load(store.clone(), options).await.unwrap();
        catalog.register("n", "here:1").await.unwrap();
        let (catalog, recent) = (Arc::new(catalog), Arc::new(TestRecent::default()));
        let tables = Tables::new(
            Arc::clone(&catalog),
            store.clone(),
            recent.clone(),
            &MemoryBudget::unlimited(),
            None,
        );
        Self {
            tables,
            catalog,
            store,
            faults,
            recent,
            flushes: AtomicU64::new(0),
        }
    }

    /// Another process that reads the same store.
    pub(crate) async fn reader(&self) -> (Arc<Catalog>, Tables) {
        let options = CatalogOptions {
            environment: Environment::simulated(2, NOW_MS),
            ..CatalogOptions::default()
        };
        let catalog = Catalog::load(self.store.clone(), options).await.unwrap();
        let catalog = Arc::new(catalog);
        let tables = Tables::new(
            Arc::clone(&catalog),
            self.store.clone(),
            Arc::new(TestRecent::default()),
            &MemoryBudget::unlimited(),
            None,
        );
        (catalog, tables)
    }

    /// Commits rows as segments, one for each day.
    pub(crate) async fn flush(&self, table: &str, rows: &[Row]) -> Vec<SegmentMeta> {
        let table_id = self.create(table, rows).await;
        let kind = kind_of(table);
        let day_of = |row: &Row| kind.time_unit().day_of(row.time);
        let days: BTreeSet<Day> = rows.iter().map(day_of).collect();
        let mut written = Vec::new();
        for day in days {
            let of_day = rows.iter().filter(|row| day_of(row) == day);
            let of_day: Vec<Row> = of_day.cloned().collect();
            written.push(self.write(table, table_id, day, &of_day).await);
        }
        let next_seq = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        let wal = WalPosition { epoch: 1, next_seq };
        self.catalog.commit_flush(wal, &written).await.unwrap();
        written
    }

    /// Keeps rows in memory, as a chunk of their own.
    pub(crate) async fn buffer(&self, table: &str, rows: &[Row]) {
        self.create(table, rows).await;
        let sorted = Arc::new(sorted(kind_of(table), rows));
        self.recent.chunks.lock().push((table.to_owned(), sorted));
    }

    /// Deletes an object, and returns its bytes.
    pub(crate) async fn lose(&self, key: &str) -> Vec<u8> {
        let bytes = self.store.get(key).await.unwrap();
        self.store.delete(key).await.unwrap();
        bytes.to_vec()
    }

    /// Lets every request to the store fail, or none.
    pub(crate) fn set_down(&self, down: bool) {
        self.faults.set(Faults {
            down,
            ..Faults::default()
        });
    }

    /// Creates a table with the columns of some rows, and returns its id.
    async fn create(&self, table: &str, rows: &[Row]) -> u64 {
        let kind = kind_of(table);
        let tags = rows.iter().flat_map(|row| row.labels.iter());
        let tags: BTreeSet<&str> = tags.map(|(name, _)| name).collect();
        let tags = tags.into_iter().filter(|_| kind == TableKind::Wide);
        let tags = tags.map(|name| (name.to_owned(), ColumnType::Tag));
        let fields = fields_of(rows);
        let fields = fields
            .iter()
            .map(|field| (field.name.to_string(), field.kind));
        let columns = TableColumns {
            table: table.to_owned(),
            kind,
            columns: tags.chain(fields).collect(),
        };
        let snapshot = self.catalog.ensure_columns(DATABASE, &[columns]).await;
        snapshot.unwrap().table(DATABASE, table).unwrap().id
    }

    async fn write(&self, table: &str, table_id: u64, day: Day, rows: &[Row]) -> SegmentMeta {
        let environment = self.catalog.environment();
        let meta = SegmentMeta {
            id: environment.segment_id(),
            database: DATABASE.into(),
            table: table.into(),
            table_id,
            day,
            level: 0,
            order: (0, 0),
            time: TimeRange::EMPTY,
            rows: 0,
            series: 0,
            data_bytes: 0,
            index_bytes: 0,
            data_checksum: 0,
            index_tail_bytes: 0,
            index_checksum: 0,
            sort_tags: Arc::from([]),
            deletes_applied: 0,
        };
        let kind = kind_of(table);
        let shape = SegmentShape {
            kind,
            order: SortOrder::choose(kind, rows.iter().map(|row| &row.labels)),
            fields: fields_of(rows),
            effort: Effort::Fresh,
            layout: ValueLayout::Plain,
            write_order: String::new(),
        };
        let upload = SegmentUpload::begin(&self.store, meta, &shape).unwrap();
        let upload = upload.push(environment, sorted(kind, rows)).await.unwrap();
        let finished = upload.finish(&self.store, environment).await.unwrap();
        finished.expect("a segment has rows")
    }
}

fn kind_of(table: &str) -> TableKind {
    match table {
        METRICS_TABLE => TableKind::Metrics,
        EXEMPLARS_TABLE => TableKind::Exemplars,
        _ => TableKind::Wide,
    }
}
