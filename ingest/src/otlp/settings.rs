//! How OTLP is translated: what an operator chooses, and how a frame of the log remembers it.
//!
//! A replay must give the series that were acknowledged, whatever the settings are by then. So each
//! logged request begins with the settings that it came under.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protobuf::{Fields, WireError};

/// What becomes of the names of metrics and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Letters, digits and underscores; unit and kind at the end of a metric's name.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Letters, digits and underscores.
    UnderscoreEscapingWithoutSuffixes,
    /// As they are; unit and kind at the end of a metric's name.
    NoUtf8EscapingWithSuffixes,
    /// As they are.
    NoTranslation,
}

impl Strategy {
    /// Whether characters outside Prometheus' old alphabet become underscores.
    pub(super) fn escapes(self) -> bool {
        use Strategy::{UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
        matches!(
            self,
            UnderscoreEscapingWithSuffixes | UnderscoreEscapingWithoutSuffixes
        )
    }

    /// Whether the name of a metric ends with its unit and its kind.
    pub(super) fn adds_suffixes(self) -> bool {
        use Strategy::{NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes};
        matches!(
            self,
            UnderscoreEscapingWithSuffixes | NoUtf8EscapingWithSuffixes
        )
    }

    const fn code(self) -> u64 {
        match self {
            Self::UnderscoreEscapingWithSuffixes => 0,
            Self::UnderscoreEscapingWithoutSuffixes => 1,
            Self::NoUtf8EscapingWithSuffixes => 2,
            Self::NoTranslation => 3,
        }
    }

    const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::UnderscoreEscapingWithSuffixes,
            1 => Self::UnderscoreEscapingWithoutSuffixes,
            2 => Self::NoUtf8EscapingWithSuffixes,
            3 => Self::NoTranslation,
            _ => return None,
        })
    }
}

/// What becomes of points that count since the point before, and not since a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delta {
    /// They are refused and named.
    #[default]
    Refuse,
    /// They are kept as they are, as metrics of unknown type.
    Keep,
    /// They are summed up in memory, so that they count since the first of them.
    Accumulate,
}

/// Which attributes of a resource become labels of all its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    /// These.
    Only(Vec<String>),
    /// All but these.
    AllBut(Vec<String>),
}

impl Default for Promotion {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Promotion {
    pub(super) fn takes(&self, attribute: &str) -> bool {
        match self {
            Self::Only(names) => names.iter().any(|name| name == attribute),
            Self::AllBut(names) => names.iter().all(|name| name != attribute),
        }
    }
}

/// How OTLP is translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Names.
    pub strategy: Strategy,
    /// Attributes of resources that become labels.
    pub promotion: Promotion,
    /// Whether `target_info` has the attributes as well that `job` and `instance` are made of.
    pub keep_identifying: bool,
    /// Whether histograms with explicit bounds become native ones with custom buckets.
    pub custom_buckets: bool,
    /// Whether name, version and attributes of the scope become labels.
    pub scope_labels: bool,
    /// Whether type and unit of a metric become the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
    /// Points of delta temporality.
    pub delta: Delta,
    /// Time between two samples of `target_info`, in milliseconds.
    pub target_info_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            promotion: Promotion::default(),
            keep_identifying: false,
            custom_buckets: false,
            scope_labels: false,
            type_and_unit_labels: false,
            delta: Delta::default(),
            target_info_interval_ms: 150_000,
        }
    }
}

const KEEP_IDENTIFYING: u64 = 1;
const CUSTOM_BUCKETS: u64 = 1 << 1;
const SCOPE_LABELS: u64 = 1 << 2;
const TYPE_AND_UNIT_LABELS: u64 = 1 << 3;
const KEEP_DELTA: u64 = 1 << 4;
const PROMOTE_ALL: u64 = 1 << 5;
const KNOWN_FLAGS: u64 = (1 << 6) - 1;

/// Longest settings in a frame. The lists of attributes come from the operator.
const MAX_HEAD_BYTES: usize = u16::MAX as usize;

