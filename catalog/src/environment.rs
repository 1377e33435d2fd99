//! What a process takes from its machine beside the store: the time of day, random numbers, and
//! threads for long work.
//!
//! It is passed in, so that a simulation can decide all three and one seed is one course of events;
//! `clippy.toml` forbids to ask the machine directly. Time that only counts forward (intervals,
//! deadlines) is tokio's clock everywhere, which a test can pause.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::snapshot::SegmentId;

/// Time of day, randomness and threads. Cheap to clone; clones of a simulated one share its random
/// numbers.
#[derive(Debug, Clone, Default)]
pub struct Environment(Option<Arc<Simulated>>);

#[derive(Debug)]
struct Simulated {
    began: Instant,
    began_ms: i64,
    random: Mutex<StdRng>,
}

impl Environment {
    /// The machine's.
    pub fn system() -> Self {
        Self(None)
    }

    /// It is `now_ms` now, and goes on as tokio's clock does; random numbers come from `seed`.
    pub fn simulated(seed: u64, now_ms: i64) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self(Some(Arc::new(Simulated {
            began: Instant::now(),
            began_ms: now_ms,
            random,
        })))
    }

    /// Time since 1970; none before it.
    fn now(&self) -> Duration {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is where the machine is asked"
            )]
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Some(simulated) => {
                Duration::from_millis(simulated.began_ms.max(0) as u64) + simulated.began.elapsed()
            }
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.now().as_millis()).unwrap_or(i64::MAX)
    }

    /// Nanoseconds since 1970.
    pub fn now_ns(&self) -> i64 {
        i64::try_from(self.now().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Random bits.
    pub fn random(&self) -> u128 {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is where the machine is asked"
            )]
            None => rand::random(),
            Some(simulated) => simulated.random.lock().random(),
        }
    }

    /// A random UUID.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random().to_be_bytes()).into_uuid()
    }

    /// The id of a new segment, drawn now. Ids are never used twice.
    pub fn segment_id(&self) -> SegmentId {
        SegmentId::from_parts(self.now_ms().max(0) as u64, self.random())
    }

    /// Runs work that takes long on a thread for such work. In a simulation it is done in place: a
    /// thread would run beside the simulated time, and nobody could say which of the two comes
    /// first.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is where the machine is asked"
            )]
            None => tokio::task::spawn_blocking(work).await,
            Some(_) => Ok(work()),
        }
    }

    /// Whether work must be done in place, because time only passes while nothing is done.
    pub fn is_simulated(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_simulated_one_goes_by_its_seed_and_by_the_clock_of_tokio() {
        let (one, same, other) = (
            Environment::simulated(1, 5000),
            Environment::simulated(1, 5000),
            Environment::simulated(2, 5000),
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!((5005..60_000).contains(&one.now_ms()));
        assert!(one.segment_id().drawn_ms() >= 5005 && same.segment_id().drawn_ms() >= 5005);
        let drawn = |environment: &Environment| (environment.uuid(), environment.random());
        let first = drawn(&one);
        assert_eq!(first, drawn(&same));
        assert_ne!(first, drawn(&other));
        assert_ne!(first, drawn(&one));
        assert_eq!(first.0.get_version_num(), 4);
        let here = std::thread::current().id();
        assert_eq!(
            one.run_blocking(|| std::thread::current().id())
                .await
                .unwrap(),
            here
        );
    }

    #[tokio::test]
    async fn the_machines_ids_differ_and_its_threads_are_used() {
        let system = Environment::system();
        assert_ne!(system.segment_id(), system.segment_id());
        assert_ne!(system.uuid(), system.uuid());
        let here = std::thread::current().id();
        assert_ne!(
            system
                .run_blocking(|| std::thread::current().id())
                .await
                .unwrap(),
            here
        );
    }
}
