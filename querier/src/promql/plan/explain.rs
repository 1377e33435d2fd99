//! How a query is evaluated: its plan, with what each operator did if it was evaluated for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use serde::Serialize;
use tidelake_catalog::model::{METRIC_NAME, MatchOp, Matcher};

use super::super::exec::profile::{Profile, TaskRun};
use super::super::exec::selector::{RangeSelect, Select};
use super::super::exec::subquery::Subquery;
use super::super::parse::ast::Reach;
use super::{Input, PromExec, shown};
use crate::read_metrics;

/// An operator and those that it takes its operands from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    /// What it is.
    pub operator: String,
    /// What it does in particular, in the words of PromQL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What it did, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// What it read, if it is a selector that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
    /// Who did it, if several processes did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// Its operands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Operator>,
}

/// What one process did of an operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The name of its node; `here` for the process that was asked.
    pub worker: String,
    /// Batches of series.
    pub batches: u64,
    /// Bytes that it sent.
    pub bytes: u64,
    /// From its beginning to its end, in ms.
    pub total_ms: f64,
    /// Why the process that was asked did it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What an operator did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Series that came out.
    pub rows: u64,
    /// Values in these.
    pub values: u64,
    /// From when it was asked until it answered, in ms.
    pub total_ms: f64,
    /// The same without the time during which it waited for operands, in ms.
    pub own_ms: f64,
}

/// What a selector read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// Series that matched and had samples.
    pub series: u64,
    /// Their samples.
    pub samples: u64,
    /// Batches in which they came.
    pub batches: u64,
    /// Segments that were looked at.
    pub segments: u64,
    /// Chunks of recent rows that were looked at.
    pub buffer_chunks: u64,
    /// Requests to the store; what is cached needs none.
    pub requests: u64,
    /// Bytes that they asked for.
    pub bytes: u64,
    /// How often a request was made while no other was underway.
    pub rounds: u64,
    /// Pages and parts of indexes that were in memory.
    pub memory_hits: u64,
    /// Blocks that were on the local disk.
    pub disk_hits: u64,
    /// What the requests cost.
    pub dollars: f64,
    /// Time of all tasks together that worked on the samples, in ms.
    pub compute_ms: f64,
}

/// The operators of a plan, and what they did if that was noted.
pub(crate) fn describe(plan: &Arc<dyn ExecutionPlan>) -> Operator {
    let text = displayable(&**plan).one_line().to_string();
    let detail = text
        .trim_end()
        .split_once(": ")
        .map_or("", |(_, detail)| detail);
    let profile = plan.downcast_ref().and_then(PromExec::profile);
    let children = plan.children().into_iter();
    Operator {
        operator: plan.name().to_owned(),
        detail: detail.to_owned(),
        measured: profile.map(|profile| measured(profile)),
        read: profile.and_then(|profile| read(profile)),
        tasks: profile.map(|profile| tasks(profile)).unwrap_or_default(),
        children: children.map(describe).collect(),
    }
}

/// The plan as DataFusion shows plans, a line for each operator.
pub(crate) fn text(plan: &Arc<dyn ExecutionPlan>, is_analyzed: bool) -> String {
    let mut text = String::new();
    // Plans may be deeper than DataFusion's own walk over them can be.
    let mut nodes = vec![(plan, 0)];
    while let Some((node, depth)) = nodes.pop() {
        let shown = match is_analyzed {
            true => DisplayableExecutionPlan::with_metrics(&**node),
            false => displayable(&**node),
        };
        text.push_str(&"  ".repeat(depth));
        text.push_str(&shown.one_line().to_string());
        let profile = node.downcast_ref().and_then(PromExec::profile);
        for task in profile.map(|profile| tasks(profile)).unwrap_or_default() {
            text.push_str(&"  ".repeat(depth + 2));
            text.push_str(&task.shown());
            text.push('\n');
        }
        let children = node.children().into_iter().rev();
        nodes.extend(children.map(|child| (child, depth + 1)));
    }
    text
}

fn tasks(profile: &Profile) -> Vec<Task> {
    let task = |run: &TaskRun| Task {
        worker: run.worker.clone(),
        batches: run.batches,
        bytes: run.bytes,
        total_ms: millis(Duration::from_micros(run.micros)),
        failed: run.failed.clone(),
    };
    let mut all: Vec<Task> = profile.tasks.lock().iter().map(task).collect();
    all.sort_by(|a, b| a.worker.cmp(&b.worker));
    all
}

impl Task {
    fn shown(&self) -> String {
        let Self {
            worker,
            batches,
            bytes,
            total_ms,
            failed,
        } = self;
        let failed = failed.as_ref();
        let failed = failed.map_or_else(String::new, |error| format!(", here because: {error}"));
        format!("task on {worker}: batches={batches}, bytes={bytes}, total={total_ms} ms{failed}")
    }
}

