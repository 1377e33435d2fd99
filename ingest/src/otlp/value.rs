//! Attributes: names with values of any type, and what a label says for such a value.
//!
//! The text of a value is the one that Prometheus' receiver gives it. Strings are borrowed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::Fault;
use crate::protobuf::{Fields, Value, WireError};

/// Lists and maps within one another that a value may have.
const MAX_DEPTH: usize = 32;
/// Attributes of one point, resource, scope, exemplar or map. An empty one takes two bytes in the
/// body and many more in memory.
pub(super) const MAX_ATTRIBUTES: usize = 4096;
/// Bytes of a list or a map as text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// An attribute as it is in the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'b> {
    pub(super) key: &'b [u8],
    /// A message `AnyValue`.
    value: &'b [u8],
}

impl<'b> Attribute<'b> {
    pub(super) fn read(field: Value<'b>) -> Result<Self, WireError> {
        let mut attribute = Self {
            key: &[],
            value: &[],
        };
        let mut fields = field.message("an attribute")?;
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => attribute.key = value.bytes("an attribute's key")?,
                2 => attribute.value = value.bytes("an attribute's value")?,
                _ => {}
            }
        }
        Ok(attribute)
    }

    /// Reads one of several.
    pub(super) fn push(all: &mut Vec<Self>, field: Value<'b>) -> Result<(), WireError> {
        if all.len() >= MAX_ATTRIBUTES {
            return Err(too_many());
        }
        all.push(Self::read(field)?);
        Ok(())
    }

    /// Its name.
    pub(super) fn name(&self) -> Result<&'b str, Fault> {
        std::str::from_utf8(self.key).map_err(|_| {
            let name = String::from_utf8_lossy(self.key);
            Fault::Refused(format!("the attribute name {name:?} is not valid UTF-8"))
        })
    }

    /// What a label says for it.
    pub(super) fn text(&self) -> Result<Cow<'b, str>, Fault> {
        match AnyValue::read(self.value)? {
            AnyValue::Empty => Ok(Cow::Borrowed("")),
            AnyValue::String(text) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Cow::Borrowed(text)),
                Err(_) => Err(Fault::Refused(format!(
                    "the value {:?} of the attribute {:?} is not valid UTF-8",
                    String::from_utf8_lossy(text),
                    String::from_utf8_lossy(self.key)
                ))),
            },
            AnyValue::Bool(value) => Ok(Cow::Borrowed(if value { "true" } else { "false" })),
            AnyValue::Int(value) => Ok(Cow::Owned(value.to_string())),
            AnyValue::Double(value) if value.is_finite() => Ok(Cow::Owned(number(value))),
            AnyValue::Double(value) => {
                let name = go_float(value);
                Ok(Cow::Owned(format!("json: unsupported value: {name}")))
            }
            AnyValue::Bytes(bytes) => {
                let mut text = String::new();
                push_base64(&mut text, bytes);
                Ok(Cow::Owned(text))
            }
            value @ (AnyValue::List(_) | AnyValue::Map(_)) => {
                let mut text = String::new();
                let is_json = push_json(&mut text, value, 0)?;
                Ok(Cow::Owned(if is_json { text } else { String::new() }))
            }
        }
    }
}

#[cold]
pub(super) fn too_many() -> WireError {
    WireError(format!(
        "there are more than {MAX_ATTRIBUTES} attributes in one place"
    ))
}

/// A value, its parts still as they are in the message.
enum AnyValue<'b> {
    Empty,
    String(&'b [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    List(Fields<'b>),
    Map(Fields<'b>),
    Bytes(&'b [u8]),
}

impl<'b> AnyValue<'b> {
    fn read(message: &'b [u8]) -> Result<Self, WireError> {
        let mut found = AnyValue::Empty;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            found = match number {
                1 => AnyValue::String(value.bytes("a string value")?),
                2 => AnyValue::Bool(value.varint("a boolean value")? != 0),
                3 => AnyValue::Int(value.varint("an integer value")? as i64),
                4 => AnyValue::Double(value.double("a double value")?),
                5 => AnyValue::List(value.message("an array value")?),
                6 => AnyValue::Map(value.message("a key-value list")?),
                7 => AnyValue::Bytes(value.bytes("a bytes value")?),
                _ => continue,
            };
        }
        Ok(found)
    }
}

