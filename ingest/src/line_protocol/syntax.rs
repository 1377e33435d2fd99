//! Where things end: lines, names, tag sections; and what a backslash means in each.
//!
//! A backslash makes an ordinary character of one that would otherwise end something, and of
//! itself; before any other character it is an ordinary character. A line feed outside a string
//! always ends the line.

use std::borrow::Cow;

use tidelake_catalog::model::Labels;
use tidelake_catalog::model::schema::TIME_COLUMN;

use crate::label_limits::LabelLimits;

/// Where a backslash can stand before what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Comma, space, backslash.
    Measurement,
    /// Comma, space, equals sign, backslash: tag keys, tag values, field keys.
    Key,
    /// Double quote, backslash.
    String,
}

impl Escapes {
    #[inline]
    fn contains(self, byte: u8) -> bool {
        match self {
            Escapes::Measurement => matches!(byte, b',' | b' ' | b'\\'),
            Escapes::Key => matches!(byte, b',' | b' ' | b'=' | b'\\'),
            Escapes::String => matches!(byte, b'"' | b'\\'),
        }
    }
}

/// If a line ends at `at` (line feed, carriage return and line feed, or the end of the body), where
/// the next one begins.
#[inline]
pub(super) fn line_end(body: &[u8], at: usize) -> Option<usize> {
    match body.get(at) {
        None => Some(at),
        Some(b'\n') => Some(at + 1),
        Some(b'\r') => match body.get(at + 1) {
            None => Some(at + 1),
            Some(b'\n') => Some(at + 2),
            Some(_) => None,
        },
        Some(_) => None,
    }
}

/// The first byte from `at` on that is no space or tab.
#[inline]
pub(super) fn skip_blanks(body: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t') = body.get(at) {
        at += 1;
    }
    at
}

/// Where the first byte stands that `stops` and is not escaped; the end of the line stops always.
#[inline]
fn find_unescaped(body: &[u8], mut at: usize, stops: impl Fn(u8) -> bool) -> usize {
    loop {
        match body.get(at) {
            None | Some(b'\n') => return at,
            Some(b'\\') if body.get(at + 1).is_some_and(|&b| b != b'\n') => at += 2,
            Some(&byte) if stops(byte) => return at,
            Some(_) => at += 1,
        }
    }
}

/// Where the measurement that begins at `at` ends.
#[inline]
pub(super) fn name_end(body: &[u8], at: usize) -> usize {
    find_unescaped(body, at, |b| matches!(b, b',' | b' '))
}

/// Where the tags that begin at `at` end: at a space, or with the line.
#[inline]
pub(super) fn tags_end(body: &[u8], mut at: usize) -> usize {
    loop {
        let Some(found) = body
            .get(at..)
            .and_then(|rest| memchr::memchr3(b' ', b'\n', b'\\', rest))
        else {
            return body.len();
        };
        at += found;
        if body[at] != b'\\' {
            return at;
        }
        at += if body.get(at + 1).is_some_and(|&b| b != b'\n') {
            2
        } else {
            1
        };
    }
}

/// Where the field key that begins at `at` ends: at an equals sign, or at what may not be in it.
#[inline]
pub(super) fn field_key_end(body: &[u8], at: usize) -> usize {
    find_unescaped(body, at, |b| matches!(b, b'=' | b',' | b' '))
}

/// The text that raw bytes stand for; the error if they are no UTF-8.
pub(super) fn unescape(raw: &[u8], escapes: Escapes) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(raw)
        .map_err(|e| format!("invalid UTF-8 in {:?}: {e}", shorten(raw)))?;
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    unescape_into(text, escapes, &mut out);
    Ok(Cow::Owned(out))
}

fn unescape_into(mut text: &str, escapes: Escapes, out: &mut String) {
    while let Some(at) = text.find('\\') {
        match text.as_bytes().get(at + 1) {
            Some(&next) if escapes.contains(next) => {
                out.push_str(&text[..at]);
                out.push(char::from(next));
                text = &text[at + 2..];
            }
            _ => {
                out.push_str(&text[..=at]);
                text = &text[at + 1..];
            }
        }
    }
    out.push_str(text);
}

/// Appends what the raw inside of a string, which is UTF-8, stands for.
pub(super) fn unescape_string(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        match raw.get(at + 1) {
            Some(&next) if Escapes::String.contains(next) => {
                out.extend_from_slice(&raw[..at]);
                out.push(next);
                raw = &raw[at + 2..];
            }
            _ => {
                out.extend_from_slice(&raw[..=at]);
                raw = &raw[at + 1..];
            }
        }
    }
    out.extend_from_slice(raw);
}

/// A name that may be one: UTF-8, not empty, not too long.
pub(super) fn name<'b>(
    raw: &'b [u8],
    escapes: Escapes,
    what: &str,
    max_bytes: usize,
) -> Result<Cow<'b, str>, String> {
    let name = unescape(raw, escapes)?;
    if name.is_empty() {
        return Err(format!("the {what} is missing"));
    }
    if name.len() > max_bytes {
        return Err(too_long(what, raw, max_bytes));
    }
    // What follows would then be escaped in the eyes of most other implementations.
    if name.ends_with('\\') {
        return Err(format!("the {what} {name:?} ends with a backslash"));
    }
    Ok(name)
}

