//! `tidelake import`: files into a running server.
//!
//! A [`Source`] cuts an input into batches of some megabytes, which are sent one after the other:
//! memory stays bounded, whatever the size of the input. After each batch a small file beside the
//! input remembers how far it came, so that an import that was interrupted goes on there. A batch
//! that is sent twice changes nothing.

mod csv;
mod dump;
mod lines;
mod parquet;
mod progress;
mod state;
mod tsdb;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use self::csv::{CsvArgs, CsvLines};
use self::lines::{LineCutter, Lines};
use self::parquet::ParquetLines;
use self::progress::{Progress, Unit};
use self::state::State;
use self::tsdb::Tsdb;
use super::remote::{RefusedLine, Remote, RemoteArgs};

/// Bad lines that are named.
const NAMED_LINES: usize = 20;

/// What to import, and where.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files, or - for the standard input
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// What is in the inputs; without it their names and beginnings say so
    #[arg(long)]
    format: Option<Format>,
    /// Unit of the timestamps of line protocol
    #[arg(long, value_enum, default_value = "ns")]
    precision: Precision,
    /// Go on behind bad lines, which are named
    #[arg(long)]
    skip_bad: bool,
    /// Where to remember how far an input came; without it beside the input
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Bytes that are sent at once, before compression
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u64).range(4096..=256 << 20))]
    batch_bytes: u64,
    #[command(flatten)]
    csv: CsvArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Prometheus' text format: times in milliseconds
    Prometheus,
    /// OpenMetrics, such as of `promtool tsdb dump-openmetrics`
    Openmetrics,
    /// Output of `promtool tsdb dump`
    PromtoolDump,
    /// Output of `promtool tsdb dump-openmetrics`, which quotes as Go does
    PromtoolOpenmetrics,
    /// InfluxDB line protocol
    LineProtocol,
    /// Comma separated values with a header line
    Csv,
    /// Parquet
    Parquet,
    /// A directory of Prometheus' storage, or a block of it
    Tsdb,
}

/// The unit of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// Nanoseconds
    Ns,
    /// Microseconds
    Us,
    /// Milliseconds
    Ms,
    /// Seconds
    S,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "us",
            Self::Ms => "ms",
            Self::S => "s",
        }
    }
}

/// How a server is to read a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    Prometheus,
    OpenMetrics,
    LineProtocol(Precision),
    /// Remote write 1.0, whose lines are not counted.
    RemoteWrite,
}

/// How far an input was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
struct Position {
    /// Bytes, or rows of Parquet, or series of a storage.
    offset: u64,
    /// Lines, or the same.
    line: u64,
}

/// A part of an input that is sent at once.
#[derive(Debug)]
struct Batch {
    body: Vec<u8>,
    kind: BodyKind,
    /// Lines of the input before those of the body.
    lines_before: u64,
    /// Lines of the input for lines of the body, if they are not one to one.
    lines: Option<Vec<u64>>,
    /// Lines that were bad before anybody sent them.
    bad: Vec<RefusedLine>,
    /// Where the input goes on.
    end: Position,
}

/// An input that is cut into batches.
trait Source {
    /// The next batch; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<Batch>>;
}

/// An input that can be read.
type Input = Box<dyn Read + Send>;

/// Imports all inputs; gives the exit code.
pub async fn run(args: &ImportArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    if args.resume.is_some() && args.inputs.len() != 1 {
        bail!("--resume is for one input");
    }
    let remote = Remote::new(&args.remote)?;
    for path in &args.inputs {
        let done = import(args, &remote, path)
            .await
            .with_context(|| format!("{}", path.display()))?;
        let skipped = match done.bad {
            0 => String::new(),
            bad => format!(", {bad} bad ones left out"),
        };
        writeln!(
            out,
            "{}: {}{skipped}",
            path.display(),
            done.unit.of(done.end)
        )?;
    }
    Ok(0)
}

/// What became of an input.
#[derive(Debug, Default)]
struct Done {
    unit: Unit,
    end: Position,
    bad: u64,
}

