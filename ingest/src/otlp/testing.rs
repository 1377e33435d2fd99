//! Protobuf messages for tests, written field by field.

use crate::protobuf::push_varint;

/// A message that is being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn tag(&mut self, number: usize, wire_type: usize) {
        push_varint(&mut self.0, number << 3 | wire_type);
    }

    pub(super) fn varint(mut self, number: usize, value: u64) -> Self {
        self.tag(number, 0);
        push_varint(&mut self.0, value as usize);
        self
    }

    pub(super) fn fixed64(mut self, number: usize, value: u64) -> Self {
        self.tag(number, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn double(self, number: usize, value: f64) -> Self {
        self.fixed64(number, value.to_bits())
    }

    pub(super) fn bytes(mut self, number: usize, value: &[u8]) -> Self {
        self.tag(number, 2);
        push_varint(&mut self.0, value.len());
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(self, number: usize, value: &str) -> Self {
        self.bytes(number, value.as_bytes())
    }

    pub(super) fn message(self, number: usize, value: Message) -> Self {
        self.bytes(number, &value.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// An `AnyValue` that is a string.
pub(super) fn text_value(text: &str) -> Message {
    Message::default().text(1, text)
}
