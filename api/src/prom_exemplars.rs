//! Exemplars: `/api/v1/query_exemplars`, by GET and by POST form.
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tidelake_catalog::model::TimeRange;

use crate::app::App;
use crate::backend::{SeriesExemplars, parse_selectors};
use crate::database;
use crate::error::{ApiError, Dialect, Kind};
use crate::go_float::{write_time, write_value};
use crate::prom_answer::list_answer;
use crate::prom_json::write_labels;
use crate::prom_params as parameters;
use crate::prom_query::read_params;
use crate::query_slots::Language;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(
        "/api/v1/query_exemplars",
        get(query_exemplars).post(query_exemplars),
    )
}

async fn query_exemplars(
    State(app): State<Arc<App>>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &path, query.as_deref(), &headers, body)
        .await
        .unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}

async fn answer(
    app: &App,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let database = database::of_prometheus(path, headers)?;
    let params = read_params(app, query, headers, body).await?;
    let min = parameters::time_or(&params, "start", TimeRange::ALL.min)?;
    let max = parameters::time_or(&params, "end", TimeRange::ALL.max)?;
    if max < min {
        return Err(parameters::invalid(
            "end",
            "end timestamp must not be before start timestamp",
        ));
    }
    let sets = parse_selectors(params.get("query").unwrap_or(""))
        .map_err(|error| parameters::invalid("query", error))?;
    let partial = parameters::partial_response(&params, app.config.allow_partial_results)?;
    let querier = app.querier(parameters::as_of(&params)?).await?;
    let slot = app.query_slots.enter(Language::Exemplars).await?;
    let most = app.config.query_timeout();
    let max_samples = app.config.max_query_samples;
    let found = app.compute(async move {
        let range = TimeRange::new(min, max);
        querier
            .exemplars(&database, &sets, range, max_samples, partial)
            .await
    });
    let late = || {
        ApiError::new(
            Kind::Timeout,
            format!(
                "the query ran longer than query_timeout_ms = {}",
                most.as_millis()
            ),
        )
    };
    let in_time = async {
        tokio::time::timeout(most, found)
            .await
            .map_err(|_| late())?
    };
    let found = slot.watch(in_time).await?;
    list_answer(found, write_series, &app.pace(), slot).await
}

/// A series with its exemplars as Prometheus writes them: values as texts, times as seconds.
fn write_series(out: &mut Vec<u8>, series: &SeriesExemplars) {
    out.extend_from_slice(b"{\"seriesLabels\":");
    write_labels(out, &series.labels);
    out.extend_from_slice(b",\"exemplars\":[");
    for (at, exemplar) in series.exemplars.iter().enumerate() {
        out.extend_from_slice(if at > 0 {
            b",{\"labels\":"
        } else {
            b"{\"labels\":"
        });
        write_labels(out, &exemplar.labels);
        out.extend_from_slice(b",\"value\":\"");
        write_value(out, exemplar.value);
        out.extend_from_slice(b"\",\"timestamp\":");
        write_time(out, exemplar.time);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::Labels;
    use tidelake_querier::exemplars::Exemplar;

    use super::*;

    #[test]
    fn a_series_is_written_as_by_prometheus() {
        let exemplar = |trace: &str, value, time| Exemplar {
            labels: Labels::from_pairs([("trace_id", trace)]),
            value,
            time,
        };
        let series = SeriesExemplars {
            labels: Labels::from_pairs([("__name__", "x_bucket"), ("le", "1")]),
            exemplars: vec![
                exemplar("a\"", 0.25, 1_600_096_945_479),
                exemplar("b", f64::INFINITY, 1_600_096_955_000),
            ],
        };
        let mut out = Vec::new();
        write_series(&mut out, &series);
        let expected = concat!(
            r#"{"seriesLabels":{"__name__":"x_bucket","le":"1"},"exemplars":["#,
            r#"{"labels":{"trace_id":"a\""},"value":"0.25","timestamp":1600096945.479},"#,
            r#"{"labels":{"trace_id":"b"},"value":"+Inf","timestamp":1600096955}]}"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
