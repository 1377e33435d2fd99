//! Warnings and infos that accompany an answer.
//!
//! Texts are those of Prometheus, so that dashboards and tests which look for them keep working.
//! Annotations with one text are one annotation, whatever their positions; the first position is
//! shown.

mod message;

use std::collections::BTreeMap;

use super::super::parse::ast::Span;
use super::number::general;
pub(crate) use message::Remark;

/// Warnings and infos as text, with line and column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The answer may not be what was meant.
    pub warnings: Vec<String>,
    /// Hints.
    pub infos: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Warning,
    Info,
}

/// Where histograms were put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What the correction of a classic histogram was about; such annotations add up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonicity {
    pub time: i64,
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_difference: f64,
}

#[derive(Debug, Clone)]
struct Entry {
    start: u32,
    fixes: Option<Fixes>,
}

#[derive(Debug, Clone)]
struct Fixes {
    count: u64,
    min_time: i64,
    max_time: i64,
    min_bucket: f64,
    max_bucket: f64,
    max_difference: f64,
}

/// Annotations while they are collected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    entries: BTreeMap<(Kind, String), Entry>,
    /// About what the entries take.
    bytes: usize,
}

/// Annotations that take more together are left out: there may be one for each step and each
/// metric, and a few are shown.
const MAX_BYTES: usize = 4 << 20;
const ENTRY_BYTES: usize = 128;

/// Longest part of a metric's name or a label's value that is quoted, in bytes.
const MAX_QUOTED_BYTES: usize = 4 << 10;

fn quoted(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_QUOTED_BYTES)]
}

impl Collector {
    fn add(&mut self, kind: Kind, text: String, span: Span) -> Option<&mut Entry> {
        let key = (kind, text);
        if !self.entries.contains_key(&key) && !self.has_room(key.1.len()) {
            return None;
        }
        let entry = self.entries.entry(key).or_insert(Entry {
            start: span.start,
            fixes: None,
        });
        entry.start = entry.start.min(span.start);
        Some(entry)
    }

    /// Counts a new text, if it may be added.
    fn has_room(&mut self, len: usize) -> bool {
        let bytes = self.bytes + len + ENTRY_BYTES;
        let has_room = bytes <= MAX_BYTES;
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }

    fn warn(&mut self, text: String, span: Span) {
        self.add(Kind::Warning, format!("PromQL warning: {text}"), span);
    }

    fn info(&mut self, text: String, span: Span) {
        self.add(Kind::Info, format!("PromQL info: {text}"), span);
    }

    pub fn invalid_quantile(&mut self, q: f64, span: Span) {
        self.warn(
            format!(
                "quantile value should be between 0 and 1, got {}",
                general(q)
            ),
            span,
        );
    }

