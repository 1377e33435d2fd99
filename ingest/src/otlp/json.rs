//! OTLP as JSON, brought into protobuf: from there on there is one decoder.
//!
//! As OTLP has it: names in lowerCamelCase (those of protobuf are taken as well), integers of 64
//! bits as strings or numbers, ids of traces and spans in hexadecimal, other bytes in base64,
//! unknown names ignored.

mod lexer;
mod schema;

use std::borrow::Cow;

use lexer::{Bad, Lexer};
use schema::{Field, Kind, REQUEST, Schema};

use super::output::{MAX_LENGTH, Output};

/// Bytes that a byte of JSON may become: `0,` is a number of eight bytes and its tag.
pub(crate) const MAX_GROWTH: usize = 5;

/// The body is no such JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a valid OTLP metrics request in JSON: {0}")]
pub struct JsonError(String);

/// A request in JSON as the same in protobuf, of at most `limit` bytes.
///
/// # Errors
/// If it is no such request, or would be larger.
pub fn to_protobuf(body: &[u8], limit: usize) -> Result<Vec<u8>, JsonError> {
    let convert = || {
        let text = std::str::from_utf8(body).map_err(|error| Bad {
            at: error.valid_up_to(),
            what: Cow::Borrowed("it is not UTF-8"),
        })?;
        let mut writer = Writer {
            lexer: Lexer::new(text),
            out: Output::with_capacity(text.len().min(limit)),
            limit: limit.min(MAX_LENGTH),
        };
        writer.message(&REQUEST)?;
        writer.lexer.end()?;
        Ok(writer.out.into_bytes())
    };
    convert().map_err(|Bad { at, what }| JsonError(format!("{what} (byte {at})")))
}

struct Writer<'b> {
    lexer: Lexer<'b>,
    out: Output,
    limit: usize,
}

impl Writer<'_> {
    /// An object as the fields of a message.
    fn message(&mut self, schema: &Schema) -> Result<(), Bad> {
        self.lexer.begin_object()?;
        let mut is_first = true;
        while let Some(key) = self.lexer.next_key(&mut is_first)? {
            let field = schema.iter().find(|field| field.is_named(&key));
            match field {
                Some(field) if !self.lexer.take_null() => self.field(field)?,
                Some(_) => {}
                None => self.lexer.skip()?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), Bad> {
        if !field.is_repeated {
            return self.value(field);
        }
        self.lexer.begin_array()?;
        let mut is_first = true;
        while self.lexer.next_item(&mut is_first)? {
            self.value(field)?;
        }
        Ok(())
    }

    fn value(&mut self, field: &Field) -> Result<(), Bad> {
        let number = field.number;
        match field.kind {
            Kind::Text => {
                let text = self.lexer.string()?;
                self.out.bytes(number, text.as_bytes());
            }
            Kind::Base64 => {
                let bytes = self.decoded("base64", base64)?;
                self.out.bytes(number, &bytes);
            }
            Kind::Hex => {
                let bytes = self.decoded("hexadecimal", hexadecimal)?;
                self.out.bytes(number, &bytes);
            }
            Kind::Fixed64 => {
                let value: u64 = self.integer()?;
                self.out.fixed64(number, value);
            }
            Kind::SignedFixed64 => {
                let value: i64 = self.integer()?;
                self.out.fixed64(number, value as u64);
            }
            Kind::Unsigned => {
                let value: u64 = self.integer()?;
                self.out.varint(number, value);
            }
            Kind::Signed => {
                let value: i64 = self.integer()?;
                self.out.varint(number, value as u64);
            }
            Kind::ZigZag => {
                let value: i32 = self.integer()?;
                self.out.zigzag(number, i64::from(value));
            }
            Kind::Double => {
                let value = self.double()?;
                self.out.fixed64(number, value.to_bits());
            }
            Kind::Bool => {
                let value = self.lexer.boolean()?;
                self.out.varint(number, u64::from(value));
            }
            Kind::Temporality => {
                let value = self.temporality()?;
                self.out.varint(number, value);
            }
            Kind::Message(schema) => {
                let began = self.out.begin(number);
                self.lexer.deeper()?;
                self.message(schema)?;
                self.lexer.higher();
                if self.out.len() > self.limit {
                    return Err(self.lexer.bad("it is larger than the limit as protobuf"));
                }
                self.out.end(began);
            }
        }
        Ok(())
    }

    fn decoded(&mut self, what: &str, decode: fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, Bad> {
        let text = self.lexer.string()?;
        decode(&text).ok_or_else(|| self.lexer.bad(format!("a string is not {what}")))
    }

    /// An integer, as a number or as a string.
    fn integer<T: TryFrom<i128>>(&mut self) -> Result<T, Bad> {
        let text = self.lexer.number_or_string()?;
        let whole = text.parse::<i128>().ok().or_else(|| {
            let value: f64 = text.parse().ok()?;
            let is_whole = value.trunc() == value && value.abs() < 2f64.powi(64);
            is_whole.then_some(value as i128)
        });
        whole
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| self.lexer.bad("a number is no integer, or out of range"))
    }

    fn double(&mut self) -> Result<f64, Bad> {
        let text = self.lexer.number_or_string()?;
        let value = match &*text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // The words that Rust knows are not those of JSON.
            text if text.ends_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        value.ok_or_else(|| self.lexer.bad("a string is no number"))
    }

    /// A temporality, as a number or by its name.
    fn temporality(&mut self) -> Result<u64, Bad> {
        let text = self.lexer.number_or_string()?;
        match &*text {
            "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(0),
            "AGGREGATION_TEMPORALITY_DELTA" => Ok(1),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(2),
            text => text
                .parse()
                .map_err(|_| self.lexer.bad("a temporality is unknown")),
        }
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some((16 * digit(high)? + digit(low)?) as u8);
    match rest {
        [] => pairs.iter().map(byte).collect(),
        _ => None,
    }
}

/// Base64 of either alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let mut bits = 0u32;
        for place in 0..4 {
            let value = match chunk.get(place) {
                Some(&byte @ b'A'..=b'Z') => byte - b'A',
                Some(&byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(&byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'+' | b'-') => 62,
                Some(b'/' | b'_') => 63,
                Some(_) => return None,
                None => 0,
            };
            bits = bits << 6 | u32::from(value);
        }
        if chunk.len() == 1 {
            return None;
        }
        let [_, first, second, third] = bits.to_be_bytes();
        bytes.extend_from_slice(&[first, second, third][..chunk.len() - 1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
