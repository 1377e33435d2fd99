//! What the server sends: messages to bytes.

use super::error::PgError;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescription<'a> {
    pub name: &'a str,
    pub oid: u32,
    pub size: i16,
    pub is_binary: bool,
}

/// Messages that wait to be sent.
#[derive(Debug, Default)]
pub struct Output(pub Vec<u8>);

/// Where the length of an unfinished message is.
#[derive(Debug)]
#[must_use]
pub struct Open(usize);

impl Output {
    /// Begins a message of a type.
    pub fn begin(&mut self, tag: u8) -> Open {
        self.0.push(tag);
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        Open(at)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it is longer than its length can say.
    pub fn end(&mut self, open: Open) -> Result<(), PgError> {
        let length = i32::try_from(self.0.len() - open.0);
        let length = length.map_err(|_| {
            PgError::new(super::error::code::TOO_COMPLEX, "a row has more than 2 GiB")
        })?;
        if let Some(place) = self.0.get_mut(open.0..open.0 + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Takes an unfinished message back.
    pub fn cancel(&mut self, open: Open) {
        self.0.truncate(open.0.saturating_sub(1));
    }

    fn message(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let open = self.begin(tag);
        body(&mut self.0);
        // All but rows are short.
        let _ = self.end(open);
    }

    fn bare(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }

    pub fn authentication(&mut self, kind: i32, data: &[u8]) {
        self.message(b'R', |out| {
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(data);
        });
    }

    pub fn negotiate_version(&mut self, unknown: &[&str]) {
        self.message(b'v', |out| {
            // The minor version that is spoken.
            out.extend_from_slice(&0i32.to_be_bytes());
            out.extend_from_slice(&count32(unknown.len()));
            unknown.iter().for_each(|name| text(out, name));
        });
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            text(out, name);
            text(out, value);
        });
    }

    pub fn key_data(&mut self, pid: i32, key: i32) {
        self.message(b'K', |out| {
            out.extend_from_slice(&pid.to_be_bytes());
            out.extend_from_slice(&key.to_be_bytes());
        });
    }

    /// `status` is `I` outside of a transaction, `T` inside, `E` in one that has failed.
    pub fn ready(&mut self, status: u8) {
        self.message(b'Z', |out| out.push(status));
    }

    pub fn parse_complete(&mut self) {
        self.bare(b'1');
    }

    pub fn bind_complete(&mut self) {
        self.bare(b'2');
    }

    pub fn close_complete(&mut self) {
        self.bare(b'3');
    }

    pub fn no_data(&mut self) {
        self.bare(b'n');
    }

    pub fn empty_query(&mut self) {
        self.bare(b'I');
    }

    pub fn suspended(&mut self) {
        self.bare(b's');
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |out| text(out, tag));
    }

    pub fn parameters(&mut self, types: impl ExactSizeIterator<Item = u32>) {
        self.message(b't', |out| {
            out.extend_from_slice(&count16(types.len()));
            types.for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        });
    }