/// An input that is found, and what it is.
enum Found {
    Stdin(Format),
    File(File, Format),
    /// Blocks of a storage.
    Blocks(Vec<PathBuf>),
}

impl Found {
    /// Looks at an input. Gives also how large it is, if that can be known.
    fn new(path: &Path, format: Option<Format>) -> anyhow::Result<(Self, Option<u64>)> {
        let unknown = "what is it? Say --format, such as openmetrics or line-protocol";
        if path == Path::new("-") {
            return match format.context(unknown)? {
                Format::Parquet | Format::Tsdb => bail!("Parquet and blocks must be files"),
                format => Ok((Self::Stdin(format), None)),
            };
        }
        if path.is_dir() {
            let (blocks, series) = tsdb::blocks(path)?;
            return Ok((Self::Blocks(blocks), Some(series)));
        }
        let mut file = File::open(path).context("cannot open it")?;
        let format = match format {
            Some(Format::Tsdb) => bail!("it is no directory"),
            Some(format) => format,
            None => detect(path, &mut file)?.context(unknown)?,
        };
        let size = match format {
            Format::Parquet => parquet::rows(&file)?,
            _ => file.metadata()?.len(),
        };
        Ok((Self::File(file, format), Some(size)))
    }

    fn format(&self) -> Format {
        match self {
            Self::Stdin(format) | Self::File(_, format) => *format,
            Self::Blocks(_) => Format::Tsdb,
        }
    }

    fn unit(&self) -> Unit {
        match self.format() {
            Format::Parquet => Unit::Rows,
            Format::Tsdb => Unit::Series,
            _ => Unit::Lines,
        }
    }

    /// What is behind a position, in batches.
    fn source(self, args: &ImportArgs, start: Position) -> anyhow::Result<Box<dyn Source>> {
        let bytes = usize::try_from(args.batch_bytes).unwrap_or(usize::MAX);
        let (input, format): (Input, Format) = match self {
            Self::Blocks(blocks) => return Ok(Box::new(Tsdb::new(blocks, bytes, start))),
            Self::File(file, Format::Parquet) => {
                return Ok(Box::new(ParquetLines::new(file, &args.csv, bytes, start)?));
            }
            Self::File(mut file, format) => {
                // CSV needs its header again.
                let offset = if format == Format::Csv {
                    0
                } else {
                    start.offset
                };
                file.seek(SeekFrom::Start(offset))
                    .context("cannot seek in it")?;
                (Box::new(file), format)
            }
            Self::Stdin(format) => (Box::new(std::io::stdin()), format),
        };
        let cutter = match format {
            Format::Prometheus => LineCutter::Prometheus,
            Format::Openmetrics => LineCutter::OpenMetrics,
            Format::PromtoolDump => LineCutter::PromtoolDump,
            Format::PromtoolOpenmetrics => LineCutter::PromtoolOpenMetrics,
            Format::LineProtocol => LineCutter::LineProtocol(args.precision),
            Format::Csv => {
                return Ok(Box::new(CsvLines::new(input, &args.csv, bytes, start)?));
            }
            Format::Parquet | Format::Tsdb => bail!("it must be a file or a directory"),
        };
        Ok(Box::new(Lines::new(input, cutter, bytes, start)))
    }
}

