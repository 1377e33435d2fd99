//! The settings of a connection. They are its own: nothing of the server or of others changes.

mod known;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::timezone::Tz;

use self::known::{KNOWN, Known, find};
use super::error::{PgError, code};

/// The release of PostgreSQL that clients are to expect.
pub const SERVER_VERSION: &str = concat!("16.0 (Tidelake ", env!("CARGO_PKG_VERSION"), ")");

/// Settings that are not known but have a dot in their names are kept, so many at most.
const MAX_OTHERS: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 128;

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
            return Ok(known.and_then(Known::reported));
        };
        if value.len() > MAX_VALUE_BYTES || key.len() > MAX_NAME_BYTES {
            return Err(invalid(name, value, "it is too long"));
        }
        let value = match known {
            Some(known) => known.checked(value, self.get(name).unwrap_or_default())?,
            None if self.given.len() >= MAX_OTHERS && !self.given.contains_key(&key) => {
                return Err(PgError::new(
                    code::TOO_COMPLEX,
                    "too many settings with a point in their names",
                ));
            }
            None => value.to_owned(),
        };
        self.given.insert(key, value);
        self.look_at_zone();
        Ok(known.and_then(Known::reported))
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
        let reported = KNOWN.iter().filter_map(Known::reported);
        reported.map(|name| (name, self.get(name).unwrap_or_default()))
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
        let others = self.given.iter().filter(|(name, _)| find(name).is_none());
        known.chain(others.map(|(name, value)| (name.as_str(), value.as_str(), "")))
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
        settings.fix("database", "d");
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
        check("database", "", Err("55P02"));
        check("database", "d", Ok("d"));
        check("statement_timeout", "5s", Ok("5s"));
        check("statement_timeout", "soon", Err("22023"));
        check("my.setting", "x", Ok("x"));
        check("nothing", "x", Err("42704"));
        check("application_name", &"x".repeat(2000), Err("22023"));
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(5)));
        assert_eq!(settings.zone_name(), "-07:00");
        settings.reset();
        assert_eq!(settings.given.len(), 1);
        assert_eq!(settings.zone_name(), "+00:00");
    }

    #[test]
    fn the_path_has_a_schema() {
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
    fn other_settings_have_a_limit() {
        let mut settings = Settings::default();
        for n in 0..MAX_OTHERS {
            settings.set(&format!("my.s{n}"), Some("x")).unwrap();
        }
        assert!(settings.set("my.more", Some("x")).is_err());
        assert!(settings.set("my.s1", Some("y")).is_ok());
    }
}
