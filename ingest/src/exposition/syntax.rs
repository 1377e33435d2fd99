//! Where the parts of a line end, and what labels say.

use std::borrow::Cow;

use memchr::memchr2;
use tidelake_catalog::model::labels::METRIC_NAME;

/// Characters of a line that an error quotes.
const QUOTED_CHARS: usize = 64;

/// What is said of values such as `{count:1,sum:2}`.
pub(super) const NO_HISTOGRAMS: &str =
    "native histograms in text are not supported: send them by remote write";

/// The parts of a line of a sample, as they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample<'b> {
    /// Name and labels.
    pub series: &'b [u8],
    pub value: &'b [u8],
    pub time: Option<&'b [u8]>,
    /// What stands behind `#`.
    pub exemplar: Option<&'b [u8]>,
}

/// Takes a line apart that has no blanks at its ends.
#[inline]
pub(super) fn sample(line: &[u8]) -> Result<Sample<'_>, String> {
    let end = series_end(line)?;
    let (series, rest) = line.split_at(end);
    let is_apart = rest.first().is_some_and(is_blank) || series.last() == Some(&b'}');
    let (value, rest) = token(rest);
    if value.is_empty() || value.starts_with(b"#") {
        return Err(format!("the value of {} is missing", shown(series)));
    }
    if !is_apart {
        return Err(format!("invalid character in the name of {}", shown(line)));
    }
    let mut sample = Sample {
        series,
        value,
        time: None,
        exemplar: None,
    };
    let (second, after) = token(rest);
    let mut rest = rest;
    if !second.is_empty() && !second.starts_with(b"#") {
        sample.time = Some(second);
        rest = after;
    }
    let rest = rest.trim_ascii();
    match rest.split_first() {
        None => {}
        Some((b'#', text)) => sample.exemplar = Some(text.trim_ascii()),
        Some(_) => {
            return Err(format!(
                "there is more behind value and timestamp: {}",
                shown(rest)
            ));
        }
    }
    Ok(sample)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The next word, and what stands behind it.
#[inline]
pub(super) fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let start = text.iter().position(|b| !is_blank(b)).unwrap_or(text.len());
    let text = &text[start..];
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    text.split_at(end)
}

/// Where name and labels end.
#[inline]
fn series_end(line: &[u8]) -> Result<usize, String> {
    let name = name_end(line, true);
    let blanks = line[name..].iter().take_while(|b| is_blank(b)).count();
    match line.get(name + blanks) {
        Some(b'{') => braces_end(line, name + blanks + 1),
        _ if name == 0 => Err(format!(
            "a line must begin with a name or '{{', not with {}",
            shown(line)
        )),
        _ => Ok(name),
    }
}

/// Where a name that is not quoted ends; 0 if there is none.
#[inline]
fn name_end(text: &[u8], has_colons: bool) -> usize {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    let is_in_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || (has_colons && *b == b':');
    text.iter().take_while(|b| is_in_name(b)).count()
}

/// Where the braces end in which `at` is.
#[inline]
fn braces_end(line: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        let rest = line.get(at..).unwrap_or_default();
        match memchr2(b'"', b'}', rest) {
            None => return Err(format!("the braces of {} are not closed", shown(line))),
            Some(found) if rest[found] == b'}' => return Ok(at + found + 1),
            Some(found) => at = quoted_end(line, at + found + 1)?,
        }
    }
}

/// Where a quoted text ends that begins at `at`: behind its second quote.
#[inline]
fn quoted_end(line: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        let rest = line.get(at..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            None => return Err(format!("a quote is not closed in {}", shown(line))),
            Some(found) if rest[found] == b'"' => return Ok(at + found + 1),
            Some(found) => at += found + 2,
        }
    }
}

/// The beginning of a text, for an error.
pub(super) fn shown(text: &[u8]) -> String {
    let end = text.len().min(4 * QUOTED_CHARS);
    let text: String = String::from_utf8_lossy(&text[..end])
        .chars()
        .take(QUOTED_CHARS)
        .collect();
    format!("{text:?}")
}

/// A text without its escapes: `\\`, `\"` and `\n`; other backslashes are backslashes.
pub(super) fn unescape(raw: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(raw).map_err(|_| format!("{} is not UTF-8", shown(raw)))?;
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (plain, len) = match rest.as_bytes().get(at + 1) {
            Some(b'n') => ("\n", 2),
            Some(b'\\') => ("\\", 2),
            Some(b'"') => ("\"", 2),
            _ => ("\\", 1),
        };
        out.push_str(plain);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// A name at the start of a text, quoted or not, and what stands behind it. `None` if there is
/// none.
pub(super) fn name(text: &[u8], has_colons: bool) -> Result<Option<(Cow<'_, str>, &[u8])>, String> {
    if text.first() == Some(&b'"') {
        let end = quoted_end(text, 1)?;
        return Ok(Some((unescape(&text[1..end - 1])?, &text[end..])));
    }
    let end = name_end(text, has_colons);
    let (name, rest) = text.split_at(end);
    Ok((end > 0).then(|| (String::from_utf8_lossy(name), rest)))
}

/// Names and values of the labels of a series, `__name__` among them, as they are in the line.
pub(super) fn series_labels(series: &[u8]) -> Result<Vec<(Cow<'_, str>, Cow<'_, str>)>, String> {
    let mut labels = Vec::with_capacity(16);
    let open = name_end(series, true);
    if open > 0 {
        let metric = String::from_utf8_lossy(&series[..open]);
        labels.push((Cow::Borrowed(METRIC_NAME), metric));
    }
    let Some(mut rest) = series[open..].trim_ascii().strip_prefix(b"{") else {
        return Ok(labels);
    };
    loop {
        rest = rest.trim_ascii_start();
        if rest == b"}" {
            return Ok(labels);
        }
        let is_quoted = rest.first() == Some(&b'"');
        let (name, behind) = self::name(rest, false)?
            .ok_or_else(|| format!("expected the name of a label at {}", shown(rest)))?;
        rest = behind.trim_ascii_start();
        if let Some(behind) = rest.strip_prefix(b"=") {
            let quoted = behind.trim_ascii_start();
            if quoted.first() != Some(&b'"') {
                return Err(format!(
                    "expected the value of label {} in quotes at {}",
                    shown(name.as_bytes()),
                    shown(quoted)
                ));
            }
            let end = quoted_end(quoted, 1)?;
            labels.push((name, unescape(&quoted[1..end - 1])?));
            rest = quoted[end..].trim_ascii_start();
        } else if is_quoted {
            labels.push((Cow::Borrowed(METRIC_NAME), name));
        } else if rest.first() == Some(&b':') && matches!(&*name, "count" | "sum" | "schema") {
            return Err(NO_HISTOGRAMS.to_owned());
        } else {
            return Err(format!(
                "expected '=' behind label {} at {}",
                shown(name.as_bytes()),
                shown(rest)
            ));
        }
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(b'}') => {}
            _ => return Err(format!("expected ',' or '}}' at {}", shown(rest))),
        }
    }
}
