//! The settings of a connection. They are its own: nothing of the server or of others changes.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::timezone::Tz;

use super::error::{PgError, code};

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Anything; nothing comes of it.
    Any,
    /// Nothing but its default.
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

struct Known {
    /// As it is shown.
    name: &'static str,
    default: &'static str,
    rule: Rule,
    /// Whether clients are told of each change.
    is_reported: bool,
    description: &'static str,
}

const fn known(
    name: &'static str,
    default: &'static str,
    rule: Rule,
    description: &'static str,
) -> Known {
    Known {
        name,
        default,
        rule,
        is_reported: false,
        description,
    }
}

const fn reported(
    name: &'static str,
    default: &'static str,
    rule: Rule,
    description: &'static str,
) -> Known {
    Known {
        is_reported: true,
        ..known(name, default, rule, description)
    }
}

const IGNORED: &str = "Has no effect.";

/// The release of PostgreSQL that clients are to expect.
pub const SERVER_VERSION: &str = concat!("16.0 (Tidelake ", env!("CARGO_PKG_VERSION"), ")");
const SERVER_VERSION_NUM: &str = "160000";

/// All settings, sorted by name in lower case.
static KNOWN: [Known; 46] = [
    reported(
        "application_name",
        "",
        Rule::Any,
        "What the client calls itself.",
    ),
    known("bytea_output", "hex", Rule::One(&["hex"]), "Form of bytes."),
    known("check_function_bodies", "on", Rule::Any, IGNORED),
    reported(
        "client_encoding",
        "UTF8",
        Rule::Encoding,
        "Encoding of texts.",
    ),
    known("client_min_messages", "notice", Rule::Any, IGNORED),
    known(
        "database",
        "",
        Rule::Fixed,
        "The database of the connection.",
    ),
    reported("DateStyle", "ISO, MDY", Rule::DateStyle, "Form of dates."),
    known("default_tablespace", "", Rule::Any, IGNORED),
    known("default_transaction_deferrable", "off", Rule::Any, IGNORED),
    known(
        "default_transaction_isolation",
        "read committed",
        Rule::Any,
        IGNORED,
    ),
    reported("default_transaction_read_only", "off", Rule::Any, IGNORED),
    known("enable_hashjoin", "on", Rule::Any, IGNORED),
    known("enable_mergejoin", "on", Rule::Any, IGNORED),
    known("enable_nestloop", "on", Rule::Any, IGNORED),
    known("enable_seqscan", "on", Rule::Any, IGNORED),
    known(
        "extra_float_digits",
        "1",
        Rule::Any,
        "Floats always have all digits that tell them apart.",
    ),
    known(
        "idle_in_transaction_session_timeout",
        "0",
        Rule::Any,
        IGNORED,
    ),
    known("idle_session_timeout", "0", Rule::Any, IGNORED),
    reported(
        "in_hot_standby",
        "off",
        Rule::Fixed,
        "Whether this is a copy that only reads.",
    ),
    reported(
        "integer_datetimes",
        "on",
        Rule::Fixed,
        "Times are whole microseconds.",
    ),
    reported(
        "IntervalStyle",
        "postgres",
        Rule::One(&["postgres"]),
        "Form of lengths of time.",
    ),
    reported(
        "is_superuser",
        "off",
        Rule::Fixed,
        "Rights are those of the token.",
    ),
    known("jit", "off", Rule::Any, IGNORED),
    known(
        "lc_collate",
        "C",
        Rule::Fixed,
        "Texts are compared by their bytes.",
    ),
    known("lc_ctype", "C.UTF-8", Rule::Fixed, "Texts are UTF-8."),
    known("lc_messages", "C", Rule::Any, IGNORED),
    known("lc_monetary", "C", Rule::Any, IGNORED),
    known("lc_numeric", "C", Rule::Any, IGNORED),
    known("lc_time", "C", Rule::Any, IGNORED),
    known("lock_timeout", "0", Rule::Any, IGNORED),
    known(
        "max_identifier_length",
        "1024",
        Rule::Fixed,
        "Bytes of a name.",
    ),
    known(
        "max_index_keys",
        "32",
        Rule::Fixed,
        "There are no indexes to make.",
    ),
    known("row_security", "on", Rule::Any, IGNORED),
    known(
        "search_path",
        "public",
        Rule::Any,
        "Where names without a schema are looked up.",
    ),
    reported("server_encoding", "UTF8", Rule::Fixed, "Texts are UTF-8."),
    reported(
        "server_version",
        SERVER_VERSION,
        Rule::Fixed,
        "The release.",
    ),
    known(
        "server_version_num",
        SERVER_VERSION_NUM,
        Rule::Fixed,
        "The release as a number.",
    ),
    reported("session_authorization", "", Rule::Fixed, "Who asks."),
    reported(
        "standard_conforming_strings",
        "on",
        Rule::One(&["on"]),
        "Backslashes are no escapes.",
    ),
    known(
        "statement_timeout",
        "0",
        Rule::Milliseconds,
        "Longest time of a statement; 0 is that of the server.",
    ),
    known("synchronize_seqscans", "on", Rule::Any, IGNORED),
    reported(
        "TimeZone",
        "UTC",
        Rule::Zone,
        "Zone of times that have one.",
    ),
    known(
        "transaction_isolation",
        "read committed",
        Rule::Any,
        IGNORED,
    ),
    known("transaction_read_only", "off", Rule::Any, IGNORED),
    known("work_mem", "4MB", Rule::Any, IGNORED),
    known("xmloption", "content", Rule::Any, IGNORED),
];

