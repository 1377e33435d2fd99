//! What statements want to have deleted.

use tidelake_catalog::model::{MatchOp, Matcher, TimeRange};

use super::ast::{Expr, Literal, Measurement, MeasurementName, Operator};
use super::condition::{Clock, MAX_TIME, MIN_TIME, split_time};
use super::error::InfluxqlError;
use super::plan::Measure;
use super::scope::measures;
use tidelake_catalog::snapshot::Snapshot;

/// Sets of comparisons that a condition may come to.
const MAX_SETS: usize = 100;

/// Rows of a table that go.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The table.
    pub table: String,
    /// All must match a series.
    pub matchers: Vec<Matcher>,
    /// The times, in ns.
    pub range: TimeRange,
}

/// What `DELETE` and `DROP SERIES` delete of a database. `now` is in ns.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if the condition compares anything but tags and the time.
pub fn deletions(
    snapshot: &Snapshot,
    database: &str,
    sources: &[Measurement],
    condition: Option<&Expr>,
    now: i64,
) -> Result<Vec<Deleted>, InfluxqlError> {
    let clock = Clock { now, zone: None };
    let (rest, bounds) = match condition {
        Some(condition) => split_time(condition, clock)?,
        None => (None, Default::default()),
    };
    let range = TimeRange::new(
        bounds.min.unwrap_or(MIN_TIME),
        bounds.max.unwrap_or(MAX_TIME),
    );
    // Without bounds everything goes.
    let range = match (bounds.min, bounds.max) {
        (None, None) => TimeRange::ALL,
        _ => range,
    };
    let all = [MeasurementName::All];
    let names: Vec<&MeasurementName> = match sources.is_empty() {
        true => all.iter().collect(),
        false => sources.iter().map(|source| &source.name).collect(),
    };
    let found: Vec<Measure> = names
        .into_iter()
        .flat_map(|name| measures(snapshot, database, name))
        .collect();
    if let Some(rest) = &rest {
        for measure in &found {
            refuse_fields(rest, &measure.schema)?;
        }
    }
    let sets = match &rest {
        Some(rest) => match_sets(rest)?,
        None => vec![Vec::new()],
    };
    let mut deleted = Vec::new();
    for measure in found {
        deleted.extend(sets.iter().map(|matchers| Deleted {
            table: measure.table.to_string(),
            matchers: matchers.clone(),
            range,
        }));
    }
    Ok(deleted)
}

fn refuse_fields(
    condition: &Expr,
    schema: &tidelake_catalog::model::TableSchema,
) -> Result<(), InfluxqlError> {
    let mut field = None;
    condition.walk(&mut |expr| {
        if let Expr::Reference(reference) = expr
            && schema
                .named_fields()
                .any(|(name, _)| name == reference.name)
            && !schema.tags().any(|tag| *tag.name == *reference.name)
        {
            field = Some(reference.name.clone());
        }
    });
    match field {
        Some(field) => Err(InfluxqlError::Invalid(format!(
            "fields not supported in WHERE clause during deletion: {field} is a field"
        ))),
        None => Ok(()),
    }
}

/// The sets of comparisons of which one must hold as a whole.
fn match_sets(condition: &Expr) -> Result<Vec<Vec<Matcher>>, InfluxqlError> {
    let too_many =
        || InfluxqlError::invalid("the condition of the deletion is too complex: delete in steps");
    match condition {
        Expr::Logical(Operator::Or, terms) => {
            let mut sets = Vec::new();
            for term in terms {
                sets.extend(match_sets(term)?);
                if sets.len() > MAX_SETS {
                    return Err(too_many());
                }
            }
            Ok(sets)
        }
        Expr::Logical(_, terms) => {
            let mut sets: Vec<Vec<Matcher>> = vec![Vec::new()];
            for term in terms {
                let more = match_sets(term)?;
                if sets.len() * more.len() > MAX_SETS {
                    return Err(too_many());
                }
                let joined = sets.iter().flat_map(|set| {
                    more.iter()
                        .map(move |more| set.iter().chain(more).cloned().collect())
                });
                sets = joined.collect();
            }
            Ok(sets)
        }
        Expr::Binary(op, left, right) => Ok(vec![vec![matcher(*op, left, right)?]]),
        _ => Err(InfluxqlError::invalid(
            "a deletion compares tags with texts, and the time",
        )),
    }
}

fn matcher(op: Operator, left: &Expr, right: &Expr) -> Result<Matcher, InfluxqlError> {
    let wrong = || InfluxqlError::invalid("a deletion compares tags with texts, and the time");
    let (tag, value) = match (left, right) {
        (Expr::Reference(tag), Expr::Literal(value)) => (tag, value),
        (Expr::Literal(value), Expr::Reference(tag)) => (tag, value),
        _ => return Err(wrong()),
    };
    let (op, value) = match (op, value) {
        (Operator::Equal, Literal::String(value)) => (MatchOp::Equal, value.clone()),
        (Operator::NotEqual, Literal::String(value)) => (MatchOp::NotEqual, value.clone()),
        // A matcher's pattern is of the whole text.
        (Operator::Matches, Literal::Regex(pattern)) => (MatchOp::Regex, anywhere(pattern)),
        (Operator::NotMatches, Literal::Regex(pattern)) => (MatchOp::NotRegex, anywhere(pattern)),
        _ => return Err(wrong()),
    };
    Matcher::new(tag.name.clone(), op, value).map_err(InfluxqlError::Invalid)
}

fn anywhere(pattern: &super::ast::Pattern) -> String {
    format!("(?s:.*?)(?:{})(?s:.*)", pattern.regex.as_str())
}
