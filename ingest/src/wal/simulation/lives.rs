//! Processes of one node live and die beside each other, on a store that fails; nothing
//! acknowledged is lost. In some courses an acknowledged object is taken away or cut at the end:
//! the replay must name it, and must not cry wolf in any other.
//!
//! The model of the catalog is what the log needs of it: the newest epoch, and the covered position
//! with what is in segments, changed together and only by the newest epoch.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use futures::future::{AbortHandle, abortable};
use object_store::ObjectStoreExt;
use tidelake_catalog::keys;

use super::super::{
    FIRST_SEQ, Loss, Replay, ReplayError, ReplayOptions, ReplayReport, Truncator, WalError,
    WalOptions, WalPosition, WalWriter, WriterId, frame as format,
};
use super::*;
use crate::write_clock::{NoPeers, Orders, WriteClock};

const NODE: &str = "n1";

/// Nobody else writes.
fn alone() -> Orders {
    let environment = tidelake_catalog::Environment::simulated(1, 1_790_000_000_000);
    Orders {
        clock: Arc::new(WriteClock::new(&environment, NODE)),
        peers: Arc::new(NoPeers),
    }
}

#[derive(Default)]
struct Catalog {
    epoch: u64,
    covered: Option<WalPosition>,
    /// Ids in segments, in the order of the log.
    segments: Vec<u64>,
}

#[derive(Default)]
struct Seen {
    next_id: u64,
    acked: BTreeMap<u64, WalPosition>,
    /// What each life knew when its replay had ended.
    views: Vec<Vec<u64>>,
    writers: BTreeMap<u64, WalWriter<u64>>,
    abort: BTreeMap<u64, Vec<AbortHandle>>,
    counts: Counts,
}

/// How often what happened; a simulation in which something never happens proves nothing about it.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    acked: usize,
    unavailable: usize,
    overloaded: usize,
    fenced: usize,
    superseded: usize,
    orphans: usize,
    late: usize,
    commits: usize,
    removed: usize,
    cut: usize,
    proved_by_a_mark: usize,
    proved_by_a_fence: usize,
}

struct World {
    catalog: Mutex<Catalog>,
    seen: Mutex<Seen>,
    clock: VirtualClock,
    store: Store,
    network: Arc<Network>,
    options: WalOptions,
}

struct Memory {
    ids: Vec<u64>,
    /// Everything before is in `ids`.
    next: WalPosition,
}

impl World {
    /// Starts a task that ends with its life.
    fn spawn(&self, epoch: u64, task: impl Future<Output = ()> + Send + 'static) {
        let (task, handle) = abortable(task);
        self.seen
            .lock()
            .abort
            .entry(epoch)
            .or_default()
            .push(handle);
        self.network.begun.lock().push(Box::pin(async move {
            let _ = task.await;
        }));
    }

    fn kill(&self, epoch: u64) {
        for handle in self.seen.lock().abort.remove(&epoch).unwrap_or_default() {
            handle.abort();
        }
    }

    fn register(&self) -> (u64, WalPosition, Vec<u64>) {
        let mut catalog = self.catalog.lock();
        catalog.epoch += 1;
        let covered = catalog.covered.unwrap_or(WalPosition { epoch: 0, seq: 0 });
        (catalog.epoch, covered, catalog.segments.clone())
    }

    /// Replays for a new epoch. `None`: another one came.
    async fn replay(
        &self,
        epoch: u64,
        covered: WalPosition,
        segments: Vec<u64>,
    ) -> Option<(Vec<u64>, ReplayReport)> {
        match self.try_replay(epoch, covered, segments, false).await {
            Ok(replayed) => Some(replayed),
            Err(ReplayError::Superseded { .. }) => None,
            // Objects may vanish under a replay only when a newer process has covered them.
            Err(ReplayError::Store(_)) if self.catalog.lock().epoch > epoch => None,
            Err(error) => panic!("epoch {epoch}: {error}"),
        }
    }

