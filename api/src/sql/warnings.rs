//! What an answer lacks, in its head, as the formats have no place for it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

const WARNING: HeaderName = HeaderName::from_static("x-tidelake-warning");
/// Clients refuse heads that are too long.
const MAX_WARNINGS: usize = 16;

/// Adds warnings to a head.
pub fn write(headers: &mut HeaderMap, warnings: &[String]) {
    let more = (warnings.len() > MAX_WARNINGS)
        .then(|| format!("and {} more", warnings.len() - MAX_WARNINGS));
    for text in warnings.iter().take(MAX_WARNINGS).chain(&more) {
        let is_plain = |c: char| c == ' ' || c.is_ascii_graphic();
        let text: String = text
            .chars()
            .map(|c| if is_plain(c) { c } else { '?' })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(WARNING, value);
        }
    }
}
