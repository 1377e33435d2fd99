//! Deletes as clients of InfluxDB 2 send them: `POST /api/v2/delete?bucket=` with `{"start",
//! "stop", "predicate"}`.
//!
//! Both ends of the interval are deleted, as InfluxDB's engine does it. Tables without a tag that
//! the predicate names have nothing to delete, as there: no error.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chrono::DateTime;
use serde::Deserialize;
use tidelake_catalog::Database;
use tidelake_catalog::model::{
    ColumnType, METRIC_NAME, METRICS_TABLE, Matcher, TableKind, TimeRange, TimeUnit,
};

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::influx::predicate::{self, TagEquals};
use crate::node::backend::Backend;
use crate::service::context::{Delete, RequestContext};
use crate::service::database::check_name;
use crate::service::error::{Code, ServiceError};
use crate::service::maintain::Deletion;

/// Largest request body.
const MAX_BYTES: usize = 1 << 20;
const MEASUREMENT: &str = "_measurement";

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v2/delete", post(delete))
}

#[derive(Debug, Deserialize)]
struct Asked {
    start: String,
    stop: String,
    #[serde(default)]
    predicate: String,
}

async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = receive(&app, &caller, query.as_deref(), &headers, body).await;
    answer.map_or_else(
        |e| e.respond(Dialect::InfluxV2),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}

async fn receive(
    app: &App,
    caller: &RequestContext,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), ServiceError> {
    let params = Params::from_query(query);
    let bucket = params.get("bucket").ok_or_else(|| {
        ServiceError::bad_request("the parameter \"bucket\" is missing: it names the database")
    })?;
    check_name(bucket)?;
    let access = caller.access::<Delete>(bucket)?;
    let held = app.bodies.read(headers, body, MAX_BYTES).await?;
    let asked: Asked = serde_json::from_slice(&held.bytes).map_err(|e| {
        ServiceError::bad_request(format!(
            "the body must be JSON like {{\"start\": \"..\", \"stop\": \"..\", \"predicate\": \
             \"..\"}}: {e}"
        ))
    })?;
    let (start, stop) = (
        read_time("start", &asked.start)?,
        read_time("stop", &asked.stop)?,
    );
    if stop < start {
        return Err(ServiceError::bad_request("stop must not be before start"));
    }
    let comparisons = predicate::parse(&asked.predicate).map_err(ServiceError::bad_request)?;
    app.service.meet().await?;
    let backend = app.service.backend()?;
    let snapshot = backend.catalog().snapshot();
    let no_bucket = || ServiceError::new(Code::NotFound, format!("bucket {bucket:?} not found"));
    let database = snapshot.database(bucket).ok_or_else(no_bucket)?;
    let deletions = plan(backend, database, &comparisons, TimeRange::new(start, stop)).await?;
    app.service.delete(&access, deletions).await.map(drop)
}

/// Nanoseconds.
fn read_time(name: &str, text: &str) -> Result<i64, ServiceError> {
    let bad = |why: &str| {
        let shown: String = text.chars().take(60).collect();
        ServiceError::bad_request(format!(
            "{name} {shown:?} {why}, such as 2009-01-02T23:00:00Z"
        ))
    };
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| bad("is no time by RFC 3339"))?;
    time.timestamp_nanos_opt()
        .ok_or_else(|| bad("is not between the years 1678 and 2262"))
}

/// What goes of each table of a database.
async fn plan(
    backend: &Backend,
    database: &Database,
    comparisons: &[TagEquals],
    range: TimeRange,
) -> Result<Vec<Deletion>, ServiceError> {
    let (measurements, tags): (Vec<_>, Vec<_>) =
        comparisons.iter().partition(|c| c.key == MEASUREMENT);
    let measurement = match measurements.as_slice() {
        [] => None,
        [first, rest @ ..] if rest.iter().all(|other| other.value == first.value) => {
            Some(first.value.as_str())
        }
        // No row is of two measurements.
        _ => return Ok(Vec::new()),
    };
    let matchers: Vec<Matcher> = tags
        .iter()
        .map(|tag| Matcher::equal(tag.key.as_str(), tag.value.as_str()))
        .collect();
    let mut deletions = Vec::new();
    for table in database
        .tables
        .values()
        .filter(|table| table.schema.kind == TableKind::Wide)
    {
        let has_tag = |tag: &&TagEquals| {
            table
                .schema
                .column(&tag.key)
                .is_some_and(|column| column.kind == ColumnType::Tag)
        };
        if measurement.is_none_or(|name| name == &*table.name) && tags.iter().all(has_tag) {
            deletions.push(Deletion {
                table: table.name.to_string(),
                matchers: matchers.clone(),
                range,
            });
        }
    }
    let is_wide = measurement.is_some_and(|name| {
        database
            .table(name)
            .is_some_and(|table| table.schema.kind == TableKind::Wide)
    });
    if database.table(METRICS_TABLE).is_some() && !is_wide {
        let name = measurement.map(|name| Matcher::equal(METRIC_NAME, name));
        let matchers: Vec<Matcher> = name.into_iter().chain(matchers).collect();
        let range = to_milliseconds(range);
        if !range.is_empty()
            && backend
                .querier
                .has_samples(&database.name, &matchers, range)
                .await?
        {
            deletions.push(Deletion {
                table: METRICS_TABLE.to_owned(),
                matchers,
                range,
            });
        }
    }
    Ok(deletions)
}

/// The whole milliseconds in a range of nanoseconds.
fn to_milliseconds(range: TimeRange) -> TimeRange {
    let begun = i64::from(range.min.rem_euclid(1_000_000) > 0);
    TimeRange::new(
        TimeUnit::Nanosecond.to_millis(range.min) + begun,
        TimeUnit::Nanosecond.to_millis(range.max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(
            read_time("start", "1970-01-01T01:00:00.000000001+01:00").ok(),
            Some(1)
        );
        for bad in [
            "",
            "0",
            "1970-01-01",
            "yesterday",
            "0001-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
        ] {
            let message = read_time("stop", bad).unwrap_err().message;
            assert!(
                message.starts_with("stop ") && message.contains("2009"),
                "{message}"
            );
        }
    }

    #[test]
    fn milliseconds_in_a_range_of_nanoseconds() {
        let check = |min, max, expected: (i64, i64)| {
            let range = to_milliseconds(TimeRange::new(min, max));
            assert_eq!((range.min, range.max), expected);
        };
        check(0, 1_000_000, (0, 1));
        check(1, 1_999_999, (1, 1));
        check(1, 999_999, (1, 0));
        check(-1, -1, (0, -1));
        check(-1_000_000, 0, (-1, 0));
        check(i64::MIN, i64::MAX, (-9_223_372_036_854, 9_223_372_036_854));
    }
}
