//! A directory of Prometheus' storage: its persisted blocks, read as they are and sent by remote
//! write.
//!
//! Of a block the table of symbols is in memory, and one series. What is only in the log of the
//! head, the last hours, is in no block: a snapshot (`/api/v1/admin/tsdb/snapshot`) has it.

mod block;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use prost::Message;
use serde::Deserialize;
use tidelake_catalog::model::Histogram;

use self::block::Block;
use super::{Batch, BodyKind, Position, Source};
use crate::prometheus::chunks::read;
use crate::prometheus::read::answer::write_part;
use crate::prometheus::read::messages::{self, Label, Sample, TimeSeries};

/// Samples of one message; a series may have more.
const MESSAGE_SAMPLES: usize = 20_000;

/// What a block says of itself.
#[derive(Debug, Deserialize)]
struct Meta {
    #[serde(rename = "minTime")]
    min_time: i64,
    stats: Stats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_series: u64,
}

/// The blocks of a directory, oldest first, and how many series they have in all.
pub(super) fn blocks(directory: &Path) -> anyhow::Result<(Vec<PathBuf>, u64)> {
    let meta = |path: &Path| {
        let bytes = std::fs::read(path.join("meta.json")).ok()?;
        let meta = serde_json::from_slice::<Meta>(&bytes);
        Some(meta.with_context(|| format!("{} is no meta.json", path.display())))
    };
    let mut found = Vec::new();
    // The directory may be a block itself.
    let entries = std::fs::read_dir(directory).context("cannot read the directory")?;
    let inner = entries.map(|entry| Ok(entry?.path()));
    for path in std::iter::once(Ok(directory.to_owned())).chain(inner) {
        let path: PathBuf = path.map_err(|error: std::io::Error| error)?;
        if let Some(meta) = meta(&path) {
            let meta = meta?;
            found.push((meta.min_time, path, meta.stats.num_series));
        }
    }
    if found.is_empty() {
        bail!(
            "there is no block of Prometheus in it (no meta.json): take a snapshot, or use \
             promtool tsdb dump"
        );
    }
    found.sort();
    let series = found.iter().map(|(_, _, series)| series).sum();
    Ok((found.into_iter().map(|(_, path, _)| path).collect(), series))
}

/// The series of some blocks.
pub(super) struct Tsdb {
    blocks: std::vec::IntoIter<PathBuf>,
    open: Option<Block>,
    batch_bytes: usize,
    /// Series that were read, and those of them that were imported before.
    position: u64,
    skipped: u64,
    /// Chunks of a series that did not fit into the last batch.
    rest: Option<OpenSeries>,
}

struct OpenSeries {
    labels: Vec<Label>,
    chunks: std::vec::IntoIter<block::ChunkRef>,
    deleted: Vec<(i64, i64)>,
}

impl Tsdb {
    pub(super) fn new(blocks: Vec<PathBuf>, batch_bytes: usize, start: Position) -> Self {
        Self {
            blocks: blocks.into_iter(),
            open: None,
            batch_bytes,
            position: 0,
            skipped: start.offset,
            rest: None,
        }
    }

    /// The next series; `None` after the last of all blocks.
    fn next_series(&mut self) -> anyhow::Result<Option<OpenSeries>> {
        loop {
            let Some(block) = &mut self.open else {
                let Some(path) = self.blocks.next() else {
                    return Ok(None);
                };
                let block = Block::open(&path);
                self.open = Some(block.with_context(|| format!("block {}", path.display()))?);
                continue;
            };
            let Some(series) = block.next_series()? else {
                self.open = None;
                continue;
            };
            self.position += 1;
            if self.position <= self.skipped {
                continue;
            }
            return Ok(Some(OpenSeries {
                labels: block.labels(&series.labels)?,
                deleted: block.deleted(series.number),
                chunks: series.chunks.into_iter(),
            }));
        }
    }
}

impl Source for Tsdb {
    fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut body = Vec::new();
        while body.len() < self.batch_bytes {
            let series = match self.rest.take() {
                Some(series) => series,
                None => match self.next_series()? {
                    Some(series) => series,
                    None => break,
                },
            };
            self.rest = self.write(series, &mut body)?;
        }
        if body.is_empty() {
            return Ok(None);
        }
        // A series of which a part is still to come is not done.
        let done = self.position - u64::from(self.rest.is_some());
        let end = Position {
            offset: done.max(self.skipped),
            line: done,
        };
        Ok(Some(Batch {
            body,
            kind: BodyKind::RemoteWrite,
            lines_before: 0,
            lines: None,
            bad: Vec::new(),
            end,
        }))
    }
}

impl Tsdb {
    /// Appends a message of a series, and gives what did not fit into it.
    fn write(
        &self,
        mut series: OpenSeries,
        body: &mut Vec<u8>,
    ) -> anyhow::Result<Option<OpenSeries>> {
        let Some(block) = &self.open else {
            return Ok(None);
        };
        let mut message = TimeSeries {
            labels: series.labels.clone(),
            ..TimeSeries::default()
        };
        let is_kept = |time: i64| {
            let mut deleted = series.deleted.iter();
            !deleted.any(|(from, to)| (*from..=*to).contains(&time))
        };
        for chunk in series.chunks.by_ref() {
            let (encoding, data) = block.chunk(chunk)?;
            let histograms = |found: Vec<(i64, Histogram)>| {
                let kept = found.into_iter().filter(|(time, _)| is_kept(*time));
                let written = kept.map(|(time, h)| messages::Histogram::new(time, &h));
                written.collect::<Vec<_>>()
            };
            match encoding {
                1 => {
                    let found = read::floats(&data)?.into_iter();
                    let kept = found.filter(|(time, _)| is_kept(*time));
                    let samples = kept.map(|(timestamp, value)| Sample {
                        value: Some(value),
                        timestamp,
                    });
                    message.samples.extend(samples);
                }
                2 => message
                    .histograms
                    .extend(histograms(read::integer_histograms(&data)?)),
                3 => message
                    .histograms
                    .extend(histograms(read::histograms(&data)?)),
                other => bail!(
                    "a chunk has the encoding {other}, which is not known: use promtool tsdb \
                     dump-openmetrics"
                ),
            }
            if message.samples.len() + message.histograms.len() >= MESSAGE_SAMPLES {
                break;
            }
        }
        if !message.samples.is_empty() || !message.histograms.is_empty() {
            write_part(body, &message.encode_to_vec());
        }
        Ok((series.chunks.len() > 0).then_some(series))
    }
}
