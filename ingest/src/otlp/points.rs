//! Data points: numbers, histograms, exponential histograms and summaries.
//!
//! The attributes of a point are copied behind the key of its metric as they stand. What is there
//! then names the series, or, with one more number, each of the several series of the point.

use tidelake_catalog::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use tidelake_catalog::model::{Histogram, ResetHint, STALE_NAN_BITS};

use super::buckets::layout;
use super::decode::{DecodeError, Metric, PointLabels, Points, Request};
use super::exemplars::Exemplars;
use super::value::{MAX_ATTRIBUTES, too_many};
use crate::protobuf::{Fields, Value, WireError, zigzag};
use crate::remote_write::histogram::check;
use crate::series_registry::Spelling;

/// The flag of a point that marks the end of its series.
const NO_RECORDED_VALUE: u64 = 1;
/// Width of the zero bucket, as Prometheus sets it whatever the sender says.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Lowest and highest scale that a histogram keeps; higher ones are merged down.
const MIN_SCALE: i64 = -4;
const MAX_SCALE: i64 = 8;
/// Buckets of one histogram. Senders have some hundred.
const MAX_BUCKETS: usize = 65_536;

/// Which of the series of a point.
#[derive(Debug, Clone, Copy)]
enum Part {
    Sum = 1,
    Count,
    Bucket,
    Quantile,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Bucket => "_bucket",
            Self::Quantile => "",
        }
    }
}

/// The numbers of the fields that have others in other kinds of points.
#[derive(Clone, Copy)]
struct Numbers {
    attributes: u8,
    flags: u32,
}

const OF_NUMBER: Numbers = Numbers {
    attributes: 7,
    flags: 8,
};
const OF_SUMMARY: Numbers = OF_NUMBER;
const OF_HISTOGRAM: Numbers = Numbers {
    attributes: 9,
    flags: 10,
};
const OF_EXPONENTIAL: Numbers = Numbers {
    attributes: 1,
    flags: 10,
};

/// What all points have.
#[derive(Debug, Clone, Copy, Default)]
struct Common {
    time: u64,
    start: u64,
    flags: u64,
}

