//! `/api/v1/explain`: how a PromQL expression is evaluated, and with `analyze=true` what each
//! operator did.
//!
//! Takes the parameters of `query_range` if there is a `start`, otherwise those of `query`. The
//! answer is JSON, or with `format=text` a line for each operator.
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::{Explained, Steps};
use crate::prometheus::params as parameters;
use crate::prometheus::query::{options, read_params, read_steps};
use crate::service::context::{Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::promql::{At, PromqlRequest};

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/explain", get(explain).post(explain))
}

async fn explain(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &caller, &path, q.as_deref(), &headers, body)
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
    let is_text = is_text(&params)?;
    let analyze = params.get("analyze").map_or(Ok(false), |text| {
        parameters::parse_bool(text).map_err(|why| parameters::invalid("analyze", why))
    })?;
    let at = match params.get("start") {
        Some(_) => At::Steps(read_steps(&params)?),
        None => At::Time(parameters::time_or(
            &params,
            "time",
            (app.service.now_ms)(),
        )?),
    };
    let request = PromqlRequest {
        query: params.get("query").unwrap_or(""),
        at,
        options: options(app, &params)?,
        as_of: parameters::as_of(&params)?,
    };
    let explained = app
        .service
        .explain_promql(&access, &request, analyze)
        .await?;
    Ok(if is_text {
        as_text(request.query, at.steps(), &explained)
    } else {
        as_json(request.query, at.steps(), &explained)
    })
}

fn is_text(params: &Params) -> Result<bool, ServiceError> {
    match params.get("format") {
        None | Some("json") => Ok(false),
        Some("text") => Ok(true),
        Some(other) => Err(parameters::invalid(
            "format",
            format!("{other:?} is neither \"json\" nor \"text\""),
        )),
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn as_json(query: &str, steps: Steps, explained: &Explained) -> Response {
    let mut body = json!({
        "status": "success",
        "data": {
            "query": query,
            "start": seconds(steps.start_ms),
            "end": seconds(steps.end_ms),
            "step": seconds(steps.step_ms),
            "plan": explained.plan,
        },
    });
    for (name, texts) in [
        ("warnings", &explained.annotations.warnings),
        ("infos", &explained.annotations.infos),
    ] {
        if !texts.is_empty() {
            body[name] = json!(texts);
        }
    }
    Json(body).into_response()
}

fn as_text(query: &str, steps: Steps, explained: &Explained) -> Response {
    let mut text = format!("{}\n", query.replace(|c: char| c.is_control(), " "));
    text.push_str(&match steps.step_ms {
        0 => format!("at {}\n\n", seconds(steps.start_ms)),
        _ => format!(
            "from {} to {}, every {} s\n\n",
            seconds(steps.start_ms),
            seconds(steps.end_ms),
            seconds(steps.step_ms)
        ),
    });
    text.push_str(&explained.text);
    for remark in explained
        .annotations
        .warnings
        .iter()
        .chain(&explained.annotations.infos)
    {
        text.push_str(&format!("\n{remark}\n"));
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
