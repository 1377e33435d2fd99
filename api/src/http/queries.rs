//! `/admin/queries`: the queries that run, and how to stop them.
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::json;

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::service::context::RequestContext;
use crate::service::error::ServiceError;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/queries", get(list).delete(stop))
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let access = match caller.server() {
        Ok(access) => access,
        Err(error) => return error.respond(Dialect::Text),
    };
    let running = app.service.running_queries(&access);
    let queries = running.into_iter().map(|query| {
        json!({
            "id": query.id, "language": query.language, "database": query.database,
            "principal": query.principal, "class": query.class,
            "begun_ms": query.begun_ms, "running_ms": query.running_ms, "text": query.text,
        })
    });
    Json(queries.collect::<Vec<_>>()).into_response()
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
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::Value;
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
        assert_eq!(
            ask(&app, "DELETE", "/admin/queries?id=x", "").await.0,
            StatusCode::BAD_REQUEST
        );
    }
}
