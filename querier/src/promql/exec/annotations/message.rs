//! Remarks as a message of Protocol Buffers, for another process.

use prost::Message;

use super::{Collector, Entry, Fixes, Kind};

/// A remark.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Remark {
    #[prost(bool, tag = "1")]
    is_warning: bool,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(uint32, tag = "3")]
    start: u32,
    #[prost(message, optional, tag = "4")]
    fixes: Option<FixesMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct FixesMessage {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(int64, tag = "2")]
    min_time: i64,
    #[prost(int64, tag = "3")]
    max_time: i64,
    #[prost(double, tag = "4")]
    min_bucket: f64,
    #[prost(double, tag = "5")]
    max_bucket: f64,
    #[prost(double, tag = "6")]
    max_difference: f64,
}

impl Collector {
    /// All remarks.
    pub fn remarks(&self) -> Vec<Remark> {
        let remark = |((kind, text), entry): (&(Kind, String), &Entry)| Remark {
            is_warning: *kind == Kind::Warning,
            text: text.clone(),
            start: entry.start,
            fixes: entry.fixes.as_ref().map(|fixes| FixesMessage {
                count: fixes.count,
                min_time: fixes.min_time,
                max_time: fixes.max_time,
                min_bucket: fixes.min_bucket,
                max_bucket: fixes.max_bucket,
                max_difference: fixes.max_difference,
            }),
        };
        self.entries.iter().map(remark).collect()
    }

    /// What another process remarked.
    pub fn of(remarks: Vec<Remark>) -> Self {
        let mut all = Self::default();
        for remark in remarks {
            let kind = match remark.is_warning {
                true => Kind::Warning,
                false => Kind::Info,
            };
            if !all.has_room(remark.text.len()) {
                continue;
            }
            let fixes = remark.fixes.map(|fixes| Fixes {
                count: fixes.count,
                min_time: fixes.min_time,
                max_time: fixes.max_time,
                min_bucket: fixes.min_bucket,
                max_bucket: fixes.max_bucket,
                max_difference: fixes.max_difference,
            });
            let start = remark.start;
            all.entries
                .insert((kind, remark.text), Entry { start, fixes });
        }
        all
    }
}
