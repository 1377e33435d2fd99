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
use crate::backend::{Annotations, Answer, SeriesExemplars, parse_selectors};
use crate::database;
use crate::error::{ApiError, Dialect, Kind};
use crate::go_float::{write_time, write_value};
use crate::prom_json::{write_annotations, write_labels, write_list};
use crate::prom_params as parameters;
use crate::prom_query::{json_body, read_params};

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/query_exemplars", get(query_exemplars).post(query_exemplars))
}

async fn query_exemplars(
    State(app): State<Arc<App>>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &path, query.as_deref(), &headers, body).await.unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}

async fn answer(app: &App, path: &RawPathParams, query: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let database = database::of_prometheus(path, headers)?;
    let params = read_params(app, query, headers, body).await?;
    let min = parameters::time_or(&params, "start", TimeRange::ALL.min)?;
    let max = parameters::time_or(&params, "end", TimeRange::ALL.max)?;
    if max < min {
        return Err(parameters::invalid("end", "end timestamp must not be before start timestamp"));
    }
    let sets = parse_selectors(params.get("query").unwrap_or("")).map_err(|error| parameters::invalid("query", error))?;
    let partial = parameters::partial_response(&params, app.config.allow_partial_results)?;
    let querier = app.querier(parameters::as_of(&params)?).await?;
    let _slot = app.query_slots.enter().await?;
    let most = app.config.query_timeout();
    let found = querier.exemplars(&database, &sets, TimeRange::new(min, max), app.config.max_query_samples, partial);
    let found = tokio::time::timeout(most, found).await;
    let found = found.map_err(|_| ApiError::new(Kind::Timeout, format!("the query took longer than {most:?}")))??;
    Ok(json_body(exemplars_body(&found)))
}

/// The body of an answer, as Prometheus writes it: values as strings, times as seconds.
fn exemplars_body(answer: &Answer<Vec<SeriesExemplars>>) -> Vec<u8> {
    let mut out = b"{\"status\":\"success\",\"data\":".to_vec();
    write_list(&mut out, &answer.value, 0, |out, series| {
        out.extend_from_slice(b"{\"seriesLabels\":");
        write_labels(out, &series.labels);
        out.extend_from_slice(b",\"exemplars\":");
        write_list(out, &series.exemplars, 0, |out, exemplar| {
            out.extend_from_slice(b"{\"labels\":");
            write_labels(out, &exemplar.labels);
            out.extend_from_slice(b",\"value\":\"");
            write_value(out, exemplar.value);
            out.extend_from_slice(b"\",\"timestamp\":");
            write_time(out, exemplar.time);
            out.push(b'}');
            true
        });
        out.push(b'}');
        true
    });
    write_annotations(&mut out, &Annotations { warnings: answer.warnings.clone(), infos: Vec::new() }, false);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::Labels;
    use tidelake_querier::exemplars::Exemplar;

    use super::*;

    #[test]
    fn the_body_is_that_of_prometheus() {
        let exemplar = |trace: &str, value, time| Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value, time };
        let series = SeriesExemplars {
            labels: Labels::from_pairs([("__name__", "x_bucket"), ("le", "1")]),
            exemplars: vec![exemplar("a\"", 0.25, 1_600_096_945_479), exemplar("b", f64::INFINITY, 1_600_096_955_000)],
        };
        let body = exemplars_body(&Answer { value: vec![series], warnings: Vec::new() });
        let expected = concat!(
            r#"{"status":"success","data":[{"seriesLabels":{"__name__":"x_bucket","le":"1"},"exemplars":["#,
            r#"{"labels":{"trace_id":"a\""},"value":"0.25","timestamp":1600096945.479},"#,
            r#"{"labels":{"trace_id":"b"},"value":"+Inf","timestamp":1600096955}]}]}"#,
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        let body = exemplars_body(&Answer { value: Vec::new(), warnings: vec!["w".to_owned()] });
        assert_eq!(String::from_utf8(body).unwrap(), r#"{"status":"success","data":[],"warnings":["w"]}"#);
    }
}
