//! Puts the log of a dead node into segments.
//!
//! The process registers under the node's name, which fences the node should it only have been
//! paused, replays its log, flushes, and lets the node leave. Whoever else tries loses the race for
//! the epoch. A process that dies meanwhile leaves the node registered under an epoch that nobody
//! has: it is dead again after the time of a lease, and adopted by another.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidelake_catalog::{Catalog, CatalogOptions, Node, Registration, Roles};

use super::Cluster;
use super::write_orders::replay_of_other;

/// A node that only read or merged is forgotten after so many leases without a sign of life.
const FORGOTTEN_AFTER: u32 = 20;

/// Looks for dead nodes for as long as the cluster is there.
pub async fn adopt_the_dead(cluster: Weak<Cluster>) {
    loop {
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let snapshot = cluster.catalog.snapshot();
        for node in cluster.others(&snapshot) {
            let patience = match node.takes_writes() {
                true => cluster.lease,
                false => cluster.lease * FORGOTTEN_AFTER,
            };
            if cluster.members.is_dead(&node, patience)
                && let Err(error) = cluster.adopt(&node).await
            {
                tracing::error!(
                    node = %node.name,
                    %error,
                    "the log of a dead node could not be put into segments; trying again"
                );
            }
        }
        let pause = (cluster.lease / 8).min(Duration::from_secs(1));
        drop(cluster);
        tokio::time::sleep(pause).await;
    }
}

impl Cluster {
    /// Adopts a node that is gone for good, whatever it is: also an older program, of which nobody
    /// can tell whether it lives.
    pub async fn adopt_named(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let snapshot = self.refresh().await.map_err(|error| error.to_string())?;
        let node = snapshot.node(name).filter(|node| !node.has_left);
        let node = node.ok_or_else(|| format!("no node {name:?} is registered"))?;
        if name == self.node {
            return Err(format!("node {name:?} is this process"));
        }
        if self.hello(node).await.is_ok() {
            return Err(format!(
                "node {name:?} lives: it answers at {}",
                node.address
            ));
        }
        // The adoption goes on when its client goes away.
        let (cluster, node) = (Arc::clone(self), Arc::clone(node));
        let adopted = tokio::spawn(async move { cluster.adopt(&node).await });
        adopted.await.map_err(|error| error.to_string())?
    }

    async fn adopt(&self, node: &Node) -> Result<(), String> {
        let options = self.adopts_with.get();
        let options = options.ok_or("this process takes no writes, so it adopts no logs")?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let name = node.name.to_string();
        // Of a process that was paused, what it thinks of others may be old.
        self.refresh().await.map_err(|error| text(&error))?;
        if self.catalog.is_fenced() {
            return Ok(());
        }
        let catalog = Catalog::load(
            self.catalog.store().clone(),
            CatalogOptions {
                environment: self.catalog.environment().clone(),
                ..CatalogOptions::default()
            },
        );
        let catalog = Arc::new(catalog.await.map_err(|error| text(&error))?);
        let registration = Registration {
            address: self.address.clone(),
            roles: node.roles,
        };
        // Others may ask as soon as the epoch is theirs to see.
        let _adopting = Adopting::begin(self, &name);
        let adopted = async {
            let is_as_it_was = |now: Option<&Node>| {
                now.is_some_and(|now| now.epoch == node.epoch && !now.has_left)
            };
            let registered = catalog
                .register_if(&name, &registration, is_as_it_was)
                .await;
            if registered.map_err(|error| text(&error))?.is_none() {
                return Ok(());
            }
            tracing::warn!(node = %name, "a node is dead; its log is put into segments");
            if node.roles.has(Roles::INGEST) {
                let ingester = replay_of_other(&catalog, &name, options.clone()).await;
                let ingester = ingester.map_err(|error| text(&error))?;
                ingester.shutdown().await.map_err(|error| text(&error))?;
            }
            catalog.leave().await.map_err(|error| text(&error))
        };
        let adopted = adopted.await;
        // Who sees that the process does not adopt it any more must also see that it has left.
        let _ = self.refresh().await;
        adopted
    }
}

/// The node whose log this process puts into segments, as others are told.
struct Adopting<'a> {
    cluster: &'a Cluster,
    node: &'a str,
}

impl<'a> Adopting<'a> {
    fn begin(cluster: &'a Cluster, node: &'a str) -> Self {
        cluster.adopting.lock().insert(node.to_owned());
        Self { cluster, node }
    }
}

/// Also if it is broken off or panics: then another may try.
impl Drop for Adopting<'_> {
    fn drop(&mut self) {
        self.cluster.adopting.lock().remove(self.node);
    }
}