impl Common {
    fn is_stale(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    fn or_stale(&self, value: f64) -> f64 {
        match self.is_stale() {
            true => f64::from_bits(STALE_NAN_BITS),
            false => value,
        }
    }

    fn time_ms(&self) -> i64 {
        millis(self.time)
    }
}

/// Nanoseconds to milliseconds, the rest cut off.
pub(super) fn millis(nanos: u64) -> i64 {
    nanos as i64 / 1_000_000
}

fn fixed64(value: Value<'_>, what: &str) -> Result<u64, WireError> {
    value.double(what).map(f64::to_bits)
}

impl Request<'_> {
    pub(super) fn data_points<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        data: &'b [u8],
    ) -> Result<(), DecodeError> {
        let mut labels = PointLabels::new();
        let mut fields = Fields::new(data);
        while let Some((number, value)) = fields.next()? {
            if number != 1 {
                continue;
            }
            let point = value.bytes("a data point")?;
            self.count_point();
            labels.clear();
            self.key.clear();
            // Label fields of remote write begin with another byte.
            self.key.push(0);
            self.key.extend_from_slice(&metric.key);
            let before = self.samples.refusals();
            match metric.points {
                Points::Gauge | Points::Sum => self.number(metric, &mut labels, point)?,
                Points::Histogram => self.histogram(metric, &mut labels, point)?,
                Points::Exponential => self.exponential(metric, &mut labels, point)?,
                Points::Summary => self.summary(metric, &mut labels, point)?,
            }
            // A point has several series, and is refused once.
            self.samples.merge_refusals(before);
            if self.samples.is_out_of_memory() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the time of a point; `false` if it is too old.
    fn begin(&mut self, metric: &mut Metric<'_, '_>, common: Common) -> bool {
        metric.resource.observe(common.time);
        let time = common.time_ms();
        if time < self.rules.oldest.time {
            metric.expired = (metric.expired.0 + 1, time);
            return false;
        }
        true
    }

    /// Reads what all points have, and gives the other fields to `read`.
    #[inline]
    fn fields<'b>(
        &mut self,
        point: &'b [u8],
        numbers: Numbers,
        labels: &mut PointLabels<'b>,
        mut read: impl FnMut(u32, Value<'b>) -> Result<(), WireError>,
    ) -> Result<Common, WireError> {
        let mut common = Common::default();
        let mut fields = Fields::new(point);
        loop {
            let start = fields.position();
            let Some((field, value)) = fields.next()? else {
                return Ok(common);
            };
            match field {
                2 => common.start = fixed64(value, "a point's start time")?,
                3 => common.time = fixed64(value, "a point's time")?,
                _ if field == u32::from(numbers.attributes) => {
                    value.bytes("an attribute")?;
                    // With those that follow: series are named by their bytes as they stand.
                    fields.run_of_short(numbers.attributes);
                    let run = point.get(start..fields.position()).unwrap_or_default();
                    self.key.extend_from_slice(run);
                    if labels.attributes.len() >= MAX_ATTRIBUTES {
                        return Err(too_many());
                    }
                    labels.attributes.push(run);
                }
                _ if field == numbers.flags => common.flags = value.varint("a point's flags")?,
                _ => read(field, value)?,
            }
        }
    }

    fn number<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        point: &'b [u8],
    ) -> Result<(), DecodeError> {
        let (mut number, mut has_exemplars) = (0.0, false);
        let common = self.fields(point, OF_NUMBER, labels, |field, value| {
            match field {
                4 => number = value.double("a point's value")?,
                5 => has_exemplars = true,
                6 => number = fixed64(value, "a point's value")? as i64 as f64,
                _ => {}
            }
            Ok(())
        })?;
        if !self.begin(metric, common) {
            return Ok(());
        }
        let time = common.time_ms();
        if !self.samples.sample(common.or_stale(number), time) {
            return Ok(());
        }
        self.samples.started(millis(common.start));
        // Exemplars of gauges have no meaning.
        if has_exemplars && metric.points == Points::Sum {
            Exemplars::of(point, 5).put_all(self, time)?;
        }
        let spelling = Spelling::of(&self.key);
        self.end_series(metric, labels, spelling, "", None)
    }

    fn summary<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        point: &'b [u8],
    ) -> Result<(), DecodeError> {
        let (mut count, mut sum) = (0, 0.0);
        let common = self.fields(point, OF_SUMMARY, labels, |field, value| {
            match field {
                4 => count = fixed64(value, "a summary's count")?,
                5 => sum = value.double("a summary's sum")?,
                _ => {}
            }
            Ok(())
        })?;
        if !self.begin(metric, common) {
            return Ok(());
        }
        let of = Spelling::of(&self.key).to_bytes();
        self.part(metric, labels, &of, common, Part::Sum, None, sum)?;
        self.part(metric, labels, &of, common, Part::Count, None, count as f64)?;
        let mut fields = Fields::new(point);
        while let Some((field, value)) = fields.next()? {
            if field == 6 {
                let (quantile, value) = quantile(value.message("a quantile")?)?;
                let extra = Some(("quantile", quantile));
                self.part(metric, labels, &of, common, Part::Quantile, extra, value)?;
            }
        }
        Ok(())
    }

    /// One series of a point that has several.
    fn part<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        of: &[u8; 16],
        common: Common,
        part: Part,
        extra: Option<(&str, f64)>,
        value: f64,
    ) -> Result<(), DecodeError> {
        if self
            .samples
            .sample(common.or_stale(value), common.time_ms())
        {
            self.samples.started(millis(common.start));
        }
        self.end_part(metric, labels, of, part, extra)
    }

    fn end_part<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        of: &[u8; 16],
        part: Part,
        extra: Option<(&str, f64)>,
    ) -> Result<(), DecodeError> {
        if !self.samples.has_data() {
            return Ok(());
        }
        let mut key = [0; 26];
        key[1..17].copy_from_slice(of);
        key[17] = part as u8;
        let bits = extra.map_or(0, |(_, value)| value.to_bits());
        key[18..].copy_from_slice(&bits.to_le_bytes());
        let spelling = Spelling::of(&key);
        self.end_series(metric, labels, spelling, part.suffix(), extra)
    }

    fn histogram<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        point: &'b [u8],
    ) -> Result<(), DecodeError> {
        let (mut count, mut sum, mut has_exemplars) = (0, None, false);
        let (mut counts, mut bounds) = (Vec::new(), Vec::new());
        let common = self.fields(point, OF_HISTOGRAM, labels, |field, value| {
            match field {
                4 => count = fixed64(value, "a histogram's count")?,
                5 => sum = Some(value.double("a histogram's sum")?),
                6 => value.doubles("a histogram's bucket counts", &mut counts)?,
                7 => value.doubles("a histogram's bounds", &mut bounds)?,
                8 => has_exemplars = true,
                _ => {}
            }
            Ok(())
        })?;
        if !self.begin(metric, common) {
            return Ok(());
        }
        let counts = counts.iter().map(|count| count.to_bits());
        let mut exemplars = Exemplars::of(if has_exemplars { point } else { &[] }, 8);
        if self.rules.settings.custom_buckets {
            let built = custom_buckets(common, count, sum, counts, bounds);
            return self.native(metric, labels, common, built, exemplars);
        }
        let of = Spelling::of(&self.key).to_bytes();
        if let Some(sum) = sum {
            self.part(metric, labels, &of, common, Part::Sum, None, sum)?;
        }
        self.part(metric, labels, &of, common, Part::Count, None, count as f64)?;
        let mut below = 0u64;
        for (bound, count_of) in bounds.into_iter().zip(counts) {
            below = below.wrapping_add(count_of);
            // Exemplars come in the order of the buckets.
            exemplars.put_up_to(bound, self, common.time_ms())?;
            let extra = Some(("le", bound));
            let value = below as f64;
            self.part(metric, labels, &of, common, Part::Bucket, extra, value)?;
        }
        exemplars.put_all(self, common.time_ms())?;
        let extra = Some(("le", f64::INFINITY));
        let value = count as f64;
        self.part(metric, labels, &of, common, Part::Bucket, extra, value)
    }

    fn exponential<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        point: &'b [u8],
    ) -> Result<(), DecodeError> {
        let (mut sent, mut has_exemplars) = (Exponential::default(), false);
        let common = self.fields(point, OF_EXPONENTIAL, labels, |field, value| {
            match field {
                4 => sent.count = fixed64(value, "a histogram's count")?,
                5 => sent.sum = value.double("a histogram's sum")?,
                6 => sent.scale = i64::from(zigzag(value.varint("a histogram's scale")?) as i32),
                7 => sent.zero_count = fixed64(value, "a histogram's zero count")?,
                8 => sent.positive.read(value.message("buckets")?)?,
                9 => sent.negative.read(value.message("buckets")?)?,
                11 => has_exemplars = true,
                _ => {}
            }
            Ok(())
        })?;
        if !self.begin(metric, common) {
            return Ok(());
        }
        let exemplars = Exemplars::of(if has_exemplars { point } else { &[] }, 11);
        self.native(metric, labels, common, sent.build(common), exemplars)
    }

    /// A point that is a native histogram.
    fn native<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        labels: &mut PointLabels<'b>,
        common: Common,
        built: Result<Histogram, String>,
        exemplars: Exemplars<'_>,
    ) -> Result<(), DecodeError> {
        let checked = built.and_then(|histogram| check(&histogram).map(|()| histogram));
        let mut histogram = match checked {
            Ok(histogram) => histogram,
            Err(error) => {
                let error = format!("a data point of {}: {error}", metric.shown());
                self.samples.refuse(error);
                return Ok(());
            }
        };
        if metric.is_delta() {
            histogram.reset_hint = ResetHint::Gauge;
        }
        let time = common.time_ms();
        if !self.samples.histogram(histogram, time)? {
            return Ok(());
        }
        self.samples.started(millis(common.start));
        exemplars.put_all(self, time)?;
        let spelling = Spelling::of(&self.key);
        self.end_series(metric, labels, spelling, "", None)
    }
}

