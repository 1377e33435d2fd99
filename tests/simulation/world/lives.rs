//! The lives of processes: how they start, stop and are killed.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use tidelake_catalog::Environment;
use tokio::time::Instant;

use super::outcomes::flushed;
use super::{Life, SHUTDOWN, SKEW_MS, Verdict, World, observe};
use crate::network::Gate;
use crate::process::{Place, Process};
use crate::trace::note;

impl World {
    pub(super) fn start(&mut self, node: usize) {
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
        note!(
            self.network.trace,
            "L{number} starts as node {node}, dies at request {dies_at}"
        );
        let place = Place {
            node,
            gate: Arc::clone(&gate),
            network: Arc::clone(&self.network),
            calls: Arc::clone(&self.calls),
        };
        let starting = tokio::spawn(Process::start(place, environment, self.settings.clone()));
        self.lives.push(Life {
            number,
            node,
            gate,
            starting: Some(starting),
            process: None,
        });
        self.shared.figures.lock().lives += 1;
    }

    pub(super) fn start_missing(&mut self) {
        for node in 0..self.nodes {
            if !self
                .lives
                .iter()
                .any(|life| life.node == node && !life.gate.is_dead())
                && self.away[node] <= Instant::now()
                && self.random.random_bool(0.7)
            {
                self.start(node);
            }
        }
    }

    /// The process of a node that clients talk to: the newest that ever was ready, if it is still
    /// there.
    pub(super) fn current(&self, node: usize) -> Option<&Life> {
        let newest = self.shared.ready.lock()[node];
        let is_newest = |process: &Arc<Process>| process.node == node && process.epoch == newest;
        self.lives
            .iter()
            .find(|life| life.process.as_ref().is_some_and(is_newest))
    }

    /// Any process that has started, even one that was taken over.
    pub(super) fn any_running(&mut self) -> Option<(usize, Arc<Process>)> {
        let running = self.lives.iter().filter(|life| !life.gate.is_dead());
        let running = running.filter_map(|life| {
            life.process
                .as_ref()
                .map(|process| (life.number, Arc::clone(process)))
        });
        running.choose(&mut self.random)
    }

    /// Ends a life: whatever it does stops where it stands.
    pub(super) fn bury(&mut self, number: usize, why: &str) {
        let Some(at) = self.lives.iter().position(|life| life.number == number) else {
            return;
        };
        let life = self.lives.swap_remove(at);
        note!(self.network.trace, "L{number} ends: {why}");
        life.gate.bury();
        self.calls.hang_up(number);
        // Sometimes nobody starts it until another has adopted its log.
        if self.nodes > 1 && self.random.random_bool(0.3) {
            let away = Duration::from_secs(self.random.random_range(1..60));
            self.away[life.node] = Instant::now() + away;
        }
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

    pub(super) fn kill_one(&mut self) {
        if let Some(number) = self
            .lives
            .iter()
            .map(|life| life.number)
            .choose(&mut self.random)
        {
            self.bury(number, "killed");
        }
    }

    /// A second process of a node starts while the first is still there.
    pub(super) fn take_over(&mut self) {
        let node = self.random.random_range(0..self.nodes);
        self.start(node);
    }

    pub(super) fn pause(&mut self) {
        if let Some(life) = self.lives.iter().choose(&mut self.random) {
            let pauses = !life.gate.is_paused();
            note!(
                self.network.trace,
                "L{} {}",
                life.number,
                if pauses { "is paused" } else { "goes on" }
            );
            life.gate.set_paused(pauses);
        }
    }

    pub(super) fn stop_gracefully(&mut self) {
        let Some((life, process)) = self.any_running() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.spawn(life, SHUTDOWN, None, async move {
            let began = shared.model.lock().now();
            let result = process.stop().await;
            flushed(&shared, &process, result, began).await
        });
    }

    /// A power loss; on a bucket all processes are killed at once.
    pub(super) async fn lose_power(&mut self) -> Verdict {
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
        self.shared.model.lock().lose_power();
        Ok(())
    }

    /// The process of a node, started if there is none, that is not going to die.
    pub(super) async fn running_of(
        &mut self,
        node: usize,
    ) -> Result<(usize, Arc<Process>), String> {
        for _ in 0..20 {
            if let Some(life) = self.current(node).filter(|life| !life.gate.is_dead())
                && let Some(process) = &life.process
                && !process.is_fenced()
            {
                life.gate.make_immortal();
                return Ok((life.number, Arc::clone(process)));
            }
            let starting = self
                .lives
                .iter()
                .any(|life| life.node == node && life.starting.is_some() && !life.gate.is_dead());
            if !starting {
                self.start(node);
            }
            for life in self
                .lives
                .iter()
                .filter(|life| life.node == node && !life.gate.is_dead())
            {
                life.gate.make_immortal();
            }
            tokio::time::sleep(Duration::from_secs(15)).await;
            self.collect_finished().await?;
        }
        Err(format!(
            "node {node} does not start though the store is well"
        ))
    }
}
