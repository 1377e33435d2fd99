//! `info`: adds the labels of info metrics (such as `target_info`) to series of the same `instance`
//! and `job`.

use std::sync::Arc;

use hashbrown::HashMap;
use tidelake_catalog::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::super::parse::ast::{Reach, Span};
use super::grid::Grid;
use super::limits::Charge;
use super::profile::Profile;
use super::row::{Row, Rows, is_absent, labels_bytes, labels_in_work_bytes, shown};
use super::selector::{Instant, Output, Select};
use super::work::Work;
use super::{QueryError, finish::merge_rows, series};

/// Bytes of an info series in the table of their identities.
const INFO_BYTES: usize = 128;

const IDENTIFYING_LABELS: [&str; 2] = ["instance", "job"];

/// What a call asks for.
#[derive(Debug, Clone)]
pub(crate) struct InfoCall {
    /// The second argument.
    pub matchers: Option<Vec<Matcher>>,
    /// When info series are looked up.
    pub at: Option<i64>,
    pub offset: i64,
}

impl InfoCall {
    /// Which metrics are info metrics.
    fn name_matchers(&self) -> Result<Vec<Matcher>, QueryError> {
        let named: Vec<Matcher> = self
            .matchers
            .iter()
            .flatten()
            .filter(|m| m.name == METRIC_NAME)
            .cloned()
            .collect();
        if named.is_empty() {
            return Ok(vec![Matcher::equal(METRIC_NAME, "target_info")]);
        }
        if named
            .iter()
            .any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex))
        {
            return Ok(named);
        }
        let any =
            Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info").map_err(QueryError::BadData)?;
        Ok([any].into_iter().chain(named).collect())
    }

    /// Matchers of the data labels, by which also only these labels are added.
    fn data_matchers(&self) -> Vec<&Matcher> {
        self.matchers
            .iter()
            .flatten()
            .filter(|m| m.name != METRIC_NAME)
            .collect()
    }
}

/// Evaluates the call over its first argument.
pub(crate) async fn evaluate(
    work: &Work,
    call: &InfoCall,
    base: Rows,
    grid: Grid,
    profile: Option<Arc<Profile>>,
) -> Result<Rows, QueryError> {
    let names = call.name_matchers()?;
    let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.metric_name()));
    let data = call.data_matchers();
    let identified = |row: &&Row| {
        !is_info(&row.labels)
            && IDENTIFYING_LABELS
                .iter()
                .any(|name| row.labels.get(name).is_some())
    };
    let infos = if base.list.iter().any(|row| identified(&row)) {
        let mut matchers = names.clone();
        matchers.extend(data.iter().map(|m| (*m).clone()));
        for name in IDENTIFYING_LABELS {
            let text: usize = base.list.iter().map(|row| row.labels.as_str().len()).sum();
            // A list of the values, and a pattern of them, which may be escaped.
            let _values = work
                .limits
                .charge(base.list.len() * size_of::<String>() * 2 + 3 * text)?;
            let mut values: Vec<&str> = base
                .list
                .iter()
                .filter(identified)
                .filter_map(|row| row.labels.get(name))
                .collect();
            values.sort_unstable();
            values.dedup();
            if !values.is_empty() {
                let pattern = values
                    .iter()
                    .map(|value| regex::escape(value))
                    .collect::<Vec<_>>()
                    .join("|");
                matchers.push(
                    Matcher::new(name, MatchOp::Regex, pattern).map_err(QueryError::BadData)?,
                );
            }
        }
        let select = Select {
            matchers,
            offset: call.offset,
            at: call.at,
            reach: Reach::Plain,
            span: Span::default(),
            counts_only: false,
        };
        let kernel = Instant::new(work, &Arc::new(select), grid, Output::RawTimes);
        series::rows(work, kernel, grid, profile).await?
    } else {
        Rows::default()
    };
    if infos.list.iter().any(Row::has_histograms) {
        return Err(QueryError::execution("info sample should be float"));
    }

    let mut charge = work.limits.charge(0)?;
    let mut by_signature: HashMap<Labels, Vec<&Row>> = HashMap::new();
    for row in &infos.list {
        let len = row.labels.as_str().len();
        charge.reserve(labels_in_work_bytes(len))?;
        charge.take(INFO_BYTES + len)?;
        by_signature
            .entry(identity(&row.labels))
            .or_default()
            .push(row);
    }
    let optional = data.iter().all(|m| m.matches_empty());
    charge.take(base.list.len() * size_of::<Row>())?;
    let mut out = Vec::with_capacity(base.list.len());
    for row in &base.list {
        work.limits.check()?;
        charge.reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
        if is_info(&row.labels) {
            charge.take(size_of::<Row>() + row.heap_bytes())?;
            out.push(row.clone());
            continue;
        }
        let candidates = by_signature
            .get(&identity(&row.labels))
            .map_or(&[][..], Vec::as_slice);
        enrich(
            row,
            candidates,
            &data,
            optional,
            grid,
            &mut out,
            &mut charge,
        )?;
    }
    let out = merge_rows(out, &mut charge)?;
    Rows::new(out, charge)
}