fn quantile(mut fields: Fields<'_>) -> Result<(f64, f64), WireError> {
    let mut found = (0.0, 0.0);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => found.0 = value.double("a quantile")?,
            2 => found.1 = value.double("a quantile's value")?,
            _ => {}
        }
    }
    Ok(found)
}

/// The end of a series of histograms.
fn stale(schema: i32) -> Histogram {
    Histogram {
        schema,
        sum: f64::from_bits(STALE_NAN_BITS),
        ..Histogram::default()
    }
}

/// A histogram with explicit bounds as a native one with custom buckets.
fn custom_buckets(
    common: Common,
    count: u64,
    sum: Option<f64>,
    counts: impl ExactSizeIterator<Item = u64>,
    mut bounds: Vec<f64>,
) -> Result<Histogram, String> {
    if common.is_stale() {
        return Ok(stale(CUSTOM_BUCKETS_SCHEMA));
    }
    // The last bucket has no bound, whether or not it is said.
    while bounds.last() == Some(&f64::INFINITY) {
        bounds.pop();
    }
    // Without buckets all is in the one that has no bounds.
    let buckets = match counts.len() {
        0 if bounds.is_empty() => layout([count], 0, 0, 0)?,
        found if found > MAX_BUCKETS => return Err(too_many_buckets(found)),
        _ => layout(counts, 0, 0, 0)?,
    };
    agree(count, buckets.total, sum.unwrap_or_default())?;
    Ok(Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: count as f64,
        sum: sum.unwrap_or_default(),
        positive_spans: buckets.spans,
        positive_counts: buckets.counts,
        custom_values: bounds,
        ..Histogram::default()
    })
}

