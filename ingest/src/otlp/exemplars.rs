//! Exemplars of a data point.

use std::borrow::Cow;
use std::fmt::Write;

use super::Fault;
use super::decode::{DecodeError, Request};
use super::points::millis;
use super::value::Attribute;
use crate::protobuf::{Fields, WireError};

/// Characters of all names and values of an exemplar, as in OpenMetrics and Prometheus.
const MAX_CHARS: usize = 128;

/// The exemplars of one data point, in their order, each read when it is its turn.
pub(super) struct Exemplars<'b> {
    fields: Fields<'b>,
    number: u32,
    /// The next one, if it was read already.
    next: Option<Exemplar<'b>>,
}

/// An exemplar, its attributes still as they are in the message.
#[derive(Default)]
struct Exemplar<'b> {
    value: f64,
    /// Nanoseconds since 1970; 0 is not said.
    time: u64,
    trace: &'b [u8],
    span: &'b [u8],
    attributes: Vec<Attribute<'b>>,
}

impl<'b> Exemplars<'b> {
    /// Those in a field of a data point. An exemplar without a value is left out.
    pub(super) fn of(point: &'b [u8], number: u32) -> Self {
        Self {
            fields: Fields::new(point),
            number,
            next: None,
        }
    }

    fn next(&mut self) -> Result<Option<Exemplar<'b>>, WireError> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        while let Some((field, value)) = self.fields.next()? {
            if field == self.number
                && let Some(found) = exemplar(value.message("an exemplar")?)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Adds all that are left to the present series, whose sample has this time.
    pub(super) fn put_all(
        mut self,
        request: &mut Request<'_>,
        sample_time: i64,
    ) -> Result<(), DecodeError> {
        while let Some(exemplar) = self.next()? {
            exemplar.put(request, sample_time)?;
        }
        Ok(())
    }

    /// Adds those up to the first one beyond a bound.
    pub(super) fn put_up_to(
        &mut self,
        bound: f64,
        request: &mut Request<'_>,
        sample_time: i64,
    ) -> Result<(), DecodeError> {
        while let Some(exemplar) = self.next()? {
            if exemplar.value > bound {
                self.next = Some(exemplar);
                break;
            }
            exemplar.put(request, sample_time)?;
        }
        Ok(())
    }
}

fn exemplar(mut fields: Fields<'_>) -> Result<Option<Exemplar<'_>>, WireError> {
    let (mut exemplar, mut has_value) = (Exemplar::default(), false);
    while let Some((field, value)) = fields.next()? {
        match field {
            2 => exemplar.time = value.double("an exemplar's time")?.to_bits(),
            3 => {
                exemplar.value = value.double("an exemplar's value")?;
                has_value = true;
            }
            4 => exemplar.span = value.bytes("a span id")?,
            5 => exemplar.trace = value.bytes("a trace id")?,
            6 => {
                exemplar.value = value.double("an exemplar's value")?.to_bits() as i64 as f64;
                has_value = true;
            }
            7 => Attribute::push(&mut exemplar.attributes, value)?,
            _ => {}
        }
    }
    Ok(has_value.then_some(exemplar))
}

impl Exemplar<'_> {
    /// Adds it to the present series. One that is older than what the table takes is left out:
    /// its sample is kept.
    fn put(self, request: &mut Request<'_>, sample_time: i64) -> Result<(), DecodeError> {
        let time = match millis(self.time) {
            0 => sample_time,
            time => time,
        };
        if time < request.rules.oldest.time {
            return Ok(());
        }
        let labels = match self.labels() {
            Ok(labels) => labels,
            Err(Fault::Malformed(error)) => return Err(error.into()),
            Err(Fault::Refused(error)) => {
                request
                    .samples
                    .remark(format!("an exemplar is left out: {error}"));
                return Ok(());
            }
        };
        let pairs: Vec<(&[u8], &[u8])> = labels
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        request.samples.exemplar(&pairs, self.value, time)?;
        Ok(())
    }

    /// The ids, and the attributes if there is room for all of them.
    fn labels(&self) -> Result<Vec<(&str, Cow<'_, str>)>, Fault> {
        let mut labels = Vec::new();
        for (name, id) in [("trace_id", self.trace), ("span_id", self.span)] {
            if id.iter().any(|&byte| byte != 0) && id.len() <= 16 {
                labels.push((name, Cow::Owned(hex(id))));
            }
        }
        let ids = labels.len();
        for attribute in &self.attributes {
            labels.push((attribute.name()?, attribute.text()?));
        }
        let chars: usize = labels
            .iter()
            .map(|(name, value)| name.chars().count() + value.chars().count())
            .sum();
        if chars > MAX_CHARS {
            labels.truncate(ids);
        }
        Ok(labels)
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
