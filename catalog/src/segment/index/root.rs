//! The root of a series index: what a lookup begins with. It lies behind everything else but the
//! Parquet footer, so that one request reads both.

use super::cursor::{Cursor, put_varint};
use super::dictionary::LabelEntry;

/// First bytes of a root.
const MAGIC: &[u8; 8] = b"TLKROOT\x02";

/// The file before its root is checked in pieces of so many bytes.
pub(super) const CHECKED_BYTES: u64 = 16 << 10;

/// The root of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// How many series the segment has.
    pub series: u32,
    /// xxh3-64 of each [`CHECKED_BYTES`] of the file before the root; the last are fewer.
    pub checksums: Vec<u64>,
    /// The labels, by ascending names.
    pub labels: Vec<LabelEntry>,
}

impl Root {
    /// Appends it to a file whose bytes so far it has the checksums of.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(MAGIC);
        put_varint(to, u64::from(self.series));
        for checksum in &self.checksums {
            to.extend_from_slice(&checksum.to_le_bytes());
        }
        put_varint(to, self.labels.len() as u64);
        for label in &self.labels {
            label.encode(to);
        }
    }

    /// The root that `bytes` begin with, and that begins at byte `start` of its file.
    pub fn decode(bytes: &[u8], start: u64) -> Result<Self, String> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err("it has no root of a version that is known".to_owned());
        }
        let series = cursor.varint()?;
        let series = u32::try_from(series).map_err(|_| format!("it has {series} series"))?;
        let pieces = start.div_ceil(CHECKED_BYTES);
        if pieces > bytes.len() as u64 {
            return Err("its root is too short".to_owned());
        }
        let checksums = (0..pieces)
            .map(|_| cursor.word())
            .collect::<Result<_, _>>()?;
        let count = cursor.count()?;
        let mut labels = Vec::with_capacity(count);
        for _ in 0..count {
            labels.push(LabelEntry::decode(&mut cursor, start)?);
        }
        Ok(Self {
            series,
            checksums,
            labels,
        })
    }

    /// The label of a name, if any series has it.
    pub fn label(&self, name: &str) -> Option<(usize, &LabelEntry)> {
        let at = self
            .labels
            .binary_search_by(|label| label.name.as_str().cmp(name))
            .ok()?;
        Some((at, &self.labels[at]))
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let labels: usize = self.labels.iter().map(LabelEntry::memory_size).sum();
        size_of::<Self>() + self.checksums.capacity() * 8 + labels
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_root_comes_back() {
        let root = Root {
            series: 7,
            checksums: vec![1, u64::MAX],
            labels: vec![LabelEntry {
                name: "job".to_owned(),
                values: 1,
                presence: 3..9,
                blocks: Vec::new(),
            }],
        };
        let mut bytes = Vec::new();
        root.encode(&mut bytes);
        let start = 2 * CHECKED_BYTES;
        assert_eq!(Root::decode(&bytes, start), Ok(root));
        for len in 0..bytes.len() {
            assert!(Root::decode(&bytes[..len], start).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_root_or_an_error(bytes: Vec<u8>, start in 0u64..1 << 40) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(bytes);
            let _ = Root::decode(&with_magic, start);
        }
    }
}