/// Settings that are not known but have a dot in their names are kept, so many at most.
const MAX_OWN: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 128;

fn find(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(name))
}

/// The settings of a connection.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What differs from the defaults, by names as they are shown.
    given: BTreeMap<String, String>,
    /// What is reset to.
    initial: BTreeMap<String, String>,
    zone: Tz,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            given: BTreeMap::new(),
            initial: BTreeMap::new(),
            zone: utc(),
        }
    }
}

fn utc() -> Tz {
    // Of all zones this is always known.
    "+00:00"
        .parse()
        .unwrap_or_else(|_| unreachable!("UTC has no offset"))
}

impl Settings {
    /// Sets what the start of a connection says, which is what is reset to.
    pub fn begin(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        self.set(name, Some(value))?;
        self.initial = self.given.clone();
        Ok(())
    }

    /// Sets what no client may change.
    pub fn fix(&mut self, name: &str, value: &str) {
        self.given.insert(name.to_owned(), value.to_owned());
        self.initial = self.given.clone();
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        let Some(known) = find(name) else {
            return self.given.get(&name.to_lowercase()).map(String::as_str);
        };
        Some(
            self.given
                .get(known.name)
                .map_or(known.default, String::as_str),
        )
    }

    /// The value of a setting for `SHOW`.
    pub fn show(&self, name: &str) -> Result<&str, PgError> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    /// Sets it, or resets it. Returns its name if clients are to be told of its new value.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<&'static str>, PgError> {
        let known = find(name);
        let key = match known {
            Some(known) => known.name.to_owned(),
            None if name.contains('.') => name.to_lowercase(),
            None => return Err(unknown(name)),
        };
        let Some(value) = value else {
            match self.initial.get(&key).cloned() {
                Some(initial) => drop(self.given.insert(key, initial)),
                None => drop(self.given.remove(&key)),
            }
            self.look_at_zone();
            return Ok(known
                .filter(|known| known.is_reported)
                .map(|known| known.name));
        };
        if value.len() > MAX_VALUE_BYTES || key.len() > MAX_NAME_BYTES {
            return Err(invalid(name, value, "it is too long"));
        }
        let value = match known {
            Some(known) => checked(known, value)?,
            None if self.given.len() >= MAX_OWN && !self.given.contains_key(&key) => {
                return Err(PgError::new(
                    code::TOO_COMPLEX,
                    "too many settings of one's own",
                ));
            }
            None => value.to_owned(),
        };
        self.given.insert(key, value);
        self.look_at_zone();
        Ok(known
            .filter(|known| known.is_reported)
            .map(|known| known.name))
    }

    fn look_at_zone(&mut self) {
        self.zone = self
            .get("timezone")
            .and_then(parse_zone)
            .unwrap_or_else(utc);
    }

    /// Resets all.
    pub fn reset(&mut self) {
        self.given = self.initial.clone();
        self.look_at_zone();
    }

    /// Those that clients are told of, with their values.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let told = KNOWN.iter().filter(|known| known.is_reported);
        told.map(|known| (known.name, self.get(known.name).unwrap_or_default()))
    }

    /// All, with their values and descriptions.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, &'static str)> {
        let known = KNOWN.iter().map(|known| {
            (
                known.name,
                self.get(known.name).unwrap_or_default(),
                known.description,
            )
        });
        let own = self.given.iter().filter(|(name, _)| find(name).is_none());
        known.chain(own.map(|(name, value)| (name.as_str(), value.as_str(), "")))
    }

    /// The zone in which times that have one are shown.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The same as the engine knows it.
    pub fn zone_name(&self) -> String {
        match self.get("timezone").map(canonical_zone) {
            Some(zone) if zone.parse::<Tz>().is_ok() => zone,
            _ => "+00:00".to_owned(),
        }
    }

    /// Where names without a schema are looked up.
    pub fn schema(&self) -> &'static str {
        let path = self.get("search_path").unwrap_or_default();
        let schemas = ["public", "metrics", "information_schema", "pg_catalog"];
        let mut names = path.split(',').map(|name| name.trim().trim_matches('"'));
        let found = names.find_map(|name| schemas.into_iter().find(|schema| *schema == name));
        found.unwrap_or("public")
    }

    /// Longest time of a statement, if one is set.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let ms = self.get("statement_timeout").and_then(milliseconds)?;
        (ms > 0).then(|| Duration::from_millis(ms))
    }
}

