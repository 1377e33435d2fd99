//! Parameters of a request: the query string, and a form body where there is one.
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use url::form_urlencoded;

/// Names and values in the order of the request, the form before the query string, as Go's
/// `FormValue` finds them.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// The parameters of a query string.
    pub fn from_query(query: Option<&str>) -> Self {
        Self(
            form_urlencoded::parse(query.unwrap_or("").as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The parameters of a form body, then those of the query string. A body of any other type is
    /// no form.
    pub fn from_form(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut params = if is_form(headers) {
            form_urlencoded::parse(body).into_owned().collect()
        } else {
            Vec::new()
        };
        params.extend(Self::from_query(query).0);
        Self(params)
    }

    /// The first value of a parameter; an empty value is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// Whether the body says that it is a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers) == "application/x-www-form-urlencoded"
}

/// The content type without parameters, in lower case; empty when there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    value
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_comes_before_the_query_string() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8"
                .parse()
                .unwrap(),
        );
        let params = Params::from_form(Some("a=1&m[]=x"), &headers, b"a=2&m%5B%5D=y+z&e=");
        assert_eq!(params.get("a"), Some("2"));
        assert_eq!(params.all("m[]").collect::<Vec<_>>(), ["y z", "x"]);
        assert_eq!(params.get("e"), None);
        let params = Params::from_form(Some("a=1"), &HeaderMap::new(), b"a=2");
        assert_eq!(params.get("a"), Some("1"));
    }
}
