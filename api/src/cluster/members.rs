//! Which nodes live, by this process's own clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelake_catalog::Node;
use tokio::time::Instant;

use super::messages::Hello;
use super::transport::CallError;

/// So long after a failed call the same node is not waited for again.
const REMEMBERED: Duration = Duration::from_millis(500);

/// A node is not dead before so many looks.
const LEAST_MISSES: u32 = 3;

/// What was seen of one life of a node.
#[derive(Debug)]
struct Member {
    epoch: u64,
    /// When it last showed that it lives; at first when it was first looked at.
    alive: Instant,
    /// Looks since then. While this process is paused nobody shows it anything.
    misses: u32,
    lease: Option<Bytes>,
    failed: Option<(Instant, CallError)>,
    is_adopted: bool,
}

impl Member {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            alive: Instant::now(),
            misses: 0,
            lease: None,
            failed: None,
            is_adopted: false,
        }
    }
}

/// All other nodes.
#[derive(Debug, Default)]
pub struct Members {
    seen: Mutex<HashMap<Arc<str>, Member>>,
    lease_renewed: Mutex<Option<Instant>>,
}

impl Members {
    fn with<T>(&self, node: &Node, look: impl FnOnce(&mut Member) -> T) -> T {
        let mut seen = self.seen.lock();
        let member = seen
            .entry(Arc::clone(&node.name))
            .or_insert_with(|| Member::new(node.epoch));
        if member.epoch < node.epoch {
            *member = Member::new(node.epoch);
        }
        look(member)
    }

    /// Forgets all but these.
    pub fn retain(&self, nodes: &[Arc<Node>]) {
        let mut seen = self.seen.lock();
        seen.retain(|name, _| nodes.iter().any(|node| node.name == *name));
    }

    /// How a call of the node ended.
    pub fn note(&self, node: &Node, answer: &Result<Hello, CallError>) {
        self.with(node, |member| match answer {
            Ok(hello) => {
                member.alive = Instant::now();
                member.misses = 0;
                member.failed = None;
                member.is_adopted = *hello.node != *node.name;
            }
            Err(error) => member.failed = Some((Instant::now(), error.clone())),
        });
    }

    /// The error of a call that failed a moment ago.
    pub fn failed_just_now(&self, node: &Node) -> Option<CallError> {
        self.with(node, |member| {
            let (when, error) = member.failed.as_ref()?;
            (when.elapsed() < REMEMBERED).then(|| error.clone())
        })
    }

    /// Whether its last call failed.
    pub fn is_suspect(&self, node: &Node) -> bool {
        self.with(node, |member| member.failed.is_some())
    }

    /// What the lease says of a node that does not answer, if it can be read.
    pub fn note_lease(&self, node: &Node, lease: Option<Bytes>) {
        self.with(node, |member| {
            // What was there before this process looked says nothing.
            let has_changed = member.lease.is_some() && lease.is_some() && member.lease != lease;
            if has_changed {
                member.alive = Instant::now();
                member.misses = 0;
            } else {
                member.misses = member.misses.saturating_add(1);
            }
            member.lease = lease.or(member.lease.take());
        });
    }

    /// Whether it has not shown that it lives for the time of a lease, to several looks.
    pub fn is_dead(&self, node: &Node, lease: Duration) -> bool {
        self.with(node, |member| {
            member.misses >= LEAST_MISSES && member.alive.elapsed() > lease
        })
    }

    /// Whether the process at its address puts its log into segments.
    pub fn is_adopted(&self, node: &Node) -> bool {
        self.with(node, |member| member.is_adopted)
    }

    /// Whether the own lease is older than this; if so it counts as renewed.
    pub fn lease_is_due(&self, age: Duration) -> bool {
        let mut renewed = self.lease_renewed.lock();
        let is_due = renewed.is_none_or(|when| when.elapsed() >= age);
        if is_due {
            *renewed = Some(Instant::now());
        }
        is_due
    }
}
