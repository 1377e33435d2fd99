//! What clients ask a Prometheus about its scraping, its rules and its alerts: this server has
//! none, and says so in the shapes that they decode. Requests that a Prometheus refuses are
//! refused.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::parse_selector;
use crate::prometheus::answer::success;
use crate::prometheus::labels::read_selector;
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::context::{Read, RequestContext};
use crate::service::error::ServiceError;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/rules", get(rules).post(rules))
        .route(
            "/api/v1/alerts",
            get(async || success(json!({ "alerts": [] }))),
        )
        .route(
            "/api/v1/alertmanagers",
            get(async || success(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))),
        )
        .route(
            "/api/v1/scrape_pools",
            get(async || success(json!({ "scrapePools": [] }))),
        )
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(target_metadata))
        .route("/api/v1/notifications", get(async || success(json!([]))))
}

async fn rules(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        caller.access::<Read>(&database::of_prometheus(&path, &headers)?)?;
        check_rules(&read_params(&app, q.as_deref(), &headers, body).await?)?;
        Ok(success(json!({ "groups": [] })))
    };
    answer
        .await
        .unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

fn check_rules(params: &Params) -> Result<(), ServiceError> {
    params
        .all("match[]")
        .try_for_each(|text| read_selector(text).map(drop))
        .map_err(ServiceError::bad_request)?;
    if let Some(kind) = params.get("type").map(str::to_lowercase)
        && kind != "alert"
        && kind != "record"
    {
        return Err(parameters::invalid(
            "type",
            format!("not supported value {kind:?}"),
        ));
    }
    if let Some(text) = params.get("exclude_alerts") {
        parameters::parse_bool(&text.to_lowercase()).map_err(|why| {
            parameters::invalid(
                "exclude_alerts",
                format!("error converting exclude_alerts: {why}"),
            )
        })?;
    }
    match params.get("group_limit") {
        None if params.get("group_next_token").is_some() => {
            let why = "group_limit needs to be present in order to paginate over the groups";
            Err(parameters::invalid("group_next_token", why))
        }
        Some(text) => match text.parse::<i32>() {
            Err(_) => Err(parameters::invalid(
                "group_limit",
                format!("group_limit needs to be a valid number: {text:?}"),
            )),
            Ok(limit) if limit <= 0 => Err(parameters::invalid(
                "group_limit",
                "group_limit needs to be greater than 0",
            )),
            Ok(_) => Ok(()),
        },
        None => Ok(()),
    }
}

/// A count of dropped targets is there unless only active ones are wanted.
async fn targets(RawQuery(q): RawQuery) -> Response {
    let state = Params::from_query(q.as_deref())
        .get("state")
        .unwrap_or("")
        .to_lowercase();
    let shows_dropped = ["", "any", "dropped"].contains(&state.as_str());
    let counts = if shows_dropped {
        json!({})
    } else {
        json!(null)
    };
    success(json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": counts }))
}

async fn target_metadata(RawQuery(q): RawQuery) -> Response {
    let params = Params::from_query(q.as_deref());
    let answer = || {
        parameters::count(&params, "limit")?;
        if let Some(text) = params.get("match_target") {
            parse_selector(text).map_err(|why| parameters::invalid("match_target", why))?;
        }
        Ok(success(json!([])))
    };
    answer().unwrap_or_else(|e: ServiceError| e.respond(Dialect::Prometheus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_prometheus_refuses_is_refused() {
        let check = |query: &str, expected: Result<(), &str>| match (
            check_rules(&Params::from_query(Some(query))),
            expected,
        ) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(words)) => {
                assert!(error.message.contains(words), "{query}: {}", error.message)
            }
            other => panic!("{query}: {other:?}"),
        };
        check("", Ok(()));
        check(
            "type=alert&exclude_alerts=TRUE&group_limit=7&group_next_token=x&match[]={a='b'}&\
             file[]=x&rule_name[]=y",
            Ok(()),
        );
        check(
            "type=x",
            Err("invalid parameter \"type\": not supported value \"x\""),
        );
        check(
            "exclude_alerts=x",
            Err("invalid parameter \"exclude_alerts\": error converting"),
        );
        check(
            "group_next_token=x",
            Err("invalid parameter \"group_next_token\": group_limit needs to be present"),
        );
        check(
            "group_limit=x",
            Err("group_limit needs to be a valid number"),
        );
        check(
            "group_limit=0",
            Err("group_limit needs to be greater than 0"),
        );
        check(
            "match[]={}",
            Err("must contain at least one non-empty matcher"),
        );
    }
}
