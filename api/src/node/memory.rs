//! How much memory the process may use, and the budget that is made of it.
//!
//! What was freed the allocator keeps for a while, as it is soon wanted again. Where that would
//! fill the memory it gives it back at once. The budget hears what the process holds in truth.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tidelake_catalog::memory::{MemoryBudget, Share};

use crate::config::Config;
use crate::node::process;

/// Part of what there is that the process takes if nothing is set, in percent.
const DEFAULT_PERCENT: usize = 60;
/// What the series of the write path may take beside the rows that `buffer_bytes` bounds: those of
/// a million new series, while rows that wait to be flushed keep as many older ones.
const SERIES_BYTES: usize = 1 << 30;
/// What the process takes while it does nothing: code, stacks of threads, tables of libraries. It
/// is not divided, unless that would leave less than half.
const BASE_BYTES: usize = 96 << 20;
/// Parts of the memory, in percent: beyond the first the process looks more often at what it holds,
/// beyond the second it gives back.
const WATCHED_PERCENT: usize = 30;
const FULL_PERCENT: usize = 60;
/// How often it looks, in general and when watched.
const PAUSE: Duration = Duration::from_millis(100);
const WATCHED_PAUSE: Duration = Duration::from_millis(10);
/// Memory where the machine does not say how much it has.
const UNKNOWN_BYTES: usize = 4 << 30;

/// The setting `memory_bytes`, or 60 percent of what the control group, the limit of the address
/// space and the machine leave.
pub fn memory_bytes(config: &Config) -> usize {
    config
        .memory_bytes
        .unwrap_or_else(|| available_bytes() / 100 * DEFAULT_PERCENT)
}

/// The budget, with the older settings as limits of their shares.
pub fn budget(config: &Config) -> Arc<MemoryBudget> {
    let memory = memory_bytes(config);
    let budget = MemoryBudget::new(memory - BASE_BYTES.min(memory / 2))
        .with_cap(Share::Bodies, config.max_inflight_body_bytes)
        .with_cap(
            Share::Buffer,
            config.buffer_bytes.saturating_add(SERIES_BYTES),
        )
        .with_cap(
            Share::Caches,
            config.index_cache_bytes.unwrap_or(usize::MAX),
        )
        .with_cap(
            Share::Queries,
            config.query_memory_bytes.unwrap_or(usize::MAX),
        );
    Arc::new(budget)
}

/// What one query may hold: as set, or what queries are always granted.
pub fn max_query_bytes(config: &Config, budget: &MemoryBudget) -> usize {
    config
        .max_query_memory_bytes
        .unwrap_or_else(|| budget.state(Share::Queries).guaranteed)
}

/// From now on has freed memory given back at once while the process holds most of what it may, as
/// the system counts it, and tells the budget. It does nothing where there is no `/proc`.
pub fn watch(memory_bytes: usize, budget: Arc<MemoryBudget>, give_back: fn()) -> io::Result<()> {
    let part = |percent| (memory_bytes / 100 * percent) as f64;
    let (watched, full) = (part(WATCHED_PERCENT), part(FULL_PERCENT));
    let run = move || {
        while let Some(mut resident) = process::resident_bytes() {
            if resident > full {
                give_back();
                resident = process::resident_bytes().unwrap_or(resident);
            }
            budget.observe(resident as usize, memory_bytes);
            thread::park_timeout(if resident > watched {
                WATCHED_PAUSE
            } else {
                PAUSE
            });
        }
    };
    thread::Builder::new()
        .name("memory".to_owned())
        .spawn(run)?;
    Ok(())
}

fn available_bytes() -> usize {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo".into()).and_then(|text| process::memory_total(&text));
    let address_space =
        read("/proc/self/limits".into()).and_then(|text| process::address_space_limit(&text));
    let groups = read("/proc/self/cgroup".into()).unwrap_or_default();
    let group = process::memory_limit_files(&groups)
        .into_iter()
        .filter_map(|path| read(path)?.trim().parse::<usize>().ok());
    [machine, address_space]
        .into_iter()
        .flatten()
        .chain(group)
        .min()
        .unwrap_or(UNKNOWN_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_full_process_gives_memory_back_and_one_with_room_does_not() {
        static FULL: AtomicUsize = AtomicUsize::new(0);
        static ROOM: AtomicUsize = AtomicUsize::new(0);
        // No process fits into a kilobyte.
        let (full, room) = (MemoryBudget::new(1 << 10), MemoryBudget::new(1 << 50));
        let (full, room) = (Arc::new(full), Arc::new(room));
        // What the tests beside this one hold is counted.
        let _others = room.try_reserve(Share::Buffer, 1 << 40).unwrap();
        let count_full = || {
            FULL.fetch_add(1, Ordering::Relaxed);
        };
        let count_room = || {
            ROOM.fetch_add(1, Ordering::Relaxed);
        };
        watch(1 << 10, Arc::clone(&full), count_full).unwrap();
        watch(1 << 50, Arc::clone(&room), count_room).unwrap();
        let begun = Instant::now();
        while FULL.load(Ordering::Relaxed) < 3 && begun.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        assert!(FULL.load(Ordering::Relaxed) >= 3);
        assert_eq!(ROOM.load(Ordering::Relaxed), 0);
        assert!(full.try_reserve(Share::Queries, 1).is_err());
        assert!(room.try_reserve(Share::Queries, 1).is_ok());
    }

    #[test]
    fn there_is_memory_and_it_is_divided() {
        assert!(available_bytes() > 1 << 20);
        let config = Config {
            memory_bytes: Some(1 << 30),
            ..Config::default()
        };
        let budget = budget(&config);
        let queries = budget.state(Share::Queries).guaranteed;
        assert_eq!(queries, ((1 << 30) - BASE_BYTES) / 100 * 20);
        assert_eq!(max_query_bytes(&config, &budget), queries);
        let small = Config {
            memory_bytes: Some(1 << 30),
            query_memory_bytes: Some(1000),
            max_query_memory_bytes: Some(500),
            ..Config::default()
        };
        let budget = super::budget(&small);
        assert!(budget.try_reserve(Share::Queries, 1001).is_err());
        assert_eq!(max_query_bytes(&small, &budget), 500);
    }
}
