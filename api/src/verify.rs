//! `tidelake verify`: every check of every part, as lines of text.
use std::io::Write;

use anyhow::bail;
use tidelake_catalog::Environment;
use tidelake_catalog::verify::Report;

use crate::config::{Config, StoreLocation};
use crate::node::backend::open_store_to_read;

/// Checks a store and prints a line for each finding and one for all; returns whether nothing is
/// damaged.
pub async fn verify(config: &Config, out: &mut (impl Write + Send)) -> anyhow::Result<bool> {
    if config.store_location()? == StoreLocation::Memory {
        bail!(
            "what a server has in memory cannot be checked from outside; give --data-dir or \
             --store"
        );
    }
    let store = open_store_to_read(config)?;
    let now_ms = Environment::system().now_ms();
    let mut failed = None;
    let mut print = |finding: &_| {
        if failed.is_none() {
            failed = writeln!(out, "{finding}").err();
        }
    };
    let mut report = Report::new(&mut print);
    let mut followed =
        tidelake_catalog::verify::verify(&store, u64::try_from(now_ms)?, &mut report).await?;
    let nodes: Vec<String> = followed
        .snapshot()
        .nodes()
        .map(|node| node.name.to_string())
        .collect();
    for node in nodes {
        tidelake_ingest::wal::verify::verify(&store, &node, &mut followed, &mut report).await?;
    }
    let (is_clean, summary) = (report.is_clean(), report.summary());
    if let Some(error) = failed {
        return Err(error.into());
    }
    writeln!(out, "{summary}")?;
    Ok(is_clean)
}