    async fn try_replay(
        &self,
        epoch: u64,
        covered: WalPosition,
        segments: Vec<u64>,
        accept_lost: bool,
    ) -> Result<(Vec<u64>, ReplayReport), ReplayError> {
        let options = ReplayOptions {
            patience: ms(600_000),
            accept_lost,
            ..ReplayOptions::default()
        };
        let clock = Arc::new(self.clock.clone());
        let mut replay = Replay::open(
            self.store.clone(),
            NODE,
            covered,
            epoch,
            writer_id(epoch),
            options,
            clock,
        )
        .await?;
        let mut known = segments;
        while let Some(group) = replay.next().await? {
            known.extend(ids(&group.frames));
        }
        Ok((known, replay.report().clone()))
    }

    /// What is on the store, by position, past the network.
    fn objects(&self) -> BTreeMap<WalPosition, Bytes> {
        let inner = &self.network.inner;
        let read = async {
            let mut objects = BTreeMap::new();
            let infos: Vec<ObjectMeta> = inner.list(None).try_collect().await.unwrap();
            for info in infos {
                let key = info.location.to_string();
                let (epoch, seq) = keys::parse_wal_object(NODE, &key).expect("only log objects");
                let bytes = inner.get(&info.location).await.unwrap().bytes().await;
                objects.insert(WalPosition { epoch, seq }, bytes.unwrap());
            }
            objects
        };
        futures::executor::block_on(read)
    }

    /// Takes an acknowledged object away, or cuts it: any that segments do not cover and of which
    /// others tell.
    fn lose_one(&self, random: &mut StdRng) -> Option<(WalPosition, bool)> {
        let objects = self.objects();
        let covered = self.catalog.lock().covered;
        let (lost, _) = {
            let mut seen = self.seen.lock();
            let acked: BTreeSet<WalPosition> = seen.acked.values().copied().collect();
            let provable: Vec<(WalPosition, format::ObjectKind)> = acked
                .into_iter()
                .filter(|&position| covered.is_none_or(|covered| position >= covered))
                .filter_map(|position| Some((position, proved_by(&objects, position)?)))
                .collect();
            if provable.is_empty() {
                return None;
            }
            // The last one often: it is the one that marks and fences are for.
            let last = provable.len() - 1;
            let at = if random.random() {
                last
            } else {
                random.random_range(0..=last)
            };
            let chosen = provable[at];
            match chosen.1 {
                format::ObjectKind::Group => {}
                format::ObjectKind::Mark => seen.counts.proved_by_a_mark += 1,
                format::ObjectKind::Fence => seen.counts.proved_by_a_fence += 1,
            }
            chosen
        };
        let key = keys::wal_object(NODE, lost.epoch, lost.seq);
        let path = Path::from(key);
        let is_cut = random.random();
        let change = async {
            if is_cut {
                let bytes = &objects[&lost];
                let rest = bytes.slice(..random.random_range(0..bytes.len()));
                drop(self.network.inner.put(&path, rest.into()).await.unwrap());
            } else {
                self.network.inner.delete(&path).await.unwrap();
            }
        };
        futures::executor::block_on(change);
        let mut seen = self.seen.lock();
        seen.counts.removed += usize::from(!is_cut);
        seen.counts.cut += usize::from(is_cut);
        Some((lost, is_cut))
    }
}

/// What kind of object shows that the one at `position` was durable: the first one that does.
fn proved_by(
    objects: &BTreeMap<WalPosition, Bytes>,
    position: WalPosition,
) -> Option<format::ObjectKind> {
    objects
        .range(position.next()..)
        .take_while(|(other, _)| other.epoch == position.epoch)
        .filter_map(|(_, bytes)| format::decode(bytes).ok())
        .find(|(header, _)| header.durable_end > position.seq)
        .map(|(header, _)| header.kind)
}

fn writer_id(epoch: u64) -> WriterId {
    WriterId([epoch as u8; 16])
}