async fn import(args: &ImportArgs, remote: &Remote, path: &Path) -> anyhow::Result<Done> {
    let (found, size) = Found::new(path, args.format)?;
    let (format, unit) = (found.format(), found.unit());
    let target = format!("{} {} {format:?}", remote.url(), remote.database());
    let mut state = State::of(args.resume.as_deref(), path, size, target)?;
    let start = state.start();
    let mut source = found.source(args, start)?;
    let progress = Progress::new(path, unit, size, start);
    let mut done = Done {
        unit,
        end: start,
        bad: 0,
    };
    let mut next = source.next()?;
    while let Some(batch) = next {
        let (query, path, kind) = target_of(batch.kind, remote.database());
        let waits = |reason: &str| progress.waits(reason);
        let refused = match batch.body.is_empty() {
            true => Vec::new(),
            false => remote.write(path, &query, kind, batch.body, &waits).await?,
        };
        let placed = |line: &RefusedLine| match (line.line_number, &batch.lines) {
            (0, _) => 0,
            (line, None) => batch.lines_before + line,
            (line, Some(lines)) => {
                let place = usize::try_from(line - 1).unwrap_or(usize::MAX);
                lines.get(place).copied().unwrap_or_default()
            }
        };
        let mut bad: Vec<(u64, RefusedLine)> = refused
            .into_iter()
            .map(|line| (placed(&line), line))
            .collect();
        bad.extend(batch.bad.into_iter().map(|line| (line.line_number, line)));
        bad.sort_by_key(|(line, _)| *line);
        for (line, refused) in &bad {
            let reason = &refused.error_message;
            let text = match line {
                0 => reason.clone(),
                line => format!("line {line}: {reason}: {}", refused.original_line),
            };
            if !args.skip_bad {
                bail!("{text}");
            }
            done.bad += 1;
            if done.bad <= NAMED_LINES as u64 {
                progress.says(&text);
            }
        }
        done.end = batch.end;
        state.reached(batch.end)?;
        progress.reached(batch.end);
        next = source.next()?;
    }
    progress.ends();
    state.finished()?;
    Ok(done)
}

/// Parameters, path and content type of a write.
fn target_of(
    kind: BodyKind,
    database: &str,
) -> (Vec<(&'static str, &str)>, &'static str, &'static str) {
    const TEXT: &str = "/api/v1/import/prometheus";
    match kind {
        BodyKind::Prometheus => (Vec::new(), TEXT, "text/plain; version=0.0.4"),
        BodyKind::OpenMetrics => (
            Vec::new(),
            TEXT,
            "application/openmetrics-text; version=1.0.0",
        ),
        BodyKind::RemoteWrite => (Vec::new(), "/api/v1/write", "application/x-protobuf"),
        BodyKind::LineProtocol(precision) => (
            vec![("db", database), ("precision", precision.name())],
            "/api/v3/write_lp",
            "text/plain; charset=utf-8",
        ),
    }
}

/// Bytes of an input that are looked at to tell what it is.
const SNIFFED_BYTES: usize = 4096;

/// What a file is, by its name, its beginning and its end.
fn detect(path: &Path, file: &mut File) -> anyhow::Result<Option<Format>> {
    let extension = path
        .extension()
        .and_then(|text| text.to_str())
        .unwrap_or("");
    match extension {
        "lp" | "line" | "lines" => return Ok(Some(Format::LineProtocol)),
        "csv" => return Ok(Some(Format::Csv)),
        "parquet" => return Ok(Some(Format::Parquet)),
        "om" | "openmetrics" => return Ok(Some(Format::Openmetrics)),
        "gz" | "zst" => bail!("it is compressed: send it through zcat or zstdcat to - "),
        _ => {}
    }
    let mut head = Vec::new();
    Read::by_ref(file)
        .take(SNIFFED_BYTES as u64)
        .read_to_end(&mut head)?;
    let from = file.seek(SeekFrom::End(0))?.saturating_sub(64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(guess(&head, &tail))
}

fn guess(head: &[u8], tail: &[u8]) -> Option<Format> {
    if tail.trim_ascii_end().ends_with(b"# EOF") {
        return Some(Format::Openmetrics);
    }
    let first = head.split(|byte| *byte == b'\n').next()?;
    if first.starts_with(b"{__name__=\"") {
        return Some(Format::PromtoolDump);
    }
    let is_said = [&b"# HELP "[..], b"# TYPE "]
        .iter()
        .any(|word| first.starts_with(word));
    is_said.then_some(Format::Prometheus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_by_their_ends() {
        let check = |head: &str, tail: &str, expected| {
            assert_eq!(guess(head.as_bytes(), tail.as_bytes()), expected, "{head}");
        };
        check("a 1 1\n", "a 1 1\n# EOF\n", Some(Format::Openmetrics));
        check("{__name__=\"a\"} 1 1\n", "", Some(Format::PromtoolDump));
        check("# TYPE a gauge\na 1", "a 1", Some(Format::Prometheus));
        check("a 1\n", "a 1\n", None);
        check("", "", None);
    }
}
