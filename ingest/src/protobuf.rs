//! Fields of a protobuf message, read from bytes without copying.

/// The bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WireError(pub(crate) String);

/// A field's value as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, one after another.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    body: &'a [u8],
    at: usize,
}

#[cold]
fn truncated() -> WireError {
    WireError("a field goes beyond the end of its message".to_owned())
}

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Where the next field begins.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.at >= self.body.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&n| (1..1 << 29).contains(&n));
        let number = number
            .ok_or_else(|| WireError(format!("field number {} is out of range", tag >> 3)))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| truncated())?;
                let end = self.at.checked_add(len).ok_or_else(truncated)?;
                let bytes = self.body.get(self.at..end).ok_or_else(truncated)?;
                self.at = end;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            other => {
                return Err(WireError(format!(
                    "field {number} has the unsupported wire type {other}"
                )));
            }
        };
        Ok(Some((number, value)))
    }

    /// Skips the messages of fewer than 128 bytes with this field number, below 16, that follow one
    /// another from here, and gives their bytes. Anything unusual is left to
    /// [`next`](Self::next).
    #[inline]
    pub(crate) fn run_of_short(&mut self, number: u8) -> &'a [u8] {
        let start = self.at;
        while let Some(&[tag, len]) = self
            .body
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<2>())
            && tag == number << 3 | 2
            && len < 0x80
            && self.at + 2 + usize::from(len) <= self.body.len()
        {
            self.at += 2 + usize::from(len);
        }
        &self.body[start..self.at]
    }

    /// A number of one to ten bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.body.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in 0..10 {
            let byte = *self.body.get(self.at).ok_or_else(truncated)?;
            self.at += 1;
            if shift == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError("a number is longer than 64 bits".to_owned()))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self
            .body
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or_else(truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    fn is_empty(&self) -> bool {
        self.at >= self.body.len()
    }
}

#[cold]
fn wrong(what: &str) -> WireError {
    WireError(format!("{what} has the wrong wire type"))
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn message(self, what: &str) -> Result<Fields<'a>, WireError> {
        self.bytes(what).map(Fields::new)
    }

    #[inline]
    pub(crate) fn bytes(self, what: &str) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong(what)),
        }
    }

    #[inline]
    pub(crate) fn varint(self, what: &str) -> Result<u64, WireError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(wrong(what)),
        }
    }

    /// A float, with every bit of a NaN as it was sent.
    #[inline]
    pub(crate) fn double(self, what: &str) -> Result<f64, WireError> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(wrong(what)),
        }
    }

    /// Numbers of a repeated field: packed, or one of several fields.
    pub(crate) fn varints(self, what: &str, mut each: impl FnMut(u64)) -> Result<(), WireError> {
        match self {
            Value::Varint(value) => each(value),
            Value::Bytes(bytes) => {
                let mut fields = Fields::new(bytes);
                while !fields.is_empty() {
                    each(fields.varint()?);
                }
            }
            _ => return Err(wrong(what)),
        }
        Ok(())
    }

    /// Floats of a repeated field: packed, or one of several fields.
    pub(crate) fn doubles(self, what: &str, out: &mut Vec<f64>) -> Result<(), WireError> {
        match self {
            Value::Fixed64(bits) => out.push(f64::from_bits(bits)),
            Value::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(truncated());
                }
                out.extend(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)));
            }
            _ => return Err(wrong(what)),
        }
        Ok(())
    }
}

/// A signed number whose small absolute values are short on the wire (`sint32`, `sint64`).
#[inline]
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a length as a varint.
#[inline]
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a length as a varint.
#[inline]
pub(crate) fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}
