//! Many writers over a store that fails, by a seed. Run one again with `SEED=17 cargo test ...
//! simulation`.
//!
//! Each writer is a node that flushes, merges, dies and starts again; the process that it was goes
//! on trying as a zombie. At the end the log itself is judged, by rules that are written here once
//! more and do not use the code under test.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::tests::{options, segment};
use super::*;
use crate::store::faulty::{Faults, FaultyStore};

const WRITERS: u64 = 3;
const STEPS: usize = 25;
const SEEDS: u64 = 200;

/// What the writers were told.
#[derive(Default)]
struct Told {
    /// Segments of flushes that were acknowledged.
    flushed: HashSet<SegmentId>,
    /// Outputs of merges that were acknowledged.
    merged: HashSet<SegmentId>,
    /// How often a fenced process was told so.
    fenced: usize,
    /// How often an operation failed with an error of the store.
    failed: usize,
}

struct Writer {
    seed: u64,
    number: u64,
    random: StdRng,
    memory: Arc<dyn ObjectStore>,
    told: Arc<Mutex<Told>>,
    next_id: u128,
}

impl Writer {
    fn node(&self) -> String {
        format!("node{}", self.number)
    }

    async fn start(&mut self) -> Catalog {
        let faults = Faults {
            error: 0.1,
            lost_answer: 0.1,
            max_delay: 3,
            ..Faults::default()
        };
        let faulty = FaultyStore::new(Arc::clone(&self.memory), self.random.random(), faults);
        let store = Store::new(Arc::new(faulty), "").unwrap();
        loop {
            let Ok(catalog) = Catalog::load(store.clone(), options()).await else {
                continue;
            };
            while catalog.register(&self.node(), "").await.is_err() {}
            let table = TableColumns {
                table: "cpu".to_owned(),
                kind: TableKind::Wide,
                columns: Vec::new(),
            };
            match self
                .until_answered(|| catalog.ensure_columns("default", std::slice::from_ref(&table)))
                .await
            {
                Ok(_) => return catalog,
                Err(error) => panic!("seed {}: a fresh process was refused: {error}", self.seed),
            }
        }
    }

    /// Asks again while the store fails: what a flush does.
    async fn until_answered<F: Future<Output = Result<Arc<Snapshot>, CatalogError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        loop {
            match ask().await {
                Err(CatalogError::Store(StoreError::Unavailable { .. })) => {
                    self.told.lock().failed += 1
                }
                answer => return answer,
            }
        }
    }

    fn new_id(&mut self) -> SegmentId {
        self.next_id += 1;
        SegmentId((u128::from(self.number) << 64) | self.next_id)
    }

    /// A new segment of the one table.
    fn new_segment(&mut self, catalog: &Catalog) -> SegmentMeta {
        let table_id = catalog
            .snapshot()
            .table("default", "cpu")
            .map_or(0, |table| table.id);
        SegmentMeta {
            table_id,
            ..segment(self.new_id().0)
        }
    }

    /// One flush, asked for until there is an answer, or given up after one try as a process that
    /// dies does.
    async fn flush(
        &mut self,
        catalog: &Catalog,
        next_seq: u64,
        patient: bool,
    ) -> Result<(), CatalogError> {
        let segments: Vec<_> = (0..self.random.random_range(1..3))
            .map(|_| self.new_segment(catalog))
            .collect();
        let position = WalPosition {
            epoch: catalog.node().map_or(0, |(_, epoch)| epoch),
            next_seq,
        };
        let answer = if patient {
            self.until_answered(|| catalog.commit_flush(position, &segments))
                .await
        } else {
            catalog.commit_flush(position, &segments).await
        };
        answer?;
        self.told
            .lock()
            .flushed
            .extend(segments.iter().map(|segment| segment.id));
        Ok(())
    }

    async fn merge(&mut self, catalog: &Catalog) -> Result<(), CatalogError> {
        let snapshot = catalog.snapshot();
        let inputs: Vec<_> = snapshot.segments().choose_multiple(&mut self.random, 2);
        let Some(order) = inputs
            .iter()
            .map(|input| input.order)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        else {
            return Ok(());
        };
        let merged = SegmentMeta {
            level: 1,
            order,
            ..self.new_segment(catalog)
        };
        let inputs: Vec<_> = inputs.iter().map(|input| input.reference()).collect();
        self.until_answered(|| catalog.commit_compaction(&inputs, std::slice::from_ref(&merged)))
            .await?;
        self.told.lock().merged.insert(merged.id);
        Ok(())
    }

    async fn run(mut self) -> Vec<Catalog> {
        let mut catalog = self.start().await;
        let mut zombies = Vec::new();
        for step in 0..STEPS {
            let next_seq = step as u64 + 1;
            let answer = match self.random.random_range(0..10) {
                0 => {
                    // Two tasks of one process at once.
                    let (a, b) =
                        tokio::join!(catalog.refresh(), catalog.create_database("default"));
                    a.and(b).map(drop)
                }
                1..=3 => self.merge(&catalog).await,
                4 => {
                    let _ = self.flush(&catalog, next_seq, false).await;
                    let zombie = std::mem::replace(&mut catalog, self.start().await);
                    zombies.push(zombie);
                    Ok(())
                }
                5 if !zombies.is_empty() => {
                    let zombie = zombies.swap_remove(self.random.random_range(0..zombies.len()));
                    match self.flush(&zombie, next_seq, true).await {
                        Err(CatalogError::Fenced { .. }) => self.told.lock().fenced += 1,
                        answer => panic!(
                            "seed {}: a fenced process was answered {answer:?}",
                            self.seed
                        ),
                    }
                    Ok(())
                }
                _ => self.flush(&catalog, next_seq, true).await,
            };
            match answer {
                // Others merge the same segments; that one of two is refused is right.
                Ok(()) | Err(CatalogError::Refused(Refusal::SegmentGone { .. })) => {}
                Err(CatalogError::Store(StoreError::Unavailable { .. })) => {}
                Err(error) => panic!(
                    "seed {}: node {} at step {step}: {error}",
                    self.seed, self.number
                ),
            }
        }
        vec![catalog]
    }
}