    pub fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        self.warn(
            format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                general(ratio),
                general(capped)
            ),
            span,
        );
    }

    pub fn bad_bucket_label(&mut self, metric: &str, value: &str, span: Span) {
        let (metric, value) = (quoted(metric), quoted(value));
        self.warn(
            named(
                format!("bucket label \"le\" is missing or has a malformed value of {value:?}"),
                metric,
            ),
            span,
        );
    }

    pub fn mixed_floats_histograms(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.warn(
            format!("encountered a mix of histograms and floats for metric name {metric:?}"),
            span,
        );
    }

    pub fn mixed_aggregation(&mut self, span: Span) {
        self.warn(
            "encountered a mix of histograms and floats for aggregation".to_owned(),
            span,
        );
    }

    pub fn sort_in_range_query(&mut self, span: Span) {
        self.warn(
            "sort is ineffective for range queries since results are always ordered by labels"
                .to_owned(),
            span,
        );
    }

    pub fn start_time_overlap(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.warn(
            format!(
                "sample has start time that overlaps with previous sample timestamp for metric \
                 {metric:?}"
            ),
            span,
        );
    }

    pub fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.info(
            format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
                 {metric:?}"
            ),
            span,
        );
    }

    pub fn incompatible_types(&mut self, lhs: &str, op: &str, rhs: &str, span: Span) {
        self.info(
            format!(
                "incompatible sample types encountered for binary operator {op:?}: {lhs} {op} \
                 {rhs}"
            ),
            span,
        );
    }

    pub fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(
            format!("ignored histogram in {aggregation} aggregation"),
            span,
        );
    }

    pub fn histogram_ignored_in_range(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.info(
            format!(
                "ignored histograms in a range containing both floats and histograms for metric \
                 name {metric:?}"
            ),
            span,
        );
    }

    pub fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.warn(
            named(
                "vector contains a mix of classic and native histograms".to_owned(),
                metric,
            ),
            span,
        );
    }

    pub fn mixed_exponential_custom(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        let text = "vector contains a mix of histograms with exponential and custom buckets \
                    schemas for metric name";
        self.warn(format!("{text} {metric:?}"), span);
    }

    pub fn histogram_not_counter(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.warn(
            format!("this native histogram metric is not a counter: {metric:?}"),
            span,
        );
    }

    pub fn histogram_not_gauge(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.warn(
            format!("this native histogram metric is not a gauge: {metric:?}"),
            span,
        );
    }

    pub fn incompatible_layout(&mut self, op: &str, span: Span) {
        self.warn(
            format!("incompatible bucket layout encountered for binary operator {op}"),
            span,
        );
    }

    pub fn conflicting_resets(&mut self, operation: Operation, span: Span) {
        self.warn(
            format!(
                "conflicting counter resets during histogram {}",
                operation.name()
            ),
            span,
        );
    }

    pub fn reconciled_bounds(&mut self, operation: Operation, span: Span) {
        self.info(
            format!(
                "mismatched custom buckets were reconciled during {}",
                operation.name()
            ),
            span,
        );
    }

    pub fn quantile_is_nan(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.info(
            named(
                "input to histogram_quantile has NaN observations, result is NaN".to_owned(),
                metric,
            ),
            span,
        );
    }

    pub fn quantile_is_skewed(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        self.info(
            named(
                "input to histogram_quantile has NaN observations, result is skewed higher"
                    .to_owned(),
                metric,
            ),
            span,
        );
    }

    pub fn fraction_without_nan(&mut self, metric: &str, span: Span) {
        let metric = quoted(metric);
        let text = "input to histogram_fraction has NaN observations, which are excluded from all \
                    fractions";
        self.info(named(text.to_owned(), metric), span);
    }

    pub fn forced_monotonicity(&mut self, metric: &str, span: Span, fix: Monotonicity) {
        let metric = quoted(metric);
        let text = named(
            "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
             (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
                .to_owned(),
            metric,
        );
        let new = Fixes {
            count: 1,
            min_time: fix.time,
            max_time: fix.time,
            min_bucket: fix.min_bucket,
            max_bucket: fix.max_bucket,
            max_difference: fix.max_difference,
        };
        let Some(entry) = self.add(Kind::Info, text, span) else {
            return;
        };
        match &mut entry.fixes {
            Some(fixes) => fixes.merge(&new),
            none => *none = Some(new),
        }
    }

    /// Takes over what another task collected.
    pub fn merge(&mut self, other: Collector) {
        for (key, entry) in other.entries {
            match self.entries.get_mut(&key) {
                None => {
                    if self.has_room(key.1.len()) {
                        self.entries.insert(key, entry);
                    }
                }
                Some(mine) => {
                    mine.start = mine.start.min(entry.start);
                    match (&mut mine.fixes, entry.fixes) {
                        (Some(mine), Some(new)) => mine.merge(&new),
                        (mine, new) => *mine = mine.take().or(new),
                    }
                }
            }
        }
    }

    /// The texts, with positions in the query.
    pub fn render(&self, query: &str) -> Annotations {
        let mut out = Annotations::default();
        for ((kind, text), entry) in &self.entries {
            let position = position(query, entry.start);
            let text = match &entry.fixes {
                None => format!("{text} ({position})"),
                Some(fixes) => format!("{text}, {} ({position})", fixes.describe()),
            };
            match kind {
                Kind::Warning => out.warnings.push(text),
                Kind::Info => out.infos.push(text),
            }
        }
        out
    }
}

impl Fixes {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.min_time = self.min_time.min(other.min_time);
        self.max_time = self.max_time.max(other.max_time);
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_difference = self.max_difference.max(other.max_difference);
    }

    fn describe(&self) -> String {
        let time = |ms: i64| {
            chrono::DateTime::from_timestamp(ms.div_euclid(1000), 0).map_or_else(
                || format!("{ms} ms"),
                |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            )
        };
        format!(
            "from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            general(self.min_bucket),
            general(self.max_bucket),
            general(two_digits(self.max_difference)),
            self.count,
            time(self.min_time),
            time(self.max_time)
        )
    }
}

fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

fn named(text: String, metric: &str) -> String {
    if metric.is_empty() {
        text
    } else {
        format!("{text} for metric name {metric:?}")
    }
}

/// Line and column, counted from 1; columns count bytes.
fn position(query: &str, start: u32) -> String {
    let Some(before) = query.as_bytes().get(..start as usize) else {
        return "invalid position".to_owned();
    };
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!("{line}:{column}")
}
