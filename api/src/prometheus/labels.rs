//! What there is to query: `/api/v1/labels`, `label/{name}/values`, `series`, `metadata`.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use tidelake_catalog::model::{Matcher, TimeRange};

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::{Answer, parse_selector};
use crate::prometheus::answer::{TRUNCATED, list_answer, success};
use crate::prometheus::json::{write_labels, write_string};
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::context::{Access, Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::labels::Selection;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/labels", get(labels).post(labels))
        .route(
            "/api/v1/label/{name}/values",
            get(label_values).post(label_values),
        )
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/metadata", get(metadata).post(metadata))
}

/// What is asked for, and where.
struct Asked {
    access: Access<Read>,
    selection: Selection,
}

impl Asked {
    async fn read(
        app: &App,
        caller: &RequestContext,
        path: &RawPathParams,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, ServiceError> {
        let access = caller.access(&database::of_prometheus(path, headers)?)?;
        let params = read_params(app, query, headers, body).await?;
        Self::of(app, access, &params, ServiceError::bad_request)
    }

    /// `refused` says what is wrong with a selector.
    fn of(
        app: &App,
        access: Access<Read>,
        params: &Params,
        refused: impl Fn(String) -> ServiceError,
    ) -> Result<Self, ServiceError> {
        let limit = parameters::limit(params)?;
        let min = parameters::time_or(params, "start", TimeRange::ALL.min)?;
        let max = parameters::time_or(params, "end", TimeRange::ALL.max)?;
        let as_of = parameters::as_of(params)?;
        let matchers = params
            .all("match[]")
            .map(read_selector)
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let usual = app.service.config.allow_partial_results;
        let selection = Selection {
            matchers,
            range: TimeRange::new(min, max),
            // One more, so that a cut can be told from an end.
            limit: if limit == 0 {
                0
            } else {
                limit.saturating_add(1)
            },
            as_of,
            partial: parameters::partial_response(params, usual)?,
        };
        Ok(Self { access, selection })
    }

    /// Cuts an answer to what was asked for, and says so.
    fn cut<T>(&self, answer: &mut Answer<Vec<T>>) {
        let limit = self.selection.limit;
        if limit > 0 && answer.value.len() >= limit {
            answer.value.truncate(limit - 1);
            answer.warnings.push(TRUNCATED.to_owned());
        }
    }
}

/// A selector of `match[]`, which must not select everything.
pub fn read_selector(text: &str) -> Result<Vec<Matcher>, String> {
    let matchers = parse_selector(text)?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err("match[] must contain at least one non-empty matcher".to_owned());
    }
    Ok(matchers)
}

async fn labels(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let asked = Asked::read(&app, &caller, &path, q.as_deref(), &headers, body).await?;
        let found = app.service.label_names(&asked.access, &asked.selection);
        let (mut names, slot) = found.await?;
        asked.cut(&mut names);
        let write = |out: &mut Vec<u8>, name: &String| write_string(out, name);
        list_answer(names, write, &app.pace(), slot).await
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

async fn label_values(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let name =
            parameters::unescape_label_name(database::path_value(&path, "name").unwrap_or(""));
        if name.is_empty() {
            return Err(ServiceError::bad_request(format!(
                "invalid label name: {name:?}"
            )));
        }
        let asked = Asked::read(&app, &caller, &path, q.as_deref(), &headers, body).await?;
        let found = app
            .service
            .label_values(&asked.access, name, &asked.selection);
        let (mut values, slot) = found.await?;
        asked.cut(&mut values);
        let write = |out: &mut Vec<u8>, value: &String| write_string(out, value);
        list_answer(values, write, &app.pace(), slot).await
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

async fn series(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let access = caller.access(&database::of_prometheus(&path, &headers)?)?;
        let params = read_params(&app, q.as_deref(), &headers, body).await?;
        if params.all("match[]").next().is_none() {
            return Err(ServiceError::bad_request("no match[] parameter provided"));
        }
        // Only here the error names the parameter.
        let asked = Asked::of(&app, access, &params, |why| {
            parameters::invalid("match[]", why)
        })?;
        let (mut found, slot) = app.service.series(&asked.access, &asked.selection).await?;
        asked.cut(&mut found);
        list_answer(found, write_labels, &app.pace(), slot).await
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

async fn metadata(
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
        let most = parameters::count(&params, "limit")?.unwrap_or(usize::MAX);
        // What was said last of a family is all that is kept of it, so any limit is met.
        parameters::count(&params, "limit_per_metric")?;
        let found = app.service.metadata(&access, params.get("metric"))?;
        let data = found.into_iter().take(most).map(|(metric, m)| {
            (
                metric,
                json!([{ "type": m.kind.as_str(), "help": &*m.help, "unit": &*m.unit }]),
            )
        });
        Ok(success(serde_json::Value::Object(data.collect())))
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}