/// Judges the log, record by record. Returns the segments that are left.
fn judge(seed: u64, log: &[Record], told: &Told) -> HashSet<SegmentId> {
    let mut epochs = HashMap::<&str, u64>::new();
    let mut positions = HashMap::<&str, (u64, u64)>::new();
    let (mut live, mut ever, mut removed_ever) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (i, record) in log.iter().enumerate() {
        assert_eq!(
            record.sequence,
            i as u64 + 1,
            "seed {seed}: a gap in the log"
        );
        for change in &record.changes {
            match change.kind.as_ref().unwrap() {
                Kind::RegisterNode(_) => {
                    let epoch = epochs.entry(&record.node).or_default();
                    *epoch += 1;
                    assert_eq!(
                        *epoch, record.epoch,
                        "seed {seed}: record {}",
                        record.sequence
                    );
                }
                Kind::AdvanceWal(wal) => {
                    let to = (wal.epoch, wal.next_seq);
                    let from = positions.insert(&record.node, to);
                    assert!(
                        from < Some(to),
                        "seed {seed}: the log of {} went back from {from:?} to {to:?}",
                        record.node
                    );
                }
                Kind::ChangeSegments(change) => {
                    for removed in &change.removed {
                        let id = convert::id(removed.id_high, removed.id_low);
                        assert!(
                            live.remove(&id),
                            "seed {seed}: record {} removes {id}, which is not there",
                            record.sequence
                        );
                        removed_ever.insert(id);
                    }
                    for added in &change.added {
                        let id = convert::id(added.id_high, added.id_low);
                        assert!(
                            ever.insert(id),
                            "seed {seed}: record {} adds {id} a second time",
                            record.sequence
                        );
                        live.insert(id);
                    }
                }
                _ => {}
            }
        }
        assert_eq!(
            epochs.get(record.node.as_str()),
            Some(&record.epoch),
            "seed {seed}: record {} is of a fenced epoch",
            record.sequence
        );
    }
    for id in told.flushed.union(&told.merged) {
        assert!(
            live.contains(id) || removed_ever.contains(id),
            "seed {seed}: acknowledged segment {id} is lost"
        );
    }
    live
}

async fn simulate(seed: u64) -> (usize, usize) {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let told = Arc::new(Mutex::new(Told::default()));
    let writers = (0..WRITERS).map(|number| {
        let random = StdRng::seed_from_u64(seed * WRITERS + number);
        Writer {
            seed,
            number,
            random,
            memory: Arc::clone(&memory),
            told: Arc::clone(&told),
            next_id: 0,
        }
        .run()
    });
    let catalogs: Vec<_> = futures::future::join_all(writers)
        .await
        .into_iter()
        .flatten()
        .collect();

    let store = Store::new(memory, "").unwrap();
    let log = Log::new(store.clone(), Duration::ZERO);
    let (mut records, mut replayed) = (Vec::new(), Snapshot::default());
    log.replay(0, 0, |record| {
        replayed = follow(&replayed, &record)?;
        records.push(record);
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    let live = judge(seed, &records, &told.lock());
    let ids: HashSet<_> = replayed.segments().map(|segment| segment.id).collect();
    assert_eq!(
        ids, live,
        "seed {seed}: the snapshot is not what the log says"
    );
    let loaded = Catalog::load(store, options()).await.unwrap().snapshot();
    assert_eq!(
        *loaded, replayed,
        "seed {seed}: checkpoint and tail differ from the whole log"
    );
    for catalog in catalogs {
        let snapshot = loop {
            if let Ok(snapshot) = catalog.refresh().await {
                break snapshot;
            }
        };
        assert_eq!(
            *snapshot,
            replayed,
            "seed {seed}: node {:?} sees another state",
            catalog.node()
        );
    }
    let told = told.lock();
    (told.fenced, told.failed)
}

#[tokio::test]
async fn no_commit_is_lost_doubled_or_made_by_a_fenced_process() {
    if let Some(seed) = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        simulate(seed).await;
        return;
    }
    let (mut fenced, mut failed) = (0, 0);
    for seed in 0..SEEDS {
        let (more_fenced, more_failed) = simulate(seed).await;
        fenced += more_fenced;
        failed += more_failed;
    }
    // The simulation must reach what it is for.
    assert!(
        fenced > 100 && failed > 100,
        "{fenced} fenced, {failed} failed"
    );
}