#[cold]
fn too_long(what: &str, raw: &[u8], max_bytes: usize) -> String {
    format!(
        "the {what} {:?} is longer than {max_bytes} bytes",
        shorten(raw)
    )
}

/// Names and values of a tag section as written, the leading comma included.
pub(super) fn tags(
    raw: &[u8],
    max_name_bytes: usize,
    limits: &LabelLimits,
) -> Result<Labels, String> {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        // At a comma, before the first tag as before the others.
        let equals = find_unescaped(raw, at + 1, |b| matches!(b, b'=' | b','));
        if equals == at + 1 {
            return Err("a tag key is missing (a comma too many?)".to_owned());
        }
        // How long it may be is looked at below, where the setting is named.
        let key = name(&raw[at + 1..equals], Escapes::Key, "tag key", usize::MAX)?;
        if raw.get(equals) != Some(&b'=') {
            return Err(format!("tag {key:?} has no value: expected '=' after it"));
        }
        if key == TIME_COLUMN {
            return Err(format!("a tag cannot be named {TIME_COLUMN:?}"));
        }
        at = find_unescaped(raw, equals + 1, |b| matches!(b, b'=' | b','));
        if raw.get(at) == Some(&b'=') {
            return Err(format!(
                "the value of tag {key:?} has an '=' in it; write it as '\\='"
            ));
        }
        let value = unescape(&raw[equals + 1..at], Escapes::Key)?;
        if value.is_empty() {
            return Err(format!("tag {key:?} has an empty value; leave the tag out"));
        }
        if value.ends_with('\\') {
            return Err(format!(
                "the value {value:?} of tag {key:?} ends with a backslash"
            ));
        }
        pairs.push((key, value));
    }
    limits.check("tag", &pairs)?;
    if let Some((key, _)) = pairs.iter().find(|(key, _)| key.len() > max_name_bytes) {
        return Err(too_long("tag key", key.as_bytes(), max_name_bytes));
    }
    pairs.sort_unstable();
    match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("tag {:?} is there twice", pair[0].0)),
        None => Ok(Labels::from_sorted(
            pairs
                .iter()
                .map(|(name, value)| (name.as_ref(), value.as_ref())),
        )),
    }
}

/// A bad line's extent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Where its text ends, without the line end.
    pub(super) end: usize,
    /// Where the next line begins.
    pub(super) next: usize,
    /// Line feeds in it, its own included.
    pub(super) feeds: usize,
}

/// Finds where the bad line that begins at `start` ends. Strings are skipped whole wherever a value
/// could stand; a quote that is never closed opens no string.
pub(super) fn skip_line(body: &[u8], start: usize) -> Skipped {
    let mut at = tags_end(body, skip_blanks(body, start));
    // Whether only blanks are between here and an equals sign.
    let mut value = false;
    loop {
        match body.get(at) {
            None | Some(b'\n') => break,
            Some(b'"') if value => {
                value = false;
                at = string_end(body, at + 1).unwrap_or(at) + 1;
            }
            Some(b'=') => {
                value = true;
                at += 1;
            }
            Some(b' ') => at += 1,
            Some(b'\\') if body.get(at + 1).is_some_and(|&b| b != b'\n') => {
                value = false;
                at += 2;
            }
            Some(_) => {
                value = false;
                at += 1;
            }
        }
    }
    let at = at.min(body.len());
    let end = if at > start && body[at - 1] == b'\r' {
        at - 1
    } else {
        at
    };
    let next = (at + 1).min(body.len());
    Skipped {
        end,
        next,
        feeds: memchr::memchr_iter(b'\n', &body[start..next]).count(),
    }
}

/// Where the line behind that at `start` begins; `None` if the text ends before, perhaps in a
/// string.
pub(super) fn whole_line(body: &[u8], start: usize) -> Option<usize> {
    let text = skip_blanks(body, start);
    let is_comment = body.get(text) == Some(&b'#');
    let mut at = match is_comment {
        true => text,
        false => tags_end(body, text),
    };
    let mut value = false;
    loop {
        match body.get(at)? {
            b'\n' => return Some(at + 1),
            _ if is_comment => at += memchr::memchr(b'\n', body.get(at..)?)?,
            b'"' if value => {
                value = false;
                at = string_end(body, at + 1)? + 1;
            }
            b'=' => {
                value = true;
                at += 1;
            }
            b' ' => at += 1,
            b'\\' if body.get(at + 1).is_some_and(|&b| b != b'\n') => {
                value = false;
                at += 2;
            }
            _ => {
                value = false;
                at += 1;
            }
        }
    }
}

/// Where the quote stands that closes the string whose inside begins at `at`.
#[inline]
pub(super) fn string_end(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at);
        }
        // Before another character the backslash is ordinary, but then the character is too.
        at += 2;
    }
}

/// The beginning of some bytes, for messages.
pub(super) fn shorten(raw: &[u8]) -> String {
    const BYTES: usize = 64;
    match raw.get(..BYTES) {
        Some(cut) if raw.len() > BYTES => format!("{}...", String::from_utf8_lossy(cut)),
        _ => String::from_utf8_lossy(raw).into_owned(),
    }
}
