//! What processes are asked to do.

use std::sync::Arc;

use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};
use tidelake_catalog::model::Matcher;
use tidelake_catalog::{CatalogError, Refusal, Roles};
use tidelake_compactor::garbage::CollectError;
use tidelake_compactor::policy::Goal;
use tokio::time::Instant;

use super::outcomes::{catalog_failed, compact_failed, flushed, send};
use super::ways::{Way, judge};
use super::{Activity, Held, Verdict, World};
use crate::model::RequestId;
use crate::process::Process;
use crate::read;
use crate::read::ReadError;
use crate::trace::note;
use crate::workload::{DATABASE, Write};

impl World {
    pub(super) fn spawn(
        &mut self,
        life: usize,
        what: &'static str,
        client: Option<usize>,
        task: impl Future<Output = Verdict> + Send + 'static,
    ) {
        note!(self.network.trace, "L{life} {what}");
        self.activities.push(Activity {
            life,
            what,
            client,
            handle: tokio::spawn(task),
        });
    }

    pub(super) fn is_busy(&self, client: usize) -> bool {
        self.activities
            .iter()
            .any(|activity| activity.client == Some(client))
    }

    /// Some clients write.
    pub(super) fn write(&mut self) {
        for at in 0..self.clients.len() {
            let client = self.clients[at].number;
            if self.is_busy(client) || self.random.random_bool(0.3) {
                continue;
            }
            self.may_move(at);
            let node = self.clients[at].node;
            let current = self.current(node).map(|life| life.number);
            // Somebody may still know the old address.
            let old = self.lives.iter().filter(|life| {
                life.node == node && Some(life.number) != current && life.process.is_some()
            });
            let old = old
                .map(|life| life.number)
                .choose(&mut self.random)
                .filter(|_| self.random.random_bool(0.2));
            let Some(life) = old.or(current) else {
                continue;
            };
            let Some(process) = self
                .lives
                .iter()
                .find(|l| l.number == life)
                .and_then(|life| life.process.clone())
            else {
                continue;
            };
            let count = self.random.random_range(1..4);
            self.write_some(at, life, process, count);
        }
    }

    /// A client that knows what became of its requests may go on at another node.
    fn may_move(&mut self, at: usize) {
        let writers: Vec<usize> = (0..self.nodes)
            .filter(|node| self.settings.roles[*node].has(Roles::INGEST))
            .filter(|node| self.current(*node).is_some())
            .collect();
        let Some(&node) = writers.choose(&mut self.random) else {
            return;
        };
        let client = &mut self.clients[at];
        if client.node != node && self.shared.is_settled(client.number, node) {
            client.node = node;
            self.shared.figures.lock().moves += 1;
        }
    }

