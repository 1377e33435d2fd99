//! What is judged: after each step, of the past, and at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use rand::Rng;
use rand::seq::IndexedRandom;
use tidelake_catalog::catalog::AsOf;
use tidelake_catalog::model::METRICS_TABLE;
use tidelake_catalog::{SegmentRef, Snapshot, StoreError, keys};
use tidelake_compactor::policy::Goal;
use tidelake_querier::Querier;
use tidelake_querier::tables::{NoRecentRows, Tables};
use tokio::time::Instant;

use super::outcomes::{finished, start_failed};
use super::ways::{Way, check_table, is_number};
use super::{
    Checked, Held, LONGEST_CALL, MARGIN, Past, SHUTDOWN, SKEW_MS, Verdict, World, observe,
};
use crate::calls::CallFaults;
use crate::model::Cells;
use crate::network::{Faults, HANG};
use crate::process::{Process, node_name};
use crate::read;
use crate::trace::note;
use crate::workload::METRICS;

impl World {
    /// Notes a state of the catalog and what can be read of it, for later.
    pub(super) async fn remember(&mut self) -> Verdict {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else {
            return Ok(());
        };
        let snapshot = self
            .shared
            .observer()
            .refresh()
            .await
            .map_err(|error| error.to_string())?;
        let cells = self.read_past(Arc::clone(&snapshot), &table).await?;
        note!(
            self.network.trace,
            "state {} of {table} is remembered with {} cells",
            snapshot.sequence(),
            cells.len()
        );
        let until = Instant::now()
            + self
                .settings
                .compactor
                .time_travel_window
                .saturating_sub(MARGIN);
        self.past.push(Past {
            sequence: snapshot.sequence(),
            seen_ms: self.now_ms(),
            table,
            cells,
            until,
        });
        Ok(())
    }

    pub(super) async fn read_past(
        &self,
        snapshot: Arc<Snapshot>,
        table: &str,
    ) -> Result<Cells, String> {
        let sequence = snapshot.sequence();
        let tables = self.reader.at(snapshot);
        read::scan(&tables, table)
            .await
            .map_err(|error| format!("state {sequence} of {table}: {error}"))
    }

    /// States of the past read as they were.
    pub(super) async fn check_past(&mut self) -> Verdict {
        let (random, now) = (&mut self.random, Instant::now());
        let due: Vec<Past> = self
            .past
            .extract_if(.., |past| past.until < now || random.random_bool(0.1))
            .collect();
        for past in due.into_iter().filter(|past| past.until >= now) {
            let (window, at) = (
                self.settings.compactor.time_travel_window,
                AsOf::Sequence(past.sequence),
            );
            let (observer, now_ms) = (self.shared.observer(), self.now_ms());
            let unreadable = |error| format!("state {} cannot be read: {error}", past.sequence);
            let snapshot = match observer.as_of(at, window, now_ms).await {
                Ok(snapshot) => snapshot,
                // The commit that ended it has the time of when it was begun, which was before.
                Err(error) => {
                    let next = AsOf::Sequence(past.sequence + 1);
                    let next = observer.as_of(next, Duration::MAX, now_ms).await;
                    match next.map_err(unreadable)?.time_ms() < past.seen_ms {
                        true => continue,
                        false => return Err(unreadable(error)),
                    }
                }
            };
            if self.read_past(snapshot, &past.table).await? != past.cells {
                return Err(format!(
                    "state {} of {} reads otherwise than it did",
                    past.sequence, past.table
                ));
            }
            self.shared.figures.lock().past += 1;
        }
        Ok(())
    }

