//! Parameters of the Prometheus API: times, durations, limits, and the names of labels in paths.
use std::time::Duration;

use chrono::DateTime;

use crate::http::params::Params;
use crate::node::backend::{AsOf, parse_as_of};
use crate::service::error::ServiceError;

/// Most steps of a range query, as in Prometheus: enough for a minute's resolution over a week.
pub const MAX_STEPS: i64 = 11_000;

/// Times that stand for "everything" in Prometheus' own clients.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// `invalid parameter "end": ...`
pub fn invalid(name: &str, why: impl std::fmt::Display) -> ServiceError {
    ServiceError::bad_request(format!("invalid parameter {name:?}: {why}"))
}

/// A time parameter in ms, or its default when it is not given.
pub fn time_or(params: &Params, name: &str, default_ms: i64) -> Result<i64, ServiceError> {
    let Some(text) = params.get(name) else {
        return Ok(default_ms);
    };
    parse_time(text).map_err(|e| invalid(name, format!("invalid time value for '{name}': {e}")))
}

/// A time parameter in ms that must be given.
pub fn time(params: &Params, name: &str) -> Result<i64, ServiceError> {
    parse_time(params.get(name).unwrap_or("")).map_err(|e| invalid(name, e))
}

/// A duration parameter in ms, if it is given.
pub fn duration(params: &Params, name: &str) -> Result<Option<i64>, ServiceError> {
    params
        .get(name)
        .map(|text| parse_duration(text).map_err(|e| invalid(name, e)))
        .transpose()
}

/// `limit`: 0 for none.
pub fn limit(params: &Params) -> Result<usize, ServiceError> {
    let Some(text) = params.get("limit") else {
        return Ok(0);
    };
    match text.parse::<i64>() {
        Ok(limit) => {
            usize::try_from(limit).map_err(|_| invalid("limit", "limit must be non-negative"))
        }
        Err(error) => {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = if matches!(error.kind(), PosOverflow | NegOverflow) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            // The words of Go's library.
            Err(invalid(
                "limit",
                format!("strconv.Atoi: parsing {text:?}: {why}"),
            ))
        }
    }
}

/// A parameter that counts something; `None` when it is not given or negative, which is no limit.
pub fn count(params: &Params, name: &str) -> Result<Option<usize>, ServiceError> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let count = text
        .parse::<i64>()
        .map_err(|_| ServiceError::bad_request(format!("{name} must be a number")))?;
    Ok(usize::try_from(count).ok())
}

/// `lookback_delta` in ms, if it is given and positive.
pub fn lookback(params: &Params) -> Result<Option<i64>, ServiceError> {
    let Some(text) = params.get("lookback_delta") else {
        return Ok(None);
    };
    let ms = parse_duration(text).map_err(|e| {
        ServiceError::bad_request(format!("error parsing lookback delta duration: {e}"))
    })?;
    Ok(Some(ms).filter(|ms| *ms > 0))
}

/// `asOf`: which state of the database is read; without it the present one.
pub fn as_of(params: &Params) -> Result<Option<AsOf>, ServiceError> {
    params
        .get("asOf")
        .map(|text| parse_as_of(text).map_err(|why| invalid("asOf", why)))
        .transpose()
}

/// `partial_response`, as Thanos calls it: whether damaged segments may be left out of the answer.
pub fn partial_response(params: &Params, default: bool) -> Result<bool, ServiceError> {
    params.get("partial_response").map_or(Ok(default), |text| {
        parse_bool(text).map_err(|e| invalid("partial_response", e))
    })
}

/// A boolean as Go reads it.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("cannot parse {text:?} to true or false")),
    }
}

/// `timeout`, at most what the settings allow.
pub fn timeout(params: &Params, most: Duration) -> Result<Duration, ServiceError> {
    let asked = duration(params, "timeout")?
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis);
    Ok(asked.filter(|t| !t.is_zero()).map_or(most, |t| t.min(most)))
}

/// Seconds since 1970 with any fraction, or RFC 3339; in ms.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let bad = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = parse_float(text) {
        let ms = (seconds * 1000.0).round();
        return if ms.abs() < 9.2e18 {
            Ok(ms as i64)
        } else {
            Err(bad())
        };
    }
    match text {
        // Half of the range, so that sums with lookback and offsets stay in it.
        MIN_TIME_TEXT => Ok(i64::MIN / 2),
        MAX_TIME_TEXT => Ok(i64::MAX / 2),
        _ => DateTime::parse_from_rfc3339(text)
            .map(|t| t.timestamp_millis())
            .map_err(|_| bad()),
    }
}

