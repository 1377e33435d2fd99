//! OpenTelemetry metrics: `ExportMetricsServiceRequest`, already decompressed, into rows of a
//! metrics table, as Prometheus' receiver translates it.
//!
//! Messages are decoded by hand, straight into columns. A series is found by the bytes of its
//! attributes as they stand in the message, together with a hash of its resource, scope and
//! metric: neither names nor labels of a known series are built.
//!
//! A malformed message refuses the body. A data point that says what cannot be is refused alone
//! and named; the others are kept.
//!
//! In the order of the data: [`json`] (to protobuf), [`accumulate`] (deltas to sums), [`settings`],
//! [`decode`] (resources, scopes, metrics), `points` (data points), `value` (attributes), `labels`,
//! `names`, `buckets`, `exemplars`; `output` writes messages.

pub mod accumulate;
mod buckets;
mod decode;
mod exemplars;
pub mod json;
mod labels;
mod names;
mod output;
mod points;
pub mod settings;
#[cfg(test)]
mod testing;
mod value;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Rules, SaidMetrics, decode};
pub use settings::{Delta, Promotion, Settings, Strategy};

use crate::protobuf::WireError;

/// Why labels could not be built.
#[derive(Debug)]
enum Fault {
    /// The message is malformed: the body is refused.
    Malformed(WireError),
    /// They cannot be: what has them is refused.
    Refused(String),
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}
