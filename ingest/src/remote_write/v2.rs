//! Remote write 2.0: `io.prometheus.write.v2.Request`, as of 2.0-rc.4.
//!
//! Texts are in one table of symbols; series, exemplars and metadata refer to them by number. The
//! labels of a series are written out as those of 1.0 into memory that all series share, so that a
//! series is known by the same bytes whichever version brings it.
//!
//! References multiply: a body of a few kilobytes can name a long text a million times. What all
//! references of a body resolve to is bounded in proportion to the body.

use hashbrown::HashSet;
use tidelake_catalog::model::labels::METRIC_NAME;

use super::histogram::Dated;
use super::label_fields::{labels_of, push_label};
use super::samples::SamplesBuilder;
use super::{DecodeError, Metadata, MetricKind, WrittenSamples, histogram, metric_kind};
use crate::label_limits::LabelLimits;
use crate::protobuf::{Fields, Value};
use crate::retention::Oldest;
use crate::series_registry::{KnownSeries, SeriesRegistry};

/// Series after which others get a chance to add theirs.
const SERIES_PER_LOCK: usize = 1024;
/// Bytes that the references of a body may resolve to: so many for each byte of the body, and so
/// many more. Series have a few hundred bytes of labels and take thirty to eighty in the body.
const RESOLVED_PER_BYTE: usize = 8;
const RESOLVED_FREE: usize = 64 << 20;

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
    let mut request = Request {
        symbols: symbols(body)?,
        samples: SamplesBuilder::new(oldest, *limits, registry.memory()),
        resolvable: body
            .len()
            .saturating_mul(RESOLVED_PER_BYTE)
            .saturating_add(RESOLVED_FREE),
        references: Vec::new(),
        raw: Vec::new(),
        said: HashSet::new(),
    };
    let mut known = registry.read();
    let mut fields = Fields::new(body);
    let mut series = 0usize;
    while let Some((number, value)) = fields.next()? {
        if number == 5 {
            request.time_series(value.message("a time series")?, &known)?;
            series += 1;
            if series.is_multiple_of(SERIES_PER_LOCK) {
                known.bump();
            }
        }
    }
    drop(known);
    Ok(request.samples.finish(registry))
}

/// The table of symbols: it may stand behind those who refer to it.
fn symbols(body: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut symbols = Vec::new();
    let mut fields = Fields::new(body);
    while let Some((number, value)) = fields.next()? {
        if number == 4 {
            symbols.push(value.bytes("a symbol")?);
        }
    }
    Ok(symbols)
}

/// What a series says about its metric: numbers of a type and of two symbols.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Said {
    kind: u64,
    help: u64,
    unit: u64,
}

struct Request<'b> {
    symbols: Vec<&'b [u8]>,
    samples: SamplesBuilder,
    /// Bytes that references may still resolve to.
    resolvable: usize,
    /// Those of the present series: name, value, name, value.
    references: Vec<u64>,
    /// The labels of the present series as label fields of 1.0.
    raw: Vec<u8>,
    /// What was said of metrics by this request, with the symbol of the metric's name and whether
    /// it came with native histograms.
    said: HashSet<(u64, bool, Said)>,
}

