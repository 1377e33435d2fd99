//! `tidelake export`: what a running server holds into files of this machine.
//!
//! Series are read by remote read and written as OpenMetrics; tables and queries are asked in the
//! format that is wanted. All is written as it comes. A file has its name once it is whole.

mod frames;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use prost::Message;
use tidelake_catalog::model::{Labels, MatchOp};
use tidelake_ingest::exposition::render;

use self::frames::Frames;
use super::remote::{Remote, SourceArgs};
use crate::node::backend::parse_selector;
use crate::prometheus::chunks::{Encoding, read};
use crate::prometheus::params::parse_time;
use crate::prometheus::read::messages::{
    ChunkedReadResponse, LabelMatcher, Query, ReadRequest, STREAMED_XOR_CHUNKS,
};

/// What to export, and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Series by a selector such as 'up{job="a"}', as OpenMetrics; may be given several times
    #[arg(long = "match", value_name = "SELECTOR", conflicts_with_all = ["table", "query"])]
    selectors: Vec<String>,
    /// All rows of a table
    #[arg(long, required_unless_present_any = ["selectors", "query"])]
    table: Option<String>,
    /// Rows of a SELECT; --table then names the table of line protocol
    #[arg(long, value_name = "SELECT")]
    query: Option<String>,
    /// Columns that are tags in line protocol; without it those that are in their table
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    tags: Option<Vec<String>>,
    /// First time: RFC 3339 or seconds since 1970
    #[arg(long)]
    start: Option<String>,
    /// Last time
    #[arg(long)]
    end: Option<String>,
    /// How to write it; without it the name of the file says so
    #[arg(long)]
    format: Option<Format>,
    /// Where to; without it to the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write only what every reader of OpenMetrics knows: no stale markers, and NaN without its
    /// bits
    #[arg(long)]
    portable: bool,
    /// Leave native histograms out, which OpenMetrics cannot say
    #[arg(long)]
    skip_histograms: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// How something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// OpenMetrics, of series
    Openmetrics,
    /// InfluxDB line protocol, of rows
    LineProtocol,
    /// Parquet, of rows
    Parquet,
    /// Comma separated values, of rows
    Csv,
    /// A JSON object a line, of rows
    Jsonl,
}

impl Format {
    fn of_name(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "om" | "openmetrics" => Self::Openmetrics,
            "lp" | "line" => Self::LineProtocol,
            "parquet" => Self::Parquet,
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::Jsonl,
            _ => return None,
        })
    }

    /// As the server names it.
    fn name(self) -> &'static str {
        match self {
            Self::Openmetrics => "openmetrics",
            Self::LineProtocol => "line_protocol",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

/// A file that has its name once it is whole, or the standard output.
struct Output<'a> {
    out: BufWriter<Box<dyn Write + 'a>>,
    names: Option<(PathBuf, PathBuf)>,
}

impl<'a> Output<'a> {
    fn new(path: Option<&Path>, stdout: &'a mut dyn Write) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                out: BufWriter::new(Box::new(stdout)),
                names: None,
            });
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
        Ok(Self {
            out: BufWriter::new(Box::new(file)),
            names: Some((part, path.to_owned())),
        })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().context("cannot write")?;
        drop(self.out);
        if let Some((part, path)) = self.names {
            std::fs::rename(&part, &path)
                .with_context(|| format!("cannot give {} its name", path.display()))?;
        }
        Ok(())
    }
}

/// Exports; gives the exit code.
pub async fn run(args: &ExportArgs, stdout: &mut dyn Write) -> anyhow::Result<u8> {
    let by_name = args.output.as_deref().and_then(Format::of_name);
    let default = match args.selectors.is_empty() {
        true => None,
        false => Some(Format::Openmetrics),
    };
    let format = args
        .format
        .or(by_name)
        .or(default)
        .context("say --format: openmetrics, line-protocol, parquet, csv or jsonl")?;
    if (format == Format::Openmetrics) == args.selectors.is_empty() {
        bail!("--match and the format openmetrics go together; rows have the other formats");
    }
    let remote = Remote::of(&args.source)?;
    let mut output = Output::new(args.output.as_deref(), stdout)?;
    match format {
        Format::Openmetrics => series(args, &remote, &mut output.out).await?,
        _ => rows(args, &remote, format, &mut output.out).await?,
    }
    output.finish()?;
    Ok(0)
}

/// The first and the last time in ms that a query means which names none: what is a time in
/// nanoseconds too.
const EVER: (i64, i64) = (i64::MIN / 1_000_000 + 1, i64::MAX / 1_000_000 - 1);