fn unknown(name: &str) -> PgError {
    let shown: String = name.chars().take(80).collect();
    PgError::new(
        code::NO_SETTING,
        format!("unrecognized configuration parameter {shown:?}"),
    )
}

fn invalid(name: &str, value: &str, why: &str) -> PgError {
    let shown: String = value.chars().take(80).collect();
    PgError::new(
        code::INVALID_PARAMETER,
        format!("invalid value for parameter {name:?}: {shown:?}: {why}"),
    )
}

/// A value as it is kept.
fn checked(known: &Known, value: &str) -> Result<String, PgError> {
    let bad = |why: &str| Err(invalid(known.name, value, why));
    match known.rule {
        Rule::Any => {}
        Rule::Fixed => {
            if value != known.default {
                return Err(PgError::new(
                    "55P02",
                    format!("parameter {:?} cannot be changed", known.name),
                ));
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
                true => Ok(known.default.to_owned()),
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

/// A zone's name as the engine writes it.
fn canonical_zone(name: &str) -> String {
    let name = name.trim();
    if ["utc", "gmt", "z", "zulu", "etc/utc"].contains(&name.to_ascii_lowercase().as_str()) {
        return "+00:00".to_owned();
    }
    // Whole hours, as in SET TIME ZONE -7.
    match name.parse::<i32>() {
        Ok(hours @ -15..=15) => {
            let sign = if hours < 0 { '-' } else { '+' };
            format!("{sign}{:02}:00", hours.abs())
        }
        _ => name.to_owned(),
    }
}

fn parse_zone(name: &str) -> Option<Tz> {
    canonical_zone(name).parse().ok()
}

/// A time with or without a unit.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let mut settings = Settings::default();
        let mut check = |name: &str, value: &str, expected: Result<&str, &str>| {
            let set = settings.set(name, Some(value));
            match (set, expected) {
                (Ok(_), Ok(expected)) => assert_eq!(settings.get(name), Some(expected), "{name}"),
                (Err(error), Err(state)) => assert_eq!(error.code, state, "{name} {error}"),
                (set, expected) => panic!("{name} = {value}: {set:?}, not {expected:?}"),
            }
        };
        check("client_encoding", "'utf-8'", Ok("UTF8"));
        check("CLIENT_ENCODING", "LATIN1", Err("22023"));
        check("datestyle", "ISO, DMY", Ok("ISO, MDY"));
        check("datestyle", "German", Err("22023"));
        check("timezone", "Europe/Berlin", Ok("Europe/Berlin"));
        check("timezone", "-7", Ok("-7"));
        check("timezone", "Mars/Olympus", Err("22023"));
        check("server_version", "99", Err("55P02"));
        check("statement_timeout", "5s", Ok("5s"));
        check("statement_timeout", "soon", Err("22023"));
        check("my.setting", "x", Ok("x"));
        check("nothing", "x", Err("42704"));
        check("application_name", &"x".repeat(2000), Err("22023"));
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(5)));
        assert_eq!(settings.zone_name(), "-07:00");
        settings.reset();
        assert!(settings.given.is_empty() && settings.zone_name() == "+00:00");
    }

    #[test]
    fn names_are_sorted_and_the_path_has_a_schema() {
        let names: Vec<String> = KNOWN
            .iter()
            .map(|known| known.name.to_lowercase())
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        let mut settings = Settings::default();
        let mut check = |path: &str, schema: &str| {
            settings.set("search_path", Some(path)).unwrap();
            assert_eq!(settings.schema(), schema, "{path}");
        };
        check("\"$user\", public", "public");
        check("metrics, public", "metrics");
        check("", "public");
    }

    #[test]
    fn own_settings_have_a_limit() {
        let mut settings = Settings::default();
        for n in 0..MAX_OWN {
            settings.set(&format!("my.s{n}"), Some("x")).unwrap();
        }
        assert!(settings.set("my.more", Some("x")).is_err());
        assert!(settings.set("my.s1", Some("y")).is_ok());
    }
}
