//! Which database a request means, and which names databases may have.
use axum::extract::RawPathParams;
use axum::http::HeaderMap;

use crate::error::ApiError;

/// The database of Prometheus requests that name none.
pub const DEFAULT_DATABASE: &str = "default";

const MAX_NAME_BYTES: usize = 64;

/// Checks a name: it becomes a part of object keys, so only what every store can keep is allowed.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let good =
        |(i, b): (usize, u8)| b.is_ascii_alphanumeric() || (i > 0 && (b == b'-' || b == b'_'));
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().enumerate().all(good) {
        let shown: String = name.chars().take(80).collect();
        return Err(ApiError::bad_request(format!(
            "invalid database name {shown:?}: 1 to {MAX_NAME_BYTES} letters, digits, '-' and '_', \
             the first a letter or digit"
        )));
    }
    Ok(())
}

/// The database of a request on a Prometheus path: the `/db/{database}` prefix, else
/// `X-Scope-OrgID`, else the default.
pub fn of_prometheus(path: &RawPathParams, headers: &HeaderMap) -> Result<String, ApiError> {
    let name = match path_value(path, "database") {
        Some(name) => name,
        None => match headers.get("x-scope-orgid") {
            Some(value) => value
                .to_str()
                .map_err(|_| ApiError::bad_request("the header X-Scope-OrgID is not text"))?,
            None => DEFAULT_DATABASE,
        },
    };
    check_name(name)?;
    Ok(name.to_owned())
}

/// A part of the path by its name in the route.
pub fn path_value<'a>(path: &'a RawPathParams, name: &str) -> Option<&'a str> {
    path.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check =
            |name: &str, expected: bool| assert_eq!(check_name(name).is_ok(), expected, "{name:?}");
        check("default", true);
        check("7a-b_c", true);
        check(&"n".repeat(64), true);
        check(&"n".repeat(65), false);
        for bad in [
            "", "_a", "-a", "a/b", "a b", "a\nb", "a\"b", "база", ".", "..", "a.b",
        ] {
            check(bad, false);
        }
    }
}
