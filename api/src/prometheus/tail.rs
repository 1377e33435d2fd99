//! `/api/v1/tail`: points as they arrive, as server-sent events.
//!
//! An event is `{"points": [{"metric", "time", "value"}], "dropped", "unseen"}`; an empty one comes
//! every second. The event `end` says why there will be no more.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::prometheus::go_float::write_value;
use crate::prometheus::labels::read_selector;
use crate::prometheus::params::invalid;
use crate::service::context::{Read, RequestContext};
use crate::service::error::ServiceError;
use crate::service::tail::{Tail, Tailed, TailedPoint, TailedValue};

/// The path of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/tail", get(tail))
}

async fn tail(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let access = caller.access::<Read>(&database::of_prometheus(&path, &headers)?)?;
        let params = Params::from_query(query.as_deref());
        let texts: Vec<&str> = params.all("match[]").collect();
        let selectors = texts.iter().map(|text| read_selector(text));
        let selectors = selectors
            .collect::<Result<_, _>>()
            .map_err(|why| invalid("match[]", why))?;
        let tail = app
            .service
            .tail(&access, selectors, &texts.join(" or "))
            .await?;
        let kinds = [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
        ];
        Ok((kinds, events(Arc::clone(&app), tail)).into_response())
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

/// A task of its own watches: it notices when the client goes or takes nothing.
fn events(app: Arc<App>, tail: Tail) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let (write_timeout, lane) = (app.pace().write_timeout, tail.lane());
    let task = send(app, tail, sender, write_timeout);
    match lane.threads() {
        Some(threads) => drop(threads.spawn(task)),
        None => drop(tokio::spawn(task)),
    }
    Body::from_stream(stream::unfold(receiver, async |mut receiver| {
        let event: Bytes = receiver.recv().await?;
        Some((Ok::<_, io::Error>(event), receiver))
    }))
}

async fn send(app: Arc<App>, mut tail: Tail, sender: mpsc::Sender<Bytes>, patience: Duration) {
    loop {
        let next = tokio::select! {
            next = tail.next(&app.service) => next,
            () = sender.closed() => return,
        };
        let (event, is_last) = match next {
            Ok(tailed) => (format!("data: {}\n\n", as_json(tailed)), false),
            Err(error) => {
                let why = json!({ "error": error.message });
                (format!("event: end\ndata: {why}\n\n"), true)
            }
        };
        match tokio::time::timeout(patience, sender.send(event.into())).await {
            Ok(Ok(())) if !is_last => {}
            Ok(_) => return,
            Err(_) => return tail.is_stalled(),
        }
    }
}

fn as_json(tailed: Tailed) -> Value {
    let points: Vec<Value> = tailed.points.into_iter().map(point_as_json).collect();
    json!({ "points": points, "dropped": tailed.dropped, "unseen": tailed.unseen })
}

fn point_as_json(point: TailedPoint) -> Value {
    let labels = point.labels.iter();
    let metric: Map<String, Value> = labels
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let value = match point.value {
        TailedValue::Float(value) => float(value).into(),
        TailedValue::Integer(value) => value.to_string().into(),
        TailedValue::Unsigned(value) => value.to_string().into(),
        TailedValue::Boolean(value) => value.into(),
        TailedValue::Text(text) => json!({ "text": text }),
        TailedValue::Histogram(count, sum) => json!({ "count": float(count), "sum": float(sum) }),
    };
    json!({ "metric": metric, "time": point.time_ms as f64 / 1000.0, "value": value })
}

/// As the Prometheus API writes numbers.
fn float(value: f64) -> String {
    let mut text = Vec::new();
    write_value(&mut text, value);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
