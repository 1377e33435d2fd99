//! How a query is evaluated: its operators as a tree, with what each did if it was evaluated for
//! that.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tidelake_catalog::model::{METRIC_NAME, MatchOp, Matcher};
use tokio::time::Instant;

use super::super::parse::ast::{Cardinality, Reach, VectorMatching};
use super::plan::{Node, RangeArg, RangeSelect, Select, Subquery};
use super::profile::{OperatorProfile, Profile};

/// An operator and those that it takes its operands from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    /// What it is.
    pub operator: &'static str,
    /// What it does in particular, in the words of PromQL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What it did, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// What it read, if it is a selector that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
    /// Its operands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Operator>,
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

/// The operators of a plan; with a profile, what they did.
pub(crate) fn describe(node: &Node, profile: Option<&Profile>, request_price: f64) -> Operator {
    let stats = profile.and_then(|profile| profile.of(node));
    let mut read = stats
        .as_deref()
        .and_then(|stats| read(stats, request_price));
    let mut operands: Vec<&Node> = Vec::new();
    let mut before = None;
    let (operator, detail) = match node {
        Node::Number(value) => ("Number", value.to_string()),
        Node::String(text) => ("String", format!("{text:?}")),
        Node::Time => ("Function", "time".to_owned()),
        Node::Invariant(inner) => {
            operands.push(inner);
            ("Invariant", "evaluated once for all steps".to_owned())
        }
        Node::Vector(select) => ("Selector", selector(select, None)),
        Node::Timestamps(select) => (
            "Selector",
            format!("timestamp of {}", selector(select, None)),
        ),
        Node::StartTimestamps(select) => (
            "Selector",
            format!("start timestamp of {}", selector(select, None)),
        ),
        Node::Matrix(matrix) => ("RangeSelector", range_selector(matrix)),
        Node::Subquery(subquery) => {
            operands.push(&subquery.expr);
            ("Subquery", subquery_detail(subquery))
        }
        Node::Range(call) => {
            before = Some(match &call.range {
                // The selector works inside the function: what was read is its, the time is the
                // function's.
                RangeArg::Matrix(matrix) => {
                    leaf("RangeSelector", range_selector(matrix), read.take())
                }
                RangeArg::Subquery(subquery) => {
                    let inner = describe(&subquery.expr, profile, request_price);
                    Operator {
                        children: vec![inner],
                        ..leaf("Subquery", subquery_detail(subquery), None)
                    }
                }
            });
            operands.extend(&call.args);
            ("RangeFunction", call.name.to_owned())
        }
        Node::Call(call) => {
            operands.extend(&call.args);
            ("Function", call.name.to_owned())
        }
        Node::Aggregate(aggregate) => {
            operands.extend(&aggregate.param);
            operands.push(&aggregate.expr);
            let grouping = match (aggregate.without, aggregate.grouping.as_slice()) {
                (false, []) => String::new(),
                (without, labels) => format!(
                    " {} ({})",
                    if without { "without" } else { "by" },
                    labels.join(", ")
                ),
            };
            ("Aggregate", format!("{}{grouping}", aggregate.op.as_str()))
        }
        Node::Binary(binary) => {
            operands.extend([&binary.lhs, &binary.rhs]);
            let flag = if binary.return_bool { " bool" } else { "" };
            let matching = binary
                .matching
                .as_ref()
                .map(matching_detail)
                .unwrap_or_default();
            ("Binary", format!("{}{flag}{matching}", binary.op.as_str()))
        }
        Node::Negate(inner) => {
            operands.push(inner);
            ("Negate", String::new())
        }
    };
    let children: Vec<Operator> = before
        .into_iter()
        .chain(
            operands
                .iter()
                .map(|operand| describe(operand, profile, request_price)),
        )
        .collect();
    let measured = stats
        .as_deref()
        .zip(profile)
        .map(|(stats, profile)| measured(stats, node, profile));
    Operator {
        operator,
        detail,
        measured,
        read,
        children,
    }
}

fn leaf(operator: &'static str, detail: String, read: Option<Read>) -> Operator {
    Operator {
        operator,
        detail,
        measured: None,
        read,
        children: Vec::new(),
    }
}

