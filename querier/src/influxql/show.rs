//! `SHOW`: what there is, from series indexes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelake_catalog::Retention;
use tidelake_catalog::model::{Labels, TimeRange};
use tidelake_catalog::segment::LabelTexts;
use tidelake_catalog::snapshot::Database;

use super::ast::{
    Counted, Expr, Measurement, MeasurementName, Nothing, ShowScope, Statement, TagKeys,
};
use super::condition::{Clock, MAX_TIME, MIN_TIME, split_time};
use super::error::InfluxqlError;
use super::eval::{At, Node};
use super::plan::Measure;
use super::scope::{Scope, measures};
use super::select::{Context, Series};
use super::value::{Column, DataType, Value, ValueRef};
use crate::memory::QueryBytes;

/// Bytes that a series of a plan takes beside its labels.
const SERIES_BYTES: usize = 200;

/// Answers a `SHOW`.
pub(super) async fn show(
    context: &Context,
    statement: &Statement,
    scope: &Scope<'_>,
    now: i64,
) -> Result<(Vec<Series>, QueryBytes), InfluxqlError> {
    let held = context.pool.try_hold(0)?;
    let mut show = Show {
        context,
        scope,
        now,
        held,
    };
    let series = show.answer(statement).await?;
    let bytes = series.iter().map(Series::memory_size).sum();
    show.held.try_grow(bytes)?;
    Ok((series, show.held))
}

struct Show<'a> {
    context: &'a Context,
    scope: &'a Scope<'a>,
    now: i64,
    held: QueryBytes,
}

/// What a condition says of series.
struct Condition {
    node: Option<Node>,
    tags: Vec<String>,
    range: TimeRange,
}

impl Condition {
    fn passes(&self, measure: &Measure, labels: &Labels) -> bool {
        let Some(node) = &self.node else { return true };
        let value = |at: At| match at {
            At::Slot(at) if self.tags[at] == "_name" => ValueRef::String(&measure.name),
            At::Slot(at) => ValueRef::String(labels.get(&self.tags[at]).unwrap_or("")),
            At::Call(_) => ValueRef::Null,
        };
        node.eval(&value) == ValueRef::Boolean(true)
    }
}

