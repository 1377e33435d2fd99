//! What a store costs a month, by its size and the settings.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::contents::Contents;
use super::report::{Check, Report};
use super::{DoctorArgs, size, thousands};
use crate::config::Config;

/// As clouds count it: 730 hours.
const MONTH_MS: u64 = 730 * 3_600_000;
/// Shortest time between two objects of the log on S3, unless set.
const WAL_INTERVAL_MS: u64 = 250;
/// Puts of merges and checkpoints beside one of a flush, as a part of it: a merge takes some twelve
/// flushes.
const MERGES_A_FLUSH: f64 = 1.0 / 6.0;
/// Requests that a merge reads each file with.
const READS_A_FILE: f64 = 3.0;
/// Time between two looks of a process for what others have committed: alone, at most beside
/// others, and with `auth` for tokens as well.
const LOOK_ALONE_MS: u64 = 5_000;
const LOOK_MS: u64 = 2_000;
const TOKENS_MS: u64 = 500;
/// Leases that a process of several puts while one lasts.
const PUTS_A_LEASE: u64 = 3;

/// What a bucket costs. Reads cost what the setting `store_dollars_per_million_reads` says.
#[derive(Debug, Clone, Args)]
pub struct Prices {
    /// What a million puts and lists cost; the default is that of S3 Standard
    #[arg(long, value_name = "DOLLARS", default_value_t = 5.0)]
    store_dollars_per_million_writes: f64,
    /// What a GiB costs a month; the default is that of S3 Standard
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.023)]
    store_dollars_per_gib_month: f64,
}

/// What is asked of the store in a month, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bill {
    storage: f64,
    wal_puts: u64,
    flush_puts: u64,
    lease_puts: u64,
    reads: u64,
    wal: f64,
    flushes: f64,
    leases: f64,
    read: f64,
}

impl Bill {
    fn of(
        prices: &Prices,
        config: &Config,
        contents: &Contents,
        ingesters: u64,
        wal_interval_ms: u64,
    ) -> Self {
        let million = |price: f64, requests: u64| price * requests as f64 / 1e6;
        let wal_puts = ingesters * (MONTH_MS / wal_interval_ms.max(1));
        let flushes = ingesters * (MONTH_MS / config.flush_interval_ms.max(1));
        // A data file and an index of each table, and a commit.
        let puts_a_flush = (2 * contents.tables + 1) as f64;
        let flush_puts = flushes as f64 * puts_a_flush * (1.0 + MERGES_A_FLUSH);
        let processes = contents.processes.max(ingesters);
        let lease_puts = match processes {
            ..=1 => 0,
            _ => processes * (MONTH_MS * PUTS_A_LEASE / config.lease_ms.max(1)),
        };
        let look_ms = match processes {
            ..=1 => LOOK_ALONE_MS,
            _ => (config.lease_ms / 4).clamp(1, LOOK_MS),
        };
        let token_looks = if config.auth { MONTH_MS / TOKENS_MS } else { 0 };
        let looks = (processes * (MONTH_MS / look_ms + token_looks)) as f64;
        let merged = flushes as f64 * puts_a_flush * READS_A_FILE;
        let (flush_puts, reads) = (flush_puts.round() as u64, (looks + merged).round() as u64);
        let gib = contents.bytes as f64 / f64::from(1 << 30);
        Self {
            storage: prices.store_dollars_per_gib_month * gib,
            wal_puts,
            flush_puts,
            lease_puts,
            reads,
            wal: million(prices.store_dollars_per_million_writes, wal_puts),
            flushes: million(prices.store_dollars_per_million_writes, flush_puts),
            leases: million(prices.store_dollars_per_million_writes, lease_puts),
            read: million(config.store_dollars_per_million_reads, reads),
        }
    }

    fn total(&self) -> f64 {
        self.storage + self.wal + self.flushes + self.leases + self.read
    }
}

/// Estimates. `put_time` is what a put takes: the log puts one after the other.
pub fn check(
    args: &DoctorArgs,
    config: &Config,
    contents: &Contents,
    put_time: Option<Duration>,
    report: &mut Report<'_>,
) {
    let ingesters = args.ingesters.unwrap_or(contents.ingesters).max(1);
    let put_ms = put_time.map_or(1, |time| time.as_millis() as u64).max(1);
    let wal_interval_ms = config
        .wal_interval_ms
        .unwrap_or(WAL_INTERVAL_MS)
        .max(put_ms);
    let bill = Bill::of(&args.prices, config, contents, ingesters, wal_interval_ms);
    let seen = format!(
        "at most {:.2} dollars a month: {:.2} for {} stored, {:.2} for {} puts of the write-ahead \
         log ({ingesters} ingesters, one each {wal_interval_ms} ms while writes come), {:.2} for {} \
         puts of flushes and merges (each {} s, {} tables), {:.2} for leases of {} processes, {:.2} for \
         {} reads of the catalog and of merges; without reads of queries and transfer, at {} dollars a GiB, {} a million puts, {} a \
         million reads",
        bill.total(),
        bill.storage,
        size(contents.bytes),
        bill.wal,
        thousands(bill.wal_puts),
        bill.flushes,
        thousands(bill.flush_puts),
        config.flush_interval_ms.div_ceil(1000),
        contents.tables,
        bill.leases,
        contents.processes.max(ingesters),
        bill.read,
        thousands(bill.reads),
        args.prices.store_dollars_per_gib_month,
        args.prices.store_dollars_per_million_writes,
        config.store_dollars_per_million_reads,
    );
    report.add(Check::ok("bill", seen).with(json!({
        "dollars": bill.total(), "storage_dollars": bill.storage, "wal_dollars": bill.wal,
        "flush_dollars": bill.flushes, "read_dollars": bill.read, "wal_puts": bill.wal_puts,
        "flush_puts": bill.flush_puts, "lease_puts": bill.lease_puts, "lease_dollars": bill.leases, "reads": bill.reads, "ingesters": ingesters,
    })));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_is_the_sum_of_its_parts() {
        let prices = Prices {
            store_dollars_per_million_writes: 5.0,
            store_dollars_per_gib_month: 0.023,
        };
        let contents = Contents {
            bytes: 100 << 30,
            processes: 5,
            ingesters: 1,
            tables: 3,
        };
        let config = Config::default();
        let bill = Bill::of(&prices, &config, &contents, 2, 250);
        // 730 hours of four puts a second, of two processes.
        assert_eq!(bill.wal_puts, 2 * 730 * 3600 * 4);
        assert_eq!(format!("{:.2}", bill.wal), "105.12");
        assert_eq!(format!("{:.2}", bill.storage), "2.30");
        // 4,380 flushes each of 7 objects, and a sixth more.
        assert_eq!(bill.flush_puts, 2 * 4380 * 7 * 7 / 6);
        // Five processes put a lease of 10 s three times.
        assert_eq!(bill.lease_puts, 5 * 730 * 3600 * 3 / 10);
        let alone = Contents {
            processes: 1,
            ..contents
        };
        assert_eq!(Bill::of(&prices, &config, &alone, 1, 250).lease_puts, 0);
        let sum = bill.storage + bill.wal + bill.flushes + bill.leases + bill.read;
        assert_eq!(bill.total(), sum);
        let slower = Bill::of(&prices, &config, &contents, 2, 1000);
        assert_eq!(slower.wal_puts * 4, bill.wal_puts);
    }
}
