//! Which names databases may have.
use tidelake_catalog::model::INTERNAL_DATABASE;

use crate::service::error::ServiceError;

const MAX_NAME_BYTES: usize = 64;

/// Checks a name: it becomes a part of object keys, so only what every store can keep is allowed.
pub fn check_name(name: &str) -> Result<(), ServiceError> {
    let good =
        |(i, b): (usize, u8)| b.is_ascii_alphanumeric() || (i > 0 && (b == b'-' || b == b'_'));
    if name == INTERNAL_DATABASE {
        return Ok(());
    }
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().enumerate().all(good) {
        let shown: String = name.chars().take(80).collect();
        return Err(ServiceError::bad_request(format!(
            "invalid database name {shown:?}: 1 to {MAX_NAME_BYTES} letters, digits, '-' and '_', \
             the first a letter or digit"
        )));
    }
    Ok(())
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
        check("_internal", true);
        check(&"n".repeat(64), true);
        check(&"n".repeat(65), false);
        for bad in [
            "", "_a", "-a", "a/b", "a b", "a\nb", "a\"b", "база", ".", "..", "a.b",
        ] {
            check(bad, false);
        }
    }
}
