//! Which settings there are, and what each may be.

use super::{SERVER_VERSION, invalid, milliseconds, parse_zone};
use crate::pg::error::{PgError, code};

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Anything; nothing comes of it.
    Any,
    /// What it is.
    Fixed,
    /// Only texts in UTF-8.
    Encoding,
    /// Only ISO.
    DateStyle,
    Zone,
    Milliseconds,
    /// One of some words.
    One(&'static [&'static str]),
}

use Rule::{Any, DateStyle, Encoding, Fixed, Milliseconds, One, Zone};

/// A setting.
pub(super) struct Known {
    /// As it is shown.
    pub name: &'static str,
    pub default: &'static str,
    rule: Rule,
    pub description: &'static str,
}

const fn row(
    name: &'static str,
    default: &'static str,
    rule: Rule,
    description: &'static str,
) -> Known {
    Known {
        name,
        default,
        rule,
        description,
    }
}

/// Those of which clients are told each change.
const REPORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

const IGNORED: &str = "Has no effect.";

/// All settings, sorted by name in lower case.
#[rustfmt::skip]
pub(super) static KNOWN: [Known; 46] = [
    row("application_name", "", Any, "What the client calls itself."),
    row("bytea_output", "hex", One(&["hex"]), "Form of bytes."),
    row("check_function_bodies", "on", Any, IGNORED),
    row("client_encoding", "UTF8", Encoding, "Encoding of texts."),
    row("client_min_messages", "notice", Any, IGNORED),
    row("database", "", Fixed, "The database of the connection."),
    row("DateStyle", "ISO, MDY", DateStyle, "Form of dates."),
    row("default_tablespace", "", Any, IGNORED),
    row("default_transaction_deferrable", "off", Any, IGNORED),
    row("default_transaction_isolation", "read committed", Any, IGNORED),
    row("default_transaction_read_only", "off", Any, IGNORED),
    row("enable_hashjoin", "on", Any, IGNORED),
    row("enable_mergejoin", "on", Any, IGNORED),
    row("enable_nestloop", "on", Any, IGNORED),
    row("enable_seqscan", "on", Any, IGNORED),
    row("extra_float_digits", "1", Any, "Floats always have all digits that tell them apart."),
    row("idle_in_transaction_session_timeout", "0", Any, IGNORED),
    row("idle_session_timeout", "0", Any, IGNORED),
    row("in_hot_standby", "off", Fixed, "Whether this is a copy that only reads."),
    row("integer_datetimes", "on", Fixed, "Times are whole microseconds."),
    row("IntervalStyle", "postgres", One(&["postgres"]), "Form of lengths of time."),
    row("is_superuser", "off", Fixed, "Rights are those of the token."),
    row("jit", "off", Any, IGNORED),
    row("lc_collate", "C", Fixed, "Texts are compared by their bytes."),
    row("lc_ctype", "C.UTF-8", Fixed, "Texts are UTF-8."),
    row("lc_messages", "C", Any, IGNORED),
    row("lc_monetary", "C", Any, IGNORED),
    row("lc_numeric", "C", Any, IGNORED),
    row("lc_time", "C", Any, IGNORED),
    row("lock_timeout", "0", Any, IGNORED),
    row("max_identifier_length", "1024", Fixed, "Bytes of a name."),
    row("max_index_keys", "32", Fixed, "There are no indexes to make."),
    row("row_security", "on", Any, IGNORED),
    row("search_path", "public", Any, "Where names without a schema are looked up."),
    row("server_encoding", "UTF8", Fixed, "Texts are UTF-8."),
    row("server_version", SERVER_VERSION, Fixed, "The release."),
    row("server_version_num", "160000", Fixed, "The release as a number."),
    row("session_authorization", "", Fixed, "The user."),
    row("standard_conforming_strings", "on", One(&["on"]), "Backslashes are no escapes."),
    row("statement_timeout", "0", Milliseconds, "Longest time of a statement; 0 is the server's."),
    row("synchronize_seqscans", "on", Any, IGNORED),
    row("TimeZone", "UTC", Zone, "Zone of times that have one."),
    row("transaction_isolation", "read committed", Any, IGNORED),
    row("transaction_read_only", "off", Any, IGNORED),
    row("work_mem", "4MB", Any, IGNORED),
    row("xmloption", "content", Any, IGNORED),
];

pub(super) fn find(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(name))
}

impl Known {
    /// Its name, if clients are told of each change.
    pub fn reported(&self) -> Option<&'static str> {
        REPORTED.contains(&self.name).then_some(self.name)
    }

    /// A value in the place of the current one, as it is kept.
    pub fn checked(&self, value: &str, current: &str) -> Result<String, PgError> {
        let bad = |why: &str| Err(invalid(self.name, value, why));
        match self.rule {
            Rule::Any => {}
            Rule::Fixed => {
                if value != current {
                    let message = format!("parameter {:?} cannot be changed", self.name);
                    return Err(PgError::new(code::CANNOT_CHANGE, message));
                }
            }
            Rule::Encoding => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                return match plain.to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" => Ok("UTF8".to_owned()),
                    _ => bad("texts are UTF-8 only"),
                };
            }
            Rule::DateStyle => {
                let words = ["iso", "mdy", "dmy", "ymd", "us", "european", "default"];
                let mut given = value.split([',', ' ']).filter(|word| !word.is_empty());
                return match given.all(|word| words.contains(&word.to_ascii_lowercase().as_str())) {
                    true => Ok(self.default.to_owned()),
                    false => bad("dates are shown in the style ISO only"),
                };
            }
            Rule::Zone => {
                if parse_zone(value).is_none() {
                    return bad("it is the name of no time zone, nor an offset such as +02:00");
                }
            }
            Rule::Milliseconds => {
                if milliseconds(value).is_none() {
                    return bad("it is a number of milliseconds, or one with a unit, such as 5s");
                }
            }
            Rule::One(words) => {
                let found = words.iter().find(|word| word.eq_ignore_ascii_case(value));
                return match found {
                    Some(word) => Ok((*word).to_owned()),
                    None => bad("this value is not supported"),
                };
            }
        }
        Ok(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted() {
        let names: Vec<String> = KNOWN
            .iter()
            .map(|known| known.name.to_lowercase())
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(REPORTED.iter().all(|name| find(name).is_some()));
    }
}