    pub fn row_description<'a>(
        &mut self,
        fields: impl ExactSizeIterator<Item = FieldDescription<'a>>,
    ) {
        self.message(b'T', |out| {
            out.extend_from_slice(&count16(fields.len()));
            for field in fields {
                text(out, field.name);
                // Of no table.
                out.extend_from_slice(&[0; 6]);
                out.extend_from_slice(&field.oid.to_be_bytes());
                out.extend_from_slice(&field.size.to_be_bytes());
                out.extend_from_slice(&(-1i32).to_be_bytes());
                out.extend_from_slice(&i16::from(field.is_binary).to_be_bytes());
            }
        });
    }

    /// A row of texts, NULL where there is none.
    pub fn texts<'a>(&mut self, cells: impl ExactSizeIterator<Item = Option<&'a str>>) {
        self.message(b'D', |out| {
            out.extend_from_slice(&count16(cells.len()));
            for cell in cells {
                match cell {
                    None => out.extend_from_slice(&(-1i32).to_be_bytes()),
                    Some(cell) => {
                        out.extend_from_slice(&count32(cell.len()));
                        out.extend_from_slice(cell.as_bytes());
                    }
                }
            }
        });
    }

    pub fn copy_out(&mut self, is_binary: bool, columns: usize) {
        self.message(b'H', |out| {
            out.push(u8::from(is_binary));
            out.extend_from_slice(&count16(columns));
            for _ in 0..columns {
                out.extend_from_slice(&i16::from(is_binary).to_be_bytes());
            }
        });
    }

    /// Data of a copy, if there are any.
    pub fn copy_data(&mut self, data: &[u8]) -> Result<(), PgError> {
        if data.is_empty() {
            return Ok(());
        }
        let open = self.begin(b'd');
        self.0.extend_from_slice(data);
        self.end(open)
    }

    pub fn copy_done(&mut self) {
        self.bare(b'c');
    }

    pub fn error(&mut self, error: &PgError) {
        let severity = if error.is_fatal { "FATAL" } else { "ERROR" };
        self.fields(b'E', severity, error);
    }

    pub fn warning(&mut self, error: &PgError) {
        self.fields(b'N', "WARNING", error);
    }

    fn fields(&mut self, tag: u8, severity: &str, error: &PgError) {
        self.message(tag, |out| {
            let mut field = |kind: u8, value: &str| {
                out.push(kind);
                text(out, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', error.code);
            field(b'M', &error.message);
            if let Some(hint) = &error.hint {
                field(b'H', hint);
            }
            if let Some(routine) = error.routine {
                field(b'R', routine);
            }
            if let Some(position) = error.position {
                field(b'P', &position.to_string());
            }
            out.push(0);
        });
    }
}

fn count16(count: usize) -> [u8; 2] {
    u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes()
}

fn count32(count: usize) -> [u8; 4] {
    i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes()
}

/// A text, which cannot have a zero in it, and a zero.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgwire::messages::{DecodeContext, PgWireBackendMessage};

    use super::*;
    use crate::pg::error::code;

    /// The messages as another implementation reads them.
    fn read(output: Output) -> Vec<PgWireBackendMessage> {
        let mut bytes = BytesMut::from(output.0.as_slice());
        let mut context = DecodeContext::default();
        context.awaiting_frontend_ssl = false;
        context.awaiting_frontend_startup = false;
        let mut messages = Vec::new();
        while let Some(message) = PgWireBackendMessage::decode(&mut bytes, &context).unwrap() {
            messages.push(message);
        }
        assert!(bytes.is_empty(), "{bytes:?}");
        messages
    }

    #[test]
    fn another_implementation_reads_what_is_sent() {
        let mut out = Output::default();
        out.authentication(0, b"");
        out.parameter_status("TimeZone", "UTC");
        out.ready(b'T');
        out.row_description(
            [FieldDescription {
                name: "a\0b",
                oid: 701,
                size: 8,
                is_binary: true,
            }]
            .into_iter(),
        );
        out.texts([Some("x"), None].into_iter());
        out.parameters([20, 25].into_iter());
        out.copy_out(true, 2);
        let error = PgError::new(code::SYNTAX, "wrong").with_hint("right");
        out.error(&error.located(""));
        let read = read(out);
        let PgWireBackendMessage::RowDescription(rows) = &read[3] else {
            panic!("{read:?}")
        };
        let field = &rows.fields[0];
        assert_eq!((field.name.as_str(), field.type_id), ("ab", 701));
        assert_eq!((field.type_size, field.format_code), (8, 1));
        let PgWireBackendMessage::DataRow(row) = &read[4] else {
            panic!("{read:?}")
        };
        assert_eq!(row.field_count, 2);
        assert_eq!(&row.data[..], b"\0\0\0\x01x\xff\xff\xff\xff");
        let PgWireBackendMessage::ErrorResponse(error) = &read[7] else {
            panic!("{read:?}")
        };
        assert!(error.fields.contains(&(b'C', "42601".to_owned())));
        assert!(error.fields.contains(&(b'H', "right".to_owned())));
        assert_eq!(read.len(), 8);
    }

    #[test]
    fn an_unfinished_message_can_be_taken_back() {
        let mut out = Output::default();
        out.ready(b'I');
        let length = out.0.len();
        let open = out.begin(b'D');
        out.0.extend_from_slice(b"half a row");
        out.cancel(open);
        assert_eq!(out.0.len(), length);
    }
}