impl<'b> Request<'b> {
    fn time_series(
        &mut self,
        mut fields: Fields<'b>,
        known: &KnownSeries<'_>,
    ) -> Result<(), DecodeError> {
        self.references.clear();
        let (mut floats, mut histograms, mut bad_histogram, mut said) = (false, false, None, None);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => value.varints("label references", |reference| {
                    self.references.push(reference)
                })?,
                2 => {
                    let (value, time, start_time) = sample(value.message("a sample")?)?;
                    if self.samples.sample(value, time) {
                        self.samples.started(start_time);
                    }
                    floats = true;
                }
                3 => {
                    match histogram::decode(value.message("a histogram")?)? {
                        Ok(Dated {
                            histogram,
                            time,
                            start_time,
                        }) => {
                            if self.samples.histogram(histogram, time)? {
                                self.samples.started(start_time);
                            }
                        }
                        Err(error) => bad_histogram = Some(error),
                    }
                    histograms = true;
                }
                4 => self.exemplar(value.message("an exemplar")?)?,
                5 => said = Some(metadata(value.message("metadata")?)?),
                // 6 was the created timestamp of a whole series until 2.0-rc.3.
                _ => {}
            }
        }
        if let Err(error) = self.resolve()? {
            self.samples.refuse_series(error);
            return Ok(());
        }
        if floats && histograms {
            let error = match labels_of(&self.raw, self.samples.limits())? {
                Ok(labels) => format!(
                    "series {labels} has float samples and histograms in one message; send them \
                     in two"
                ),
                Err(other) => other,
            };
            self.samples.refuse_series(error);
            return Ok(());
        }
        self.samples.refuse_parts(&self.raw, bad_histogram)?;
        if let Some(said) = said {
            self.metadata(said, histograms)?;
        }
        self.samples.end_raw_series(known, &self.raw)
    }

    /// Writes the labels of the present series out. The inner error refuses the series.
    fn resolve(&mut self) -> Result<Result<(), String>, DecodeError> {
        self.raw.clear();
        let (pairs, rest) = self.references.as_chunks::<2>();
        if !rest.is_empty() {
            return Ok(Err(format!(
                "a series has {} label references, which are no pairs of name and value",
                self.references.len()
            )));
        }
        for pair in pairs {
            let [Some(name), Some(value)] = pair.map(|reference| symbol(&self.symbols, reference))
            else {
                let [name, value] = pair;
                return Ok(Err(format!(
                    "a series refers to the symbols {name} and {value}, but there are {}",
                    self.symbols.len()
                )));
            };
            push_label(&mut self.raw, name, value);
            if self.raw.len() > self.resolvable {
                return Err(too_much());
            }
        }
        self.resolvable -= self.raw.len();
        Ok(Ok(()))
    }

    fn exemplar(&mut self, mut fields: Fields<'b>) -> Result<(), DecodeError> {
        let (mut references, mut exemplar, mut time) = (Vec::new(), 0.0, 0);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => value.varints("label references", |reference| references.push(reference))?,
                2 => exemplar = value.double("an exemplar's value")?,
                3 => time = value.varint("an exemplar's timestamp")? as i64,
                _ => {}
            }
        }
        let (pairs, rest) = references.as_chunks::<2>();
        if !rest.is_empty() {
            self.samples.refuse(format!(
                "an exemplar has {} label references, which are no pairs of name and value",
                references.len()
            ));
            return Ok(());
        }
        let mut labels = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let [Some(name), Some(value)] = pair.map(|reference| symbol(&self.symbols, reference))
            else {
                let [name, value] = pair;
                let error = format!(
                    "an exemplar refers to the symbols {name} and {value}, but there are {}",
                    self.symbols.len()
                );
                self.samples.refuse(error);
                return Ok(());
            };
            self.resolvable = self
                .resolvable
                .checked_sub(name.len() + value.len())
                .ok_or_else(too_much)?;
            labels.push((name, value));
        }
        self.samples.exemplar(&labels, exemplar, time)
    }

    /// Keeps what the present series says about its metric, each thing once.
    fn metadata(&mut self, said: Said, native: bool) -> Result<(), DecodeError> {
        let pairs = self.references.as_chunks::<2>().0;
        let is_name =
            |pair: &&[u64; 2]| symbol(&self.symbols, pair[0]) == Some(METRIC_NAME.as_bytes());
        let Some(&[_, name]) = pairs.iter().find(is_name) else {
            return Ok(());
        };
        if said == Said::default() || !self.said.insert((name, native, said)) {
            return Ok(());
        }
        // Symbol 0 is the empty text, for what is not said.
        let text = |reference: u64| {
            if reference == 0 {
                Some(&b""[..])
            } else {
                symbol(&self.symbols, reference)
            }
        };
        let (Some(name), Some(help), Some(unit)) = (
            symbol(&self.symbols, name),
            text(said.help),
            text(said.unit),
        ) else {
            let error = format!(
                "metadata refer to the symbols {} and {}, but there are {}",
                said.help,
                said.unit,
                self.symbols.len()
            );
            self.samples.refuse(error);
            return Ok(());
        };
        self.resolvable = self
            .resolvable
            .checked_sub(name.len() + help.len() + unit.len())
            .ok_or_else(too_much)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let kind = metric_kind(said.kind);
        self.samples.metadata(Metadata {
            family: family(&text(name), kind, native).to_owned(),
            kind,
            help: text(help),
            unit: text(unit),
        });
        Ok(())
    }
}

#[cold]
fn too_much() -> DecodeError {
    DecodeError(
        "its references to symbols resolve to far more than the body has; send it in smaller parts"
            .to_owned(),
    )
}

#[inline]
fn symbol<'b>(symbols: &[&'b [u8]], reference: u64) -> Option<&'b [u8]> {
    symbols.get(usize::try_from(reference).ok()?).copied()
}

/// The family that a series belongs to, of which metadata are kept: classic histograms and
/// summaries have several metrics each.
fn family(metric: &str, kind: MetricKind, native: bool) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram if !native => &["_bucket", "_sum", "_count"],
        MetricKind::GaugeHistogram if !native => &["_bucket", "_gsum", "_gcount"],
        MetricKind::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes
        .iter()
        .find_map(|suffix| metric.strip_suffix(suffix))
        .filter(|family| !family.is_empty())
        .unwrap_or(metric)
}

#[inline]
fn sample(mut fields: Fields<'_>) -> Result<(f64, i64, i64), DecodeError> {
    let (mut sample, mut time, mut start_time) = (0.0, 0, 0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => sample = value.double("a sample's value")?,
            2 => time = value.varint("a sample's timestamp")? as i64,
            3 => start_time = value.varint("a sample's start timestamp")? as i64,
            _ => {}
        }
    }
    Ok((sample, time, start_time))
}

fn metadata(mut fields: Fields<'_>) -> Result<Said, DecodeError> {
    let mut said = Said::default();
    let number = |value: Value<'_>| value.varint("metadata");
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => said.kind = number(value)?,
            3 => said.help = number(value)?,
            4 => said.unit = number(value)?,
            _ => {}
        }
    }
    Ok(said)
}
