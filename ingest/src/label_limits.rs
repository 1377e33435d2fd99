//! How many labels a series may have, and how long they may be.
//!
//! Labels are in the memory of the registry, in every series index and in every answer, so that one
//! request of a thousand labels a series would cost all later ones. A frame of the log says which
//! limits its request was held to, because a replay must refuse exactly what was refused.

use tidelake_catalog::model::Limits;

/// Limits of the labels of one series, tags of line protocol included; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LabelLimits {
    /// Labels, the name of a metric included.
    pub per_series: u32,
    /// Bytes of a label's name.
    pub name_bytes: u32,
    /// Bytes of a label's value, such as the name of a metric.
    pub value_bytes: u32,
}

/// Characters of a name or value that an error quotes.
const QUOTED_CHARS: usize = 64;

impl LabelLimits {
    /// Those of a tenant. A limit of 0 would be none here, so it is 1.
    pub(crate) fn of_tenant(limits: &Limits) -> Self {
        let limit = |limit: Option<u64>| {
            limit.map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX).max(1))
        };
        Self {
            per_series: limit(limits.labels_per_series),
            name_bytes: limit(limits.label_name_bytes),
            value_bytes: limit(limits.label_value_bytes),
        }
    }

    /// The narrower of these and of others, by number and length; 0 is no limit.
    pub fn narrowed(self, other: Self) -> Self {
        let narrower = |a: u32, b: u32| match (a, b) {
            (0, limit) | (limit, 0) => limit,
            (a, b) => a.min(b),
        };
        Self {
            per_series: narrower(self.per_series, other.per_series),
            name_bytes: narrower(self.name_bytes, other.name_bytes),
            value_bytes: narrower(self.value_bytes, other.value_bytes),
        }
    }

    /// No limits.
    pub const NONE: Self = Self {
        per_series: 0,
        name_bytes: 0,
        value_bytes: 0,
    };

    /// Whether a series may have these labels, which the protocol calls `word`. The error says what
    /// is too much, and names the setting.
    pub(crate) fn check<T: AsRef<str>>(&self, word: &str, pairs: &[(T, T)]) -> Result<(), String> {
        if exceeds(pairs.len(), self.per_series) {
            return Err(format!(
                "{} {word}s are more than the {} that a series may have (setting \
                 max_labels_per_series)",
                pairs.len(),
                self.per_series
            ));
        }
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            if exceeds(name.len(), self.name_bytes) {
                return Err(format!(
                    "the {word} name {:?} has {} bytes and is longer than {} bytes (setting \
                     max_label_name_bytes)",
                    quoted(name),
                    name.len(),
                    self.name_bytes
                ));
            }
            if exceeds(value.len(), self.value_bytes) {
                return Err(format!(
                    "the value {:?} of {word} {:?} has {} bytes and is longer than {} bytes \
                     (setting max_label_value_bytes)",
                    quoted(value),
                    quoted(name),
                    value.len(),
                    self.value_bytes
                ));
            }
        }
        Ok(())
    }
}

fn exceeds(found: usize, limit: u32) -> bool {
    limit != 0 && u32::try_from(found).map_or(true, |found| found > limit)
}

/// The beginning of a text.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_named_with_its_setting() {
        let limits = LabelLimits {
            per_series: 2,
            name_bytes: 3,
            value_bytes: 4,
        };
        let check = |pairs: &[(&str, &str)], parts: &[&str]| match limits.check("tag", pairs) {
            Ok(()) => assert!(parts.is_empty(), "{pairs:?}"),
            Err(error) => {
                assert!(!parts.is_empty(), "{error}");
                for part in parts {
                    assert!(error.contains(part), "{error} lacks {part}");
                }
            }
        };
        check(&[], &[]);
        check(&[("abc", "1234"), ("b", "2")], &[]);
        check(
            &[("a", "1"), ("b", "2"), ("c", "3")],
            &["3 tags", "the 2", "max_labels_per_series"],
        );
        check(
            &[("abcd", "1")],
            &["\"abcd\"", "3 bytes", "max_label_name_bytes"],
        );
        check(
            &[("a", "12345")],
            &["\"12345\"", "4 bytes", "max_label_value_bytes"],
        );
        // Bytes, not characters.
        check(&[("a", "ééé")], &["6 bytes"]);
        let long = "x".repeat(100_000);
        let error = limits.check("tag", &[("a", &*long)]).unwrap_err();
        assert!(error.len() < 250, "{error}");
        assert_eq!(LabelLimits::NONE.check("tag", &[(&*long, &*long)]), Ok(()));
    }
}