impl Show<'_> {
    async fn answer(&mut self, statement: &Statement) -> Result<Vec<Series>, InfluxqlError> {
        match statement {
            Statement::ShowDatabases => Ok(vec![self.databases()]),
            Statement::ShowPolicies(database) => self.policies(database.as_deref()),
            Statement::ShowNothing(nothing) => Ok(vec![nothing_of(*nothing)]),
            Statement::ShowMeasurements(scope, name) => {
                self.measurements(scope, name.as_ref()).await
            }
            Statement::ShowSeries(scope) => self.series(scope).await,
            Statement::ShowTagKeys(scope) => self.tag_keys(scope).await,
            Statement::ShowTagValues(scope, keys) => self.tag_values(scope, keys).await,
            Statement::ShowFieldKeys(scope) => self.field_keys(scope),
            Statement::ShowCardinality(scope, counted, keys) => {
                self.cardinality(scope, *counted, keys.as_ref()).await
            }
            _ => Err(InfluxqlError::Internal(
                "a statement that is no SHOW".to_owned(),
            )),
        }
    }

    fn databases(&self) -> Series {
        let snapshot = self.context.tables.snapshot();
        let names = snapshot.databases().filter(|database| {
            // Retention policies are shown with their databases.
            let is_policy = database
                .name
                .split_once('/')
                .is_some_and(|(of, _)| snapshot.database(of).is_some());
            !is_policy && (self.scope.may_read)(&database.name)
        });
        let names = names.map(|database| Value::String(Arc::clone(&database.name)));
        list(Some("databases"), "name", names.collect())
    }

    fn policies(&self, database: Option<&str>) -> Result<Vec<Series>, InfluxqlError> {
        let name = self.scope.database(database)?;
        let snapshot = self.context.tables.snapshot();
        let found = snapshot
            .database(name)
            .filter(|_| (self.scope.may_read)(name));
        let Some(database) = found else {
            return Err(InfluxqlError::NoDatabase(name.chars().take(80).collect()));
        };
        let prefix = format!("{name}/");
        let mut policies: Vec<(&str, &Database)> = vec![(&database.policies.own, database)];
        policies.extend(
            snapshot
                .databases()
                .filter_map(|other| Some((other.name.strip_prefix(&prefix)?, &**other))),
        );
        let mut columns: [Vec<Value>; 5] = Default::default();
        for (policy, stored) in policies {
            let row = [
                Value::String(policy.into()),
                Value::String(go_duration(stored.retention).into()),
                Value::String("168h0m0s".into()),
                Value::Integer(1),
                Value::Boolean(*policy == *database.policies.default),
            ];
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let names = [
            "name",
            "duration",
            "shardGroupDuration",
            "replicaN",
            "default",
        ];
        Ok(vec![Series {
            name: None,
            tags: Vec::new(),
            columns: names.iter().map(|name| (*name).to_owned()).collect(),
            times: None,
            zone: None,
            len: columns[0].len(),
            values: columns.into_iter().map(Column::Values).collect(),
        }])
    }

    /// The measurements that a statement is about; none if there is no such database.
    fn measures(&self, scope: &ShowScope) -> Result<Vec<Measure>, InfluxqlError> {
        let snapshot = self.context.tables.snapshot();
        let name = self.scope.database(scope.database.as_deref())?;
        let all = [Measurement {
            database: None,
            policy: None,
            name: MeasurementName::All,
        }];
        let sources = if scope.sources.is_empty() {
            &all
        } else {
            scope.sources.as_slice()
        };
        let mut found: BTreeMap<Arc<str>, Measure> = BTreeMap::new();
        for source in sources {
            let database = source.database.as_deref().unwrap_or(name);
            let stored = match self
                .scope
                .stored(&snapshot, database, source.policy.as_deref())
            {
                // A database that does not exist has nothing to show.
                Err(InfluxqlError::NoDatabase(_)) => continue,
                stored => stored?,
            };
            for measure in measures(&snapshot, &stored, &source.name) {
                found.insert(Arc::clone(&measure.name), measure);
            }
        }
        Ok(found.into_values().collect())
    }

    fn condition(&self, condition: Option<&Expr>) -> Result<Condition, InfluxqlError> {
        let clock = Clock {
            now: self.now,
            zone: None,
        };
        let mut tags: Vec<String> = Vec::new();
        let Some(condition) = condition else {
            return Ok(Condition {
                node: None,
                tags,
                range: TimeRange::ALL,
            });
        };
        let (rest, bounds) = split_time(condition, clock)?;
        let node = rest.map(|rest| {
            Node::build(&rest, &mut |expr| match expr {
                Expr::Reference(reference) => {
                    let at = tags.iter().position(|tag| *tag == reference.name);
                    let at = at.unwrap_or_else(|| {
                        tags.push(reference.name.clone());
                        tags.len() - 1
                    });
                    Ok(Node::Value(At::Slot(at)))
                }
                _ => Err(InfluxqlError::invalid("invalid expression in a condition")),
            })
        });
        let node = node.transpose()?;
        Ok(Condition {
            node,
            tags,
            range: TimeRange::new(
                bounds.min.unwrap_or(MIN_TIME),
                bounds.max.unwrap_or(MAX_TIME),
            ),
        })
    }

    /// The labels of a measurement's series that pass.
    async fn labels_of(
        &mut self,
        measure: &Measure,
        condition: &Condition,
    ) -> Result<Vec<Labels>, InfluxqlError> {
        self.context.check()?;
        let found = self
            .context
            .tables
            .series(&measure.database, &measure.table, &[], condition.range)
            .await?;
        self.held.try_grow(found.len() * SERIES_BYTES)?;
        let labels = found.iter().map(|series| series.labels.clone());
        Ok(labels
            .filter(|labels| condition.passes(measure, labels))
            .collect())
    }

    /// The names of a measurement's tags, or the values of one; sorted.
    async fn texts_of(
        &mut self,
        measure: &Measure,
        texts: LabelTexts<'_>,
        condition: &Condition,
    ) -> Result<Vec<String>, InfluxqlError> {
        self.context.check()?;
        if condition.node.is_some() {
            let labels = self.labels_of(measure, condition).await?;
            let mut found = BTreeSet::new();
            for labels in &labels {
                match texts {
                    LabelTexts::Names => {
                        found.extend(labels.iter().map(|(name, _)| name.to_owned()));
                    }
                    LabelTexts::Values(name) => found.extend(labels.get(name).map(str::to_owned)),
                }
            }
            return Ok(found.into_iter().collect());
        }
        let tables = &self.context.tables;
        let lists = tables
            .label_texts(
                &measure.database,
                &measure.table,
                texts,
                &[],
                condition.range,
            )
            .await?;
        let found: BTreeSet<String> = lists.into_iter().flatten().collect();
        let bytes = found.iter().map(|text| text.len() + 40).sum();
        self.held.try_grow(bytes)?;
        Ok(found.into_iter().collect())
    }

    async fn has_series(
        &mut self,
        measure: &Measure,
        condition: &Condition,
    ) -> Result<bool, InfluxqlError> {
        self.context.check()?;
        if condition.node.is_some() {
            return Ok(!self.labels_of(measure, condition).await?.is_empty());
        }
        let tables = &self.context.tables;
        let range = condition.range;
        Ok(tables
            .has_series(&measure.database, &measure.table, &[], range)
            .await?)
    }

    async fn measurements(
        &mut self,
        scope: &ShowScope,
        name: Option<&MeasurementName>,
    ) -> Result<Vec<Series>, InfluxqlError> {
        let condition = self.condition(scope.condition.as_ref())?;
        let mut names = Vec::new();
        for measure in self.measures(scope)? {
            let is_meant = match name {
                None | Some(MeasurementName::All) => true,
                Some(MeasurementName::Name(name)) => *name == *measure.name,
                Some(MeasurementName::Regex(pattern)) => pattern.regex.is_match(&measure.name),
            };
            if is_meant && self.has_series(&measure, &condition).await? {
                names.push(Value::String(Arc::clone(&measure.name)));
            }
        }
        let names = limited(names, scope.limit, scope.offset);
        Ok(match names.is_empty() {
            true => Vec::new(),
            false => vec![list(Some("measurements"), "name", names)],
        })
    }

    async fn series(&mut self, scope: &ShowScope) -> Result<Vec<Series>, InfluxqlError> {
        let condition = self.condition(scope.condition.as_ref())?;
        let mut keys = Vec::new();
        for measure in self.measures(scope)? {
            let labels = self.labels_of(&measure, &condition).await?;
            keys.extend(
                labels
                    .iter()
                    .map(|labels| series_key(&measure.name, labels)),
            );
        }
        keys.sort_unstable();
        let keys = keys
            .into_iter()
            .map(|key| Value::String(key.into()))
            .collect();
        let keys = limited(keys, scope.limit, scope.offset);
        Ok(match keys.is_empty() {
            true => Vec::new(),
            false => vec![list(None, "key", keys)],
        })
    }

    async fn tag_keys(&mut self, scope: &ShowScope) -> Result<Vec<Series>, InfluxqlError> {
        let condition = self.condition(scope.condition.as_ref())?;
        let mut answer = Vec::new();
        for measure in self.measures(scope)? {
            let keys = self
                .texts_of(&measure, LabelTexts::Names, &condition)
                .await?;
            let keys = keys
                .into_iter()
                .map(|key| Value::String(key.into()))
                .collect();
            let keys = limited(keys, scope.limit, scope.offset);
            if !keys.is_empty() {
                answer.push(list(Some(&measure.name), "tagKey", keys));
            }
        }
        Ok(limited(answer, scope.series_limit, scope.series_offset))
    }

    async fn tag_values(
        &mut self,
        scope: &ShowScope,
        keys: &TagKeys,
    ) -> Result<Vec<Series>, InfluxqlError> {
        let condition = self.condition(scope.condition.as_ref())?;
        let mut answer = Vec::new();
        for measure in self.measures(scope)? {
            let mut columns: [Vec<Value>; 2] = Default::default();
            let tags: Vec<Arc<str>> = measure
                .schema
                .tags()
                .map(|tag| Arc::clone(&tag.name))
                .collect();
            let mut tags: Vec<Arc<str>> =
                tags.into_iter().filter(|tag| is_meant(keys, tag)).collect();
            tags.sort_unstable();
            for tag in tags {
                let values = self
                    .texts_of(&measure, LabelTexts::Values(&tag), &condition)
                    .await?;
                for value in values.into_iter().filter(|value| !value.is_empty()) {
                    columns[0].push(Value::String(Arc::clone(&tag)));
                    columns[1].push(Value::String(value.into()));
                }
            }
            let columns = columns.map(|column| limited(column, scope.limit, scope.offset));
            if !columns[0].is_empty() {
                answer.push(table(&measure.name, ["key", "value"], columns));
            }
        }
        Ok(limited(answer, scope.series_limit, scope.series_offset))
    }

    fn field_keys(&mut self, scope: &ShowScope) -> Result<Vec<Series>, InfluxqlError> {
        let mut answer = Vec::new();
        for measure in self.measures(scope)? {
            let mut fields: Vec<(Arc<str>, DataType)> = measure
                .schema
                .named_fields()
                .filter_map(|(name, field)| Some((name.into(), DataType::of(field.kind)?)))
                .collect();
            fields.sort_unstable();
            let columns = [
                fields
                    .iter()
                    .map(|(name, _)| Value::String(Arc::clone(name)))
                    .collect(),
                fields
                    .iter()
                    .map(|(_, kind)| Value::String(kind.name().into()))
                    .collect(),
            ];
            let columns = columns.map(|column| limited(column, scope.limit, scope.offset));
            if !columns[0].is_empty() {
                answer.push(table(&measure.name, ["fieldKey", "fieldType"], columns));
            }
        }
        Ok(limited(answer, scope.series_limit, scope.series_offset))
    }

    async fn cardinality(
        &mut self,
        scope: &ShowScope,
        counted: Counted,
        keys: Option<&TagKeys>,
    ) -> Result<Vec<Series>, InfluxqlError> {
        let condition = self.condition(scope.condition.as_ref())?;
        let count = |number: usize| vec![Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))];
        let mut answer = Vec::new();
        let mut total = 0;
        for measure in self.measures(scope)? {
            let number = match counted {
                Counted::Series => self.labels_of(&measure, &condition).await?.len(),
                Counted::Measurements => usize::from(self.has_series(&measure, &condition).await?),
                Counted::TagKeys => self
                    .texts_of(&measure, LabelTexts::Names, &condition)
                    .await?
                    .len(),
                Counted::FieldKeys => measure.schema.fields().count(),
                Counted::TagValues => {
                    let mut number = 0;
                    let tags: Vec<Arc<str>> = measure
                        .schema
                        .tags()
                        .map(|tag| Arc::clone(&tag.name))
                        .collect();
                    let is_counted = |tag: &&Arc<str>| keys.is_none_or(|keys| is_meant(keys, tag));
                    for tag in tags.iter().filter(is_counted) {
                        let texts = LabelTexts::Values(tag);
                        number += self.texts_of(&measure, texts, &condition).await?.len();
                    }
                    number
                }
            };
            total += number;
            if number > 0 {
                answer.push(list(Some(&measure.name), "count", count(number)));
            }
        }
        Ok(match counted {
            Counted::Series | Counted::Measurements => {
                vec![list(None, "cardinality estimation", count(total))]
            }
            _ => answer,
        })
    }
}

