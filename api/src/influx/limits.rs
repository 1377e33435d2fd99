//! What databases and tokens may take: `/api/v3/configure/limits`.
//!
//! `GET` lists what was set. `PUT` sets all limits of one database (`db`), one token
//! (`token_name`), or, with neither, of every database that says nothing else; a limit that is left
//! out is none.
use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidelake_catalog::Snapshot;
use tidelake_catalog::model::{Limits, LimitsOf};

use crate::http::app::App;
use crate::influx::configure::{read_body, respond};
use crate::service::context::RequestContext;
use crate::service::database::check_base_name;
use crate::service::error::{Code, ServiceError};

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v3/configure/limits", get(list).put(set))
}

/// The words of a request and of a list; see [`Limits`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_name: Option<String>,
    samples_per_second: Option<u64>,
    active_series: Option<u64>,
    labels_per_series: Option<u64>,
    label_name_bytes: Option<u64>,
    label_value_bytes: Option<u64>,
    body_bytes: Option<u64>,
    concurrent_queries: Option<u64>,
    query_read_bytes: Option<u64>,
    query_samples: Option<u64>,
    min_retention_ms: Option<u64>,
    max_retention_ms: Option<u64>,
}

impl Words {
    fn limits(&self) -> Limits {
        Limits {
            samples_per_second: self.samples_per_second,
            active_series: self.active_series,
            labels_per_series: self.labels_per_series,
            label_name_bytes: self.label_name_bytes,
            label_value_bytes: self.label_value_bytes,
            body_bytes: self.body_bytes,
            concurrent_queries: self.concurrent_queries,
            query_read_bytes: self.query_read_bytes,
            query_samples: self.query_samples,
            min_retention_ms: self.min_retention_ms,
            max_retention_ms: self.max_retention_ms,
        }
    }
}

impl From<Limits> for Words {
    fn from(limits: Limits) -> Self {
        Self {
            db: None,
            token_name: None,
            samples_per_second: limits.samples_per_second,
            active_series: limits.active_series,
            labels_per_series: limits.labels_per_series,
            label_name_bytes: limits.label_name_bytes,
            label_value_bytes: limits.label_value_bytes,
            body_bytes: limits.body_bytes,
            concurrent_queries: limits.concurrent_queries,
            query_read_bytes: limits.query_read_bytes,
            query_samples: limits.query_samples,
            min_retention_ms: limits.min_retention_ms,
            max_retention_ms: limits.max_retention_ms,
        }
    }
}

/// Whose limits they are, in words.
fn named(words: Words, of: &LimitsOf, snapshot: &Snapshot) -> Words {
    let (db, token_name) = match of {
        LimitsOf::Default => (None, None),
        LimitsOf::Database(name) => (Some(name.to_string()), None),
        LimitsOf::Token(id) => {
            let token = snapshot.tokens().get(*id);
            (None, token.map(|token| token.name.to_string()))
        }
    };
    Words {
        db,
        token_name,
        ..words
    }
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let list = || {
        caller.server()?;
        let snapshot = app.service.backend()?.catalog().snapshot();
        let limits = snapshot.limits().iter();
        let shown: Vec<Words> = limits
            .map(|(of, limits)| named(Words::from(*limits), of, &snapshot))
            .collect();
        Ok(Json(shown).into_response())
    };
    respond(list())
}

async fn set(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let set = async {
        let access = caller.server()?;
        let words: Words = read_body(&app, &headers, body).await?;
        let of = match (&words.db, &words.token_name) {
            (None, None) => LimitsOf::Default,
            (Some(name), None) => {
                check_base_name(name)?;
                LimitsOf::Database(name.as_str().into())
            }
            (None, Some(name)) => {
                let snapshot = app.service.backend()?.catalog().snapshot();
                let token = snapshot.tokens().named(name).ok_or_else(|| {
                    ServiceError::new(Code::NotFound, format!("there is no token {name:?}"))
                })?;
                LimitsOf::Token(token.id)
            }
            (Some(_), Some(_)) => {
                return Err(ServiceError::bad_request(
                    "limits are of a database or of a token: give db or token_name",
                ));
            }
        };
        app.service.set_limits(&access, &of, words.limits()).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(set.await)
}

/// All that have limits or take something: their limits, and what they take.
pub fn status(app: &App) -> Result<Value, ServiceError> {
    let backend = app.service.backend()?;
    let snapshot = backend.catalog().snapshot();
    let quotas = backend.ingester.as_ref();
    let quotas = quotas.map_or_else(Vec::new, |ingester| ingester.series_quotas());
    let held: HashMap<Arc<str>, u64> = quotas
        .iter()
        .map(|(name, quota)| (Arc::clone(name), quota.held()))
        .collect();
    let mut all = app.service.known_tenants();
    all.extend(snapshot.limits().keys().cloned());
    all.extend(
        quotas
            .iter()
            .map(|(name, _)| LimitsOf::Database(Arc::clone(name))),
    );
    all.retain(|of| *of != LimitsOf::Default);
    all.sort();
    all.dedup();
    let show = |of: &LimitsOf| {
        let limits = match of {
            LimitsOf::Token(id) => snapshot.limits_of_token(*id),
            LimitsOf::Database(name) => snapshot.limits_of(name),
            LimitsOf::Default => Limits::default(),
        };
        let (queries, samples, throttled) = app.service.taken(of);
        let series = match of {
            LimitsOf::Database(database) => held.get(database),
            _ => None,
        };
        json!({
            "limits": named(limits.into(), of, &snapshot),
            "queries": queries,
            "samples": samples,
            "activeSeries": series,
            "throttled": throttled,
        })
    };
    Ok(all.iter().map(show).collect())
}
