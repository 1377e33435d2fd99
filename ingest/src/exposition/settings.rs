//! What a request says of all its lines, and how a frame of the log remembers it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protobuf::{Fields, WireError, push_varint, zigzag};

/// What a request says of all its lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The time of samples without one, in milliseconds; `None` is when the request is received.
    pub time_ms: Option<i64>,
    /// Labels of all series, in place of those of the same names; an empty value takes a label
    /// away.
    pub labels: Vec<(String, String)>,
    /// Whether samples with times are refused.
    pub refuses_times: bool,
}

/// Longest settings in a frame.
const MAX_HEAD_BYTES: usize = u16::MAX as usize;

impl Settings {
    /// The labels in bytes that tell them from all others.
    pub(super) fn labels_key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        for text in self.labels.iter().flat_map(|(name, value)| [name, value]) {
            push_varint(&mut key, text.len());
            key.extend_from_slice(text.as_bytes());
        }
        key
    }

    /// A body as the log has it: a length of two bytes, as many bytes of fields as of protobuf, and
    /// the body as it was received.
    ///
    /// # Errors
    /// If the labels are too long.
    pub fn framed(&self, body: &[u8]) -> Result<Bytes, String> {
        let mut fields = Vec::new();
        if let Some(time) = self.time_ms {
            fields.push(1 << 3);
            push_varint(&mut fields, (time << 1 ^ time >> 63) as usize);
        }
        if self.refuses_times {
            fields.extend_from_slice(&[2 << 3, 1]);
        }
        for (name, value) in &self.labels {
            for (number, text) in [(3, name), (4, value)] {
                fields.push(number << 3 | 2);
                push_varint(&mut fields, text.len());
                fields.extend_from_slice(text.as_bytes());
            }
        }
        if fields.len() > MAX_HEAD_BYTES {
            return Err(format!(
                "the labels that are added to all series take {} bytes; at most {MAX_HEAD_BYTES} \
                 are possible",
                fields.len()
            ));
        }
        let mut framed = BytesMut::with_capacity(2 + fields.len() + body.len());
        framed.put_u16_le(fields.len() as u16);
        framed.put_slice(&fields);
        framed.put_slice(body);
        Ok(framed.freeze())
    }

    /// What a logged body begins with, and the rest.
    ///
    /// # Errors
    /// If it does not begin with settings that are known.
    pub(crate) fn split(logged: &[u8]) -> Result<(Self, &[u8]), String> {
        let unknown = || "the settings of a text in the log are not known".to_owned();
        let (len, rest) = logged.split_first_chunk::<2>().ok_or_else(unknown)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (head, body) = rest.split_at_checked(len).ok_or_else(unknown)?;
        let settings = Self::read(head).map_err(|_| unknown())?;
        Ok((settings.ok_or_else(unknown)?, body))
    }

    /// `None` if a later version wrote what this one cannot follow.
    fn read(head: &[u8]) -> Result<Option<Self>, WireError> {
        let mut settings = Self::default();
        let mut fields = Fields::new(head);
        let mut name = None;
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => settings.time_ms = Some(zigzag(value.varint("a time")?)),
                2 => settings.refuses_times = value.varint("a flag")? != 0,
                3 | 4 => {
                    let Ok(text) = std::str::from_utf8(value.bytes("a label")?) else {
                        return Ok(None);
                    };
                    match (number, name.take()) {
                        (3, None) => name = Some(text.to_owned()),
                        (4, Some(name)) => settings.labels.push((name, text.to_owned())),
                        _ => return Ok(None),
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(name.is_none().then_some(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_remembers_what_it_came_under() {
        let check = |settings: Settings| {
            let framed = settings.framed(b"body").unwrap();
            assert_eq!(Settings::split(&framed), Ok((settings, &b"body"[..])));
            for cut in 0..framed.len() - 4 {
                assert!(Settings::split(&framed[..cut]).is_err(), "{cut}");
            }
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        check(Settings::default());
        check(Settings {
            time_ms: Some(-1),
            labels: vec![pair("job", "é"), pair("x", "")],
            refuses_times: true,
        });
        check(Settings {
            time_ms: Some(i64::MIN),
            ..Settings::default()
        });
    }

    #[test]
    fn unknown_settings_are_an_error() {
        let check = |fields: &[u8]| {
            let mut logged = (fields.len() as u16).to_le_bytes().to_vec();
            logged.extend_from_slice(fields);
            assert!(Settings::split(&logged).is_err(), "{fields:?}");
        };
        check(&[5 << 3, 0]);
        check(&[3 << 3 | 2, 1, b'a']);
        check(&[4 << 3 | 2, 1, b'a']);
        check(&[3 << 3 | 2, 1, 0xff, 4 << 3 | 2, 0]);
        let long = Settings {
            labels: vec![("a".to_owned(), "x".repeat(70_000))],
            ..Settings::default()
        };
        assert!(long.framed(b"").is_err());
    }
}
