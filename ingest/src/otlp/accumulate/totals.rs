//! Points that can be added: numbers, histograms and exponential histograms.

use crate::otlp::output::Output;
use crate::protobuf::{Fields, Value, WireError, zigzag};

/// Buckets of a side of an exponential histogram; a wider one is scaled down, as SDKs do it.
const MAX_BUCKETS: usize = 160;
/// Buckets of a histogram that is taken.
const MAX_READ: usize = 65_536;

/// Fields of a point, its attributes and exemplars among them.
const MAX_FIELDS: usize = 8192;

const NUMBER: u32 = 7;
const HISTOGRAM: u32 = 9;

/// A data point, taken apart as far as it changes.
#[derive(Debug)]
pub(super) struct Point<'b> {
    pub(super) time: u64,
    pub(super) start: u64,
    /// Whether it marks the end of its series.
    pub(super) is_end: bool,
    pub(super) attributes: Vec<&'b [u8]>,
    pub(super) total: Total,
    /// Fields that stay as they are.
    rest: Vec<&'b [u8]>,
}

/// What a point counts, or what all points of a series together do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    Integer(i64),
    Float(f64),
    Histogram {
        count: u64,
        sum: Option<f64>,
        counts: Vec<u64>,
        /// The bounds, as they stand in the message.
        bounds: Vec<u8>,
    },
    Exponential(Exponential),
}

/// An exponential histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exponential {
    count: u64,
    sum: Option<f64>,
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
}

/// Consecutive buckets on one side of zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Side {
    offset: i64,
    counts: Vec<u64>,
}

fn fixed64(value: Value<'_>) -> Result<u64, WireError> {
    value.double("a number of a data point").map(f64::to_bits)
}

impl<'b> Point<'b> {
    pub(super) fn read(kind: u32, message: &'b [u8]) -> Result<Self, WireError> {
        let attributes_at = match kind {
            NUMBER => 7,
            HISTOGRAM => 9,
            _ => 1,
        };
        let mut point = Self {
            time: 0,
            start: 0,
            is_end: false,
            attributes: Vec::new(),
            total: match kind {
                NUMBER => Total::Float(0.0),
                HISTOGRAM => Total::Histogram {
                    count: 0,
                    sum: None,
                    counts: Vec::new(),
                    bounds: Vec::new(),
                },
                _ => Total::Exponential(Exponential::default()),
            },
            rest: Vec::new(),
        };
        let mut fields = Fields::new(message);
        loop {
            let begin = fields.position();
            let Some((number, value)) = fields.next()? else {
                return Ok(point);
            };
            let field = message.get(begin..fields.position()).unwrap_or_default();
            if point.rest.len() >= MAX_FIELDS {
                let error = format!("a data point has more than {MAX_FIELDS} fields");
                return Err(WireError(error));
            }
            if number == attributes_at {
                point.attributes.push(value.bytes("an attribute")?);
                point.rest.push(field);
                continue;
            }
            match number {
                2 => point.start = fixed64(value)?,
                3 => {
                    point.time = fixed64(value)?;
                    point.rest.push(field);
                }
                _ if point.total.read(number, value)? => {}
                _ => {
                    if (kind == NUMBER && number == 8) || (kind != NUMBER && number == 10) {
                        point.is_end = value.varint("a point's flags")? & 1 != 0;
                    }
                    point.rest.push(field);
                }
            }
        }
    }

    /// Its fields, in no order.
    pub(super) fn write(&self, out: &mut Output) {
        for field in &self.rest {
            out.raw(field);
        }
        if self.start != 0 {
            out.fixed64(2, self.start);
        }
        self.total.write(out);
    }
}

impl Total {
    /// What a point counts.
    pub(super) fn of(point: &Point<'_>) -> Self {
        let mut total = point.total.clone();
        if let Self::Exponential(histogram) = &mut total {
            histogram.fit();
        }
        total
    }

    /// Makes a point the sum.
    pub(super) fn put(&self, point: &mut Point<'_>) {
        point.total = self.clone();
    }

