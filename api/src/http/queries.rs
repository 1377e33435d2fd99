//! `/admin/queries`: the queries that run and how to stop them, and what those cost that have
//! ended.
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::service::context::RequestContext;
use crate::service::ended::Cost;
use crate::service::error::ServiceError;
use crate::service::slots::Language;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/queries", get(list).delete(stop))
        .route("/admin/queries/ended", get(ended))
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let access = match caller.server() {
        Ok(access) => access,
        Err(error) => return error.respond(Dialect::Text),
    };
    let price = app.service.request_price();
    let running = app.service.running_queries(&access);
    let queries = running.into_iter().map(|query| {
        let shown = json!({
            "id": query.id, "language": query.language.name(), "database": query.database,
            "principal": query.principal, "class": query.class,
            "begun_ms": query.begun_ms, "text": query.text,
        });
        let mut shown = with_cost(shown, &query.cost, price);
        if query.language == Language::Sql {
            // Known when it has ended.
            shown["computing_ms"] = Value::Null;
        }
        shown
    });
    Json(queries.collect::<Vec<_>>()).into_response()
}

async fn ended(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let access = match caller.server() {
        Ok(access) => access,
        Err(error) => return error.respond(Dialect::Text),
    };
    let price = app.service.request_price();
    let costs = app.service.ended_queries(&access);
    let texts = costs.texts.iter().map(|text| {
        let shown = json!({
            "language": text.language.name(), "database": text.database, "text": text.text,
            "ended_ms": text.ended_ms,
        });
        let shown = with_cost(shown, &text.cost, price);
        with_count(shown, &text.cost)
    });
    let queries = costs.queries.iter().map(|query| {
        let shown = json!({
            "id": query.id, "language": query.language.name(), "database": query.database,
            "principal": query.principal, "class": query.class, "begun_ms": query.begun_ms,
            "outcome": query.outcome, "code": query.code, "text": query.text,
        });
        with_cost(shown, &query.cost, price)
    });
    let all = with_cost(json!({}), &costs.all, price);
    Json(json!({
        "since_ms": costs.since_ms, "all": with_count(all, &costs.all),
        "texts": texts.collect::<Vec<_>>(), "queries": queries.collect::<Vec<_>>(),
    }))
    .into_response()
}

/// The same with the number of queries.
fn with_count(mut shown: Value, cost: &Cost) -> Value {
    shown["queries"] = cost.queries.into();
    shown["failed"] = cost.failed.into();
    shown
}

/// The same with what queries took.
fn with_cost(mut shown: Value, cost: &Cost, request_price: f64) -> Value {
    let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
    shown["running_ms"] = ms(cost.running).into();
    shown["computing_ms"] = ms(cost.computing).into();
    let read = &cost.read;
    for (name, count) in [
        ("requests", read.requests),
        ("bytes", read.bytes),
        ("memory_hits", read.memory_hits),
        ("disk_hits", read.disk_hits),
        ("segments", read.segments),
        ("rows", read.rows),
    ] {
        shown[name] = count.into();
    }
    shown["dollars"] = cost.dollars(request_price).into();
    shown
}

