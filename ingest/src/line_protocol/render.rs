//! Names and values as line protocol has them, so that [`parse`](super::parse) reads the same.
//!
//! A few texts cannot be said: a line feed in a name or a tag, a backslash at their ends, floats
//! that are not finite.

use std::io::Write as _;

/// Why a text cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be written as line protocol: {reason}")]
pub struct Unwritable {
    what: String,
    reason: &'static str,
}

fn unwritable(what: &str, reason: &'static str) -> Unwritable {
    let shown: String = what.chars().take(80).collect();
    Unwritable {
        what: format!("{shown:?}"),
        reason,
    }
}

fn escaped(out: &mut Vec<u8>, text: &str, specials: &[u8]) -> Result<(), Unwritable> {
    if text.is_empty() {
        return Err(unwritable(text, "it is empty"));
    }
    if text.ends_with('\\') {
        return Err(unwritable(text, "it ends with a backslash"));
    }
    if text.contains('\n') {
        return Err(unwritable(text, "it has a line feed"));
    }
    for byte in text.bytes() {
        if specials.contains(&byte) || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    Ok(())
}

/// The name of a table, with which a line begins.
///
/// # Errors
/// If it cannot be said.
pub fn measurement(out: &mut Vec<u8>, name: &str) -> Result<(), Unwritable> {
    if name.starts_with(['#', ' ', '\t', '\r']) {
        return Err(unwritable(name, "a line that begins so is none"));
    }
    escaped(out, name, b", ")
}

/// The name of a tag or field, or the value of a tag.
///
/// # Errors
/// If it cannot be said.
pub fn key(out: &mut Vec<u8>, text: &str) -> Result<(), Unwritable> {
    escaped(out, text, b", =")
}

/// A field of text.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A field that is a float, to the last bit.
///
/// # Errors
/// If it is not finite.
pub fn float(out: &mut Vec<u8>, value: f64) -> Result<(), Unwritable> {
    if !value.is_finite() {
        return Err(unwritable(&value.to_string(), "it is not finite"));
    }
    // Writing to memory cannot fail; this is the shortest decimal that is read as the same float.
    let _ = write!(out, "{value:?}");
    Ok(())
}

/// A field that is an integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    let _ = write!(out, "{value}i");
}

/// A field that is an unsigned integer.
pub fn unsigned(out: &mut Vec<u8>, value: u64) {
    let _ = write!(out, "{value}u");
}

/// A field that is true or false.
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// The time of a line, and its end.
pub fn end(out: &mut Vec<u8>, time: i64) {
    let _ = writeln!(out, " {time}");
}
