//! `tidelake doctor`: whether a store does what a server needs of it, what is on it, and what it
//! costs.
//!
//! In order: does it answer (`probes`), what S3 tells of the bucket (`bucket`), rights and
//! guarantees (`probes`), speed (`speed`), what is on it (`contents`), the bill (`bill`). All that
//! is put lies in a folder of its own, which is deleted at the end. The catalog is only read, so
//! that a check may run beside servers.

mod bill;
mod bucket;
mod contents;
mod probes;
mod report;
mod speed;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use tidelake_catalog::store::{Store, StoreError};
use tidelake_catalog::{Catalog, CatalogOptions, Environment};

use self::bill::Prices;
use self::probes::Probes;
use self::report::{Check, Report};
use crate::config::{Config, ConfigArgs, StoreLocation};
use crate::node::backend::{open_bucket, open_store_to_read};

/// Time after which a store that has not answered is one that does not.
const LIMIT: Duration = Duration::from_secs(10);
/// The same of what takes many requests.
const LONG_LIMIT: Duration = Duration::from_secs(300);
/// How long the catalog is tried to be loaded.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after Ctrl-C puts are waited for that were under way.
const LATE_PUTS: Duration = Duration::from_millis(500);
/// Exit status after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Which store, and what it costs.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(long, default_value = "text")]
    format: Format,
    /// Processes that take writes, for the bill [default: those that do]
    #[arg(long, value_name = "N")]
    ingesters: Option<u64>,
    #[command(flatten)]
    prices: Prices,
    #[command(flatten)]
    config: ConfigArgs,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each check
    Text,
    /// One object
    Json,
}

impl DoctorArgs {
    /// The settings that say where the store is.
    pub fn config(&self) -> &ConfigArgs {
        &self.config
    }
}

/// Checks and prints; gives the exit code: 1 if anything is an error.
pub async fn run(
    args: &DoctorArgs,
    config: &Config,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<u8> {
    let location = config.store_location()?;
    if location == StoreLocation::Memory {
        bail!("what a server has in memory cannot be checked; give --data-dir or --store");
    }
    let mut report = Report::new(out, args.format == Format::Text);
    let is_interrupted = examine(args, config, &location, &mut report).await;
    let has_errors = report.end(&location.to_string())?;
    Ok(match is_interrupted {
        true => INTERRUPTED,
        false => u8::from(has_errors),
    })
}

/// Runs all checks, and deletes what they have put, also after Ctrl-C. Returns whether there was
/// one.
async fn examine(
    args: &DoctorArgs,
    config: &Config,
    location: &StoreLocation,
    report: &mut Report<'_>,
) -> bool {
    if let StoreLocation::Folder(path) = location
        && !path.is_dir()
    {
        let seen = format!("there is no folder {}", path.display());
        let advice = "create it, or start a server, which does";
        report.add(Check::error("store", seen, advice));
        return false;
    }
    let store = match open_store_to_read(config) {
        Ok(store) => store,
        Err(error) => {
            let advice = "correct the settings store, s3_endpoint and the variables AWS_*";
            report.add(Check::error("store", error, advice));
            return false;
        }
    };
    let environment = Environment::system();
    let probes = Probes::new(store, &environment);
    let checks = check_all(args, config, &environment, &probes, report);
    let is_interrupted = tokio::select! {
        () = checks => false,
        _ = tokio::signal::ctrl_c() => {
            // A put that is broken off may take effect all the same.
            tokio::time::sleep(LATE_PUTS).await;
            true
        }
    };
    probes.delete_all(report).await;
    is_interrupted
}

async fn check_all(
    args: &DoctorArgs,
    config: &Config,
    environment: &Environment,
    probes: &Probes,
    report: &mut Report<'_>,
) {
    let answers = probes.answers(report).await;
    let bucket = open_bucket(config).ok().flatten();
    if let Err(error) = answers {
        // A wrong clock is a reason to be refused.
        if let (Some((bucket, _)), true) = (&bucket, error.advice().is_some()) {
            let (_, clock) = bucket::ask_with_clock(bucket, environment).await;
            clock.into_iter().for_each(|clock| report.add(clock));
        }
        return;
    }
    if let Some((bucket, prefix)) = &bucket {
        bucket::check(bucket, prefix, environment, report).await;
    }
    let mut put_time = None;
    if probes.rights(report).await {
        if bucket.is_none() {
            probes.clock(environment, report).await;
        }
        probes.conditional_puts(report).await;
        probes.upload_in_parts(environment, report).await;
        put_time = speed::check(probes, environment, report).await;
    }
    let contents = contents::check(probes.store(), config, environment, report).await;
    if let (Some(contents), true) = (contents, bucket.is_some()) {
        bill::check(args, config, &contents, put_time, report);
    }
}

/// The catalog, without anything that a server does beside: no checkpoint is written.
async fn load_catalog(store: &Store) -> Result<Catalog, tidelake_catalog::CatalogError> {
    let options = CatalogOptions {
        load_timeout: LOAD_TIMEOUT,
        checkpoint_every: u64::MAX,
        ..CatalogOptions::default()
    };
    Catalog::load(store.clone(), options).await
}

/// What does not end in time is an error of a store that does not answer.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let timed_out = |_| StoreError::Unavailable {
        key: "any".to_owned(),
        reason: format!("no answer within {} s", limit.as_secs()),
    };
    tokio::time::timeout(limit, work)
        .await
        .map_err(timed_out)
        .flatten()
}

/// `1.5 GiB`
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// `1,234,567`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.5 ms`, `3.2 s`
fn time(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..1000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}