    /// A client writes, and all is flushed after each request: so many segments come that two hours
    /// are merged.
    pub(super) fn write_and_flush(&mut self) {
        let at = self.random.random_range(0..self.clients.len());
        let (client, node) = (self.clients[at].number, self.clients[at].node);
        let Some((life, process)) = self
            .current(node)
            .and_then(|life| Some((life.number, life.process.clone()?)))
        else {
            return;
        };
        if self.is_busy(client) {
            return;
        }
        let writes = self.draw_writes(at, node, 24);
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "write and flush", Some(client), async move {
            for (id, write) in writes {
                send(&shared, &process, id, write).await?;
                let began = shared.model.lock().now();
                let result = process.flush().await;
                flushed(&shared, &process, result, began).await?;
            }
            Ok(())
        });
    }

    /// Requests that a client is about to send.
    pub(super) fn draw_writes(
        &mut self,
        at: usize,
        node: usize,
        count: usize,
    ) -> Vec<(RequestId, Write)> {
        let now_ms = self.now_ms();
        let epoch = self.shared.ready.lock()[node];
        let client = &self.clients[at];
        let mut model = self.shared.model.lock();
        let mut writes = Vec::new();
        for _ in 0..count {
            let write = client.write(&mut self.random, &model, now_ms, &mut self.numbers);
            let id = model.begin(node, write.cells.clone());
            let mut unsettled = self.shared.unsettled.lock();
            let requests = unsettled.entry(client.number).or_default();
            requests.push((id, node, epoch));
            drop(unsettled);
            note!(
                self.network.trace,
                "client {} has request {id} with {} cells",
                client.number,
                write.cells.len()
            );
            writes.push((id, write));
        }
        writes
    }

    /// A client sends requests, one after the other.
    pub(super) fn write_some(
        &mut self,
        at: usize,
        life: usize,
        process: Arc<Process>,
        count: usize,
    ) {
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
    pub(super) fn go_away(&mut self) {
        let waiting: Vec<usize> = (0..self.activities.len())
            .filter(|&at| self.activities[at].client.is_some())
            .collect();
        if let Some(&at) = waiting.choose(&mut self.random) {
            let activity = self.activities.swap_remove(at);
            note!(self.network.trace, "client {:?} goes away", activity.client);
            activity.handle.abort();
        }
    }

    pub(super) fn flush(&mut self) {
        let Some((life, process)) = self.any_running() else {
            return;
        };
        self.flush_on(life, process);
    }

    pub(super) fn flush_on(&mut self, life: usize, process: Arc<Process>) {
        let shared = Arc::clone(&self.shared);
        self.spawn(life, "flush", None, async move {
            let began = shared.model.lock().now();
            let result = process.flush().await;
            flushed(&shared, &process, result, began).await
        });
    }

    /// A client deletes some of what it wrote: as the server does it, after a flush.
    pub(super) fn delete(&mut self) {
        let at = self.random.random_range(0..self.clients.len());
        let client = self.clients[at].number;
        if self.is_busy(client) {
            return;
        }
        self.may_move(at);
        let node = self.clients[at].node;
        let Some((life, process)) = self
            .current(node)
            .and_then(|life| Some((life.number, life.process.clone()?)))
        else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let (delete, id) = {
            let mut model = shared.model.lock();
            let Some(delete) = self.clients[at].delete(&mut self.random, &model) else {
                return;
            };
            let id = model.begin_delete(node, &delete.table, |key| delete.takes(key));
            (delete, id)
        };
        let mut unsettled = shared.unsettled.lock();
        let requests = unsettled.entry(client).or_default();
        requests.push((id, node, process.epoch));
        drop(unsettled);
        note!(
            self.network.trace,
            "client {client} deletes as request {id}: {delete:?}"
        );
        self.spawn(life, "delete", Some(client), async move {
            let began = shared.model.lock().now();
            let is_replaced = shared.is_replaced(process.node, process.epoch);
            let result = process.flush().await;
            let is_flushed = result.is_ok();
            flushed(&shared, &process, result, began).await?;
            if !is_flushed || process.cluster.flush_others().await.is_err() {
                // Nothing was deleted.
                shared.settle(id);
                return shared.model.lock().refuse(id);
            }
            let matchers = delete
                .matchers
                .iter()
                .map(|(name, value)| Matcher::equal(*name, value))
                .collect();
            match process
                .catalog
                .delete(DATABASE, &delete.table, matchers, delete.range)
                .await
            {
                Ok(_) if is_replaced => Err(format!(
                    "delete {id} was acknowledged by a process that had been replaced"
                )),
                Ok(_) => {
                    shared.settle(id);
                    shared.model.lock().acknowledge(id);
                    shared.figures.lock().deletes += 1;
                    Ok(())
                }
                // Nobody has written to it yet.
                Err(CatalogError::Refused(
                    Refusal::NoTable { .. } | Refusal::NoDatabase { .. },
                )) => {
                    shared.settle(id);
                    shared.model.lock().refuse(id)
                }
                Err(error) => catalog_failed(&shared, &process, "delete", error).await,
            }
        });
    }

    pub(super) fn compact(&mut self) {
        let goal = if self.random.random_bool(0.6) {
            Goal::Full
        } else {
            Goal::Steady
        };
        let Some((life, process)) = self.any_running() else {
            return;
        };
        self.compact_on(life, process, goal);
    }

    pub(super) fn compact_on(&mut self, life: usize, process: Arc<Process>, goal: Goal) {
        let shared = Arc::clone(&self.shared);
        let Some(compactor) = process.compactor.clone() else {
            return;
        };
        self.spawn(life, "compact", None, async move {
            let sure = shared.sure_for(&process.catalog);
            let began = Instant::now();
            match compactor.compact(goal).await {
                Ok(merges) => {
                    shared.figures.lock().merges += merges as u64;
                    Ok(())
                }
                Err(error) => {
                    compact_failed(&shared, &process, error, began.elapsed() >= sure).await
                }
            }
        });
    }

    pub(super) fn collect_garbage(&mut self) {
        if let Some((life, process)) = self.any_running() {
            self.collect_garbage_on(life, process);
        }
    }

    pub(super) fn collect_garbage_on(&mut self, life: usize, process: Arc<Process>) {
        let shared = Arc::clone(&self.shared);
        let Some(compactor) = process.compactor.clone() else {
            return;
        };
        self.spawn(life, "collect garbage", None, async move {
            match compactor.collect().await {
                Ok(()) => Ok(()),
                Err(CollectError::Store(error)) if error.is_transient() => Ok(()),
                Err(CollectError::Catalog(error)) => {
                    catalog_failed(&shared, &process, "collect garbage", error).await
                }
                Err(error) => Err(format!("collect garbage: {error}")),
            }
        });
    }

    /// Some processes are asked, over a store and a network that fail.
    pub(super) fn query(&mut self) {
        for node in 0..self.nodes {
            if self.random.random_bool(0.6) {
                self.query_at(node);
            }
        }
    }

    fn query_at(&mut self, node: usize) {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else {
            return;
        };
        let Some((life, process)) = self
            .current(node)
            .and_then(|life| Some((life.number, life.process.clone()?)))
        else {
            return;
        };
        let way = Way::draw(&mut self.random, &self.shared.model.lock(), &table);
        let (shared, now_ms) = (Arc::clone(&self.shared), self.now_ms());
        self.spawn(life, "query", None, async move {
            if shared.is_replaced(process.node, process.epoch) {
                return Ok(());
            }
            let began = Instant::now();
            let sure = shared.sure_for(&process.catalog);
            let floor = shared.model.lock().whole_of(process.node);
            let result = way.read_all(&process, &table, now_ms).await;
            note!(
                shared.network.trace,
                "{way:?} of {table} at node {}: {}",
                process.node,
                match &result {
                    Ok(cells) => format!("{} cells", cells.len()),
                    Err(error) => error.to_string(),
                }
            );
            shared.figures.lock().queries += 1;
            match result {
                Ok(cells) => {
                    shared.figures.lock().everybodys += 1;
                    let what = format!("a query of node {}", process.node);
                    judge(&shared, &way, &table, &cells, &floor, &what)
                }
                Err(ReadError::Unavailable(_)) => {
                    shared.figures.lock().unanswered += 1;
                    Ok(())
                }
                Err(ReadError::Missing(_)) if began.elapsed() >= sure => Ok(()),
                Err(error) => Err(format!("{way:?} of {table}: {error}")),
            }
        });
    }

    /// A query is planned now and read later, over what merges and garbage collection do meanwhile.
    pub(super) async fn hold(&mut self) -> Verdict {
        let tables = self.shared.model.lock().tables();
        let Some(table) = tables.choose(&mut self.random).cloned() else {
            return Ok(());
        };
        let node = self.random.random_range(0..self.nodes);
        let Some((life, process)) = self
            .current(node)
            .and_then(|life| Some((life.number, life.process.clone()?)))
        else {
            return Ok(());
        };
        let sure = self.shared.sure_for(&process.catalog);
        if sure.is_zero() {
            return Ok(());
        }
        let failed = |error: ReadError| format!("a held query of {table}: {error}");
        let units = read::plan(process.judged.tables(), &table)
            .await
            .map_err(failed)?;
        let cells = read::read(&units).await.map_err(failed)?;
        note!(
            self.network.trace,
            "L{life} holds a query of {table} with {} cells",
            cells.len()
        );
        self.held.push(Held {
            life,
            table,
            units,
            cells,
            until: Instant::now() + sure,
        });
        Ok(())
    }
}
