//! Quoted texts: resolving Go's escapes, and writing texts with them.

/// Resolves a quoted token, quotes included, that names or matches a label. `Err` says what is
/// wrong with it.
///
/// Prometheus accepts escapes such as `\xff` that make invalid UTF-8. Labels are UTF-8 here, so
/// that no series could match: refused.
pub(super) fn unquote(token: &str) -> Result<String, String> {
    String::from_utf8(unquote_bytes(token)?)
        .map_err(|_| format!("error unquoting string {}: not valid UTF-8", quote(token)))
}

/// Resolves a quoted token, quotes included, that the lexer has accepted. `Err` says what is wrong
/// with it.
pub(super) fn unquote_bytes(token: &str) -> Result<Vec<u8>, String> {
    let mut chars = token.chars();
    let (Some(open), Some(close)) = (chars.next(), chars.next_back()) else {
        return Err(syntax_error(token));
    };
    if open != close {
        return Err(syntax_error(token));
    }
    let inner = chars.as_str();
    if open == '`' || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        bytes.extend_from_slice(plain.as_bytes());
        rest = resolve_escape(&escape[1..], &mut bytes).ok_or_else(|| syntax_error(token))?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

fn syntax_error(token: &str) -> String {
    format!("error unquoting string {}: invalid syntax", quote(token))
}

/// Appends what an escape (without its backslash) stands for and returns what follows it.
fn resolve_escape<'a>(escape: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let first = escape.chars().next()?;
    let rest = &escape[first.len_utf8()..];
    let digits = |count: usize, radix: u32, from: &'a str| -> Option<(u32, &'a str)> {
        let digits = from
            .get(..count)
            .filter(|digits| digits.chars().all(|c| c.is_digit(radix)))?;
        Some((u32::from_str_radix(digits, radix).ok()?, &from[count..]))
    };
    let byte = match first {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '\'' | '"' => first as u8,
        'x' => {
            let (value, rest) = digits(2, 16, rest)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        '0'..='7' => {
            let (value, rest) = digits(3, 8, escape)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (value, rest) = digits(if first == 'u' { 4 } else { 8 }, 16, rest)?;
            let mut buffer = [0; 4];
            out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    out.push(byte);
    Some(rest)
}

/// A text in double quotes, as Go's `%q` writes it.
pub(super) fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

/// Like [`quote`], of what may not be UTF-8.
pub(super) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(c, '"', &mut out);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A character in single quotes, as Go's `%q` writes it.
pub(super) fn quote_char(c: char) -> String {
    let mut out = String::from('\'');
    push_escaped(c, '\'', &mut out);
    out.push('\'');
    out
}

fn push_escaped(c: char, delimiter: char, out: &mut String) {
    use std::fmt::Write;
    let written = match c {
        '\\' => out.write_str("\\\\"),
        '\x07' => out.write_str("\\a"),
        '\x08' => out.write_str("\\b"),
        '\x0c' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\x0b' => out.write_str("\\v"),
        c if c == delimiter => write!(out, "\\{c}"),
        c if is_printable(c) => out.write_char(c),
        c if c.is_ascii() => write!(out, "\\x{:02x}", c as u32),
        c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32),
        c => write!(out, "\\U{:08x}", c as u32),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// Whether a character shows as itself: no controls, no spaces but the plain one, no invisible
/// formatting.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ if c.is_ascii() || c.is_control() || c.is_whitespace() => false,
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => false,
        '\u{e000}'..='\u{f8ff}' | '\u{f_0000}'.. => false,
        _ => true,
    }
}