impl ExportArgs {
    /// In milliseconds.
    fn range(&self) -> anyhow::Result<(i64, i64)> {
        let time = |name: &str, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => parse_time(text)
                .map_err(|error| anyhow::anyhow!("invalid --{name} {text:?}: {error}")),
        };
        Ok((
            time("start", &self.start, EVER.0)?,
            time("end", &self.end, EVER.1)?,
        ))
    }

    fn sql(&self) -> anyhow::Result<String> {
        if let Some(query) = &self.query {
            if self.start.is_some() || self.end.is_some() {
                bail!("--start and --end are for --table and --match; say WHERE in the query");
            }
            return Ok(query.clone());
        }
        let table = self.table.as_deref().context("there is no --table")?;
        let mut sql = format!("SELECT * FROM \"{}\"", table.replace('"', "\"\""));
        if self.start.is_some() || self.end.is_some() {
            let (start, end) = self.range()?;
            let time = |ms: i64| {
                let time = chrono::DateTime::from_timestamp_millis(ms)
                    .context("a time is out of range")?;
                Ok::<_, anyhow::Error>(time.to_rfc3339())
            };
            sql.push_str(&format!(
                " WHERE time >= '{}' AND time <= '{}'",
                time(start)?,
                time(end)?
            ));
        }
        Ok(sql)
    }
}

async fn rows(
    args: &ExportArgs,
    remote: &Remote,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut asked = serde_json::json!({
        "db": remote.database(),
        "q": args.sql()?,
        "format": format.name(),
    });
    if format == Format::LineProtocol {
        asked["table"] = match &args.table {
            Some(table) => table.as_str().into(),
            None => bail!("line protocol needs --table"),
        };
        if let Some(tags) = &args.tags {
            asked["tags"] = serde_json::json!(tags);
        }
    }
    let headers = [("content-type", "application/json")];
    let body = serde_json::to_vec(&asked)?;
    let mut answer = remote
        .query("/api/v3/query_sql", &[], &headers, body)
        .await?;
    while let Some(chunk) = answer.chunk().await.context("the answer ended early")? {
        out.write_all(&chunk).context("cannot write")?;
    }
    Ok(())
}

fn request(args: &ExportArgs) -> anyhow::Result<ReadRequest> {
    let (start_timestamp_ms, end_timestamp_ms) = args.range()?;
    let query = |selector: &String| {
        let matchers = parse_selector(selector)
            .map_err(|error| anyhow::anyhow!("invalid --match {selector:?}: {error}"))?;
        let matcher = |matcher: &tidelake_catalog::model::Matcher| LabelMatcher {
            kind: match matcher.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            },
            name: matcher.name.to_string(),
            value: matcher.value.to_string(),
        };
        Ok(Query {
            start_timestamp_ms,
            end_timestamp_ms,
            matchers: matchers.iter().map(matcher).collect(),
        })
    };
    Ok(ReadRequest {
        queries: args
            .selectors
            .iter()
            .map(query)
            .collect::<anyhow::Result<_>>()?,
        accepted_response_types: vec![STREAMED_XOR_CHUNKS],
    })
}

async fn series(args: &ExportArgs, remote: &Remote, out: &mut dyn Write) -> anyhow::Result<()> {
    let body = snap::raw::Encoder::new().compress_vec(&request(args)?.encode_to_vec())?;
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
    ];
    let mut answer = remote.query("/api/v1/read", &[], &headers, body).await?;
    let mut frames = Frames::default();
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.context("the answer ended early")? {
        frames.push(&chunk);
        while let Some(message) = frames.next()? {
            let message = ChunkedReadResponse::decode(&message[..])
                .context("the answer is no ChunkedReadResponse")?;
            text.clear();
            write_message(args, &message, &mut text)?;
            out.write_all(&text).context("cannot write")?;
        }
    }
    frames.finish()?;
    out.write_all(b"# EOF\n").context("cannot write")?;
    Ok(())
}

/// The samples of some chunks.
fn write_message(
    args: &ExportArgs,
    message: &ChunkedReadResponse,
    out: &mut Vec<u8>,
) -> anyhow::Result<()> {
    for series in &message.chunked_series {
        let pairs = series.labels.iter().map(|l| (&*l.name, &*l.value));
        let labels = Labels::from_pairs(pairs);
        let mut name = Vec::new();
        render::series(&mut name, &labels);
        name.push(b' ');
        for chunk in &series.chunks {
            if chunk.encoding != Encoding::Xor as i32 {
                if args.skip_histograms {
                    continue;
                }
                bail!(
                    "the series {labels} has native histograms, which OpenMetrics cannot say: \
                     --skip-histograms leaves them out"
                );
            }
            let samples = read::floats(&chunk.data)
                .with_context(|| format!("a chunk of the series {labels} is damaged"))?;
            for (time, value) in samples {
                let start = out.len();
                out.extend_from_slice(&name);
                if args.portable {
                    if !render::portable_value(out, value) {
                        out.truncate(start);
                        continue;
                    }
                } else {
                    render::value(out, value);
                }
                out.push(b' ');
                render::seconds(out, time);
                out.push(b'\n');
            }
        }
    }
    Ok(())
}