fn identity(labels: &Labels) -> Labels {
    labels.retain(|name| IDENTIFYING_LABELS.contains(&name))
}

/// Adds the rows that one base row becomes: another one whenever its info series change.
fn enrich(
    row: &Row,
    infos: &[&Row],
    data: &[&Matcher],
    optional: bool,
    grid: Grid,
    out: &mut Vec<Row>,
    charge: &mut Charge,
) -> Result<(), QueryError> {
    let first = out.len();
    let mut last: Option<(Vec<usize>, Option<usize>)> = None;
    for step in 0..grid.count {
        let Some(point) = row.point(step) else {
            continue;
        };
        let chosen = youngest(infos, step)?;
        let position = match &last {
            Some((before, position)) if *before == chosen => *position,
            _ => {
                let parts = chosen.iter().map(|index| infos[*index]).chain([row]);
                let len: usize = parts.map(|row| row.labels.as_str().len()).sum();
                // They are taken apart, put together twice, and quoted where they contradict.
                charge.reserve(3 * labels_in_work_bytes(len))?;
                let labels = labels_with(
                    row,
                    chosen.iter().map(|index| infos[*index]),
                    data,
                    optional,
                )?;
                match labels {
                    None => None,
                    Some(labels) => {
                        let same = out[first..].iter().position(|row| row.labels == labels);
                        if same.is_none() {
                            let with_histograms = row.histograms.is_some();
                            let bytes = Row::bytes_of(grid.count, with_histograms);
                            charge.take(bytes + size_of::<Row>() + labels_bytes(&labels))?;
                            out.push(Row::empty(labels, row.drop_name, grid.count));
                        }
                        Some(same.map_or(out.len() - 1, |at| first + at))
                    }
                }
            }
        };
        last = Some((chosen, position));
        if let Some(position) = position {
            out[position].set(step, point);
        }
    }
    Ok(())
}

/// Of every info metric the series with the youngest sample at a step.
fn youngest(infos: &[&Row], step: usize) -> Result<Vec<usize>, QueryError> {
    let mut chosen: Vec<usize> = Vec::new();
    for (index, info) in infos.iter().enumerate() {
        let time = info.values[step];
        if is_absent(time) {
            continue;
        }
        let Some(other) = chosen
            .iter_mut()
            .find(|other| infos[**other].labels.metric_name() == info.labels.metric_name())
        else {
            chosen.push(index);
            continue;
        };
        let existing = infos[*other];
        if existing.values[step] == time {
            return Err(QueryError::Execution(format!(
                "found duplicate series for info metric: existing {} @ {time}, new {} @ {time}",
                shown(&existing.labels),
                shown(&info.labels)
            )));
        }
        if existing.values[step] < time {
            *other = index;
        }
    }
    Ok(chosen)
}

/// The labels of a base row with those of its info series; `None` if a required label is missing.
fn labels_with<'a>(
    row: &Row,
    infos: impl Iterator<Item = &'a Row>,
    data: &[&Matcher],
    optional: bool,
) -> Result<Option<Labels>, QueryError> {
    let mut added = LabelsBuilder::new();
    let mut any = false;
    for info in infos {
        any = true;
        for (name, value) in &info.labels {
            if name == METRIC_NAME || !(data.is_empty() || data.iter().any(|m| m.name == name)) {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if row.labels.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    if !any && !optional {
        return Ok(None);
    }
    let mut builder = LabelsBuilder::from_labels(&row.labels);
    for (name, value) in &added.build() {
        builder.set(name, value);
    }
    Ok(Some(builder.build()))
}
