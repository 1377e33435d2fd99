//! How fast the store is: small requests one after the other, and one large object.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Value, json};
use tidelake_catalog::Environment;
use tidelake_catalog::store::StoreError;
use tokio::time::Instant;

use super::probes::{Probes, random_bytes, timed};
use super::report::{Check, Report};
use super::{LIMIT, time, within};

/// Requests of each kind,
const REQUESTS: usize = 20;
/// but no more after this time.
const REQUESTS_LIMIT: Duration = Duration::from_secs(10);
/// As an object of the write-ahead log may be.
const SMALL_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 8 << 20;
/// Every acknowledgement waits for a put.
const SLOW: Duration = Duration::from_millis(500);

/// Measures; returns the median of small puts.
pub async fn check(
    probes: &Probes,
    environment: &Environment,
    report: &mut Report<'_>,
) -> Option<Duration> {
    let (store, small) = (probes.store(), random_bytes(environment, SMALL_BYTES));
    let keys: Vec<String> = (0..REQUESTS)
        .map(|i| probes.key(&format!("small-{i}")))
        .collect();
    let puts = timed(REQUESTS, REQUESTS_LIMIT, |i| {
        store.put(&keys[i], small.clone())
    });
    let puts = puts.await;
    let done = puts.as_ref().map_or(0, Vec::len).max(1);
    let get = async |i: usize| store.get(&keys[i % done]).await.map(drop);
    let gets = timed(REQUESTS, REQUESTS_LIMIT, get).await;
    let list = async |_| {
        store
            .list(probes.folder())
            .try_for_each(async |_| Ok(()))
            .await
    };
    let lists = timed(REQUESTS, REQUESTS_LIMIT, list).await;

    let median = puts.as_ref().ok().and_then(|times| percentile(times, 50));
    report.add(latency(&puts, &gets, &lists).unwrap_or_else(|error| {
        probes.refused(
            "latency",
            error,
            "s3:PutObject, s3:GetObject, s3:ListBucket",
        )
    }));
    let large = throughput(probes, environment).await;
    report.add(large.unwrap_or_else(|error| {
        probes.refused("throughput", &error, "s3:PutObject, s3:GetObject")
    }));
    median
}

type Times = Result<Vec<Duration>, StoreError>;

fn latency<'e>(
    puts: &'e Times,
    gets: &'e Times,
    lists: &'e Times,
) -> Result<Check, &'e StoreError> {
    let mut seen = Vec::new();
    let mut figures = serde_json::Map::new();
    let mut slow = false;
    for (name, times) in [("put", puts), ("get", gets), ("list", lists)] {
        let times = times.as_ref()?;
        let at = |percent| percentile(times, percent).unwrap_or_default();
        let (median, p99) = (at(50), at(99));
        slow |= name == "put" && median > SLOW;
        seen.push(format!("{name} {} (p99 {})", time(median), time(p99)));
        let ms = |time: Duration| json!(time.as_secs_f64() * 1e3);
        figures.insert(format!("{name}_median_ms"), ms(median));
        figures.insert(format!("{name}_p99_ms"), ms(p99));
    }
    let seen = format!("medians of {REQUESTS}: {}", seen.join(", "));
    let check = match slow {
        true => Check::warning(
            "latency",
            seen,
            "use a bucket in the region of the servers: each acknowledgement waits for a put",
        ),
        false => Check::ok("latency", seen),
    };
    Ok(check.with(Value::Object(figures)))
}

async fn throughput(probes: &Probes, environment: &Environment) -> Result<Check, StoreError> {
    let (store, key) = (probes.store(), probes.key("large"));
    let bytes = random_bytes(environment, LARGE_BYTES);
    let began = Instant::now();
    within(3 * LIMIT, store.put(&key, bytes)).await?;
    let put = began.elapsed();
    let began = Instant::now();
    within(3 * LIMIT, store.get(&key)).await?;
    let get = began.elapsed();
    let rate = |time: Duration| LARGE_BYTES as f64 / f64::from(1 << 20) / time.as_secs_f64();
    let seen = format!(
        "8 MiB: put at {:.1} MiB/s, get at {:.1} MiB/s",
        rate(put),
        rate(get)
    );
    let figures = json!({ "put_mib_per_s": rate(put), "get_mib_per_s": rate(get) });
    Ok(Check::ok("throughput", seen).with(figures))
}

/// By nearest rank, of times in order.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}
