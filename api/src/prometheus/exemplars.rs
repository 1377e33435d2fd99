//! Exemplars: `/api/v1/query_exemplars`, by GET and by POST form.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tidelake_catalog::model::TimeRange;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::node::backend::{SeriesExemplars, parse_selectors};
use crate::prometheus::answer::list_answer;
use crate::prometheus::go_float::{write_time, write_value};
use crate::prometheus::json::write_labels;
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::context::{Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::labels::Selection;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(
        "/api/v1/query_exemplars",
        get(query_exemplars).post(query_exemplars),
    )
}

async fn query_exemplars(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &caller, &path, query.as_deref(), &headers, body)
        .await
        .unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}

async fn answer(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let access = caller.access::<Read>(&database::of_prometheus(path, headers)?)?;
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
    let usual = app.service.config.allow_partial_results;
    let selection = Selection {
        matchers: sets,
        range: TimeRange::new(min, max),
        limit: 0,
        as_of: parameters::as_of(&params)?,
        partial: parameters::partial_response(&params, usual)?,
    };
    let (found, slot) = app.service.exemplars(&access, selection).await?;
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
