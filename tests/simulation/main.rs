//! The whole engine in one process, under simulated time, over a store that fails: one seed, one
//! course of events.
//!
//! - [`network`]: the store, what goes wrong on the way to it, and how a process dies
//! - [`calls`]: the network between processes
//! - [`process`]: one life: catalog, cluster, ingester, compactor, querier, put together as the server does
//! - [`workload`]: what clients write; [`read`]: how it is read back, by a scan, PromQL and SQL
//! - [`model`]: what must be readable, may be, and must not
//! - [`world`]: the steps, and what is checked after each
//!
//! `cargo test` runs a few hundred seeds. `TIDELAKE_SIM_SEED=n` runs one and prints what happened;
//! `TIDELAKE_SIM_SEEDS=10000` runs as many, from `TIDELAKE_SIM_FIRST` on.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "seeds, traces and figures are for people"
)]

mod calls;
mod figures;
mod model;
mod network;
mod panics;
mod process;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/protobuf.rs"]
mod protobuf;
mod read;
mod trace;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use figures::Figures;
use parking_lot::Mutex;

/// Seeds that `cargo test` runs.
const SEEDS: u64 = 200;
/// Planning of SQL recurses on the stack of the simulation.
const STACK_BYTES: usize = 64 << 20;

/// How a seed went.
struct Outcome {
    verdict: world::Verdict,
    figures: Figures,
    hash: u64,
    events: Vec<String>,
}

/// Runs one seed on this thread.
fn simulate(seed: u64, keep_events: bool) -> Outcome {
    panics::note();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let trace = Arc::new(trace::Trace::new(keep_events));
            let network =
                network::Network::new(seed ^ 0x5EED, seed.is_multiple_of(3), Arc::clone(&trace));
            let calls = calls::CallNetwork::new(seed ^ 0xCA11, Arc::clone(&trace));
            let (verdict, figures) = match world::World::new(seed, network, calls).await {
                Ok(mut world) => {
                    let verdict = world.run().await;
                    (verdict, world.figures())
                }
                Err(error) => (Err(error), Figures::default()),
            };
            let (hash, events) = trace.take();
            Outcome {
                verdict,
                figures,
                hash,
                events,
            }
        })
    }));
    let outcome = outcome.unwrap_or_else(|_| Outcome {
        verdict: Err(format!(
            "the simulation panicked: {}",
            panics::first().unwrap_or_default()
        )),
        figures: Figures::default(),
        hash: 0,
        events: Vec::new(),
    });
    drop(runtime);
    panics::stop();
    outcome
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

/// Runs work with the stack that a simulation needs.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .expect("a thread");
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs seeds on all cores. Returns the figures and, for the first few seeds that failed, what was
/// wrong.
fn simulate_all(first: u64, count: u64) -> (Figures, Vec<(u64, String)>) {
    let next = AtomicU64::new(first);
    let sum = Mutex::new((Figures::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let outcome = simulate(seed, false);
            let (figures, failed) = &mut *sum.lock();
            *figures += outcome.figures;
            if let Err(violation) = outcome.verdict {
                eprintln!("seed {seed}: {violation}");
                failed.push((seed, violation));
            }
            if (seed + 1 - first).is_multiple_of(1000) {
                println!("{} seeds: {figures}", seed + 1 - first);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, work)
                .expect("a thread");
        }
    });
    sum.into_inner()
}

/// Runs a seed once more, and prints what happened.
fn tell(seed: u64) -> world::Verdict {
    let outcome = on_large_stack(|| simulate(seed, true));
    let verdict = match &outcome.verdict {
        Ok(()) => "all is right".to_owned(),
        Err(violation) => violation.clone(),
    };
    let events = outcome.events.join("\n");
    eprintln!(
        "{events}\nseed {seed}: {verdict}\n{}\nTIDELAKE_SIM_SEED={seed} runs it again",
        outcome.figures
    );
    outcome.verdict
}

#[test]
fn no_seed_finds_anything_wrong() {
    if let Some(seed) = number("TIDELAKE_SIM_SEED") {
        assert_eq!(tell(seed), Ok(()));
        return;
    }
    let count = number("TIDELAKE_SIM_SEEDS").unwrap_or(SEEDS);
    let (figures, mut failed) = simulate_all(number("TIDELAKE_SIM_FIRST").unwrap_or(0), count);
    println!("{count} seeds: {figures}");
    failed.sort();
    if let Some((seed, _)) = failed.first() {
        let _ = tell(*seed);
        panic!(
            "{} of {count} seeds failed: {:?}",
            failed.len(),
            failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>()
        );
    }
    let missing = figures.missing();
    assert!(
        count < SEEDS || missing.is_empty(),
        "the simulation misses something: {missing:?}"
    );
}

#[test]
fn a_seed_is_one_course_of_events() {
    for seed in 0..number("TIDELAKE_SIM_SAME").unwrap_or(4) {
        let (one, other) = on_large_stack(|| (simulate(seed, true), simulate(seed, true)));
        let differ = one
            .events
            .iter()
            .zip(&other.events)
            .find(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(
            (one.hash, one.figures, one.verdict),
            (other.hash, other.figures, other.verdict),
            "seed {seed}"
        );
    }
}