/// What an operator did, as a plan of DataFusion's has it.
pub(super) fn metrics(profile: &Profile) -> MetricsSet {
    let set = ExecutionPlanMetricsSet::new();
    let count = |name: &'static str, value: u64| {
        let count: Count = MetricBuilder::new(&set).global_counter(name);
        count.add(usize::try_from(value).unwrap_or(usize::MAX));
    };
    let time = |name: &'static str, ms: f64| {
        if ms <= 0.0 {
            return;
        }
        let time: Time = MetricBuilder::new(&set).subset_time(name, 0);
        time.add_duration(Duration::from_secs_f64((ms / 1000.0).max(0.0)));
    };
    let measured = measured(profile);
    count("output_series", measured.rows);
    count("output_values", measured.values);
    time("total_time", measured.total_ms);
    time("own_time", measured.own_ms);
    if let Some(read) = read(profile) {
        count("series", read.series);
        count("samples", read.samples);
        count("batches", read.batches);
        count("segments", read.segments);
        count("buffer_chunks", read.buffer_chunks);
        time("compute_time", read.compute_ms);
    }
    let mut metrics = set.clone_inner();
    if read(profile).is_some() {
        read_metrics::add(&mut metrics, profile.read.counts(), profile.request_price);
    }
    metrics
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn measured(profile: &Profile) -> Measured {
    let nanos = |count| Duration::from_nanos(load(count));
    let (total, waited) = (nanos(&profile.total_nanos), nanos(&profile.waited_nanos));
    Measured {
        rows: load(&profile.rows),
        values: load(&profile.values),
        total_ms: millis(total),
        own_ms: millis(total.saturating_sub(waited)),
    }
}

fn read(stats: &Profile) -> Option<Read> {
    let counts = stats.read.counts();
    let read = Read {
        series: load(&stats.series),
        samples: load(&stats.samples),
        batches: load(&stats.batches),
        segments: counts.segments,
        buffer_chunks: counts.chunks,
        requests: counts.requests,
        bytes: counts.bytes,
        rounds: counts.rounds,
        memory_hits: counts.memory_hits,
        disk_hits: counts.disk_hits,
        dollars: counts.requests as f64 * stats.request_price,
        compute_ms: millis(Duration::from_nanos(load(&stats.compute_nanos))),
    };
    (read.batches + read.segments + read.buffer_chunks + read.requests > 0).then_some(read)
}

/// With microseconds.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// A selector as it is written.
pub(super) fn selector(select: &Select, range: Option<i64>) -> String {
    let mut text = String::new();
    let name = |matcher: &&Matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal;
    let named = select.matchers.iter().find(name).filter(|m| {
        m.value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    });
    text.push_str(named.map_or("", |matcher| &matcher.value));
    let others: Vec<String> = select
        .matchers
        .iter()
        .filter(|m| named.is_none_or(|named| !std::ptr::eq(*m, named)))
        .map(ToString::to_string)
        .collect();
    if !others.is_empty() || named.is_none() {
        text.push_str(&format!("{{{}}}", others.join(", ")));
    }
    if let Some(range) = range {
        text.push_str(&format!("[{}]", duration(range)));
    }
    text.push_str(match select.reach {
        Reach::Plain => "",
        Reach::Anchored => " anchored",
        Reach::Smoothed => " smoothed",
    });
    text.push_str(&time_modifiers(select.at, select.offset));
    text
}

/// The same of a range selector.
pub(super) fn range_selector(matrix: &RangeSelect) -> String {
    selector(&matrix.select, Some(matrix.range))
}

/// The range and the step of a subquery as they are written.
pub(super) fn subquery(subquery: &Subquery) -> String {
    format!(
        "[{}:{}]{}",
        duration(subquery.range),
        duration(subquery.step),
        time_modifiers(subquery.at, subquery.offset)
    )
}

fn time_modifiers(at: Option<i64>, offset: i64) -> String {
    let mut text = at.map_or_else(String::new, |at| format!(" @ {:.3}", at as f64 / 1000.0));
    if offset != 0 {
        text.push_str(&format!(" offset {}", duration(offset)));
    }
    text
}

fn duration(ms: i64) -> String {
    const UNITS: [(&str, i64); 4] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ];
    match UNITS.iter().find(|(_, unit)| ms != 0 && ms % unit == 0) {
        Some((name, unit)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

/// A call with what is known of its arguments.
pub(super) fn call(name: &str, first: Option<String>, inputs: &[Input]) -> String {
    let constants = inputs
        .iter()
        .filter(|input| !matches!(input, Input::Plan(_)));
    let arguments: Vec<String> = first.into_iter().chain(constants.map(shown)).collect();
    format!("{name}({})", arguments.join(", "))
}
