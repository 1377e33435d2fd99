//! Messages of protobuf that are being written.

use crate::protobuf::push_varint;

/// Bytes of a length that is filled in when it is known, as a varint with leading zeros.
const LENGTH_BYTES: usize = 4;
/// Largest message within a message.
pub(super) const MAX_LENGTH: usize = (1 << (7 * LENGTH_BYTES)) - 1;

/// A message that is written field by field.
#[derive(Debug, Default)]
pub(super) struct Output(Vec<u8>);

/// Where a message within it began.
#[derive(Debug)]
#[must_use]
pub(super) struct Began(usize);

impl Output {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        push_varint(&mut self.0, (number << 3 | wire_type) as usize);
    }

    /// Fields as they are.
    pub(super) fn raw(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, 2);
        push_varint(&mut self.0, bytes.len());
        self.raw(bytes);
    }

    pub(super) fn fixed64(&mut self, number: u32, value: u64) {
        self.tag(number, 1);
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        push_varint(&mut self.0, value as usize);
    }

    /// A signed number, small ones short.
    pub(super) fn zigzag(&mut self, number: u32, value: i64) {
        self.varint(number, (value << 1 ^ value >> 63) as u64);
    }

    /// Begins a message within this one.
    pub(super) fn begin(&mut self, number: u32) -> Began {
        self.tag(number, 2);
        let start = self.0.len();
        self.raw(&[0; LENGTH_BYTES]);
        Began(start)
    }

    /// Ends a message, of at most [`MAX_LENGTH`] bytes.
    pub(super) fn end(&mut self, Began(start): Began) {
        let len = self.0.len() - start - LENGTH_BYTES;
        for (place, byte) in self.0.iter_mut().skip(start).take(LENGTH_BYTES).enumerate() {
            let more = if place + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (len >> (7 * place)) as u8 & 0x7f | more;
        }
    }
}