async fn stop(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let stopped = async {
        let access = caller.server()?;
        let params = Params::from_query(query.as_deref());
        let id = params.get("id").and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| ServiceError::bad_request("id must be the number of a query"))?;
        app.service.stop_query(&access, id).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    stopped
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Text))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::config::Config;
    use crate::http::router::router;
    use crate::node::backend::Backend;

    async fn ask(
        app: &Arc<App>,
        method: &str,
        path: &str,
        body: &'static str,
    ) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        let request = request.body(Body::from(body)).unwrap();
        let response = router(Arc::clone(app)).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_that_runs_is_listed_and_stopped() {
        let app = App::new(Config::default());
        app.service.attach(Backend::in_memory().await);
        let slow = "SELECT+sum(a.value*b.value)+FROM+generate_series(1,2000000)+a+\
                    CROSS+JOIN+generate_series(1,2000000)+b";
        let path = format!("/api/v3/query_sql?db=default&q={slow}");
        ask(&app, "POST", "/write?db=default", "t value=1").await;
        let asked = tokio::spawn({
            let app = Arc::clone(&app);
            async move { ask(&app, "GET", &path, "").await }
        });
        let query = loop {
            assert!(!asked.is_finished(), "{:?}", asked.await);
            let (_, body) = ask(&app, "GET", "/admin/queries", "").await;
            let queries: Vec<Value> = serde_json::from_str(&body).unwrap();
            match queries.into_iter().next() {
                Some(query) if query["text"] != "" => break query,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(
            (&query["language"], &query["database"]),
            (&json!("sql"), &json!("default"))
        );
        assert!(query["text"].as_str().unwrap().starts_with("SELECT sum"));
        assert_eq!(query["computing_ms"], Value::Null);
        let stop = format!("/admin/queries?id={}", query["id"]);
        assert_eq!(
            ask(&app, "DELETE", &stop, "").await.0,
            StatusCode::NO_CONTENT
        );
        let (status, body) = asked.await.unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(body.contains("stopped by an administrator"), "{body}");
        // What computed it on another thread ends at its next pause.
        while app.service.slots.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(
            ask(&app, "DELETE", &stop, "").await.0,
            StatusCode::NOT_FOUND
        );
        let (_, body) = ask(&app, "GET", "/admin/queries/ended", "").await;
        let ended: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(ended["queries"][0]["id"], query["id"]);
        assert_eq!(ended["queries"][0]["outcome"], "stopped");
        assert_eq!(ended["all"]["failed"], 1);
        assert_eq!(
            ask(&app, "DELETE", "/admin/queries?id=x", "").await.0,
            StatusCode::BAD_REQUEST
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_ended_queries_cost_is_known() {
        let app = App::new(Config::default());
        app.service.attach(Backend::in_memory().await);
        let written = ask(&app, "POST", "/write?db=default", "t value=1").await;
        assert_eq!(written.0, StatusCode::NO_CONTENT, "{}", written.1);
        let flushed = ask(&app, "POST", "/admin/flush", "").await;
        assert_eq!(flushed.0, StatusCode::NO_CONTENT, "{}", flushed.1);
        for path in [
            "/api/v1/query?query=t",
            "/api/v1/query?query=t",
            "/api/v1/query?query=t+%2B",
            "/api/v3/query_sql?db=default&q=SELECT+*+FROM+t+LIMIT+7",
            "/api/v3/query_sql?db=default&q=SELECT+*+FROM+t+LIMIT+8",
            "/query?db=default&q=SELECT+value+FROM+t+LIMIT+9",
            "/api/v3/query_influxql?db=default&q=SELECT+value+FROM+t+LIMIT+10",
            "/api/v1/series?match[]=t",
        ] {
            ask(&app, "GET", path, "").await;
        }
        while app.service.slots.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, body) = ask(&app, "GET", "/admin/queries/ended", "").await;
        let ended: Value = serde_json::from_str(&body).unwrap();
        for query in ended["queries"].as_array().unwrap() {
            let is_sql = query["language"] == "sql";
            assert!(
                !is_sql || query["computing_ms"].as_f64() > Some(0.0),
                "{query}"
            );
        }
        let shown = |query: &Value| {
            let text = |name: &str| query[name].as_str().unwrap_or("-").to_owned();
            (
                text("text"),
                text("outcome"),
                text("code"),
                query["rows"].as_u64(),
            )
        };
        let mut queries: Vec<_> = ended["queries"].as_array().unwrap().iter().collect();
        queries.sort_by_key(|query| query["id"].as_u64());
        let queries: Vec<_> = queries.into_iter().map(shown).collect();
        let expected = [
            ("t", "answered", "-", 1),
            ("t", "answered", "-", 1),
            ("t +", "failed", "bad_request", 0),
            ("SELECT * FROM t LIMIT 7", "answered", "-", 1),
            ("SELECT * FROM t LIMIT 8", "answered", "-", 1),
            ("SELECT value FROM t LIMIT 9", "answered", "-", 1),
            ("SELECT value FROM t LIMIT 10", "answered", "-", 1),
            ("series {__name__=\"t\"}", "answered", "-", 0),
        ];
        let expected = expected.map(|(text, outcome, code, rows)| {
            (
                text.to_owned(),
                outcome.to_owned(),
                code.to_owned(),
                Some(rows),
            )
        });
        assert_eq!(queries, expected);
        let texts = ended["texts"].as_array().unwrap();
        let of_text = |text: &str| texts.iter().find(|found| found["text"] == text).unwrap();
        assert_eq!(of_text("SELECT * FROM t LIMIT ?")["queries"], 2);
        assert_eq!(of_text("SELECT value FROM t LIMIT ?")["rows"], 2);
        assert_eq!(
            (&ended["all"]["queries"], &ended["all"]["failed"]),
            (&json!(8), &json!(1))
        );
        // The first one opened the segment; the second one had it in memory.
        let first = &ended["queries"].as_array().unwrap()[7];
        assert!(
            first["requests"].as_u64() > Some(0) && first["bytes"].as_u64() > Some(0),
            "{first}"
        );
        let dollars = first["requests"].as_f64().unwrap() * app.service.request_price();
        assert_eq!(first["dollars"], dollars);
        let second = &ended["queries"].as_array().unwrap()[6];
        assert_eq!(second["requests"], 0, "{second}");
        assert!(second["memory_hits"].as_u64() > Some(0), "{second}");
    }
}