fn too_many_buckets(found: usize) -> String {
    format!("a histogram has {found} buckets, and may have {MAX_BUCKETS}")
}

/// Observations of NaN are counted but lie in no bucket.
fn agree(count: u64, in_buckets: u128, sum: f64) -> Result<(), String> {
    let agrees = match sum.is_nan() {
        true => in_buckets <= u128::from(count),
        false => in_buckets == u128::from(count),
    };
    match agrees {
        true => Ok(()),
        false => Err(format!(
            "a histogram's count is {count}, but its buckets have {in_buckets} observations"
        )),
    }
}

/// An exponential histogram as sent.
#[derive(Debug, Default)]
struct Exponential {
    count: u64,
    sum: f64,
    scale: i64,
    zero_count: u64,
    positive: Side,
    negative: Side,
}

/// Consecutive buckets above or below zero.
#[derive(Debug, Default)]
struct Side {
    offset: i64,
    counts: Vec<u64>,
    /// Counts in the message, those beyond the limit included.
    found: usize,
}

impl Side {
    fn read(&mut self, mut fields: Fields<'_>) -> Result<(), WireError> {
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => self.offset = i64::from(zigzag(value.varint("an offset")?) as i32),
                2 => value.varints("bucket counts", |count| {
                    self.found += 1;
                    if self.counts.len() < MAX_BUCKETS {
                        self.counts.push(count);
                    }
                })?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Exponential {
    fn build(self, common: Common) -> Result<Histogram, String> {
        if self.scale < MIN_SCALE {
            return Err(format!(
                "a histogram has the scale {}; the lowest that is taken is {MIN_SCALE}",
                self.scale
            ));
        }
        let found = self.positive.found.max(self.negative.found);
        if found > MAX_BUCKETS {
            return Err(too_many_buckets(found));
        }
        let schema = self.scale.min(MAX_SCALE);
        if common.is_stale() {
            return Ok(stale(schema as i32));
        }
        let scale_down = (self.scale - schema) as u32;
        // The bucket above 1 has the index 0 there and 1 here.
        let lay = |side: Side| layout(side.counts, side.offset, scale_down, 1);
        let (positive, negative) = (lay(self.positive)?, lay(self.negative)?);
        let in_buckets = u128::from(self.zero_count) + positive.total + negative.total;
        agree(self.count, in_buckets, self.sum)?;
        Ok(Histogram {
            schema: schema as i32,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: positive.spans,
            positive_counts: positive.counts,
            negative_spans: negative.spans,
            negative_counts: negative.counts,
            ..Histogram::default()
        })
    }
}
