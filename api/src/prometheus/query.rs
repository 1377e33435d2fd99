//! `/api/v1/query` and `/api/v1/query_range`, by GET and by POST form.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tokio::time::Instant;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::{PromqlOptions, Steps};
use crate::prometheus::answer::query_answer;
use crate::prometheus::params as parameters;
use crate::prometheus::stats::{Stats, Times};
use crate::service::context::{Access, Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::promql::{At, PromqlRequest};

/// Largest form body: Prometheus takes 10 MiB, and no query is that long.
const MAX_FORM_BYTES: usize = 4 << 20;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
}

/// The parameters of a GET or a POST form.
pub async fn read_params(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Params, ServiceError> {
    let held = app.bodies.read(headers, body, MAX_FORM_BYTES).await?;
    Ok(Params::from_form(query, headers, &held.bytes))
}

async fn query(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    instant(&app, &caller, &path, q.as_deref(), &headers, body)
        .await
        .unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}

async fn query_range(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    range(&app, &caller, &path, q.as_deref(), &headers, body)
        .await
        .unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}

/// Limits and settings of a query, as far as parameters may change them.
pub fn options(app: &App, params: &Params) -> Result<PromqlOptions, ServiceError> {
    let usual = app.service.promql_options();
    Ok(PromqlOptions {
        timeout: parameters::timeout(params, usual.timeout)?,
        lookback_ms: parameters::lookback(params)?.unwrap_or(usual.lookback_ms),
        partial: parameters::partial_response(params, usual.partial)?,
        ..usual
    })
}

async fn instant(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let access = caller.access::<Read>(&database::of_prometheus(path, headers)?)?;
    let params = read_params(app, query, headers, body).await?;
    let limit = parameters::limit(&params)?;
    let time_ms = parameters::time_or(&params, "time", (app.service.now_ms)())?;
    run(app, &access, &params, At::Time(time_ms), limit).await
}

async fn range(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let access = caller.access::<Read>(&database::of_prometheus(path, headers)?)?;
    let params = read_params(app, query, headers, body).await?;
    let limit = parameters::limit(&params)?;
    let steps = read_steps(&params)?;
    run(app, &access, &params, At::Steps(steps), limit).await
}

async fn run(
    app: &App,
    access: &Access<Read>,
    params: &Params,
    at: At,
    limit: usize,
) -> Result<Response, ServiceError> {
    let begun = Instant::now();
    let stats = Stats::read(params);
    let options = PromqlOptions {
        count_samples: stats.are_wanted(),
        ..options(app, params)?
    };
    let request = PromqlRequest {
        query: params.get("query").unwrap_or(""),
        at,
        options,
        as_of: parameters::as_of(params)?,
    };
    let answer = app.service.promql(access, &request).await?;
    let mut output = answer.output;
    output.annotations.warnings.extend(stats.warning());
    let stats = stats.show(
        &output.stats,
        at,
        Times {
            queued: answer.queued,
            total: begun.elapsed(),
        },
    );
    query_answer(output, at, limit, stats, &app.pace(), answer.slot).await
}

/// `start`, `end` and `step`, checked in the order and with the words of Prometheus.
pub fn read_steps(params: &Params) -> Result<Steps, ServiceError> {
    let start_ms = parameters::time(params, "start")?;
    let end_ms = parameters::time(params, "end")?;
    if end_ms < start_ms {
        return Err(parameters::invalid(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_ms = parameters::parse_duration(params.get("step").unwrap_or(""))
        .map_err(|e| parameters::invalid("step", e))?;
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive \
                   integer";
        return Err(parameters::invalid("step", why));
    }
    if end_ms.saturating_sub(start_ms) / step_ms > parameters::MAX_STEPS {
        return Err(ServiceError::bad_request(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the \
             query resolution (?step=XX)",
        ));
    }
    Ok(Steps {
        start_ms,
        end_ms,
        step_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_checked() {
        let check = |text: &str, expected: Result<(i64, i64, i64), &str>| {
            let got = read_steps(&Params::from_query(Some(text)));
            match (got, expected) {
                (Ok(s), Ok(expected)) => assert_eq!((s.start_ms, s.end_ms, s.step_ms), expected),
                (Err(e), Err(words)) => assert!(e.message.contains(words), "{}", e.message),
                other => panic!("{other:?}"),
            }
        };
        check("start=1&end=2&step=0.5", Ok((1000, 2000, 500)));
        check("start=0&end=11000&step=1s", Ok((0, 11_000_000, 1000)));
        check(
            "start=0&end=11001&step=1s",
            Err("exceeded maximum resolution of 11,000 points per timeseries"),
        );
        check(
            "end=2&step=1",
            Err(r#"invalid parameter "start": cannot parse "" to a valid timestamp"#),
        );
        check(
            "start=1&step=1",
            Err(r#"invalid parameter "end": cannot parse "" to a valid timestamp"#),
        );
        check(
            "start=2&end=1&step=1",
            Err(r#"invalid parameter "end": end timestamp must not be before start time"#),
        );
        check(
            "start=1&end=2",
            Err(r#"invalid parameter "step": cannot parse "" to a valid duration"#),
        );
        check(
            "start=1&end=2&step=0",
            Err("zero or negative query resolution step widths are not accepted"),
        );
        check(
            "start=1&end=2&step=-5",
            Err("zero or negative query resolution step widths are not accepted"),
        );
        check(
            "start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z&step=1",
            Err("exceeded maximum resolution"),
        );
    }
}
