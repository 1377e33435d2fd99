//! The threads that queries and merges compute on, by class, apart from those that serve
//! connections.
//!
//! A query may compute for seconds without a pause. On the threads of the connections that would
//! keep the server from answering anybody, health checks too, and from noticing that the query's
//! client went away. And what may take long must not make wait what a person looks at: each class
//! has threads of its own, and the system shares the processors among them by their niceness.
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::nice;
use tidelake_compactor::MergeThreads;
use tidelake_querier::lane::{Allowance, Lane};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::node::process;

/// What shares the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Queries of dashboards.
    Dashboard,
    /// Queries of alerts and of recording rules.
    Rules,
    /// All other queries.
    Adhoc,
    /// Queries of any of these that turned out to take much.
    Heavy,
    /// Merges.
    Compaction,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 5] = [
        Class::Dashboard,
        Class::Rules,
        Class::Adhoc,
        Class::Heavy,
        Class::Compaction,
    ];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Dashboard => "dashboard",
            Class::Rules => "rules",
            Class::Adhoc => "adhoc",
            Class::Heavy => "heavy",
            Class::Compaction => "compaction",
        }
    }

    /// What its threads add to the niceness of the process. The system gives a thread 1.25 times as
    /// much as one that is one nicer: of a processor that all want, these get 1024, 423, 272, 137
    /// and 172 parts. So a dashboard keeps half of each, whatever runs beside it, and a class has
    /// all that no other wants.
    fn niceness(self) -> i32 {
        match self {
            Class::Dashboard => 0,
            Class::Rules => 4,
            Class::Adhoc => 6,
            Class::Heavy => 9,
            Class::Compaction => 8,
        }
    }
}

/// The threads of the classes; they end when this is dropped.
#[derive(Debug)]
pub struct ClassThreads {
    pools: [Pool; Class::ALL.len()],
    /// Merges that writes wait for. A thread cannot become less nice again.
    urgent_merges: Pool,
    times: Arc<ClassTimes>,
}

/// As many threads as there are processors.
#[derive(Debug)]
struct Pool(Option<Runtime>);

impl Pool {
    fn start(name: &str, niceness: i32, class: Class, times: &Arc<ClassTimes>) -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let (begun, ended) = (Arc::clone(times), Arc::clone(times));
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .on_thread_start(move || {
                if cfg!(target_os = "linux") {
                    // Of this thread, where others have that of the process; without it all are
                    // alike.
                    let _ = nice(niceness);
                }
                begun.begin(class);
            })
            .on_thread_stop(move || ended.end(class))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A task that computes must not hold up the end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl ClassThreads {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let times = Arc::<ClassTimes>::default();
        let pool = |class: Class| Pool::start(class.name(), class.niceness(), class, &times);
        let [dashboard, rules, adhoc, heavy, compaction] = Class::ALL.map(pool);
        Ok(Self {
            pools: [dashboard?, rules?, adhoc?, heavy?, compaction?],
            urgent_merges: Pool::start("urgent-merge", 0, Class::Compaction, &times)?,
            times,
        })
    }

    /// Where work of a class belongs; `None` after the end.
    pub fn handle(&self, class: Class) -> Option<Handle> {
        self.pools[class as usize].handle()
    }

    /// Where a query of a class computes.
    pub fn lane(&self, class: Class) -> Lane {
        let allowance = match class {
            Class::Dashboard | Class::Rules => Allowance::LARGE,
            Class::Adhoc | Class::Heavy | Class::Compaction => Allowance::SMALL,
        };
        Lane::on(self.handle(class)).or_heavy(self.handle(Class::Heavy), allowance)
    }

    /// Where merges compute.
    pub fn merges(&self) -> MergeThreads {
        MergeThreads::new(self.handle(Class::Compaction), self.urgent_merges.handle())
    }

    /// What the threads used.
    pub fn times(&self) -> &Arc<ClassTimes> {
        &self.times
    }
}

/// Processor time of the threads by class.
#[derive(Debug, Default)]
pub struct ClassTimes([Mutex<Times>; Class::ALL.len()]);

#[derive(Debug, Default)]
struct Times {
    /// Numbers of the threads as the system has them.
    running: Vec<u32>,
    /// Seconds of those that ended.
    ended: f64,
}

impl ClassTimes {
    /// Processor seconds of a class so far; 0 where there is no `/proc`.
    pub fn seconds(&self, class: Class) -> f64 {
        let times = self.0[class as usize].lock();
        let running = times.running.iter().copied();
        times.ended + running.filter_map(process::thread_cpu_seconds).sum::<f64>()
    }

    fn begin(&self, class: Class) {
        let mut times = self.0[class as usize].lock();
        times.running.extend(process::thread_id());
    }

    fn end(&self, class: Class) {
        let mut times = self.0[class as usize].lock();
        let Some(id) = process::thread_id() else {
            return;
        };
        times.ended += process::thread_cpu_seconds(id).unwrap_or_default();
        times.running.retain(|running| *running != id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// Niceness of the present thread, as the system has it.
    fn niceness() -> i32 {
        let id = process::thread_id().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
        let rest = &stat[stat.rfind(')').unwrap() + 1..];
        rest.split_ascii_whitespace()
            .nth(16)
            .unwrap()
            .parse()
            .unwrap()
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn the_system_prefers_what_is_looked_at() {
        let threads = ClassThreads::start().unwrap();
        let own = niceness();
        for class in Class::ALL {
            let handle = threads.handle(class).unwrap();
            let of_tasks = handle.spawn(async { niceness() }).await.unwrap();
            #[expect(
                clippy::disallowed_methods,
                reason = "the store of a folder and encoders use these threads"
            )]
            let of_calls = handle.spawn_blocking(niceness).await.unwrap();
            let expected = (own + class.niceness()).min(19);
            assert_eq!((of_tasks, of_calls), (expected, expected), "{class:?}");
        }
        let parts = |class: Class| 1024.0 / 1.25f64.powi(class.niceness());
        let others: f64 = Class::ALL[1..].iter().map(|class| parts(*class)).sum();
        assert!(others <= 1024.0, "a dashboard has less than half");
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn time_is_counted_by_class_and_stays_when_threads_end() {
        let threads = ClassThreads::start().unwrap();
        let times = Arc::clone(threads.times());
        let compute = async {
            let begun = Instant::now();
            let id = process::thread_id().unwrap();
            while process::thread_cpu_seconds(id).unwrap() < 0.05 {
                assert!(begun.elapsed() < Duration::from_secs(60));
            }
        };
        threads
            .handle(Class::Rules)
            .unwrap()
            .spawn(compute)
            .await
            .unwrap();
        assert!(times.seconds(Class::Rules) >= 0.05);
        assert!(times.seconds(Class::Heavy) < 0.05);
        drop(threads);
        while !times.0[Class::Rules as usize].lock().running.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(times.seconds(Class::Rules) >= 0.05);
    }
}