/// Appends a value as JSON; `false` if JSON has no form for it.
fn push_json(out: &mut String, value: AnyValue<'_>, depth: usize) -> Result<bool, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::Refused(format!(
            "an attribute has lists or maps more than {MAX_DEPTH} deep"
        )));
    }
    if out.len() > MAX_TEXT_BYTES {
        return Err(Fault::Refused(format!(
            "an attribute has a list or map of more than {MAX_TEXT_BYTES} bytes as text"
        )));
    }
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::String(text) => push_quoted(out, &String::from_utf8_lossy(text)),
        AnyValue::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        AnyValue::Int(value) => {
            let _ = write!(out, "{value}");
        }
        AnyValue::Double(value) if value.is_finite() => out.push_str(&number(value)),
        AnyValue::Double(_) => return Ok(false),
        AnyValue::Bytes(bytes) => {
            out.push('"');
            push_base64(out, bytes);
            out.push('"');
        }
        AnyValue::List(mut fields) => {
            out.push('[');
            let mut is_first = true;
            while let Some((number, value)) = fields.next()? {
                if number != 1 {
                    continue;
                }
                if !std::mem::take(&mut is_first) {
                    out.push(',');
                }
                let item = AnyValue::read(value.bytes("an array's value")?)?;
                if !push_json(out, item, depth + 1)? {
                    return Ok(false);
                }
            }
            out.push(']');
        }
        AnyValue::Map(mut fields) => {
            let mut entries = BTreeMap::new();
            while let Some((number, value)) = fields.next()? {
                if number == 1 {
                    let entry = Attribute::read(value)?;
                    entries.insert(entry.key, entry.value);
                    if entries.len() > MAX_ATTRIBUTES {
                        return Err(too_many().into());
                    }
                }
            }
            out.push('{');
            for (place, (key, value)) in entries.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                push_quoted(out, &String::from_utf8_lossy(key));
                out.push(':');
                if !push_json(out, AnyValue::read(value)?, depth + 1)? {
                    return Ok(false);
                }
            }
            out.push('}');
        }
    }
    Ok(true)
}

/// As Go's encoder quotes: what HTML would take for its own is escaped as well.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A finite number as JSON has it: with an exponent where it is very large or small.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        };
    }
    format!("{value}")
}

/// A number without an exponent, as bounds and quantiles are labels.
pub(super) fn go_float(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value}"),
    }
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            out.push(match place <= chunk.len() {
                true => char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Message, text_value};
    use super::*;

    fn check(value: Message, expected: Result<&str, ()>) {
        let attribute = Message::default()
            .text(1, "k")
            .message(2, value)
            .into_bytes();
        let field = Value::Bytes(&attribute);
        let text = Attribute::read(field).unwrap().text();
        assert_eq!(text.as_deref().map_err(drop), expected, "{text:?}");
    }

    #[test]
    fn values_are_text_as_prometheus_has_them() {
        let value = Message::default;
        check(value(), Ok(""));
        check(text_value("héllo \" <"), Ok("héllo \" <"));
        check(value().varint(2, 1), Ok("true"));
        check(value().varint(2, 0), Ok("false"));
        check(value().varint(3, -5i64 as u64), Ok("-5"));
        check(value().double(4, 1.0), Ok("1"));
        check(value().double(4, 0.1 + 0.2), Ok("0.30000000000000004"));
        check(value().double(4, 1e21), Ok("1e+21"));
        check(value().double(4, 1.5e-7), Ok("1.5e-7"));
        check(value().double(4, -0.0), Ok("-0"));
        check(
            value().double(4, f64::NAN),
            Ok("json: unsupported value: NaN"),
        );
        check(
            value().double(4, f64::NEG_INFINITY),
            Ok("json: unsupported value: -Inf"),
        );
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
        ] {
            check(value().bytes(7, bytes), Ok(text));
        }
        check(value().bytes(1, b"\xff"), Err(()));
    }

    #[test]
    fn lists_and_maps_are_json() {
        let value = Message::default;
        let list = |items: Vec<Message>| {
            let list = items
                .into_iter()
                .fold(value(), |m, item| m.message(1, item));
            value().message(5, list)
        };
        let map = |entries: Vec<(&str, Message)>| {
            let map = entries.into_iter().fold(value(), |m, (key, item)| {
                m.message(1, value().text(1, key).message(2, item))
            });
            value().message(6, map)
        };
        check(list(vec![]), Ok("[]"));
        check(map(vec![]), Ok("{}"));
        check(
            list(vec![
                text_value("a<b>&\u{1}\u{2028}\"\\\n"),
                value(),
                value().varint(3, 7),
                value().double(4, 0.5),
                value().bytes(7, b"f"),
                list(vec![value().varint(2, 1)]),
            ]),
            Ok("[\"a\\u003cb\\u003e\\u0026\\u0001\\u2028\\\"\\\\\\n\",null,7,0.5,\"Zg==\",[true]]"),
        );
        check(
            map(vec![
                ("b", text_value("2")),
                ("a", text_value("1")),
                ("b", text_value("3")),
            ]),
            Ok("{\"a\":\"1\",\"b\":\"3\"}"),
        );
        check(list(vec![value().double(4, f64::NAN)]), Ok(""));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            (0..depth).fold(text_value("x"), |inner, _| {
                Message::default().message(5, Message::default().message(1, inner))
            })
        };
        let text = format!("{}\"x\"{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        check(nested(MAX_DEPTH), Ok(&text));
        check(nested(MAX_DEPTH + 1), Err(()));
        check(nested(5_000), Err(()));
    }
}