async fn live(
    world: Arc<World>,
    epoch: u64,
    covered: WalPosition,
    segments: Vec<u64>,
    mut random: StdRng,
) {
    let Some((known, report)) = world.replay(epoch, covered, segments).await else {
        world.seen.lock().counts.superseded += 1;
        return;
    };
    {
        let mut seen = world.seen.lock();
        seen.counts.orphans += report.orphans.len();
        // With a newer process there, objects may have been covered and deleted under the replay.
        if world.catalog.lock().epoch == epoch {
            seen.views.push(known.clone());
        }
    }
    let start = WalPosition {
        epoch,
        seq: FIRST_SEQ,
    };
    let memory = Arc::new(Mutex::new(Memory {
        ids: known,
        next: start,
    }));
    let applied = Arc::clone(&memory);
    let sink = move |position: WalPosition, _: u64, payloads: Vec<u64>| {
        let mut memory = applied.lock();
        assert_eq!(position, memory.next, "groups reach the sink without gaps");
        memory.next = position.next();
        memory.ids.extend(payloads);
    };
    let clock = Arc::new(world.clock.clone());
    let (writer, task) = WalWriter::prepare(
        world.store.clone(),
        NODE,
        start,
        writer_id(epoch),
        world.options.clone(),
        alone(),
        sink,
        clock,
    );
    world.spawn(epoch, task);
    world.seen.lock().writers.insert(epoch, writer.clone());
    for _ in 0..random.random_range(1..6) {
        world.spawn(
            epoch,
            client(
                Arc::clone(&world),
                writer.clone(),
                Arc::clone(&memory),
                StdRng::from_rng(&mut random),
            ),
        );
    }
    let truncator = Truncator::new(world.store.clone(), NODE, start, &report, writer.metrics());
    let flush = flush(
        Arc::clone(&world),
        epoch,
        covered,
        truncator,
        memory,
        random,
    );
    world.spawn(epoch, flush);
}

