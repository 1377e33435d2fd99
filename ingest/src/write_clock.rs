//! Gives every request of the write-ahead log its place in the order of all writes: a group gets
//! the order of its first request, and each next one is a microsecond later.
//!
//! An order is a reading of a hybrid logical clock: microseconds since 1970, shifted, so that the
//! lowest bits tell nodes apart that read the same microsecond. A node's clock never goes back, and
//! never gives less than what it has seen. Before a group gets its order, the clocks of all other
//! nodes that take writes are asked ([`Peers::latest`]): what they acknowledged before has lower
//! orders then. So a write that began after another was acknowledged has the higher order, whoever
//! took them, and however wrong the clocks of their machines are.
//!
//! After Kulkarni, Demirbas et al., "Logical Physical Clocks", OPODIS 2014.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidelake_catalog::Environment;
use xxhash_rust::xxh3::xxh3_64;

/// Bits below the microseconds.
const NODE_BITS: u32 = 8;
/// A clock before 1990 is wrong, and its orders would not be told from sequences of commits.
const LEAST_US: u64 = 20 * 365 * 86_400 * 1_000_000;

/// The order of a request of a group, counted from 0.
pub fn order_in_group(first: u64, request: usize) -> u64 {
    first.saturating_add((request as u64) << NODE_BITS)
}

/// Other processes that take writes for the same store.
pub trait Peers: Debug + Send + Sync {
    /// Whether there are any: then rows keep their orders, as those of others lie between them.
    fn are_there(&self) -> bool;

    /// What has to be waited for before rows are prepared, if this process may have missed that
    /// others dropped their table.
    fn catch_up(&self) -> Option<BoxFuture<'static, Result<(), String>>> {
        None
    }

    /// The highest order that any of them has given, from the call on; or why one of them cannot
    /// be asked, nor its log be read.
    fn latest(&self) -> BoxFuture<'static, Result<u64, String>>;
}

/// A process that has the store to itself.
#[derive(Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn are_there(&self) -> bool {
        false
    }

    fn latest(&self) -> BoxFuture<'static, Result<u64, String>> {
        Box::pin(async { Ok(0) })
    }
}

#[derive(Debug, Default)]
struct Read {
    /// The highest order that was given or seen.
    last: u64,
    /// The highest that a group has.
    given: u64,
}

/// A node's clock.
#[derive(Debug)]
pub struct WriteClock {
    environment: Environment,
    node: u64,
    read: Mutex<Read>,
}

impl WriteClock {
    /// The clock of a node.
    pub fn new(environment: &Environment, node: &str) -> Self {
        Self {
            environment: environment.clone(),
            node: xxh3_64(node.as_bytes()) & ((1 << NODE_BITS) - 1),
            read: Mutex::default(),
        }
    }

    /// From now on only higher orders are given.
    pub fn observe(&self, order: u64) {
        let mut read = self.read.lock();
        read.last = read.last.max(order);
    }

    /// The order of the first request of the next group, which has so many.
    pub fn next(&self, requests: usize) -> u64 {
        let mut read = self.read.lock();
        let first = self.reading(read.last);
        read.given = order_in_group(first, requests.saturating_sub(1));
        read.last = read.given;
        first
    }

    fn reading(&self, last: u64) -> u64 {
        let now_us = u64::try_from(self.environment.now_ns() / 1000).unwrap_or(0);
        let us = now_us.max(LEAST_US).max((last >> NODE_BITS) + 1);
        us << NODE_BITS | self.node
    }

    /// The order of a request that was logged before groups had one.
    pub fn of_time(&self, received_ns: i64) -> u64 {
        let us = u64::try_from(received_ns / 1000).unwrap_or(0);
        us.max(LEAST_US) << NODE_BITS | self.node
    }

    /// The highest order that was given or seen.
    pub fn last(&self) -> u64 {
        self.read.lock().last
    }

    /// An order that is higher than that of every group so far and lower than that of every later
    /// one; `None` if a group that has its order is not `applied` yet.
    pub fn between_groups(&self, applied: u64) -> Option<u64> {
        let mut read = self.read.lock();
        if read.given > applied {
            return None;
        }
        read.last = self.reading(read.last);
        Some(read.last)
    }
}

/// Where groups get their orders from.
#[derive(Debug, Clone)]
pub struct Orders {
    /// The node's own clock.
    pub clock: Arc<WriteClock>,
    /// The others.
    pub peers: Arc<dyn Peers>,
}

impl Orders {
    /// The order of a group of so many requests, if nobody has to be asked for it.
    pub fn alone(&self, requests: usize) -> Option<u64> {
        (!self.peers.are_there()).then(|| self.clock.next(requests))
    }

    /// The order of a group whose requests have all come.
    pub fn ask(&self, requests: usize) -> BoxFuture<'static, Result<u64, String>> {
        let (clock, latest) = (Arc::clone(&self.clock), self.peers.latest());
        Box::pin(async move {
            clock.observe(latest.await?);
            Ok(clock.next(requests))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_and_is_never_behind_what_it_saw() {
        let environment = Environment::simulated(1, 1_790_000_000_000);
        let clock = WriteClock::new(&environment, "n");
        let first = clock.next(1);
        assert!(first >> NODE_BITS >= 1_790_000_000_000_000);
        // The machine's clock stands still.
        let second = clock.next(3);
        assert!(second > first);
        assert_eq!(clock.last(), order_in_group(second, 2));
        assert!(clock.next(1) > order_in_group(second, 2));
        clock.observe(second + (1 << 40));
        assert!(clock.next(1) > second + (1 << 40));
    }

    #[test]
    fn nothing_lies_between_groups_while_one_is_under_way() {
        let environment = Environment::simulated(1, 1_790_000_000_000);
        let clock = WriteClock::new(&environment, "n");
        let first = clock.next(2);
        assert_eq!(clock.between_groups(first), None);
        let last = order_in_group(first, 1);
        let between = clock.between_groups(last).unwrap();
        assert!(last < between && between < clock.next(1));
    }
}
