//! Prometheus remote write: protobuf bodies, already decompressed, into rows of a metrics table.
//!
//! Messages are decoded by hand, straight into columns. A series is found by the bytes of its label
//! fields as they stand in the message, so that the labels of a known series are never looked at.
//!
//! A malformed message refuses the body. A series that says what cannot be (no name, a label twice)
//! is refused alone and named; the others are kept.
//!
//! In the order of the data: [`v1`]
//! (`prometheus.WriteRequest`), [`v2`] (`io.prometheus.write.v2.Request`), `histogram` (native
//! histograms), `exemplar`, `label_fields` (labels), `samples` (columns).

mod exemplar;
pub(crate) mod histogram;
mod label_fields;
pub(crate) mod samples;
pub mod v1;
pub mod v2;

#[cfg(test)]
mod tests;

use tidelake_catalog::memory::{OutOfMemory, Reservation};

use crate::line_protocol::LineError;
use crate::protobuf::WireError;
use crate::rows::Rows;

/// Name of the column of float samples.
pub const VALUE_COLUMN: &str = "value";
/// Name of the column of native histograms.
pub const HISTOGRAM_COLUMN: &str = "histogram";

pub use tidelake_catalog::model::schema::{LABELS_COLUMN, START_TIME_COLUMN};

/// Messages listed at most; those beyond are only counted.
const MAX_ERRORS: usize = 1_000;
/// Characters of an error: it quotes labels, which may be long.
const MAX_ERROR_CHARS: usize = 512;

/// The body is no message of the version that it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a valid remote write message: {0}")]
pub struct DecodeError(pub(crate) String);

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self(error.0)
    }
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct WrittenSamples {
    /// Float samples in the column [`VALUE_COLUMN`], native histograms in [`HISTOGRAM_COLUMN`],
    /// when their counts began in [`START_TIME_COLUMN`]; a column that would be empty is left
    /// out. Series by their index in the registry that was given.
    pub rows: Rows,
    /// What the sender says about metric families.
    pub metadata: Vec<Metadata>,
    /// Exemplars of series that were kept, as rows of the exemplars table: columns
    /// [`VALUE_COLUMN`] and [`LABELS_COLUMN`]. Series by their index in the registry that was
    /// given.
    pub exemplars: Rows,
    /// Why series or histograms were refused, each naming its series; at most 1,000.
    pub errors: Vec<String>,
    /// The same of bodies that have lines: what can be said of one.
    pub line_errors: Vec<LineError>,
    /// Number of refusals, those included that are in neither list.
    pub refused: usize,
    /// Number of float samples in `rows`.
    pub samples: usize,
    /// Number of histograms in `rows`.
    pub histograms: usize,
    /// Why not all of the body was read: there is no memory for it now.
    pub out_of_memory: Option<OutOfMemory>,
    /// The memory of the rows.
    pub memory: Option<Reservation>,
    /// Whether series were refused because the registry is full: the sender may send them again
    /// later.
    pub registry_full: bool,
    /// Whether series were refused because the database has as many as it may.
    pub over_quota: bool,
}

impl WrittenSamples {
    /// Notes that something was refused.
    #[cold]
    pub(crate) fn refuse(&mut self, mut error: String) {
        self.refused += 1;
        if self.errors.len() + self.line_errors.len() < MAX_ERRORS {
            if let Some((cut, _)) = error.char_indices().nth(MAX_ERROR_CHARS) {
                error.truncate(cut);
            }
            self.errors.push(error);
        }
    }
}

/// What a sender says about a metric family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Name of the family: of the metric, without the suffixes of histograms and summaries.
    pub family: String,
    /// Its type.
    pub kind: MetricKind,
    /// What it means, in words.
    pub help: String,
    /// What it is counted in.
    pub unit: String,
}

pub use tidelake_catalog::MetricKind;

/// The type with a number of `prompb.MetricMetadata.MetricType`; unknown numbers are the unknown
/// type.
pub(crate) fn metric_kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}
