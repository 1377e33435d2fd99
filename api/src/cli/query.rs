//! `tidelake query`: PromQL of a running server, as a table, CSV, JSON or a graph of characters.

mod answer;
mod graph;
mod table;

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tidelake_catalog::Environment;

use self::answer::Answer;
use super::remote::{Remote, SourceArgs};
use crate::prometheus::params::{parse_duration, parse_time};

/// Steps of a range that names none, on something that is no terminal.
const STEPS: i64 = 120;

/// What to ask.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The expression
    expression: String,
    /// Evaluate at this time instead of now: RFC 3339 or seconds since 1970
    #[arg(long, conflicts_with_all = ["since", "start"])]
    time: Option<String>,
    /// Evaluate over the time until now, such as 1h
    #[arg(long, value_name = "DURATION", conflicts_with = "start")]
    since: Option<String>,
    /// First step of a range: RFC 3339 or seconds since 1970
    #[arg(long)]
    start: Option<String>,
    /// Last step of a range, instead of now
    #[arg(long, requires = "start")]
    end: Option<String>,
    /// Distance of the steps, such as 30s
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// How to print the answer; without it a range is a graph on a terminal, all else a table
    #[arg(long)]
    format: Option<Format>,
    #[command(flatten)]
    source: SourceArgs,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A row for each series, or for each sample of a range
    Table,
    /// Comma separated values
    Csv,
    /// As the server answers
    Json,
    /// Lines over time
    Graph,
}

/// The steps of a range, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: i64,
    end: i64,
    step: i64,
}

/// Asks and prints; gives the exit code.
pub async fn run(args: &QueryArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let is_terminal = std::io::stdout().is_terminal();
    let width = super::output::width();
    let range = range_of(
        args,
        Environment::system().now_ms(),
        is_terminal.then_some(width),
    )?;
    let format = args.format.unwrap_or(match range {
        Some(_) if is_terminal => Format::Graph,
        _ => Format::Table,
    });
    if format == Format::Graph && range.is_none() {
        bail!("a graph needs a range: give --since or --start");
    }
    let remote = Remote::of(&args.source)?.impatient();
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    let mut form = vec![("query", args.expression.clone())];
    let path = match range {
        Some(range) => {
            form.push(("start", seconds(range.start)));
            form.push(("end", seconds(range.end)));
            form.push(("step", seconds(range.step)));
            "/api/v1/query_range"
        }
        None => {
            form.extend(args.time.clone().map(|time| ("time", time)));
            "/api/v1/query"
        }
    };
    let text = remote.form(path, &form).await?;
    let printed = match format {
        Format::Json => writeln!(out, "{text}"),
        _ => {
            let answer = Answer::read(&text).context("the server answers something else")?;
            answer.warn(&mut std::io::stderr());
            match format {
                Format::Csv => table::csv(&answer, out),
                Format::Graph => graph::print(&answer, width, is_terminal, out),
                _ => table::print(&answer, is_terminal.then_some(width), out),
            }
        }
    };
    printed?;
    Ok(0)
}

/// The range that is asked for; `width` is that of the terminal on which it is drawn.
fn range_of(args: &QueryArgs, now: i64, width: Option<usize>) -> anyhow::Result<Option<Range>> {
    let time = |name: &str, text: &str| {
        parse_time(text).map_err(|why| anyhow::anyhow!("--{name} {text:?}: {why}"))
    };
    let duration = |name: &str, text: &str| {
        parse_duration(text).map_err(|why| anyhow::anyhow!("--{name} {text:?}: {why}"))
    };
    let (start, end) = match (&args.since, &args.start) {
        (Some(since), _) => (now - duration("since", since)?, now),
        (None, Some(start)) => {
            let end = args
                .end
                .as_deref()
                .map(|end| time("end", end))
                .transpose()?;
            (time("start", start)?, end.unwrap_or(now))
        }
        (None, None) => return Ok(None),
    };
    if end < start {
        bail!("the range ends before it begins");
    }
    let step = match &args.step {
        Some(step) => duration("step", step)?,
        None => {
            // A step for each dot of a graph.
            let steps = width.map_or(STEPS, |width| 2 * width as i64);
            ((end - start) / steps).max(1000)
        }
    };
    if step <= 0 {
        bail!("--step must be more than 0");
    }
    Ok(Some(Range { start, end, step }))
}