/// Writes now and then, many at once, and notes what was acknowledged.
async fn client(
    world: Arc<World>,
    writer: WalWriter<u64>,
    memory: Arc<Mutex<Memory>>,
    mut random: StdRng,
) {
    for _ in 0..40 {
        world.clock.sleep(ms(random.random_range(0..120))).await;
        let began = world.clock.now();
        let mut answers = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let id = {
                let mut seen = world.seen.lock();
                seen.next_id += 1;
                seen.next_id
            };
            answers.push((id, writer.submit(frame(id), id)));
        }
        for (id, answer) in answers {
            let answer = match answer {
                Ok(ack) => ack.await,
                Err(refused) => Err(refused),
            };
            let took = world.clock.now() - began;
            assert!(
                took <= world.options.submit_timeout,
                "answered after {took:?}"
            );
            let mut seen = world.seen.lock();
            match answer {
                Ok(position) => {
                    assert!(
                        memory.lock().ids.contains(&id),
                        "acknowledged before it was applied"
                    );
                    seen.counts.acked += 1;
                    seen.acked.insert(id, position);
                }
                Err(WalError::Unavailable { .. }) => seen.counts.unavailable += 1,
                Err(WalError::Overloaded { .. }) => seen.counts.overloaded += 1,
                Err(WalError::Fenced { .. }) => seen.counts.fenced += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Commits what is in memory now and then, and truncates.
async fn flush(
    world: Arc<World>,
    epoch: u64,
    mut covered: WalPosition,
    mut truncator: Truncator,
    memory: Arc<Mutex<Memory>>,
    mut random: StdRng,
) {
    let pause = random.random_range(100..6000);
    for _ in 0..20 {
        world.clock.sleep(ms(random.random_range(0..pause))).await;
        {
            let memory = memory.lock();
            let mut catalog = world.catalog.lock();
            if catalog.epoch != epoch {
                return;
            }
            catalog.covered = Some(memory.next);
            catalog.segments.clone_from(&memory.ids);
            assert!(memory.next >= covered);
            covered = memory.next;
        }
        world.seen.lock().counts.commits += 1;
        // A kill may come between the commit and its deletions.
        world.clock.sleep(ms(random.random_range(0..50))).await;
        truncator.truncate(covered).await;
        if random.random_bool(0.2) {
            let _ = Truncator::sweep(&world.store, NODE, covered).await;
        }
    }
}

fn any_faults(random: &mut StdRng) -> Faults {
    let delay_ms = random.random_range(0..400);
    match random.random_range(0..6) {
        0 => Faults {
            delay_ms,
            ..Faults::default()
        },
        1 => Faults {
            delay_ms,
            error: 0.3,
            ..Faults::default()
        },
        2 => Faults {
            delay_ms,
            lost_answer: 0.3,
            ..Faults::default()
        },
        3 => Faults {
            delay_ms,
            error: 1.0,
            ..Faults::default()
        },
        4 => Faults {
            delay_ms,
            hang: 0.2,
            lost_answer: 0.1,
            error: 0.1,
            ..Faults::default()
        },
        _ => Faults {
            delay_ms,
            full: true,
            ..Faults::default()
        },
    }
}

fn simulate(seed: u64) -> Counts {
    let mut random = StdRng::seed_from_u64(seed);
    let mut simulation = Simulation::new(seed);
    let base = if random.random() {
        WalOptions::local()
    } else {
        WalOptions::remote()
    };
    let options = WalOptions {
        group_bytes: random.random_range(20..400),
        queued_bytes: random.random_range(200..4000),
        max_in_flight: if base.min_interval.is_zero() {
            1
        } else {
            random.random_range(1..8)
        },
        ..base
    };
    let world = Arc::new(World {
        catalog: Mutex::default(),
        seen: Mutex::default(),
        clock: simulation.clock.clone(),
        store: simulation.store.clone(),
        network: Arc::clone(&simulation.network),
        options,
    });
    let mut last = 0;
    for _ in 0..random.random_range(1..5) {
        let (epoch, covered, segments) = world.register();
        world.spawn(
            epoch,
            live(
                Arc::clone(&world),
                epoch,
                covered,
                segments,
                StdRng::from_rng(&mut random),
            ),
        );
        for _ in 0..random.random_range(1..5) {
            simulation.set_faults(any_faults(&mut random));
            simulation.run_for(ms(random.random_range(0..2500)));
        }
        // Killed, or paused so long that the next one starts beside it.
        if random.random_bool(0.6) {
            world.kill(epoch);
        }
        last = epoch;
    }

    // The store is well again. Whoever is the newest must take writes once hung requests are
    // through.
    simulation.set_faults(Faults {
        delay_ms: 5,
        ..Faults::default()
    });
    simulation.run_for(ms(70_000));
    let newest = world.seen.lock().writers.get(&last).cloned();
    if let Some(writer) = newest.filter(|_| world.seen.lock().abort.contains_key(&last)) {
        let (answer, took) =
            simulation.finish(async move { writer.append(frame(u64::MAX), u64::MAX).await });
        let position = answer.expect("the newest process writes again");
        assert!(took < ms(1000), "it took {took:?}");
        world.seen.lock().acked.insert(u64::MAX, position);
        // Idle long enough for its mark: everything that it acknowledged is told of.
        simulation.run_for(ms(40_000));
        let objects = world.objects();
        let covered = world.catalog.lock().covered;
        for (id, &position) in &world.seen.lock().acked {
            let is_covered = covered.is_some_and(|covered| position < covered);
            assert!(
                is_covered || position.epoch != last || proved_by(&objects, position).is_some(),
                "nothing tells of {id} at {position}"
            );
        }
    }

    // Fences tell as well, where a replay has been here before.
    if random.random_bool(0.3) {
        let (epoch, covered, segments) = world.register();
        let earlier_world = Arc::clone(&world);
        let (found, _) = simulation.finish(async move {
            earlier_world
                .try_replay(epoch, covered, segments, false)
                .await
        });
        found.expect("nothing is lost");
    }
    let lost = if random.random_bool(0.4) {
        world.lose_one(&mut random)
    } else {
        None
    };
    if let Some((position, is_cut)) = lost {
        let (epoch, covered, segments) = world.register();
        let failing_world = Arc::clone(&world);
        let (found, _) = simulation.finish(async move {
            failing_world
                .try_replay(epoch, covered, segments, false)
                .await
        });
        let key = keys::wal_object(NODE, position.epoch, position.seq);
        match found {
            Err(ReplayError::Lost {
                key: named, loss, ..
            }) if named == key => {
                assert_eq!(matches!(loss, Loss::Cut(_)), is_cut, "{loss}");
            }
            other => panic!("{key} is lost (cut: {is_cut}), and the replay says {other:?}"),
        }
    }

    let (epoch, covered, segments) = world.register();
    let final_world = Arc::clone(&world);
    let (found, _) = simulation.finish(async move {
        final_world
            .try_replay(epoch, covered, segments, lost.is_some())
            .await
    });
    let (known, report) = found.expect("it can be replayed");
    assert_eq!(report.lost.len(), usize::from(lost.is_some()), "{report:?}");
    // What is still in flight may land now; nobody may be told that it was stored.
    simulation.run_for(ms(70_000));

    let seen = world.seen.lock();
    let unique: BTreeSet<u64> = known.iter().copied().collect();
    assert_eq!(unique.len(), known.len(), "nothing is there twice");
    for (id, position) in &seen.acked {
        let is_lost = lost.is_some_and(|(lost, _)| lost == *position);
        assert!(
            unique.contains(id) || is_lost,
            "{id} was acknowledged at {position} and is lost"
        );
    }
    // By position, hence the order in which they were put; ids of one group keep the order of
    // submission.
    let mut positions: Vec<WalPosition> = known
        .iter()
        .filter_map(|id| seen.acked.get(id).copied())
        .collect();
    assert!(positions.is_sorted(), "replayed in the order of the log");
    positions.dedup();
    for view in &seen.views {
        assert!(
            lost.is_some() || known.starts_with(view),
            "what an earlier replay found is what the last one finds"
        );
    }
    let late = known.len()
        - known
            .iter()
            .filter(|id| seen.acked.contains_key(id))
            .count();
    Counts {
        late,
        ..seen.counts
    }
}

#[test]
fn no_seed_loses_or_doubles_anything() {
    let seeds = match std::env::var("TIDELAKE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("TIDELAKE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..400,
    };
    let all = seeds.end - seeds.start > 1;
    let mut sum = Counts::default();
    for seed in seeds {
        let counts = std::panic::catch_unwind(|| simulate(seed))
            .unwrap_or_else(|_| panic!("failed; repeat with TIDELAKE_SEED={seed}"));
        sum.acked += counts.acked;
        sum.unavailable += counts.unavailable;
        sum.overloaded += counts.overloaded;
        sum.fenced += counts.fenced;
        sum.superseded += counts.superseded;
        sum.orphans += counts.orphans;
        sum.late += counts.late;
        sum.commits += counts.commits;
        sum.removed += counts.removed;
        sum.cut += counts.cut;
        sum.proved_by_a_mark += counts.proved_by_a_mark;
        sum.proved_by_a_fence += counts.proved_by_a_fence;
    }
    if all {
        let Counts {
            acked,
            unavailable,
            overloaded,
            fenced,
            superseded,
            orphans,
            late,
            commits,
            removed,
            cut,
            proved_by_a_mark,
            proved_by_a_fence,
        } = sum;
        let each = [
            acked,
            unavailable,
            overloaded,
            fenced,
            superseded,
            orphans,
            late,
            commits,
            removed,
            cut,
            proved_by_a_mark,
            proved_by_a_fence,
        ];
        assert!(
            each.iter().all(|&count| count > 0),
            "the simulation misses something: {sum:?}"
        );
    }
}