/// Seconds with any fraction, or `1h30m`; in ms.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        let ms = (seconds * 1000.0).round();
        // Nanoseconds in 64 bits, as Prometheus keeps durations.
        if ms.abs() > 9.2e12 {
            return Err(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ));
        }
        return Ok(ms as i64);
    }
    parse_units(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// A number as Go reads it: no blanks, and neither `inf` nor `nan` where a time is wanted.
fn parse_float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// `1y2w3d4h5m6s7ms`: each unit at most once, the larger ones first.
fn parse_units(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut total = 0i64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let position = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .filter(|p| *p >= next_unit)?;
        next_unit = position + 1;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(UNITS[position].1)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// A label name from a path: `U__` starts a name with escapes (`__` for `_`, `_2e_` for `.`); a
/// name that is not well escaped is taken as it stands.
pub fn unescape_label_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((hex, after)) = tail.split_once('_') else {
            return name.to_owned();
        };
        let plain_hex =
            !hex.is_empty() && hex.len() <= 6 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match u32::from_str_radix(hex, 16)
            .ok()
            .filter(|_| plain_hex)
            .and_then(char::from_u32)
        {
            Some(c) => out.push(c),
            None => return name.to_owned(),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_time(text).ok(), expected, "{text:?}")
        };
        check("0", Some(0));
        check("1.5", Some(1500));
        check("-1.001", Some(-1001));
        check("1700000000.123", Some(1_700_000_000_123));
        check("1e3", Some(1_000_000));
        check("1970-01-01T00:00:01Z", Some(1000));
        check("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555));
        check("2015-06-03T14:21:58.555+01:00", Some(1_433_337_718_555));
        check(MIN_TIME_TEXT, Some(i64::MIN / 2));
        check(MAX_TIME_TEXT, Some(i64::MAX / 2));
        for bad in ["", "abc", "inf", "NaN", "1e300", "2015-06-03", "5m", " 1"] {
            check(bad, None);
        }
        assert_eq!(
            parse_time("").unwrap_err(),
            r#"cannot parse "" to a valid timestamp"#
        );
    }

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_duration(text).ok(), expected, "{text:?}")
        };
        check("15", Some(15_000));
        check("0.1", Some(100));
        check("-1", Some(-1000));
        check("5m", Some(300_000));
        check("1h30m", Some(5_400_000));
        check(
            "1y1w1d1h1m1s1ms",
            Some(31_536_000_000 + 604_800_000 + 86_400_000 + 3_600_000 + 60_000 + 1001),
        );
        for bad in [
            "",
            "m",
            "5x",
            "5m1h",
            "5m5m",
            "1.5m",
            "5 m",
            "99999999999999999999y",
            "9999999999999y",
            "-5m",
            "1e20",
        ] {
            check(bad, None);
        }
        assert!(parse_duration("1e20").unwrap_err().contains("overflows"));
    }

    #[test]
    fn label_names_in_paths() {
        let check = |name: &str, expected: &str| assert_eq!(unescape_label_name(name), expected);
        check("job", "job");
        check("U__job", "job");
        check("U__http_2e_method", "http.method");
        check("U__a__b", "a_b");
        check("U__label_20_with_1f30a_", "label with🌊");
        check("U__bad_zz_", "U__bad_zz_");
        check("U__open_2e", "U__open_2e");
        check("U__", "");
    }

    #[test]
    fn states_of_the_past() {
        let with = |text: &str| as_of(&Params::from_query(Some(text)));
        assert_eq!(with("").unwrap(), None);
        assert_eq!(with("asOf=7").unwrap(), Some(AsOf::Sequence(7)));
        assert_eq!(with("asOf=7.5").unwrap(), Some(AsOf::TimeMs(7_500)));
        assert_eq!(
            with("asOf=1970-01-01T00:00:01Z").unwrap(),
            Some(AsOf::TimeMs(1000))
        );
        assert!(
            with("asOf=x")
                .unwrap_err()
                .message
                .starts_with("invalid parameter \"asOf\": \"x\"")
        );
    }

    #[test]
    fn limits_and_timeouts() {
        let with = |text: &str| Params::from_query(Some(text));
        assert_eq!(limit(&with("")).unwrap(), 0);
        assert_eq!(limit(&with("limit=7")).unwrap(), 7);
        let refused = |text: &str| limit(&with(text)).unwrap_err().message;
        assert_eq!(
            refused("limit=-1"),
            "invalid parameter \"limit\": limit must be non-negative"
        );
        assert_eq!(
            refused("limit=x"),
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert!(refused("limit=99999999999999999999").ends_with("value out of range"));
        assert_eq!(count(&with("n=3"), "n").unwrap(), Some(3));
        assert_eq!(count(&with("n=-1"), "n").unwrap(), None);
        assert_eq!(
            count(&with("n=1.5"), "n").unwrap_err().message,
            "n must be a number"
        );
        assert_eq!(lookback(&with("lookback_delta=1m")).unwrap(), Some(60_000));
        assert_eq!(lookback(&with("lookback_delta=0")).unwrap(), None);
        let words = "error parsing lookback delta duration: cannot parse \"x\" to a valid duration";
        assert_eq!(
            lookback(&with("lookback_delta=x")).unwrap_err().message,
            words
        );
        let words = "invalid parameter \"time\": invalid time value for 'time': cannot parse \
                     \"x\" to a valid timestamp";
        assert_eq!(
            time_or(&with("time=x"), "time", 0).unwrap_err().message,
            words
        );
        let most = Duration::from_secs(10);
        assert_eq!(timeout(&with(""), most).unwrap(), most);
        assert_eq!(
            timeout(&with("timeout=2s"), most).unwrap(),
            Duration::from_secs(2)
        );
        assert_eq!(timeout(&with("timeout=1h"), most).unwrap(), most);
        assert!(timeout(&with("timeout=x"), most).is_err());
        assert!(
            partial_response(&with(""), true).unwrap()
                && partial_response(&with("partial_response=1"), false).unwrap()
        );
        assert!(!partial_response(&with("partial_response=false"), true).unwrap());
        assert!(partial_response(&with("partial_response=maybe"), true).is_err());
    }
}
