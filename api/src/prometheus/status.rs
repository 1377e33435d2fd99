//! `/api/v1/status/*`: what this server is, how it is set, and what makes a database large.
//!
//! The names are those of Prometheus. What it says of Go's runtime has no counterpart here: those
//! fields are there, because clients decode them, and are empty or 0.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use tidelake_catalog::model::TimeRange;
use url::Url;

use crate::config::Config;
use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::influx::limits::status;
use crate::node::backend::{Ranking, show_retention};
use crate::prometheus::answer::{success, success_with};
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::context::{Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::labels::Selection;
use crate::service::storage::SegmentSums;

/// What `status/tsdb` looks at when it is not told: about as long as the head of a Prometheus
/// reaches back.
const RECENT_MS: i64 = 3 * 3_600_000;
const DEFAULT_RANKS: usize = 10;
const MAX_RANKS: usize = 10_000;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/status/buildinfo", get(build_info))
        .route("/api/v1/status/config", get(config))
        .route("/api/v1/status/flags", get(flags))
        .route("/api/v1/status/runtimeinfo", get(runtime_info))
        .route("/api/v1/status/tsdb", get(tsdb))
        .route("/api/v1/status/segments", get(segments))
        .route("/api/v1/status/limits", get(limits))
}

async fn build_info() -> Response {
    // Without "features", Grafana takes the server for a plain Prometheus, whose API this is.
    success(json!({
        "version": env!("CARGO_PKG_VERSION"), "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

/// The settings by the names of their flags.
fn settings(config: &Config) -> Map<String, Value> {
    let config = Config {
        s3_endpoint: config.s3_endpoint.as_deref().map(without_password),
        ..config.clone()
    };
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        // A structure of plain fields always becomes an object.
        _ => Map::new(),
    }
}

/// An address may have a user and a password in it.
fn without_password(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else {
        return address.to_owned();
    };
    // Both fail where there can be neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

async fn flags(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    if let Err(error) = caller.server() {
        return error.respond(Dialect::Prometheus);
    }
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let flags: Map<_, _> = settings(&app.service.config)
        .into_iter()
        .map(|(key, value)| (key.replace('_', "-"), text(value).into()))
        .collect();
    success(flags.into())
}

async fn config(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    if let Err(error) = caller.server() {
        return error.respond(Dialect::Prometheus);
    }
    // JSON values are YAML values.
    let lines: Vec<String> = settings(&app.service.config)
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect();
    success(json!({ "yaml": lines.concat() }))
}

async fn runtime_info(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let access = caller.access::<Read>(&database::of_prometheus(&path, &headers)?)?;
        let snapshot = app.service.backend()?.catalog().snapshot();
        let retention = snapshot
            .database(access.database())
            .map(|database| show_retention(database.retention));
        // What the machine is called is no business of those who read one database.
        let is_shown = caller.server().is_ok();
        let folder = std::env::current_dir().map(|folder| folder.to_string_lossy().into_owned());
        Ok(success(json!({
            "startTime": rfc3339(app.service.started_ms),
            "CWD": folder.ok().filter(|_| is_shown).unwrap_or_default(),
            "hostname": Some(hostname()).filter(|_| is_shown).unwrap_or_default(),
            "serverTime": rfc3339((app.service.now_ms)()),
            "reloadConfigSuccess": true,
            "lastConfigTime": rfc3339(app.service.started_ms),
            "corruptionCount": 0,
            "goroutineCount": 0,
            "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
            "GOMEMLIMIT": 0,
            "GOGC": "",
            "GODEBUG": "",
            "storageRetention": retention.unwrap_or_default(),
        })))
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(
        |_| std::env::var("HOSTNAME").unwrap_or_default(),
        |name| name.trim().to_owned(),
    )
}

/// What databases and tokens may take, and what they take.
async fn limits(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let answer = || {
        caller.server()?;
        Ok(success(status(&app)?))
    };
    answer().unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

/// The series of the last hours, or of `start` to `end`: counts, and the `limit` largest of each
/// kind.
async fn tsdb(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let access = caller.access::<Read>(&database::of_prometheus(&path, &headers)?)?;
        let params = read_params(&app, q.as_deref(), &headers, body).await?;
        let ranks = ranks(&params)?;
        let now_ms = (app.service.now_ms)();
        let start_ms = parameters::time_or(&params, "start", now_ms.saturating_sub(RECENT_MS))?;
        let end_ms = parameters::time_or(&params, "end", TimeRange::ALL.max)?;
        let usual = app.service.config.allow_partial_results;
        let asked = Selection {
            matchers: Vec::new(),
            range: TimeRange::new(start_ms, end_ms),
            limit: ranks,
            as_of: parameters::as_of(&params)?,
            partial: parameters::partial_response(&params, usual)?,
        };
        let answer = app.service.cardinality(&access, &asked).await?;
        let found = answer.value;
        // As an empty head says it.
        let times = found.times.unwrap_or(TimeRange::new(i64::MAX, i64::MIN));
        let data = json!({
            "headStats": {
                "numSeries": found.series, "numLabelPairs": found.label_pairs, "chunkCount": found.pieces,
                "minTime": times.min, "maxTime": times.max,
            },
            "seriesCountByMetricName": ranking(found.by_metric),
            "labelValueCountByLabelName": ranking(found.values_by_label),
            "memoryInBytesByLabelName": ranking(found.bytes_by_label),
            "seriesCountByLabelValuePair": ranking(found.by_pair),
            "storedStats": { "numSamples": found.stored.samples, "bytes": found.stored.bytes },
            "storedBytesByMetricName": ranking(found.stored_bytes_by_metric),
            "sampleCountByMetricName": ranking(found.samples_by_metric),
        });
        Ok(success_with(data, answer.warnings))
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

/// The segments of a database by level, day and table.
async fn segments(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let access = caller.access::<Read>(&database::of_prometheus(&path, &headers)?)?;
        let stored = app.service.stored(&access).await?;
        let levels = stored.levels.into_iter();
        let days = stored.days.into_iter();
        let tables = stored.tables.into_iter();
        let levels: Vec<Value> = levels
            .map(|(level, sums)| with_sums(json!({ "level": level }), sums))
            .collect();
        let days: Vec<Value> = days
            .map(|(day, level, sums)| {
                with_sums(json!({ "day": day.to_string(), "level": level }), sums)
            })
            .collect();
        let tables: Vec<Value> = tables
            .map(|table| {
                let (first, last) = table.days.unzip();
                let shown = json!({
                    "table": table.name, "retentionMs": table.retention_ms,
                    "firstDay": first.map(|day| day.to_string()), "lastDay": last.map(|day| day.to_string()),
                });
                with_sums(shown, table.sums)
            })
            .collect();
        Ok(success(
            json!({ "levels": levels, "days": days, "tables": tables }),
        ))
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

fn with_sums(mut shown: Value, sums: SegmentSums) -> Value {
    shown["segments"] = sums.segments.into();
    shown["rows"] = sums.rows.into();
    shown["dataBytes"] = sums.data_bytes.into();
    shown["indexBytes"] = sums.index_bytes.into();
    shown
}

fn ranks(params: &Params) -> Result<usize, ServiceError> {
    let Some(text) = params.get("limit") else {
        return Ok(DEFAULT_RANKS);
    };
    let limit = text.parse::<usize>().ok().filter(|limit| *limit > 0);
    match limit.ok_or_else(|| ServiceError::bad_request("limit must be a positive number"))? {
        limit if limit > MAX_RANKS => Err(ServiceError::bad_request(format!(
            "limit must not exceed {MAX_RANKS}"
        ))),
        limit => Ok(limit),
    }
}

fn ranking(ranking: Ranking) -> Value {
    ranking
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_rankings() {
        let check = |query: &str, expected: Result<usize, &str>| {
            let got = ranks(&Params::from_query(Some(query))).map_err(|error| error.message);
            assert_eq!(got, expected.map_err(str::to_owned), "{query}");
        };
        check("", Ok(10));
        check("limit=1", Ok(1));
        check("limit=10000", Ok(10_000));
        check("limit=10001", Err("limit must not exceed 10000"));
        for bad in ["0", "-1", "x", "1.5"] {
            check(
                &format!("limit={bad}"),
                Err("limit must be a positive number"),
            );
        }
    }

    #[test]
    fn settings_have_the_names_of_flags_and_no_secrets() {
        let config = Config {
            store: Some("s3://b/p".into()),
            s3_endpoint: Some("https://me:hunter2@s3.example:9000/".into()),
            ..Config::default()
        };
        let fields = settings(&config);
        assert_eq!(fields["store"], json!("s3://b/p"));
        assert_eq!(fields["lookback_ms"], json!(300_000));
        assert_eq!(fields["s3_endpoint"], json!("https://s3.example:9000/"));
        let named = ["secret", "password", "token", "key"];
        let is_named = |key: &str| named.iter().any(|word| key.contains(word));
        // Of secrets there are only the files that they are in.
        let secrets: Vec<&str> = fields
            .keys()
            .map(String::as_str)
            .filter(|key| is_named(key))
            .collect();
        assert_eq!(secrets, ["admin_token_file", "tls_key"]);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
    }
}