    /// Takes note of what has come to its end.
    pub(super) async fn collect_finished(&mut self) -> Verdict {
        let mut at = 0;
        while at < self.activities.len() {
            if !self.activities[at].handle.is_finished() {
                at += 1;
                continue;
            }
            let activity = self.activities.remove(at);
            let (what, life) = (activity.what, activity.life);
            finished(activity.handle.await)?
                .unwrap_or(Ok(()))
                .map_err(|error| format!("L{life} {what}: {error}"))?;
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
                        note!(
                            self.network.trace,
                            "L{number} is ready with epoch {}",
                            process.epoch
                        );
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
                && process.is_fenced()
                && self.random.random_bool(0.3)
            {
                // The server ends when it is told so, sooner or later.
                if !self
                    .shared
                    .is_superseded(process.node, process.epoch)
                    .await?
                {
                    return Err(format!(
                        "L{} thinks that it is fenced, but nobody has taken over",
                        life.number
                    ));
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
    pub(super) async fn check(&mut self) -> Verdict {
        self.check_files().await?;
        self.check_held().await?;
        self.check_past().await?;
        for node in 0..self.nodes {
            let Some(life) = self.current(node).filter(|life| !life.gate.is_dead()) else {
                continue;
            };
            let (number, Some(process)) = (life.number, life.process.clone()) else {
                continue;
            };
            // What it has may be deleted elsewhere.
            if process.catalog.is_fenced() {
                continue;
            }
            if self.shared.sure_for(&process.catalog).is_zero() {
                self.shared.figures.lock().stale += 1;
                continue;
            }
            let sequence = process.catalog.snapshot().sequence();
            let ingester = process.ingester.as_ref();
            let buffered = ingester.map_or((0, 0), |ingester| ingester.buffered());
            let acknowledged = self.shared.model.lock().acknowledged();
            let now = Some(Checked {
                life: number,
                sequence,
                buffered,
                acknowledged,
            });
            if self.checked[node] == now {
                continue;
            }
            self.checked[node] = now;
            let tables = self.shared.model.lock().tables();
            for table in tables {
                let mut ways = vec![Way::Scan];
                if self.random.random_bool(0.08) {
                    ways.push(Way::draw(
                        &mut self.random,
                        &self.shared.model.lock(),
                        &table,
                    ));
                }
                for way in ways {
                    let floor = self
                        .shared
                        .model
                        .lock()
                        .floor(Some(node), process.catalog.snapshot().sequence());
                    let what = format!("node {node} (L{number})");
                    check_table(
                        &self.shared,
                        &process.judged,
                        &way,
                        &table,
                        &floor,
                        self.now_ms(),
                        &what,
                    )
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Every file that the catalog names is there, and those that went not long ago.
    pub(super) async fn check_files(&mut self) -> Verdict {
        let snapshot = self
            .shared
            .observer()
            .refresh()
            .await
            .map_err(|error| format!("the log is broken: {error}"))?;
        let head = async |key: String| {
            let there = self
                .network
                .inner
                .head(&object_store::path::Path::from(key.as_str()))
                .await;
            there.map(drop).map_err(|_| {
                format!(
                    "the catalog at {} names {key}, which is not there",
                    snapshot.sequence()
                )
            })
        };
        for node in 0..self.nodes {
            let started = self.shared.ready.lock()[node];
            if let Some(now) = snapshot.node(&node_name(node))
                && now.has_left
                && now.epoch > started
                && self.adopted.insert((node, now.epoch))
            {
                self.shared.figures.lock().adoptions += 1;
            }
        }
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
            let (database, table, day, id) =
                (&segment.database, &segment.table, segment.day, segment.id);
            head(tidelake_catalog::keys::data_file(database, table, day, id)).await?;
            head(tidelake_catalog::keys::series_index(
                database, table, day, id,
            ))
            .await?;
        }
        Ok(())
    }

    /// Held queries still read what they began with.
    pub(super) async fn check_held(&mut self) -> Verdict {
        let (random, now) = (&mut self.random, Instant::now());
        let due: Vec<Held> = self
            .held
            .extract_if(.., |held| held.until < now || random.random_bool(0.2))
            .collect();
        for held in due.into_iter().filter(|held| held.until >= now) {
            let cells = read::read(&held.units)
                .await
                .map_err(|error| format!("a held query of {}: {error}", held.table))?;
            if cells != held.cells {
                return Err(format!("a held query of {} changed", held.table));
            }
            self.shared.figures.lock().held += 1;
        }
        Ok(())
    }

    /// The store is well again: everything comes back by itself, is right, and leaves nothing
    /// behind.
    pub(super) async fn end(&mut self) -> Verdict {
        note!(self.network.trace, "the store is well again");
        self.network.set_faults(Faults {
            delay_ms: 5,
            ..Faults::default()
        });
        self.calls.set_faults(CallFaults {
            delay_ms: 5,
            ..CallFaults::default()
        });
        let doomed: Vec<usize> = self
            .lives
            .iter()
            .filter(|life| life.gate.is_dead() || life.gate.is_paused())
            .map(|l| l.number)
            .collect();
        for number in doomed {
            self.bury(number, "the end");
        }
        tokio::time::sleep(HANG + LONGEST_CALL).await;
        self.collect_finished().await?;
        self.check().await?;
        let mut processes = Vec::new();
        for node in 0..self.nodes {
            processes.push((node, self.running_of(node).await?));
        }
        // Some may have died since the store is well.
        let dead: Vec<usize> = self
            .lives
            .iter()
            .filter(|life| life.gate.is_dead())
            .map(|life| life.number)
            .collect();
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
                let Some((_, (life, process))) =
                    processes.iter().find(|(other, _)| *other == node).cloned()
                else {
                    continue;
                };
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

    /// Waits until all activities are done.
    pub(super) async fn settle(&mut self, most: Duration) -> Verdict {
        let began = Instant::now();
        while !self.activities.is_empty() {
            if began.elapsed() > most {
                return Err(format!(
                    "{} did not end within {most:?} though the store is well",
                    self.activities[0].what
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.collect_finished().await?;
        }
        Ok(())
    }

    /// Everything was flushed: a process that only reads sees all of it, by every way out.
    pub(super) async fn check_whole(&mut self) -> Verdict {
        let catalog = observe(&self.network, self.now_ms()).await?;
        let environment = catalog.environment().clone();
        let tables = Tables::new(
            catalog,
            self.network.direct(),
            Arc::new(NoRecentRows),
            &crate::process::memory(),
            None,
        );
        let sql = tidelake_querier::sql::SqlOptions {
            target_partitions: 1,
            environment,
            ..Default::default()
        };
        let querier =
            Querier::new(tables, Default::default(), sql).map_err(|error| error.to_string())?;
        let names = self.shared.model.lock().tables();
        for table in names {
            let fields = self.shared.model.lock().fields(&table);
            let sql = if table == METRICS_TABLE {
                METRICS.map(str::to_owned).to_vec()
            } else {
                vec![String::new()]
            };
            let ways = std::iter::once(Way::Scan)
                .chain(
                    fields
                        .into_iter()
                        .filter(|field| is_number(field))
                        .map(Way::Promql),
                )
                .chain(sql.into_iter().map(Way::Sql));
            for way in ways {
                let floor = self.shared.model.lock().whole();
                check_table(
                    &self.shared,
                    &querier,
                    &way,
                    &table,
                    &floor,
                    self.now_ms(),
                    "a new reader",
                )
                .await?;
            }
        }
        Ok(())
    }

    /// After days of rest nothing is on the store but what the catalog names.
    pub(super) async fn check_garbage(&mut self, life: usize, process: Arc<Process>) -> Verdict {
        let others: Vec<usize> = self
            .lives
            .iter()
            .map(|life| life.number)
            .filter(|number| *number != life)
            .collect();
        for number in others {
            self.bury(number, "the end");
        }
        let mut collected_ms = 0;
        for _ in 0..2 {
            self.jump_by(Duration::from_secs(30 * 3600)).await;
            for _ in 0..4 {
                collected_ms = self.now_ms();
                self.collect_garbage_on(life, Arc::clone(&process));
                self.settle(Duration::from_secs(60)).await?;
                tokio::time::sleep(self.settings.compactor.sweep_interval).await;
            }
        }
        self.check_files().await?;
        let snapshot = self
            .shared
            .observer()
            .refresh()
            .await
            .map_err(|error| error.to_string())?;
        let mut named: BTreeSet<String> = snapshot
            .segments()
            .flat_map(|segment| [segment.data_key(), segment.index_key()])
            .collect();
        // What was merged after the last rest might still have been read when it was collected.
        let kept = self.shared.kept.as_millis() as i64 + 2 * SKEW_MS;
        let recent = snapshot
            .retired()
            .filter(|retired| retired.time_ms + kept > collected_ms);
        named.extend(recent.flat_map(|retired| {
            let SegmentRef {
                database,
                table,
                day,
                id,
            } = &retired.segment;
            [
                keys::data_file(database, table, *day, *id),
                keys::series_index(database, table, *day, *id),
            ]
        }));
        let listed: Vec<_> = self
            .network
            .direct()
            .list("data")
            .try_collect()
            .await
            .map_err(|error: StoreError| error.to_string())?;
        let tables = self.shared.model.lock().tables();
        match listed.iter().find(|info| !named.contains(&info.key)) {
            Some(info) if !tables.is_empty() => Err(format!("{} was never collected", info.key)),
            _ => Ok(()),
        }
    }
}
