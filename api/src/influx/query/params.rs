//! Parameters of `/query`.

use std::io::Write as _;

use chrono::{DateTime, SecondsFormat};
use serde_json::Value as Json;
use tidelake_querier::influxql::{Literal, Params, Tz, parse_duration, pattern};

use crate::service::error::ServiceError;

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// In RFC 3339.
    Text,
    /// As a number of units of so many ns.
    Number(i64),
}

impl Epoch {
    /// Reads the parameter `epoch`.
    pub fn read(text: Option<&str>) -> Result<Self, ServiceError> {
        Ok(match text {
            None => Self::Text,
            Some("ns" | "n") => Self::Number(1),
            Some("u" | "us" | "µ" | "µs") => Self::Number(1_000),
            Some("ms") => Self::Number(1_000_000),
            Some("s") => Self::Number(1_000_000_000),
            Some("m") => Self::Number(60_000_000_000),
            Some("h") => Self::Number(3_600_000_000_000),
            Some("rfc3339") => Self::Text,
            Some(other) => {
                let shown: String = other.chars().take(80).collect();
                return Err(ServiceError::bad_request(format!(
                    "the parameter \"epoch\" must be ns, u, ms, s, m or h, not {shown:?}"
                )));
            }
        })
    }

    /// Appends a time in ns, as JSON.
    pub fn write(self, out: &mut Vec<u8>, ns: i64, zone: Option<Tz>) {
        match self {
            Self::Number(unit) => drop(write!(out, "{}", ns / unit)),
            Self::Text => {
                let time = DateTime::from_timestamp_nanos(ns);
                let text = match zone {
                    None => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                    Some(zone) => time
                        .with_timezone(&zone)
                        .to_rfc3339_opts(SecondsFormat::AutoSi, true),
                };
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
        }
    }
}

/// Reads the parameter `params`: a JSON object with a value for each `$name`.
pub fn bound(text: Option<&str>) -> Result<Params, ServiceError> {
    let Some(text) = text else {
        return Ok(Params::new());
    };
    of_json(serde_json::from_str(text).map_err(|error| wrong(&error))?)
}

fn wrong(error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::bad_request(format!("error parsing query parameters: {error}"))
}

/// The values of `$name` in a statement.
pub fn of_json(values: serde_json::Map<String, Json>) -> Result<Params, ServiceError> {
    let mut params = Params::new();
    for (name, value) in values {
        let literal = literal(&value).ok_or_else(|| {
            wrong(&format_args!(
                "the parameter {name:?} must be a number, a text, a boolean, or an object such as \
                 {{\"duration\": \"5m\"}}"
            ))
        })?;
        params.insert(name, literal);
    }
    Ok(params)
}

fn literal(value: &Json) -> Option<Literal> {
    Some(match value {
        Json::Bool(value) => Literal::Boolean(*value),
        Json::String(text) => Literal::String(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Literal::Integer(value),
            (_, Some(value)) => Literal::Unsigned(value),
            _ => Literal::Number(number.as_f64()?),
        },
        Json::Object(typed) => {
            let (kind, value) = typed.iter().next().filter(|_| typed.len() == 1)?;
            match (kind.as_str(), value) {
                ("duration", Json::String(text)) => Literal::Duration(parse_duration(text)?),
                ("duration", Json::Number(ns)) => Literal::Duration(ns.as_i64()?),
                ("regex", Json::String(text)) => Literal::Regex(pattern(text).ok()?),
                ("string", Json::String(text)) => Literal::String(text.clone()),
                ("integer", Json::Number(number)) => Literal::Integer(number.as_i64()?),
                ("float" | "number", Json::Number(number)) => Literal::Number(number.as_f64()?),
                ("boolean", Json::Bool(value)) => Literal::Boolean(*value),
                _ => return None,
            }
        }
        Json::Null | Json::Array(_) => return None,
    })
}
