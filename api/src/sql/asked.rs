//! What a request for rows says, in the query string, in a form or in JSON: `/api/v3/query_sql` and
//! `/api/v3/query_influxql`.

use axum::http::HeaderMap;
use serde::Deserialize;

use crate::http::params::{Params, is_form};
use crate::prometheus::params as parameters;
use crate::service::error::ServiceError;

/// Largest request body.
pub const MAX_QUERY_BYTES: usize = 4 << 20;

/// What is asked.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Asked {
    /// The database.
    #[serde(alias = "database")]
    pub db: Option<String>,
    /// The statement.
    #[serde(alias = "query")]
    pub q: Option<String>,
    /// The form of the answer.
    pub format: Option<String>,
    /// Of line protocol: the table.
    pub table: Option<String>,
    /// Of line protocol: its tags, if the types of columns do not say them.
    pub tags: Option<Vec<String>>,
    /// Which state is to be read.
    #[serde(alias = "asOf")]
    pub as_of: Option<serde_json::Value>,
    /// The values of `$name`.
    #[serde(default)]
    pub params: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether damaged segments may be left out of the answer.
    pub partial_response: Option<bool>,
}

impl Asked {
    /// What a query string says.
    pub fn of_query(query: Option<&str>) -> Result<Self, ServiceError> {
        Self::from_params(&Params::from_query(query))
    }

    /// What a body says, with the query string if it is a form.
    pub fn of_body(
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, ServiceError> {
        if is_form(headers) {
            return Self::from_params(&Params::from_form(query, headers, body));
        }
        serde_json::from_slice(body).map_err(|error| {
            ServiceError::bad_request(format!(
                "the body must be JSON like {{\"db\": \"..\", \"q\": \"..\"}}: {error}"
            ))
        })
    }

    fn from_params(params: &Params) -> Result<Self, ServiceError> {
        let text = |name: &str| params.get(name).map(str::to_owned);
        let values = params.get("params").map(serde_json::from_str).transpose();
        let values = values.map_err(|e| {
            ServiceError::bad_request(format!(
                "the parameter \"params\" must be a JSON object: {e}"
            ))
        })?;
        let partial = params
            .get("partial_response")
            .map(parameters::parse_bool)
            .transpose();
        let partial_response = partial.map_err(|e| parameters::invalid("partial_response", e))?;
        let as_of = text("asOf")
            .or(text("as_of"))
            .map(serde_json::Value::String);
        let (db, q) = (text("db").or(text("database")), text("q").or(text("query")));
        Ok(Self {
            db,
            q,
            format: text("format"),
            table: text("table"),
            tags: text("tags").map(|tags| tags.split(',').map(str::to_owned).collect()),
            as_of,
            params: values,
            partial_response,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_as_parameters_or_json() {
        let query = "db=d&q=SELECT+1&format=csv&params=%7B%22a%22%3A1%7D&partial_response=true";
        let json = r#"{"database": "d", "q": "SELECT 1", "format": "csv", "params": {"a": 1},
                       "partial_response": true}"#;
        assert_eq!(
            Asked::of_query(Some(query)).unwrap(),
            Asked::of_body(None, &HeaderMap::new(), json.as_bytes()).unwrap()
        );
        assert!(Asked::of_query(Some("params=1")).is_err());
        assert!(Asked::of_body(None, &HeaderMap::new(), b"q=SELECT+1").is_err());
    }
}
