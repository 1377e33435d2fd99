//! Names of databases, and the databases that retention policies of InfluxDB 1.x are.
use tidelake_catalog::base_database;
use tidelake_catalog::model::INTERNAL_DATABASE;

use super::Service;
use super::error::{Code, ServiceError};

const MAX_NAME_BYTES: usize = 64;

/// Checks the name of a database, or of a retention policy of one: `database/policy`.
pub fn check_name(name: &str) -> Result<(), ServiceError> {
    if name == INTERNAL_DATABASE {
        return Ok(());
    }
    let parts = name.split('/');
    if parts.clone().count() > 2 || !parts.into_iter().all(is_good) {
        let shown: String = name.chars().take(80).collect();
        return Err(ServiceError::bad_request(format!(
            "invalid database name {shown:?}: 1 to {MAX_NAME_BYTES} bytes, the first a letter or \
             digit, without quotes, backslashes, commas, bars and asterisks; a slash stands between \
             a database and a retention policy of it"
        )));
    }
    Ok(())
}

/// The same for what can be no retention policy: what is made, or has limits of its own.
pub fn check_base_name(name: &str) -> Result<(), ServiceError> {
    check_name(name)?;
    if base_database(name) != name {
        return Err(ServiceError::bad_request(format!(
            "invalid database name {name:?}: a slash stands between a database and a retention \
             policy of it, which CREATE RETENTION POLICY makes"
        )));
    }
    Ok(())
}

fn is_good(part: &str) -> bool {
    let is_refused = |c: char| c.is_control() || matches!(c, '"' | '\\' | ',' | '|' | '*' | '\'');
    part.len() <= MAX_NAME_BYTES
        && part.starts_with(|c: char| c.is_alphanumeric())
        && !part.contains(is_refused)
        && part.trim_end() == part
}

impl Service {
    /// Whether a write may make a database.
    ///
    /// # Errors
    /// [`Code::NotFound`] if it is a retention policy, or writes make none, and
    /// [`Code::BadRequest`] for a name that only `CREATE DATABASE` gives: a misspelt one should not
    /// become a database.
    pub fn check_new_database(&self, database: &str) -> Result<(), ServiceError> {
        let (base, policy) = match database.split_once('/') {
            Some((base, policy)) => (base, Some(policy)),
            None => (database, None),
        };
        if policy.is_some() {
            return Err(no_policy(policy));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !base.chars().all(is_plain) {
            return Err(ServiceError::bad_request(format!(
                "invalid database name {base:?}: a write makes only databases whose names have \
                 letters, digits, '-' and '_'; CREATE DATABASE makes others"
            )));
        }
        match self.config.auto_create_databases {
            true => Ok(()),
            false => {
                let message = format!("database not found: {base:?}");
                Err(ServiceError::new(Code::NotFound, message))
            }
        }
    }

    /// The database in which a write to a retention policy of a database goes; without a policy to
    /// the default one. `database/policy` names both.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is no such policy, or no such database and writes make none.
    pub fn written_database(
        &self,
        database: &str,
        policy: Option<&str>,
    ) -> Result<String, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        let (base, policy) = match (database.split_once('/'), policy) {
            (Some((base, policy)), None) => (base, Some(policy)),
            (_, policy) => (database, policy),
        };
        let Some(found) = snapshot.database(base) else {
            self.check_new_database(base)?;
            let is_own = policy.is_none_or(|policy| policy == "autogen");
            return if is_own {
                Ok(base.to_owned())
            } else {
                Err(no_policy(policy))
            };
        };
        let stored = found.stored_policy(policy);
        match (snapshot.database(&stored), policy) {
            (Some(_), _) => Ok(stored),
            // The default policy was dropped.
            (None, None) => Ok(base_database(database).to_owned()),
            (None, policy) => Err(no_policy(policy)),
        }
    }
}

fn no_policy(policy: Option<&str>) -> ServiceError {
    let shown: String = policy.unwrap_or_default().chars().take(80).collect();
    ServiceError::new(
        Code::NotFound,
        format!("retention policy not found: {shown:?}"),
    )
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
        check("my db.v2", true);
        check("база", true);
        check("telegraf/autogen", true);
        check(&"n".repeat(64), true);
        check(&"n".repeat(65), false);
        for bad in [
            "",
            "_a",
            "-a",
            "a/",
            "/a",
            "a/b/c",
            "a/_b",
            "a ",
            "a\nb",
            "a\"b",
            "a\\b",
            "a|b",
            "a*",
            ".",
            "..",
            "a/..",
            "_internal/a",
        ] {
            check(bad, false);
        }
    }
}
