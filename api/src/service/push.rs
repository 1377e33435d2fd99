//! Pushes of Pushgateway's clients: the metrics of a *group*, which a push replaces.
//!
//! A Pushgateway keeps the last push of each group and lets Prometheus scrape it. Here every push
//! is a sample at its time, and what a push no longer has ends with a stale marker at that time.
//! What is in a group is found from the samples: the series with its labels that are visible to a
//! query of now. So a restart forgets nothing, and nothing is to be kept in memory.
//!
//! Two groups may have labels such that the series of one look like those of the other: `job=a` and
//! `job=a, instance=b`. A series belongs to the group with most labels, of those that were pushed
//! to within a day: `push_time_seconds` says which.

use std::collections::BTreeSet;

use super::Service;
use super::context::{Access, Write};
use super::error::{Code, ServiceError};
use super::promql::{At, PromqlRequest};
use super::write::Points;
use crate::node::backend::{
    ContentEncoding, Protocol, TextFormat, TextSettings, Value, WriteOutcome, text_render,
};
use tidelake_catalog::model::{Labels, METRIC_NAME, STALE_NAN_BITS};

const PUSH_TIME: &str = "push_time_seconds";
const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";
/// How far back groups are looked for, and the time of the last failure.
const GROUPS_MS: i64 = 24 * 3600 * 1000;

/// Labels that name a group.
#[derive(Debug, Clone)]
pub struct Group(Vec<(String, String)>);

impl Group {
    /// Of labels with different names.
    pub fn new(labels: Vec<(String, String)>) -> Self {
        Self(labels)
    }

    /// Names and values, as they were given.
    pub fn labels(&self) -> &[(String, String)] {
        &self.0
    }

    /// A selector of all series with these labels.
    fn selector(&self, names: &[&str]) -> String {
        let mut text = Vec::from(&b"{"[..]);
        if let Some((first, others)) = names.split_first() {
            text.extend_from_slice(b"__name__=~");
            let pattern = others.iter().fold((*first).to_owned(), |pattern, name| {
                format!("{pattern}|{name}")
            });
            text_render::quoted(&mut text, &pattern);
        }
        for (name, value) in &self.0 {
            if text.len() > 1 {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text_render::quoted(&mut text, value);
        }
        text.push(b'}');
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The labels of one of the two series that say when it was pushed.
    fn series(&self, metric: &str) -> Labels {
        let labels = self.0.iter().map(|(name, value)| (&**name, &**value));
        let labels = labels.filter(|(_, value)| !value.is_empty());
        Labels::from_pairs(labels.chain([(METRIC_NAME, metric)]))
    }
}

/// What a push replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushKind {
    /// The whole group (`PUT`).
    Replace,
    /// What has the name of something pushed (`POST`).
    Update,
}

/// A push.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// What it replaces.
    pub kind: PushKind,
    /// The format of the body.
    pub format: TextFormat,
    /// How it is compressed.
    pub encoding: ContentEncoding,
    /// The body, as it was sent.
    pub body: &'a [u8],
}

/// What is known of the groups of a job, or of those within a group.
#[derive(Debug, Default)]
struct Groups {
    /// When the group was pushed to last, and when that failed last, in seconds.
    pushed: Option<f64>,
    failed: Option<f64>,
    /// Groups with more labels.
    narrower: Vec<Labels>,
}

impl Service {
    /// Takes a push. A body of which anything is bad is refused as a whole: nothing of it is
    /// written but the time of the failure.
    pub async fn push(
        &self,
        access: &Access<Write>,
        group: &Group,
        pushed: Pushed<'_>,
    ) -> Result<WriteOutcome, ServiceError> {
        let now_ms = self.backend()?.catalog().environment().now_ms();
        let settings = TextSettings {
            time_ms: Some(now_ms),
            labels: group.0.clone(),
            refuses_times: true,
        };
        let body = settings.framed(pushed.body);
        let points = Points {
            protocol: Protocol::Exposition {
                format: pushed.format,
            },
            encoding: pushed.encoding,
            accept_partial: false,
            body: body.map_err(ServiceError::bad_request)?,
        };
        let written = self.write(access, points).await;
        let is_bad = match &written {
            Ok(outcome) => outcome.refused > 0,
            Err(error) => error.code == Code::BadRequest,
        };
        if is_bad {
            self.note_failure(access, group, now_ms).await?;
            return written;
        }
        let groups = self.groups(access, group, now_ms).await?;
        let ended = self
            .replaced(access, group, &groups, pushed.kind, now_ms)
            .await?;
        let times = [Some(now_ms as f64 / 1e3), groups.failed.or(Some(0.0))];
        self.write_group(access, group, now_ms, times, &ended)
            .await?;
        written
    }

    /// Ends all series of a group.
    pub async fn delete_group(
        &self,
        access: &Access<Write>,
        group: &Group,
    ) -> Result<(), ServiceError> {
        let now_ms = self.backend()?.catalog().environment().now_ms();
        let groups = self.groups(access, group, now_ms).await?;
        let selector = group.selector(&[]);
        let visible = self.visible(access, &selector, now_ms, self.lookback_ms());
        let visible = visible.await?.into_iter();
        let mut ended: Vec<Labels> = visible.map(|(labels, _)| labels).collect();
        ended.retain(|labels| groups.has(labels));
        // They are looked for farther back.
        for (metric, value) in [
            (PUSH_TIME, groups.pushed),
            (PUSH_FAILURE_TIME, groups.failed),
        ] {
            let own = group.series(metric);
            if value.is_some() && !ended.contains(&own) {
                ended.push(own);
            }
        }
        let times = [None, None];
        self.write_group(access, group, now_ms, times, &ended).await
    }

