//! What there is to query: `/api/v1/labels`, `label/{name}/values`, `series`, `metadata`.
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use tidelake_catalog::model::{Matcher, TimeRange};

use crate::app::App;
use crate::backend::{Answer, AsOf, parse_selector};
use crate::database;
use crate::error::{ApiError, Dialect};
use crate::params::Params;
use crate::prom_answer::{TRUNCATED, list_answer, success};
use crate::prom_json::{write_labels, write_string};
use crate::prom_params as parameters;
use crate::prom_query::read_params;
use crate::query_slots::Language;

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

/// What the four have in common.
struct Selection {
    database: String,
    matchers: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: usize,
    as_of: Option<AsOf>,
    partial: bool,
}

impl Selection {
    async fn read(
        app: &App,
        path: &RawPathParams,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, ApiError> {
        let database = database::of_prometheus(path, headers)?;
        let params = read_params(app, query, headers, body).await?;
        Self::of(app, database, &params, ApiError::bad_request)
    }

    /// `refused` says what is wrong with a selector.
    fn of(
        app: &App,
        database: String,
        params: &Params,
        refused: impl Fn(String) -> ApiError,
    ) -> Result<Self, ApiError> {
        let limit = parameters::limit(params)?;
        let min = parameters::time_or(params, "start", TimeRange::ALL.min)?;
        let max = parameters::time_or(params, "end", TimeRange::ALL.max)?;
        let as_of = parameters::as_of(params)?;
        let matchers = params
            .all("match[]")
            .map(read_selector)
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let partial = parameters::partial_response(params, app.config.allow_partial_results)?;
        Ok(Self {
            database,
            matchers,
            range: TimeRange::new(min, max),
            limit,
            as_of,
            partial,
        })
    }

    /// One more than asked for, so that a cut can be told from an end.
    fn probe(&self) -> usize {
        if self.limit == 0 {
            0
        } else {
            self.limit.saturating_add(1)
        }
    }

    /// Cuts an answer to what was asked for, and says so.
    fn cut<T>(&self, answer: &mut Answer<Vec<T>>) {
        if self.limit > 0 && answer.value.len() > self.limit {
            answer.value.truncate(self.limit);
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
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let asked = Selection::read(&app, &path, q.as_deref(), &headers, body).await?;
        let querier = app.querier(asked.as_of).await?;
        let slot = app.query_slots.enter(Language::Labels).await?;
        let probe = asked.probe();
        let (database, matchers) = (asked.database.clone(), asked.matchers.clone());
        let (range, partial) = (asked.range, asked.partial);
        let found = async move {
            querier
                .label_names(&database, &matchers, range, probe, partial)
                .await
        };
        let mut names = slot.watch(app.compute_small(found)).await?;
        asked.cut(&mut names);
        list_answer(
            names,
            |out, name| write_string(out, name),
            &app.pace(),
            slot,
        )
        .await
    };
    answer
        .await
        .unwrap_or_else(|e: ApiError| e.respond(Dialect::Prometheus))
}

async fn label_values(
    State(app): State<Arc<App>>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let name =
            parameters::unescape_label_name(database::path_value(&path, "name").unwrap_or(""));
        if name.is_empty() {
            return Err(ApiError::bad_request(format!(
                "invalid label name: {name:?}"
            )));
        }
        let asked = Selection::read(&app, &path, q.as_deref(), &headers, body).await?;
        let querier = app.querier(asked.as_of).await?;
        let slot = app.query_slots.enter(Language::Labels).await?;
        let probe = asked.probe();
        let (database, matchers) = (asked.database.clone(), asked.matchers.clone());
        let (range, partial) = (asked.range, asked.partial);
        let found = async move {
            querier
                .label_values(&database, &name, &matchers, range, probe, partial)
                .await
        };
        let mut values = slot.watch(app.compute_small(found)).await?;
        asked.cut(&mut values);
        list_answer(
            values,
            |out, value| write_string(out, value),
            &app.pace(),
            slot,
        )
        .await
    };
    answer
        .await
        .unwrap_or_else(|e: ApiError| e.respond(Dialect::Prometheus))
}

async fn series(
    State(app): State<Arc<App>>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let database = database::of_prometheus(&path, &headers)?;
        let params = read_params(&app, q.as_deref(), &headers, body).await?;
        if params.all("match[]").next().is_none() {
            return Err(ApiError::bad_request("no match[] parameter provided"));
        }
        // Only here the error names the parameter.
        let asked = Selection::of(&app, database, &params, |why| {
            parameters::invalid("match[]", why)
        })?;
        let querier = app.querier(asked.as_of).await?;
        let slot = app.query_slots.enter(Language::Labels).await?;
        let probe = asked.probe();
        let (database, matchers) = (asked.database.clone(), asked.matchers.clone());
        let (range, partial) = (asked.range, asked.partial);
        let found = async move {
            querier
                .series(&database, &matchers, range, probe, partial)
                .await
        };
        let mut found = slot.watch(app.compute_small(found)).await?;
        asked.cut(&mut found);
        list_answer(found, write_labels, &app.pace(), slot).await
    };
    answer
        .await
        .unwrap_or_else(|e: ApiError| e.respond(Dialect::Prometheus))
}

async fn metadata(
    State(app): State<Arc<App>>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let database = database::of_prometheus(&path, &headers)?;
        let params = read_params(&app, q.as_deref(), &headers, body).await?;
        let most = parameters::count(&params, "limit")?.unwrap_or(usize::MAX);
        // What was said last of a family is all that is kept of it, so any limit is met.
        parameters::count(&params, "limit_per_metric")?;
        let found = app
            .backend()?
            .querier
            .metadata(&database, params.get("metric"));
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
        .unwrap_or_else(|e: ApiError| e.respond(Dialect::Prometheus))
}
