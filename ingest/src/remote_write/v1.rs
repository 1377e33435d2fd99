//! Remote write 1.0: `prometheus.WriteRequest`, with the native histograms that Prometheus adds to
//! it.

use super::histogram::Dated;
use super::label_fields::label;
use super::samples::SamplesBuilder;
use super::{DecodeError, Metadata, MetricKind, WrittenSamples, histogram, metric_kind};
use crate::label_limits::LabelLimits;
use crate::protobuf::{Fields, Value};
use crate::retention::Oldest;
use crate::series_registry::{KnownSeries, SeriesRegistry};

/// Series after which others get a chance to add theirs.
const SERIES_PER_LOCK: usize = 1024;
/// Samples of one series after which they get a chance.
const SAMPLES_PER_LOCK: usize = 64 * 1024;

/// Reads a decompressed body into rows of the metrics table whose series the registry keeps.
/// Samples older than `oldest` are refused one by one, series beyond the limits of labels whole.
///
/// # Errors
/// If the body is not such a message; then nothing was registered.
pub fn decode(
    body: &[u8],
    registry: &SeriesRegistry,
    oldest: Oldest,
    limits: &LabelLimits,
) -> Result<WrittenSamples, DecodeError> {
    let mut samples = SamplesBuilder::new(oldest, *limits, registry.memory());
    let mut known = registry.read();
    let mut scratch = Vec::new();
    let mut fields = Fields::new(body);
    let mut series = 0usize;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                time_series(
                    value.bytes("a time series")?,
                    &mut samples,
                    &mut known,
                    &mut scratch,
                )?;
                series += 1;
                if samples.is_out_of_memory() {
                    break;
                }
                if series.is_multiple_of(SERIES_PER_LOCK) {
                    known.bump();
                }
            }
            3 => {
                let metadata = metadata(value.message("metadata")?)?;
                samples.metadata(metadata);
            }
            _ => {}
        }
    }
    drop(known);
    Ok(samples.finish(registry))
}

fn time_series(
    body: &[u8],
    samples: &mut SamplesBuilder,
    known: &mut KnownSeries<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut fields = Fields::new(body);
    // The label fields as they stand, which is one run of bytes in every message that anybody
    // sends. Only for a message that interrupts them are they copied together.
    let mut labels: &[u8] = fields.run_of_short(1);
    let mut labels_end = fields.position();
    scratch.clear();
    let mut bad_histogram = None;
    let mut count = 0usize;
    loop {
        let start = fields.position();
        let Some((number, value)) = fields.next()? else {
            break;
        };
        match number {
            1 => {
                value.bytes("a label")?;
                let end = fields.position();
                if scratch.is_empty() && (labels.is_empty() || labels_end == start) {
                    labels = &body[start - labels.len()..end];
                } else {
                    if scratch.is_empty() {
                        scratch.extend_from_slice(labels);
                    }
                    scratch.extend_from_slice(&body[start..end]);
                }
                labels_end = end;
            }
            2 => {
                let (value, time) = sample(value.message("a sample")?)?;
                samples.sample(value, time);
                count += 1;
                if count.is_multiple_of(SAMPLES_PER_LOCK) {
                    known.bump();
                    if samples.is_out_of_memory() {
                        return Ok(());
                    }
                }
            }
            3 => exemplar(value.message("an exemplar")?, samples)?,
            4 => match histogram::decode(value.message("a histogram")?)? {
                Ok(Dated {
                    histogram, time, ..
                }) => {
                    samples.histogram(histogram, time)?;
                }
                Err(error) => bad_histogram = Some(error),
            },
            _ => {}
        }
    }
    let raw: &[u8] = if scratch.is_empty() { labels } else { scratch };
    samples.refuse_parts(raw, bad_histogram)?;
    samples.end_raw_series(known, raw)
}

#[inline]
fn sample(mut fields: Fields<'_>) -> Result<(f64, i64), DecodeError> {
    let (mut sample, mut time) = (0.0, 0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => sample = value.double("a sample's value")?,
            2 => time = value.varint("a sample's timestamp")? as i64,
            _ => {}
        }
    }
    Ok((sample, time))
}

fn exemplar(mut fields: Fields<'_>, samples: &mut SamplesBuilder) -> Result<(), DecodeError> {
    let (mut labels, mut exemplar, mut time) = (Vec::new(), 0.0, 0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => labels.push(label(value)?),
            2 => exemplar = value.double("an exemplar's value")?,
            3 => time = value.varint("an exemplar's timestamp")? as i64,
            _ => {}
        }
    }
    samples.exemplar(&labels, exemplar, time)
}

fn metadata(mut fields: Fields<'_>) -> Result<Metadata, DecodeError> {
    let mut metadata = Metadata {
        family: String::new(),
        kind: MetricKind::Unknown,
        help: String::new(),
        unit: String::new(),
    };
    let text = |value: Value<'_>| {
        value
            .bytes("metadata")
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => metadata.kind = metric_kind(value.varint("a metric's type")?),
            2 => metadata.family = text(value)?,
            4 => metadata.help = text(value)?,
            5 => metadata.unit = text(value)?,
            _ => {}
        }
    }
    Ok(metadata)
}
