//! The keys of all objects, built and parsed in this one place; see `FORMAT.md`.
//!
//! Keys are relative to the prefix of the [`Store`](crate::store::Store). Names that users chose
//! are escaped so that every key is a harmless path on a local folder too.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_128;

use crate::model::Day;
use crate::snapshot::SegmentId;

/// Where commit records lie.
pub const LOG: &str = "catalog/log";
/// Where checkpoints lie.
pub const CHECKPOINTS: &str = "catalog/checkpoint";
/// Where the write-ahead logs of all nodes lie.
pub const WAL: &str = "wal";
/// Where nodes show that they live.
pub const LEASES: &str = "lease";
/// What the processes of a store show each other.
pub const CLUSTER_SECRET: &str = "cluster/secret";
/// Where the data of all tables lie.
pub const DATA: &str = "data";
/// Where `tidelake doctor` puts objects to see what the store does, and deletes them.
pub const PROBES: &str = "doctor";

/// Longest folder name in bytes. File systems allow 255, and a temporary name is longer than its
/// final one.
const MAX_FOLDER_BYTES: usize = 200;
/// Bytes of a long name that are kept: what the mark and 32 hexadecimal digits leave.
const KEPT_BYTES: usize = MAX_FOLDER_BYTES - 33;

/// The key of a commit record.
pub fn log_record(sequence: u64) -> String {
    format!("{LOG}/{sequence:020}")
}

/// The sequence of a commit record's key.
pub fn parse_log_record(key: &str) -> Option<u64> {
    parse_number(key.strip_prefix(LOG)?.strip_prefix('/')?, 20)
}

/// The key of a checkpoint.
pub fn checkpoint(sequence: u64) -> String {
    format!("{CHECKPOINTS}/{sequence:020}")
}

/// The sequence of a checkpoint's key.
pub fn parse_checkpoint(key: &str) -> Option<u64> {
    parse_number(key.strip_prefix(CHECKPOINTS)?.strip_prefix('/')?, 20)
}

/// Where the write-ahead log of a node lies, all epochs.
pub fn wal_node(node: &str) -> String {
    format!("{WAL}/{}", folder(node))
}

/// Where the write-ahead log of one epoch of a node lies.
pub fn wal_epoch(node: &str, epoch: u64) -> String {
    format!("{WAL}/{}/{epoch:010}", folder(node))
}

/// The key of an object of a node's write-ahead log.
pub fn wal_object(node: &str, epoch: u64, seq: u64) -> String {
    format!("{WAL}/{}/{epoch:010}/{seq:020}", folder(node))
}

/// Epoch and sequence of an object of `node`'s write-ahead log.
pub fn parse_wal_object(node: &str, key: &str) -> Option<(u64, u64)> {
    let rest = key.strip_prefix(&wal_node(node))?.strip_prefix('/')?;
    let (epoch, seq) = rest.split_once('/')?;
    Some((parse_number(epoch, 10)?, parse_number(seq, 20)?))
}

/// What a node changes while it lives.
pub fn lease(node: &str) -> String {
    format!("{LEASES}/{}", folder(node))
}

/// Where the data of a table lie.
pub fn table(database: &str, table: &str) -> String {
    format!("{DATA}/{}/{}", folder(database), folder(table))
}

/// The key of a data file.
pub fn data_file(database: &str, table: &str, day: Day, id: SegmentId) -> String {
    format!("{}/{day}/{id}.parquet", self::table(database, table))
}

/// The key of a series index file.
pub fn series_index(database: &str, table: &str, day: Day, id: SegmentId) -> String {
    format!("{}/{day}/{id}.series.parquet", self::table(database, table))
}

/// Where one run of `tidelake doctor` puts its objects.
pub fn probes(run: u128) -> String {
    format!("{PROBES}/{run:032x}")
}

/// The segment that a key under `data/` belongs to; `None` if it is none of our names.
pub fn parse_segment(key: &str) -> Option<SegmentId> {
    segment_of_file(key.strip_prefix(DATA)?.strip_prefix('/')?)
}

/// The segment of a data file or series index by its path, with or without a prefix of the store.
pub fn segment_of_file(path: &str) -> Option<SegmentId> {
    let id = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    id.strip_suffix(".series").unwrap_or(id).parse().ok()
}