    /// Bytes of its buckets.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Integer(_) | Self::Float(_) => 0,
            Self::Histogram { counts, bounds, .. } => 8 * counts.len() + bounds.len(),
            Self::Exponential(h) => 8 * (h.positive.counts.len() + h.negative.counts.len()),
        }
    }

    /// Takes a field that is a part of it; `false` if it is none.
    fn read(&mut self, number: u32, value: Value<'_>) -> Result<bool, WireError> {
        match (self, number) {
            (this @ (Self::Integer(_) | Self::Float(_)), 4) => {
                *this = Self::Float(value.double("a point's value")?);
            }
            (this @ (Self::Integer(_) | Self::Float(_)), 6) => {
                *this = Self::Integer(fixed64(value)? as i64);
            }
            (Self::Histogram { count, .. }, 4) => *count = fixed64(value)?,
            (Self::Histogram { sum, .. }, 5) => *sum = Some(value.double("a sum")?),
            (Self::Histogram { counts, .. }, 6) => {
                let mut more = Vec::new();
                value.doubles("bucket counts", &mut more)?;
                counts.extend(more.into_iter().map(f64::to_bits));
            }
            (Self::Histogram { bounds, .. }, 7) => {
                let mut more = Vec::new();
                value.doubles("bounds", &mut more)?;
                bounds.extend(more.into_iter().flat_map(f64::to_le_bytes));
            }
            // Least and greatest values are not known of a sum.
            (Self::Histogram { .. }, 11 | 12) => {}
            (Self::Exponential(h), 4) => h.count = fixed64(value)?,
            (Self::Exponential(h), 5) => h.sum = Some(value.double("a sum")?),
            (Self::Exponential(h), 6) => h.scale = zigzag(value.varint("a scale")?) as i32,
            (Self::Exponential(h), 7) => h.zero_count = fixed64(value)?,
            (Self::Exponential(h), 8) => h.positive.read(value.message("buckets")?)?,
            (Self::Exponential(h), 9) => h.negative.read(value.message("buckets")?)?,
            (Self::Exponential(_), 12 | 13) => {}
            (Self::Exponential(h), 14) => h.zero_threshold = value.double("a threshold")?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::Integer(value) => out.fixed64(6, *value as u64),
            Self::Float(value) => out.fixed64(4, value.to_bits()),
            Self::Histogram {
                count,
                sum,
                counts,
                bounds,
            } => {
                out.fixed64(4, *count);
                if let Some(sum) = sum {
                    out.fixed64(5, sum.to_bits());
                }
                let packed: Vec<u8> = counts.iter().flat_map(|n| n.to_le_bytes()).collect();
                out.bytes(6, &packed);
                out.bytes(7, bounds);
            }
            Self::Exponential(histogram) => histogram.write(out),
        }
    }

    /// Adds what a point counts; `false` if the two do not fit.
    pub(super) fn add(&mut self, point: &Point<'_>) -> bool {
        match (self, &point.total) {
            (Self::Integer(total), Self::Integer(more)) => match total.checked_add(*more) {
                Some(sum) => *total = sum,
                None => return false,
            },
            (Self::Float(total), Self::Float(more)) => *total += more,
            (Self::Float(total), Self::Integer(more)) => *total += *more as f64,
            (this @ Self::Integer(_), Self::Float(more)) => {
                if let Self::Integer(total) = *this {
                    *this = Self::Float(total as f64 + more);
                }
            }
            (
                Self::Histogram {
                    count,
                    sum,
                    counts,
                    bounds,
                },
                Self::Histogram {
                    count: more,
                    sum: more_sum,
                    counts: more_counts,
                    bounds: more_bounds,
                },
            ) => {
                if *bounds != *more_bounds || counts.len() != more_counts.len() {
                    return false;
                }
                *count = count.saturating_add(*more);
                *sum = add_sums(*sum, *more_sum);
                for (count, more) in counts.iter_mut().zip(more_counts) {
                    *count = count.saturating_add(*more);
                }
            }
            (Self::Exponential(total), Self::Exponential(more)) => {
                if total.zero_threshold.to_bits() != more.zero_threshold.to_bits() {
                    return false;
                }
                total.add(more.clone());
            }
            _ => return false,
        }
        true
    }
}

/// A sum that is not said of all is not known of all.
fn add_sums(sum: Option<f64>, more: Option<f64>) -> Option<f64> {
    Some(sum? + more?)
}

impl Exponential {
    fn write(&self, out: &mut Output) {
        out.fixed64(4, self.count);
        if let Some(sum) = self.sum {
            out.fixed64(5, sum.to_bits());
        }
        out.zigzag(6, i64::from(self.scale));
        out.fixed64(7, self.zero_count);
        if self.zero_threshold != 0.0 {
            out.fixed64(14, self.zero_threshold.to_bits());
        }
        for (number, side) in [(8, &self.positive), (9, &self.negative)] {
            let began = out.begin(number);
            out.zigzag(1, side.offset);
            for count in &side.counts {
                out.varint(2, *count);
            }
            out.end(began);
        }
    }