fn is_meant(keys: &TagKeys, tag: &str) -> bool {
    match keys {
        TagKeys::OneOf(keys) => keys.iter().any(|key| key == tag),
        TagKeys::NotOneOf(keys) => !keys.iter().any(|key| key == tag),
        TagKeys::Matching(pattern) => pattern.regex.is_match(tag),
        TagKeys::NotMatching(pattern) => !pattern.regex.is_match(tag),
    }
}

fn limited<T>(items: Vec<T>, limit: u64, offset: u64) -> Vec<T> {
    if limit == 0 && offset == 0 {
        return items;
    }
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let most = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    items.into_iter().skip(offset).take(most).collect()
}

fn list(name: Option<&str>, column: &str, values: Vec<Value>) -> Series {
    Series {
        name: name.map(Into::into),
        tags: Vec::new(),
        columns: Arc::from([column.to_owned()]),
        times: None,
        zone: None,
        len: values.len(),
        values: vec![Column::Values(values)],
    }
}

fn table(name: &Arc<str>, names: [&str; 2], columns: [Vec<Value>; 2]) -> Series {
    Series {
        name: Some(Arc::clone(name)),
        tags: Vec::new(),
        columns: names.iter().map(|name| (*name).to_owned()).collect(),
        times: None,
        zone: None,
        len: columns[0].len(),
        values: columns.into_iter().map(Column::Values).collect(),
    }
}