impl Settings {
    /// What a frame says before its body: a length of two bytes, then fields as of protobuf.
    ///
    /// # Errors
    /// If the lists of attributes are too long.
    pub fn head(&self) -> Result<Bytes, String> {
        let (names, all) = match &self.promotion {
            Promotion::Only(names) => (names, 0),
            Promotion::AllBut(names) => (names, PROMOTE_ALL),
        };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.keep_identifying, KEEP_IDENTIFYING)
            | flag(self.custom_buckets, CUSTOM_BUCKETS)
            | flag(self.scope_labels, SCOPE_LABELS)
            | flag(self.type_and_unit_labels, TYPE_AND_UNIT_LABELS)
            // What was accumulated is logged as cumulative.
            | flag(self.delta == Delta::Keep, KEEP_DELTA)
            | all;
        let mut fields = Vec::new();
        for (number, value) in [
            (1, self.strategy.code()),
            (2, flags),
            (3, self.target_info_interval_ms),
        ] {
            fields.push(number << 3);
            crate::protobuf::push_varint(&mut fields, value as usize);
        }
        for name in names {
            fields.push(4 << 3 | 2);
            crate::protobuf::push_varint(&mut fields, name.len());
            fields.extend_from_slice(name.as_bytes());
        }
        if fields.len() > MAX_HEAD_BYTES {
            return Err(format!(
                "the names of resource attributes take {} bytes; at most {MAX_HEAD_BYTES} are \
                 possible",
                fields.len()
            ));
        }
        let mut head = BytesMut::with_capacity(2 + fields.len());
        head.put_u16_le(fields.len() as u16);
        head.put_slice(&fields);
        Ok(head.freeze())
    }

    /// The settings that a logged body begins with, those settings as bytes, and the rest.
    ///
    /// # Errors
    /// If it does not begin with any that are known.
    pub(crate) fn split(logged: &[u8]) -> Result<(Self, &[u8], &[u8]), String> {
        let unknown = || "the settings of an OTLP request in the log are not known".to_owned();
        let (len, rest) = logged.split_first_chunk::<2>().ok_or_else(unknown)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (head, body) = rest.split_at_checked(len).ok_or_else(unknown)?;
        let settings = Self::read(head).map_err(|_| unknown())?;
        Ok((settings.ok_or_else(unknown)?, head, body))
    }

    /// `None` if a later version wrote what this one cannot follow.
    fn read(head: &[u8]) -> Result<Option<Self>, WireError> {
        let mut settings = Self::default();
        let (mut flags, mut names) = (0, Vec::new());
        let mut fields = Fields::new(head);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => match Strategy::from_code(value.varint("a strategy")?) {
                    Some(strategy) => settings.strategy = strategy,
                    None => return Ok(None),
                },
                2 => flags = value.varint("flags")?,
                3 => settings.target_info_interval_ms = value.varint("an interval")?,
                4 => match std::str::from_utf8(value.bytes("a name")?) {
                    Ok(name) => names.push(name.to_owned()),
                    Err(_) => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        if flags & !KNOWN_FLAGS != 0 {
            return Ok(None);
        }
        let is_set = |flag| flags & flag != 0;
        settings.keep_identifying = is_set(KEEP_IDENTIFYING);
        settings.custom_buckets = is_set(CUSTOM_BUCKETS);
        settings.scope_labels = is_set(SCOPE_LABELS);
        settings.type_and_unit_labels = is_set(TYPE_AND_UNIT_LABELS);
        if is_set(KEEP_DELTA) {
            settings.delta = Delta::Keep;
        }
        settings.promotion = match is_set(PROMOTE_ALL) {
            true => Promotion::AllBut(names),
            false => Promotion::Only(names),
        };
        Ok(Some(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_remembers_what_it_came_under() {
        let check = |settings: Settings| {
            let mut logged = settings.head().unwrap().to_vec();
            logged.extend_from_slice(b"body");
            let (read, _, body) = Settings::split(&logged).unwrap();
            assert_eq!((read, body), (settings, &b"body"[..]));
            for cut in 0..logged.len() - 4 {
                assert!(Settings::split(&logged[..cut]).is_err(), "{cut}");
            }
        };
        check(Settings::default());
        check(Settings {
            strategy: Strategy::NoTranslation,
            promotion: Promotion::Only(vec!["a.b".into(), String::new()]),
            keep_identifying: true,
            custom_buckets: true,
            scope_labels: true,
            type_and_unit_labels: true,
            delta: Delta::Keep,
            target_info_interval_ms: u64::MAX,
        });
        check(Settings {
            strategy: Strategy::NoUtf8EscapingWithSuffixes,
            promotion: Promotion::AllBut(vec!["é".into()]),
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
        check(&[1 << 3, 9]);
        check(&[2 << 3, 64]);
        check(&[5 << 3, 0]);
        check(&[4 << 3 | 2, 1, 0xff]);
        let long = Settings {
            promotion: Promotion::Only(vec!["x".repeat(70_000)]),
            ..Settings::default()
        };
        assert!(long.head().is_err());
    }
}