/// Numbers in keys have a fixed width, or more digits where that does not suffice; never a sign or
/// a space.
fn parse_number(text: &str, width: usize) -> Option<u64> {
    let canonical = text.len() == width || (text.len() > width && !text.starts_with('0'));
    (canonical && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The folder for a name that a user chose: itself if it is plain ASCII, else escaped, and cut if
/// too long.
pub fn folder(name: &str) -> String {
    let last = name.len().saturating_sub(1);
    let mut out = String::with_capacity(name.len() + 8);
    let mut kept = 0;
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            b'.' if i > 0 && i < last => out.push('.'),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        if out.len() <= KEPT_BYTES {
            kept = out.len();
        }
    }
    if out.is_empty() {
        // No name is empty, but a key with an empty part would be another key.
        return "%".to_owned();
    }
    if out.len() > MAX_FOLDER_BYTES {
        out.truncate(kept);
        let _ = write!(out, "~{:032x}", xxh3_128(name.as_bytes()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, expected: &str) {
        assert_eq!(folder(name), expected, "{name:?}");
    }

    #[test]
    fn plain_names_are_themselves_and_others_are_escaped() {
        check("cpu", "cpu");
        check("node_cpu-2.seconds", "node_cpu-2.seconds");
        check("a/b ..%", "a%2Fb%20..%25");
        check(".", "%2E");
        check("..", "%2E%2E");
        check("...", "%2E.%2E");
        check("cpu.", "cpu%2E");
        check("#1", "%231");
        check("\0\n", "%00%0A");
        check("é", "%C3%A9");
        check("CON:", "CON%3A");
        check("", "%");
    }

    #[test]
    fn long_names_are_cut_between_escapes() {
        assert_eq!(folder(&"a".repeat(200)), "a".repeat(200));
        let cut = folder(&"a".repeat(201));
        assert_eq!(cut.len(), 200);
        assert!(cut.starts_with(&format!("{}~", "a".repeat(167))));
        let cut = folder(&"é".repeat(100));
        assert_eq!(
            cut.split('~').next(),
            Some("%C3%A9".repeat(28).split_at(165).0)
        );
    }

    #[test]
    fn keys_parse_back() {
        assert_eq!(log_record(7), "catalog/log/00000000000000000007");
        for sequence in [0, 1, 99, u64::MAX] {
            assert_eq!(parse_log_record(&log_record(sequence)), Some(sequence));
            assert_eq!(parse_checkpoint(&checkpoint(sequence)), Some(sequence));
            assert_eq!(
                parse_wal_object("n/1", &wal_object("n/1", sequence, sequence)),
                Some((sequence, sequence))
            );
        }
        assert_eq!(
            wal_object("n", 1, 2),
            "wal/n/0000000001/00000000000000000002"
        );
        assert_eq!(parse_wal_object("n", &wal_object("n2", 1, 2)), None);
        let id = SegmentId(0xab);
        let (data, index) = (
            data_file("default", "cpu", Day(0), id),
            series_index("default", "cpu", Day(0), id),
        );
        assert_eq!(
            data,
            "data/default/cpu/1970-01-01/000000000000000000000000000000ab.parquet"
        );
        assert_eq!(
            index,
            "data/default/cpu/1970-01-01/000000000000000000000000000000ab.series.parquet"
        );
        assert_eq!(
            (parse_segment(&data), parse_segment(&index)),
            (Some(id), Some(id))
        );
    }

    #[test]
    fn what_is_not_ours_does_not_parse() {
        for key in [
            "catalog/log/7",
            "catalog/log/+0000000000000000007",
            "catalog/log/0000000000000000000a",
            "catalog/logs/00000000000000000007",
        ] {
            assert_eq!(parse_log_record(key), None, "{key}");
        }
        for key in [
            "data/a/b/c/x.parquet",
            "data/a/b/c/00.parquet",
            "data",
            "other/000000000000000000000000000000ab.parquet",
        ] {
            assert_eq!(parse_segment(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn folders_are_safe_and_distinct(names in proptest::collection::hash_set(any::<String>(), 1..20), long in ".{190,400}") {
            let mut seen = HashMap::new();
            for name in names.iter().chain([&long]) {
                let folder = folder(name);
                prop_assert!(folder.len() <= 200 && !folder.is_empty());
                prop_assert!(folder.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.%~".contains(&b)), "{}", folder);
                prop_assert!(!folder.starts_with('.') && !folder.ends_with('.'));
                prop_assert_eq!(seen.insert(folder, name), None);
            }
        }
    }
}
