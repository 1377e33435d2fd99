//! What a query is for, as far as its request tells: few clients say so, but dashboards can be
//! known.
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, HeaderName};

use crate::service::class::QueryClass;
use crate::service::error::ServiceError;

/// Says it.
const CLASS: HeaderName = HeaderName::from_static("x-tidelake-class");

/// What Grafana hands on of the panel that asks, and of the alert.
const OF_DASHBOARDS: [HeaderName; 3] = [
    HeaderName::from_static("x-dashboard-uid"),
    HeaderName::from_static("x-panel-id"),
    HeaderName::from_static("x-grafana-org-id"),
];
const OF_RULES: [HeaderName; 2] = [
    HeaderName::from_static("fromalert"),
    HeaderName::from_static("x-rule-uid"),
];

/// Begins of the names of programs.
const AGENTS: [(&str, QueryClass); 2] = [
    ("Grafana/", QueryClass::Dashboard),
    ("vmalert", QueryClass::Rules),
];

/// The class of the queries of a request.
///
/// # Errors
/// If the header that says it names no class.
pub fn of(headers: &HeaderMap) -> Result<QueryClass, ServiceError> {
    if let Some(named) = headers.get(CLASS) {
        let class = named.to_str().ok().map(str::trim);
        return class.and_then(QueryClass::of_name).ok_or_else(|| {
            let names = QueryClass::ALL.map(QueryClass::name).join(", ");
            ServiceError::bad_request(format!("the header {CLASS} must be one of {names}"))
        });
    }
    let has = |names: &[HeaderName]| names.iter().any(|name| headers.contains_key(name));
    if has(&OF_RULES) {
        return Ok(QueryClass::Rules);
    }
    if has(&OF_DASHBOARDS) {
        return Ok(QueryClass::Dashboard);
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let known = AGENTS.iter().find(|(begin, _)| agent.starts_with(begin));
    Ok(known.map(|(_, class)| *class).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(headers: &[(&'static str, &'static str)], expected: Result<QueryClass, &str>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect();
        let found = of(&headers).map_err(|error| error.message);
        let expected = expected.map_err(str::to_owned);
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn clients_are_known_by_what_they_send() {
        let (dashboard, rules, adhoc) = (
            Ok(QueryClass::Dashboard),
            Ok(QueryClass::Rules),
            Ok(QueryClass::Adhoc),
        );
        check(&[], adhoc);
        check(&[("user-agent", "curl/8.0")], adhoc);
        check(&[("user-agent", "Mozilla/5.0 Grafana/11")], adhoc);
        check(&[("user-agent", "Grafana/11.0.0")], dashboard);
        check(&[("x-dashboard-uid", "x")], dashboard);
        check(&[("x-grafana-org-id", "1")], dashboard);
        check(&[("user-agent", "vmalert")], rules);
        let alert = [("user-agent", "Grafana/11.0.0"), ("fromalert", "true")];
        check(&alert, rules);
        check(&[("x-rule-uid", "x"), ("x-grafana-org-id", "1")], rules);
    }

    #[test]
    fn what_is_said_counts() {
        check(&[("x-tidelake-class", "rules")], Ok(QueryClass::Rules));
        let said = [("x-tidelake-class", " AdHoc"), ("x-dashboard-uid", "x")];
        check(&said, Ok(QueryClass::Adhoc));
        let refused = "the header x-tidelake-class must be one of dashboard, rules, adhoc";
        check(&[("x-tidelake-class", "heavy")], Err(refused));
        check(&[("x-tidelake-class", "")], Err(refused));
    }
}
