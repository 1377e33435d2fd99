//! Label sets in canonical form.
//!
//! A label set is kept as one string: for each label, in ascending order of names (by bytes), the
//! length of the name, the name, the length of the value, the value. A length is written in groups
//! of six bits, lowest first, one byte each; `0x40` is set on every byte but the last. All length
//! bytes are therefore ASCII, the whole is valid UTF-8, and slices of it need no checks beyond
//! those of `str`.
//!
//! Names are unique and not empty, values are not empty: a label with an empty value is the same as
//! no label. Equal sets have equal bytes, so that hashing and comparing never look inside.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A canonical label set; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from(""))
    }

    /// A set of these labels. Order does not matter, labels with empty values are left out, and of
    /// two labels with one name the last counts; who has to refuse repeated names checks
    /// before.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// A set from labels that are sorted by name, unique and not empty already.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut out = String::with_capacity(128);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(!name.is_empty() && !value.is_empty());
            debug_assert!(
                last.is_none_or(|last| last < name),
                "labels out of order: {last:?}, {name:?}"
            );
            last = Some(name);
            push_str(&mut out, name);
            push_str(&mut out, value);
        }
        Self(out.into())
    }

    /// The set of a text that may be anything; `None` if it is not in canonical form.
    pub fn try_canonical(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut last = None;
        while !rest.is_empty() {
            let name = take_text(&mut rest)?;
            let value = take_text(&mut rest)?;
            if name.is_empty() || value.is_empty() || last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
        }
        Some(Self(text.into()))
    }

    /// The canonical bytes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 64-bit xxh3 of the canonical bytes: the `series_id` of the files.
    pub fn series_id(&self) -> u64 {
        xxh3_64(self.0.as_bytes())
    }

    /// Names and values of a set in its canonical form, as [`as_str`](Self::as_str) gives it.
    pub fn iter_canonical(canonical: &str) -> Iter<'_> {
        Iter { rest: canonical }
    }

    /// Names and values in ascending order of names.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of a label; `None` if it is not there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(n, v)| (n == name).then_some(v))
    }

    /// The value of `__name__`, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// This set without the labels for which `keep` is false.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// This set without its metric name.
    pub fn without_metric_name(&self) -> Self {
        self.retain(|name| name != METRIC_NAME)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the first pair in which two sets differ, name before value, as Prometheus orders them.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let (text, others) = (self.as_str(), other.as_str());
        let same = equal_bytes(text.as_bytes(), others.as_bytes());
        if same == text.len() || same == others.len() {
            return text.len().cmp(&others.len());
        }
        // Up to the name or value with the first other byte both have the same.
        let mut mine = self.iter();
        let mut before = 0;
        while mine.next_text().is_some() {
            let after = text.len() - mine.rest.len();
            if same < after {
                break;
            }
            before = after;
        }
        let at = |text| Iter::next_text(&mut Labels::iter_canonical(text));
        at(&text[before..]).cmp(&at(&others[before..]))
    }
}