    /// The series that a push at this time ends: those of its group that it does not have.
    async fn replaced(
        &self,
        access: &Access<Write>,
        group: &Group,
        groups: &Groups,
        kind: PushKind,
        now_ms: i64,
    ) -> Result<Vec<Labels>, ServiceError> {
        let selector = group.selector(&[]);
        let visible = self.visible(access, &selector, now_ms, self.lookback_ms());
        let mut visible = visible.await?;
        visible.retain(|(labels, _)| {
            groups.has(labels) && ![PUSH_TIME, PUSH_FAILURE_TIME].contains(&labels.metric_name())
        });
        // Those with a sample at this very time.
        let present = self.visible(access, &selector, now_ms, 1).await?;
        let present: BTreeSet<&str> = present.iter().map(|(labels, _)| labels.as_str()).collect();
        let names: BTreeSet<String> = visible
            .iter()
            .filter(|(labels, _)| present.contains(labels.as_str()))
            .map(|(labels, _)| labels.metric_name().to_owned())
            .collect();
        let is_replaced = |labels: &Labels| {
            !present.contains(labels.as_str())
                && (kind == PushKind::Replace || names.contains(labels.metric_name()))
        };
        let visible = visible.into_iter().map(|(labels, _)| labels);
        Ok(visible.filter(is_replaced).collect())
    }

    /// A failed push makes no database.
    async fn note_failure(
        &self,
        access: &Access<Write>,
        group: &Group,
        now_ms: i64,
    ) -> Result<(), ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        if snapshot.database(access.database()).is_none() {
            return Ok(());
        }
        let groups = self.groups(access, group, now_ms).await?;
        let times = [groups.pushed.or(Some(0.0)), Some(now_ms as f64 / 1e3)];
        self.write_group(access, group, now_ms, times, &[]).await
    }

    async fn groups(
        &self,
        access: &Access<Write>,
        group: &Group,
        now_ms: i64,
    ) -> Result<Groups, ServiceError> {
        let selector = group.selector(&[PUSH_TIME, PUSH_FAILURE_TIME]);
        let mut groups = Groups::default();
        for (labels, value) in self.visible(access, &selector, now_ms, GROUPS_MS).await? {
            let metric = labels.metric_name();
            if labels != group.series(metric) {
                groups.narrower.push(labels);
            } else if metric == PUSH_TIME {
                groups.pushed = Some(value);
            } else {
                groups.failed = Some(value);
            }
        }
        Ok(groups)
    }

    fn lookback_ms(&self) -> i64 {
        self.promql_options().lookback_ms
    }

    /// The series that a query sees, with their values then.
    async fn visible(
        &self,
        access: &Access<Write>,
        selector: &str,
        now_ms: i64,
        lookback_ms: i64,
    ) -> Result<Vec<(Labels, f64)>, ServiceError> {
        let mut options = self.promql_options();
        options.lookback_ms = lookback_ms;
        let request = PromqlRequest {
            query: selector,
            at: At::Time(now_ms),
            options,
            as_of: None,
        };
        let access = access.to_find_replaced();
        let answer = self.promql(&access, &request).await?;
        let Value::Vector(rows) = answer.output.value else {
            return Ok(Vec::new());
        };
        let value = |values: &[f64]| values.first().copied().unwrap_or(f64::NAN);
        let series = rows.into_iter().map(|row| (row.labels, value(&row.values)));
        Ok(series.collect())
    }

    /// Writes when a group was pushed to and when that failed, and that series ended.
    async fn write_group(
        &self,
        access: &Access<Write>,
        group: &Group,
        now_ms: i64,
        times: [Option<f64>; 2],
        ended: &[Labels],
    ) -> Result<(), ServiceError> {
        let mut text = Vec::new();
        let own = [PUSH_TIME, PUSH_FAILURE_TIME].map(|metric| group.series(metric));
        let times = own
            .iter()
            .zip(times)
            .filter_map(|(labels, time)| Some((labels, time?)));
        let stale = f64::from_bits(STALE_NAN_BITS);
        let ended = ended.iter().map(|labels| (labels, stale));
        for (labels, value) in times.chain(ended) {
            text_render::series(&mut text, labels);
            text.push(b' ');
            text_render::value(&mut text, value);
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        let settings = TextSettings {
            time_ms: Some(now_ms),
            ..TextSettings::default()
        };
        let points = Points {
            protocol: Protocol::Exposition {
                format: TextFormat::Prometheus,
            },
            encoding: ContentEncoding::Identity,
            accept_partial: true,
            body: settings.framed(&text).map_err(ServiceError::bad_request)?,
        };
        self.write(access, points).await.map(drop)
    }
}

impl Groups {
    /// Whether a series is in no narrower group.
    fn has(&self, series: &Labels) -> bool {
        let is_in = |group: &Labels| {
            let mut labels = group.iter().filter(|(name, _)| *name != METRIC_NAME);
            labels.all(|(name, value)| series.get(name) == Some(value))
        };
        !self.narrower.iter().any(is_in)
    }
}
