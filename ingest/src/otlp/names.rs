//! Names of metrics, labels and units, as Prometheus makes them of OpenTelemetry's.
//!
//! Source: the compatibility chapter of OpenTelemetry's specification, and what Prometheus 3.14
//! does where that chapter leaves a choice.

use std::borrow::Cow;

use super::settings::Strategy;

/// What the suffix of a metric's name depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    /// A gauge: `_ratio` for the unit `1`.
    Gauge,
    /// A sum that only grows: `_total`.
    Counter,
    /// Anything else has only its unit.
    Other,
}

/// The name of a metric.
///
/// # Errors
/// If nothing of it is left.
pub(super) fn metric_name(
    name: &str,
    unit: &str,
    suffix: Suffix,
    strategy: Strategy,
) -> Result<String, String> {
    if !strategy.escapes() {
        return match strategy.adds_suffixes() {
            true => Ok(suffixed(name, unit, suffix)),
            false => Ok(name.to_owned()),
        };
    }
    let normalized = match strategy.adds_suffixes() {
        true => normalized(name, unit, suffix),
        false => escaped(name),
    };
    let is_usable = normalized == name || normalized.bytes().any(|byte| byte != b'_');
    if normalized.is_empty() || !is_usable {
        return Err(format!(
            "the metric name {name:?} has no letter or digit that a name may have; rename the \
             metric"
        ));
    }
    Ok(normalized)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// A name may not begin with a digit.
fn with_first_letter(name: String) -> String {
    match name.as_bytes().first() {
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        _ => name,
    }
}

/// Runs of characters that no name has become one underscore.
fn escaped(name: &str) -> String {
    let parts: Vec<&str> = name
        .split(|c| !is_name_char(c) && c != '_')
        .filter(|part| !part.is_empty())
        .collect();
    with_first_letter(parts.join("_"))
}

/// Words of a name, its unit, and what its kind adds.
fn normalized(name: &str, unit: &str, suffix: Suffix) -> String {
    let mut words: Vec<&str> = name
        .split(|c| !is_name_char(c))
        .filter(|word| !word.is_empty())
        .collect();
    let (main, per) = unit_suffixes(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let mut main = main.as_str();
    if words.contains(&main) {
        main = "";
    }
    let mut per = match per.as_str() {
        "per_" => "",
        per => per.strip_suffix('_').unwrap_or(per),
    };
    if words.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    let last = match suffix {
        Suffix::Counter => Some("total"),
        Suffix::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| *word != last);
        words.push(last);
    }
    with_first_letter(words.join("_"))
}

/// The name as it is, with its suffixes at its end, each once.
fn suffixed(name: &str, unit: &str, suffix: Suffix) -> String {
    let mut name = name;
    let last = match suffix {
        Suffix::Counter => "total",
        Suffix::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    if !last.is_empty() {
        name = without_suffix(name, last);
    }
    let (main, per) = unit_suffixes(unit);
    if !per.is_empty() {
        name = without_suffix(name, &per);
    }
    let mut name = name.to_owned();
    if !main.is_empty() && !name.ends_with(&*main) {
        name.push('_');
        name.push_str(&main);
    }
    for suffix in [&*per, last] {
        if !suffix.is_empty() {
            name.push('_');
            name.push_str(suffix);
        }
    }
    name
}

/// Without a suffix and the character before it.
fn without_suffix<'n>(name: &'n str, suffix: &str) -> &'n str {
    match name.strip_suffix(suffix) {
        Some(rest) if rest.chars().count() > 1 => {
            let mut chars = rest.chars();
            chars.next_back();
            chars.as_str()
        }
        _ => name,
    }
}

/// The words for a unit and for what it is divided by, as `bytes` and `per_second`; empty for none.
fn unit_suffixes(unit: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let (main, per) = (main.trim(), per.trim());
    let is_note = |text: &str| text.contains(['{', '}']);
    let main = match main {
        main if is_note(main) => "",
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    };
    let per = match per {
        per if is_note(per) => "",
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    };
    let per = match per {
        "" => Cow::Borrowed(""),
        per => Cow::Owned(format!("per_{per}")),
    };
    (Cow::Borrowed(main), per)
}

/// A unit in characters that names may have, without underscores at its beginning and in a row.
fn clean_unit(unit: &str) -> String {
    let mut clean = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_name_char(c) { c } else { '_' };
        if c != '_' || !clean.ends_with('_') {
            clean.push(c);
        }
    }
    match clean.strip_prefix('_') {
        Some(rest) => rest.to_owned(),
        None => clean,
    }
}

/// The unit of a metric in words, as metadata have it; escaped if labels are.
pub(super) fn unit_name(unit: &str, is_escaped: bool) -> String {
    let (mut main, mut per) = unit_suffixes(unit);
    if is_escaped {
        main = Cow::Owned(clean_unit(&main));
        per = Cow::Owned(clean_unit(&per));
    }
    let name = match (&*main, &*per) {
        ("", per) => per.to_owned(),
        (main, "") => main.to_owned(),
        (main, per) => format!("{main}_{per}"),
    };
    let name = name.strip_prefix('_').unwrap_or(&name);
    name.strip_suffix('_').unwrap_or(name).to_owned()
}

/// The name of a label for an attribute.
///
/// # Errors
/// If nothing of it is left.
pub(super) fn label_name(name: &str, strategy: Strategy) -> Result<Cow<'_, str>, String> {
    let is_nothing = name.bytes().all(|byte| byte == b'_');
    if !strategy.escapes() && !is_nothing {
        return Ok(Cow::Borrowed(name));
    }
    let is_letter = |c: char| c.is_ascii_alphanumeric();
    let escaped: Cow<'_, str> = match name.chars().all(|c| is_letter(c) || c == '_') {
        true => Cow::Borrowed(name),
        false => {
            let escape = |c| if is_letter(c) { c } else { '_' };
            Cow::Owned(name.chars().map(escape).collect())
        }
    };
    if escaped.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Cow::Owned(format!("key_{escaped}")));
    }
    if escaped.starts_with('_') && !escaped.starts_with("__") {
        return Ok(Cow::Owned(format!("key{escaped}")));
    }
    if escaped.bytes().all(|byte| byte == b'_') {
        return Err(format!(
            "the attribute name {name:?} has no letter or digit that a label's name may have; \
             rename the attribute"
        ));
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests;
