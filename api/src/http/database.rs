//! Which database a request means.
use axum::extract::RawPathParams;
use axum::http::HeaderMap;

use crate::service::database::check_name;
use crate::service::error::ServiceError;

/// The database of Prometheus requests that name none.
pub const DEFAULT_DATABASE: &str = "default";

/// The database of a request on a Prometheus path: the `/db/{database}` prefix, else
/// `X-Scope-OrgID`, else the default.
pub fn of_prometheus(path: &RawPathParams, headers: &HeaderMap) -> Result<String, ServiceError> {
    match path_value(path, "database") {
        Some(name) => {
            check_name(name)?;
            Ok(name.to_owned())
        }
        None => of_header(headers),
    }
}

/// The database that `X-Scope-OrgID` names, in HTTP or in the metadata of gRPC, else the default.
pub fn of_header(headers: &HeaderMap) -> Result<String, ServiceError> {
    let name = match headers.get("x-scope-orgid") {
        Some(value) => value
            .to_str()
            .map_err(|_| ServiceError::bad_request("the header X-Scope-OrgID is not text"))?,
        None => DEFAULT_DATABASE,
    };
    check_name(name)?;
    Ok(name.to_owned())
}

/// A part of the path by its name in the route.
pub fn path_value<'a>(path: &'a RawPathParams, name: &str) -> Option<&'a str> {
    path.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
}