/// With how many bytes both begin.
fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    let ((words, rest), (others, others_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let equal = (words.iter().zip(others))
        .take_while(|(a, b)| a == b)
        .count();
    let at = equal * 8;
    match (words.get(equal), others.get(equal)) {
        (Some(a), Some(b)) => {
            let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
            at + differing.trailing_zeros() as usize / 8
        }
        (None, None) => {
            at + (rest.iter().zip(others_rest))
                .take_while(|(a, b)| a == b)
                .count()
        }
        _ => {
            at + (a[at..].iter().zip(&b[at..]))
                .take_while(|(a, b)| a == b)
                .count()
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As in PromQL: `{__name__="up", job="node"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// Iterator over names and values.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iter<'a> {
    #[inline]
    fn next_text(&mut self) -> Option<&'a str> {
        let bytes = self.rest.as_bytes();
        let (mut len, mut shift, mut at) = (0usize, 0u32, 0usize);
        loop {
            let byte = *bytes.get(at)?;
            at += 1;
            len |= usize::from(byte & 0x3f) << shift;
            shift += 6;
            if byte & 0x40 == 0 {
                break;
            }
        }
        let text = &self.rest[at..at + len];
        self.rest = &self.rest[at + len..];
        Some(text)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let name = self.next_text()?;
        let value = self.next_text()?;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The text at the beginning, with its length before it.
fn take_text<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (mut len, mut shift) = (0usize, 0u32);
    for (at, byte) in rest.bytes().enumerate() {
        let group = usize::from(byte & 0x3f);
        let is_last = byte & 0x40 == 0;
        let has_zeros = is_last && at > 0 && group == 0;
        if !byte.is_ascii() || has_zeros || shift > 30 {
            return None;
        }
        len |= group << shift;
        shift += 6;
        if is_last {
            let text = rest.get(at + 1..(at + 1).checked_add(len)?)?;
            *rest = &rest[at + 1 + len..];
            return Some(text);
        }
    }
    None
}

fn push_str(out: &mut String, text: &str) {
    let mut len = text.len();
    loop {
        let group = (len & 0x3f) as u8;
        len >>= 6;
        out.push(char::from(if len > 0 { group | 0x40 } else { group }));
        if len == 0 {
            break;
        }
    }
    out.push_str(text);
}

/// Changes to a label set, applied at once by [`LabelsBuilder::build`].
#[derive(Debug, Default, Clone)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Starts from the empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts from an existing set.
    pub fn from_labels(labels: &Labels) -> Self {
        Self {
            pairs: labels
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.iter_mut().find(|(n, _)| n == name) {
            Some(pair) => value.clone_into(&mut pair.1),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The value of a label as it stands.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find_map(|(n, v)| (n == name && !v.is_empty()).then_some(v.as_str()))
    }

    /// The canonical set.
    pub fn build(mut self) -> Labels {
        self.pairs
            .retain(|(name, value)| !name.is_empty() && !value.is_empty());
        self.pairs.sort_unstable();
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_around_the_group_borders_survive() {
        for len in [1, 63, 64, 65, 4095, 4096, 5000] {
            let value = "é".repeat(len);
            let labels = Labels::from_pairs([("b", value.as_str()), ("a", "1")]);
            assert_eq!(
                labels.iter().collect::<Vec<_>>(),
                [("a", "1"), ("b", value.as_str())]
            );
        }
    }

    #[test]
    fn an_empty_value_is_no_label() {
        assert_eq!(
            Labels::from_pairs([("a", ""), ("b", "1")]),
            Labels::from_pairs([("b", "1")])
        );
        assert_eq!(Labels::from_pairs([("a", "")]), Labels::empty());
    }

    #[test]
    fn the_series_id_is_fixed_by_the_format() {
        // These two figures are part of the on-disk format: a change of them is a new format.
        assert_eq!(
            Labels::from_pairs([("__name__", "up"), ("job", "node")]).as_str(),
            "\u{8}__name__\u{2}up\u{3}job\u{4}node"
        );
        assert_eq!(Labels::empty().series_id(), 0x2d06800538d394c2);
    }

    proptest! {
        #[test]
        fn sets_are_ordered_by_the_first_pair_that_differs(
            pairs in proptest::collection::btree_map("[a-c]{1,2}", "[yz]{0,70}|é?", 0..5),
            others in proptest::collection::btree_map("[a-c]{1,2}", "[yz]{0,70}|é?", 0..5),
            shared in proptest::collection::btree_map("A[a-z]{1,9}", "[a-z]{1,70}", 0..3),
        ) {
            let set = |pairs| Labels::from_pairs(shared.iter().chain(pairs));
            let (set, other) = (set(&pairs), set(&others));
            prop_assert_eq!(set.cmp(&other), set.iter().cmp(other.iter()));
            prop_assert_eq!(set.cmp(&set.clone()), Ordering::Equal);
        }

        #[test]
        fn canonical_texts_are_told_from_others(
            pairs in proptest::collection::btree_map("[a-z]{1,70}", ".{1,70}", 0..4),
            at: proptest::sample::Index,
            byte in 0u8..128,
            any in "\\PC{0,20}",
        ) {
            let set = Labels::from_pairs(pairs.iter());
            let again = Labels::try_canonical(set.as_str());
            prop_assert_eq!(again.as_ref(), Some(&set));
            let mut bytes = set.as_str().as_bytes().to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for text in [String::from_utf8(bytes).unwrap_or_default(), any] {
                if let Some(read) = Labels::try_canonical(&text) {
                    let again = Labels::from_sorted(&read);
                    prop_assert_eq!(again.as_str(), text);
                }
            }
        }

        #[test]
        fn order_of_pairs_does_not_matter(mut pairs in proptest::collection::btree_map("[a-z]{1,5}", ".{0,70}", 0..6)) {
            let forward = Labels::from_pairs(pairs.iter());
            let backward = Labels::from_pairs(pairs.iter().rev());
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(forward.series_id(), backward.series_id());
            pairs.retain(|_, v| !v.is_empty());
            prop_assert!(forward.iter().eq(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
        }
    }
}
