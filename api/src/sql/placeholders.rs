//! Values for the `$name` placeholders of a query, in JSON.

use std::collections::HashMap;

use crate::node::backend::SqlParam;
use crate::service::error::ServiceError;

/// The values of such an object.
///
/// # Errors
/// [`Code::BadRequest`](crate::service::error::Code::BadRequest) for lists and objects.
pub fn from_json(
    params: serde_json::Map<String, serde_json::Value>,
) -> Result<HashMap<String, SqlParam>, ServiceError> {
    let scalar = |name: &str, value: serde_json::Value| match value {
        serde_json::Value::Null => Ok(SqlParam::Null),
        serde_json::Value::Bool(b) => Ok(SqlParam::Boolean(b)),
        serde_json::Value::String(text) => Ok(SqlParam::String(text)),
        serde_json::Value::Number(n) => Ok(match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => SqlParam::Integer(i),
            (None, Some(u)) => SqlParam::Unsigned(u),
            (None, None) => SqlParam::Float(n.as_f64().unwrap_or(f64::NAN)),
        }),
        _ => Err(ServiceError::bad_request(format!(
            "the value of ${name} must be a string, a number, a boolean or null"
        ))),
    };
    params
        .into_iter()
        .map(|(name, value)| scalar(&name, value).map(|value| (name, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_have_types() {
        let check = |json: &str, expected: SqlParam| {
            let map = serde_json::from_str(&format!("{{\"x\":{json}}}")).unwrap();
            assert_eq!(
                from_json(map).unwrap(),
                HashMap::from([("x".to_owned(), expected)])
            );
        };
        check("1", SqlParam::Integer(1));
        check("18446744073709551615", SqlParam::Unsigned(u64::MAX));
        check("1.5", SqlParam::Float(1.5));
        check("\"t\"", SqlParam::String("t".into()));
        check("true", SqlParam::Boolean(true));
        check("null", SqlParam::Null);
        let list = serde_json::from_str(r#"{"x":[1]}"#).unwrap();
        assert!(from_json(list).unwrap_err().message.contains("$x"));
    }
}