    /// Scales down until each side has as many buckets as it may.
    fn fit(&mut self) {
        let sides = [&self.positive, &self.negative];
        let mut steps = 0;
        while sides
            .iter()
            .any(|side| side.width(steps) > MAX_BUCKETS as i64)
        {
            steps += 1;
        }
        self.scale_down(steps);
    }

    fn scale_down(&mut self, steps: u32) {
        self.scale = self.scale.saturating_sub_unsigned(steps);
        self.positive.scale_down(steps);
        self.negative.scale_down(steps);
    }

    fn add(&mut self, mut more: Self) {
        more.fit();
        let scale = self.scale.min(more.scale);
        let steps = |of: &Self| of.scale.abs_diff(scale);
        let (ours, theirs) = (steps(self), steps(&more));
        self.scale_down(ours);
        more.scale_down(theirs);
        let mut steps = 0;
        let sides = [
            (&self.positive, &more.positive),
            (&self.negative, &more.negative),
        ];
        while sides
            .iter()
            .any(|(a, b)| a.width_with(b, steps) > MAX_BUCKETS as i64)
        {
            steps += 1;
        }
        self.scale_down(steps);
        more.scale_down(steps);
        self.positive.add(&more.positive);
        self.negative.add(&more.negative);
        self.count = self.count.saturating_add(more.count);
        self.zero_count = self.zero_count.saturating_add(more.zero_count);
        self.sum = add_sums(self.sum, more.sum);
    }
}

impl Side {
    fn read(&mut self, mut fields: Fields<'_>) -> Result<(), WireError> {
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => self.offset = i64::from(zigzag(value.varint("an offset")?) as i32),
                2 => value.varints("bucket counts", |count| {
                    if self.counts.len() <= MAX_READ {
                        self.counts.push(count);
                    }
                })?,
                _ => {}
            }
        }
        if self.counts.len() > MAX_READ {
            let error = format!("a histogram has more than {MAX_READ} buckets");
            return Err(WireError(error));
        }
        // Empty buckets at the ends would only make it wide.
        let last = self.counts.iter().rposition(|&count| count > 0);
        self.counts.truncate(last.map_or(0, |last| last + 1));
        let first = self.counts.iter().position(|&count| count > 0).unwrap_or(0);
        self.counts.drain(..first);
        self.offset += first as i64;
        Ok(())
    }

    /// First index and the one after the last, scaled down.
    fn range(&self, steps: u32) -> Option<(i64, i64)> {
        let last = self.offset
            + (self.counts.len() as i64)
                .checked_sub(1)
                .filter(|n| *n >= 0)?;
        let steps = steps.min(63);
        Some((self.offset >> steps, (last >> steps) + 1))
    }

    fn width(&self, steps: u32) -> i64 {
        self.range(steps).map_or(0, |(first, end)| end - first)
    }

    fn width_with(&self, other: &Self, steps: u32) -> i64 {
        match (self.range(steps), other.range(steps)) {
            (Some((a, b)), Some((c, d))) => b.max(d) - a.min(c),
            (one, two) => one.or(two).map_or(0, |(first, end)| end - first),
        }
    }

    fn scale_down(&mut self, steps: u32) {
        let Some((first, end)) = self.range(steps).filter(|_| steps > 0) else {
            return;
        };
        let mut counts = vec![0u64; usize::try_from(end - first).unwrap_or(0)];
        for (place, count) in self.counts.iter().enumerate() {
            let index = ((self.offset + place as i64) >> steps.min(63)) - first;
            if let Some(sum) = counts.get_mut(index as usize) {
                *sum = sum.saturating_add(*count);
            }
        }
        (self.offset, self.counts) = (first, counts);
    }

    /// Adds another of the same scale. Together they have no more buckets than they may.
    fn add(&mut self, other: &Self) {
        let Some((first, end)) = other.range(0) else {
            return;
        };
        let Some((our_first, our_end)) = self.range(0) else {
            self.clone_from(other);
            return;
        };
        let low = first.min(our_first);
        let width = usize::try_from(end.max(our_end) - low).unwrap_or(0);
        let mut counts = vec![0u64; width];
        for side in [&*self, other] {
            let start = usize::try_from(side.offset - low).unwrap_or(0);
            for (sum, count) in counts.iter_mut().skip(start).zip(&side.counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        (self.offset, self.counts) = (low, counts);
    }
}
