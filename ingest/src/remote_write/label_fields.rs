//! Labels of a series as the label fields of `prometheus.TimeSeries` (1.0): the spelling by which
//! the registry knows a series, whichever version of the protocol brings it.

use tidelake_catalog::model::Labels;

use super::DecodeError;
use super::samples::{canonical, shown};
use crate::label_limits::LabelLimits;
use crate::protobuf::{Fields, Value, push_varint, varint_len};

/// Tags of the fields 1 and 2 of length-delimited values.
const FIRST_BYTES: u8 = 1 << 3 | 2;
const SECOND_BYTES: u8 = 2 << 3 | 2;

/// The labels of a series from its label fields. The inner error refuses the series.
pub(super) fn labels_of(
    raw: &[u8],
    limits: &LabelLimits,
) -> Result<Result<Labels, String>, DecodeError> {
    let mut pairs = Vec::with_capacity(16);
    let mut fields = Fields::new(raw);
    while let Some((_, value)) = fields.next()? {
        let (name, value) = label(value)?;
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            _ => {
                let label = format!(
                    "{}={:?}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                );
                return Ok(Err(format!(
                    "the label {label} of series {} is not valid UTF-8",
                    shown(&pairs)
                )));
            }
        }
    }
    Ok(canonical(pairs, limits))
}

/// Name and value of a label.
pub(super) fn label<'b>(value: Value<'b>) -> Result<(&'b [u8], &'b [u8]), DecodeError> {
    let mut fields = value.message("a label")?;
    let (mut name, mut text): (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.bytes("a label's name")?,
            2 => text = value.bytes("a label's value")?,
            _ => {}
        }
    }
    Ok((name, text))
}

/// Appends a label as a label field, with what is empty left out as proto3 does it.
#[inline]
pub(super) fn push_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let len = |text: &[u8]| {
        if text.is_empty() {
            0
        } else {
            1 + varint_len(text.len()) + text.len()
        }
    };
    out.push(FIRST_BYTES);
    push_varint(out, len(name) + len(value));
    for (tag, text) in [(FIRST_BYTES, name), (SECOND_BYTES, value)] {
        if !text.is_empty() {
            out.push(tag);
            push_varint(out, text.len());
            out.extend_from_slice(text);
        }
    }
}