fn nothing_of(nothing: Nothing) -> Series {
    let columns: &[&str] = match nothing {
        Nothing::ContinuousQueries => &["name", "query"],
        Nothing::Subscriptions => &["retention_policy", "name", "mode", "destinations"],
        Nothing::Users => &["user", "admin"],
    };
    Series {
        name: None,
        tags: Vec::new(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        times: None,
        zone: None,
        len: 0,
        values: columns.iter().map(|_| Column::Absent).collect(),
    }
}

/// A series as line protocol writes it.
fn series_key(measure: &str, labels: &Labels) -> String {
    let mut key = String::new();
    let escape = |text: &str, special: &[char], key: &mut String| {
        for c in text.chars() {
            if special.contains(&c) {
                key.push('\\');
            }
            key.push(c);
        }
    };
    escape(measure, &[',', ' '], &mut key);
    for (name, value) in labels.iter() {
        key.push(',');
        escape(name, &[',', '=', ' '], &mut key);
        key.push('=');
        escape(value, &[',', '=', ' '], &mut key);
    }
    key
}

/// A retention as Go writes a duration.
fn go_duration(retention: Retention) -> String {
    let Retention::Millis(ms) = retention else {
        return "0s".to_owned();
    };
    let (hours, rest) = (ms / 3_600_000, ms % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    let seconds = match rest % 1000 {
        0 => format!("{}s", rest / 1000),
        _ => format!("{}s", rest as f64 / 1000.0),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}