/// The nodes whose times lie within that of a node.
fn operands(node: &Node) -> Vec<&Node> {
    match node {
        Node::Number(_) | Node::String(_) | Node::Time => Vec::new(),
        Node::Vector(_) | Node::Timestamps(_) | Node::StartTimestamps(_) | Node::Matrix(_) => {
            Vec::new()
        }
        Node::Invariant(inner) | Node::Negate(inner) => vec![inner],
        Node::Subquery(subquery) => vec![&subquery.expr],
        Node::Range(call) => match &call.range {
            RangeArg::Matrix(_) => call.args.iter().collect(),
            RangeArg::Subquery(subquery) => call.args.iter().chain([&subquery.expr]).collect(),
        },
        Node::Call(call) => call.args.iter().collect(),
        Node::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).collect(),
        Node::Binary(binary) => vec![&binary.lhs, &binary.rhs],
    }
}

fn measured(stats: &OperatorProfile, node: &Node, profile: &Profile) -> Measured {
    let done = stats.done();
    let mut waits: Vec<(Instant, Instant)> = operands(node)
        .into_iter()
        .filter_map(|operand| profile.of(operand)?.done().span)
        .collect();
    let total = done
        .span
        .map_or(Duration::ZERO, |(begun, ended)| ended - begun);
    // Operands of a binary operation are evaluated side by side: what they share counts once.
    waits.sort_unstable();
    let (mut waited, mut until) = (Duration::ZERO, None);
    for (begun, ended) in waits {
        let begun = until.map_or(begun, |until: Instant| until.max(begun));
        waited += ended.saturating_duration_since(begun);
        until = until.max(Some(ended));
    }
    Measured {
        rows: done.rows,
        values: done.values,
        total_ms: millis(total),
        own_ms: millis(total.saturating_sub(waited)),
    }
}

fn read(stats: &OperatorProfile, request_price: f64) -> Option<Read> {
    let counts = stats.read.counts();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
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
        dollars: counts.requests as f64 * request_price,
        compute_ms: millis(Duration::from_nanos(load(&stats.compute_nanos))),
    };
    (read.batches + read.segments + read.buffer_chunks + read.requests > 0).then_some(read)
}

/// With microseconds.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn selector(select: &Select, range: Option<i64>) -> String {
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

fn range_selector(matrix: &RangeSelect) -> String {
    selector(&matrix.select, Some(matrix.range))
}

fn subquery_detail(subquery: &Subquery) -> String {
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

fn matching_detail(matching: &VectorMatching) -> String {
    let mut text = String::new();
    if matching.on || !matching.labels.is_empty() {
        text.push_str(&format!(
            " {} ({})",
            if matching.on { "on" } else { "ignoring" },
            matching.labels.join(", ")
        ));
    }
    let group = match matching.cardinality {
        Cardinality::ManyToOne => "group_left",
        Cardinality::OneToMany => "group_right",
        Cardinality::OneToOne | Cardinality::ManyToMany => "",
    };
    if !group.is_empty() {
        text.push_str(&format!(" {group} ({})", matching.include.join(", ")));
    }
    for (word, value) in [
        ("fill_left", matching.fill_left),
        ("fill_right", matching.fill_right),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {word} ({value})"));
        }
    }
    text
}

/// A line for each operator, its operands below it and further to the right.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Operator {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:indent$}{}", "", self.operator, indent = depth * 2)?;
        if !self.detail.is_empty() {
            // One line for each operator, whatever a matcher holds.
            write!(
                f,
                ": {}",
                self.detail.replace(|c: char| c.is_control(), " ")
            )?;
        }
        let mut figures = String::new();
        if let Some(m) = &self.measured {
            write!(
                figures,
                "rows={} values={} total={:.3}ms own={:.3}ms",
                m.rows, m.values, m.total_ms, m.own_ms
            )?;
        }
        if let Some(r) = &self.read {
            let gap = if figures.is_empty() { "" } else { " " };
            write!(
                figures,
                "{gap}series={} samples={} batches={}",
                r.series, r.samples, r.batches
            )?;
            write!(
                figures,
                " segments={} buffer_chunks={}",
                r.segments, r.buffer_chunks
            )?;
            write!(
                figures,
                " rounds={} requests={} bytes={} dollars={} memory_hits={} disk_hits={}",
                r.rounds, r.requests, r.bytes, r.dollars, r.memory_hits, r.disk_hits
            )?;
            write!(figures, " compute={:.3}ms", r.compute_ms)?;
        }
        if !figures.is_empty() {
            write!(f, "  ({figures})")?;
        }
        f.write_str("\n")?;
        self.children
            .iter()
            .try_for_each(|child| child.write(f, depth + 1))
    }
}
