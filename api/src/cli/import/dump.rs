//! The output of `promtool tsdb dump`: `{__name__="up", job="a"} 1 1700000000000`.
//!
//! It is the text format but for label values, which are quoted as Go quotes strings.

/// The same lines in the text format. A line that is no such line stays as it is, for the server to
/// name.
pub(super) fn translate(text: &[u8]) -> Vec<u8> {
    if memchr::memchr(b'\\', text).is_none() {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let start = out.len();
        if memchr::memchr(b'\\', line).is_none() || requote(line, &mut out).is_none() {
            out.truncate(start);
            out.extend_from_slice(line);
        }
    }
    out
}

/// `None` if a quoted text is not as Go writes it.
fn requote(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = line;
    while let Some(at) = memchr::memchr(b'"', rest) {
        out.extend_from_slice(&rest[..=at]);
        rest = unquote(&rest[at + 1..], out)?;
        out.push(b'"');
    }
    out.extend_from_slice(rest);
    Some(())
}

/// Appends the text up to a closing quote with the escapes of the text format, and gives what
/// stands behind that quote.
fn unquote<'b>(mut text: &'b [u8], out: &mut Vec<u8>) -> Option<&'b [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', text)?;
        out.extend_from_slice(&text[..at]);
        if text[at] == b'"' {
            return Some(&text[at + 1..]);
        }
        let (kind, rest) = text[at + 1..].split_first()?;
        text = rest;
        let digits = match kind {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let (hex, rest) = text.split_at_checked(digits)?;
            let number = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
            text = rest;
            match kind {
                b'x' => push(out, u8::try_from(number).ok()?),
                _ => {
                    let mut bytes = [0; 4];
                    let bytes = char::from_u32(number)?.encode_utf8(&mut bytes).bytes();
                    bytes.for_each(|byte| push(out, byte));
                }
            }
            continue;
        }
        push(
            out,
            match kind {
                b'a' => 0x07,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                b'\\' | b'"' => *kind,
                _ => return None,
            },
        );
    }
}

fn push(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
        byte => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_go_become_those_of_the_text_format() {
        let check = |line: &str, expected: &str| {
            let found = String::from_utf8(translate(line.as_bytes())).unwrap();
            assert_eq!(found, expected);
        };
        check("{a=\"b\"} 1 2\n", "{a=\"b\"} 1 2\n");
        check(
            r#"{a="\"q\\\n\t\x7f\u00a0\U0001f600", "b.c"="\r"} 1 2"#,
            "{a=\"\\\"q\\\\\\n\t\u{7f}\u{a0}\u{1f600}\", \"b.c\"=\"\r\"} 1 2",
        );
        // The server names what is none.
        check(r#"{a="\q"} 1 2"#, r#"{a="\q"} 1 2"#);
        check(r#"{a="\x7"#, r#"{a="\x7"#);
        check(
            "{a=\"\\\"} 1\n{b=\"\\t\"} 2\n",
            "{a=\"\\\"} 1\n{b=\"\t\"} 2\n",
        );
    }
}
