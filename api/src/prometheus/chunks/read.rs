//! A reader of chunks, also of those that Prometheus writes: histograms with counts that are
//! integers.
//!
//! Bytes come from files and other servers: whatever they are, the answer is samples or an error,
//! and memory is bounded by the size of the chunk.
use tidelake_catalog::model::histogram::{CUSTOM_BUCKETS_SCHEMA, ResetHint};
use tidelake_catalog::model::{Histogram, Span, is_stale};

/// The bytes are no chunk of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk is damaged, or written by a later version")]
pub struct Damaged;

/// Widths of numbers by the ones in front of them.
const VARBIT: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
const TIME: [u32; 5] = [0, 14, 17, 20, 64];

struct Reader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: u32) -> Option<u64> {
        let (mut value, mut left) = (0u64, count);
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let there = 8 - (self.at % 8) as u32;
            let take = left.min(there);
            let part = u64::from(byte >> (there - take)) & ((1 << take) - 1);
            value = value << take | part;
            self.at += take as usize;
            left -= take;
        }
        Some(value)
    }

    fn bit(&mut self) -> Option<bool> {
        Some(self.bits(1)? == 1)
    }

    fn float(&mut self) -> Option<f64> {
        self.bits(64).map(f64::from_bits)
    }

    fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// One of some widths, by how many ones come before a zero.
    fn width(&mut self, widths: &[u32]) -> Option<u32> {
        let mut ones = 0;
        while ones + 1 < widths.len() && self.bit()? {
            ones += 1;
        }
        widths.get(ones).copied()
    }

    fn signed(&mut self, width: u32) -> Option<i64> {
        let value = self.bits(width)?;
        Some(match width {
            1..64 if value > 1 << (width - 1) => value as i64 - (1 << width),
            _ => value as i64,
        })
    }

    fn varbit_uint(&mut self) -> Option<u64> {
        let width = self.width(&VARBIT)?;
        self.bits(width)
    }

    fn varbit_int(&mut self) -> Option<i64> {
        let width = self.width(&VARBIT)?;
        self.signed(width)
    }

    fn spans(&mut self) -> Option<Vec<Span>> {
        let count = self.varbit_uint()?;
        let mut spans = Vec::new();
        for _ in 0..count {
            let length = u32::try_from(self.varbit_uint()?).ok()?;
            let offset = i32::try_from(self.varbit_int()?).ok()?;
            spans.push(Span { offset, length });
        }
        Some(spans)
    }

    /// The layout that all histograms of a chunk have.
    fn layout(&mut self) -> Option<Histogram> {
        let mut layout = Histogram {
            zero_threshold: match self.bits(8)? {
                0 => 0.0,
                255 => self.float()?,
                power => 2f64.powi(power as i32 - 244),
            },
            schema: i32::try_from(self.varbit_int()?).ok()?,
            positive_spans: self.spans()?,
            negative_spans: self.spans()?,
            ..Histogram::default()
        };
        if layout.schema == CUSTOM_BUCKETS_SCHEMA {
            for _ in 0..self.varbit_uint()? {
                layout.custom_values.push(match self.varbit_uint()? {
                    0 => self.float()?,
                    thousandths => (thousandths - 1) as f64 / 1000.0,
                });
            }
        }
        Some(layout)
    }
}

/// A float that is read as what changed since the previous one.
#[derive(Debug, Clone, Copy, Default)]
struct Xor {
    bits: u64,
    before: u32,
    after: u32,
}

impl Xor {
    fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }

    fn next(&mut self, reader: &mut Reader<'_>) -> Option<f64> {
        if reader.bit()? {
            if reader.bit()? {
                self.before = reader.bits(5)? as u32;
                let count = match reader.bits(6)? as u32 {
                    0 => 64,
                    count => count,
                };
                self.after = 64u32.checked_sub(self.before + count)?;
            }
            self.bits ^= reader.bits(64 - self.before - self.after)? << self.after;
        }
        Some(self.value())
    }
}

/// A number that is read as the change of its change.
#[derive(Debug, Clone, Copy, Default)]
struct Delta {
    value: i64,
    change: i64,
}

impl Delta {
    fn next(&mut self, reader: &mut Reader<'_>) -> Option<i64> {
        self.change = self.change.wrapping_add(reader.varbit_int()?);
        self.value = self.value.wrapping_add(self.change);
        Some(self.value)
    }
}

/// How many samples there are, and what stands behind `head` bytes.
fn open(bytes: &[u8], head: usize) -> Option<(u16, Reader<'_>)> {
    let count = u16::from_be_bytes(*bytes.first_chunk::<2>()?);
    let bytes = bytes.get(head..)?;
    Some((count, Reader { bytes, at: 0 }))
}

/// The samples of a chunk of floats.
///
/// # Errors
/// If it is none.
pub fn floats(bytes: &[u8]) -> Result<Vec<(i64, f64)>, Damaged> {
    read_floats(bytes).ok_or(Damaged)
}

fn read_floats(bytes: &[u8]) -> Option<Vec<(i64, f64)>> {
    let (count, mut reader) = open(bytes, 2)?;
    let (mut time, mut change, mut value) = (0i64, 0i64, Xor::default());
    let mut out = Vec::new();
    for number in 0..count {
        match number {
            0 => {
                time = reader.varint()?;
                value.bits = reader.bits(64)?;
                out.push((time, value.value()));
                continue;
            }
            1 => change = reader.uvarint()? as i64,
            _ => {
                let width = reader.width(&TIME)?;
                change = change.wrapping_add(reader.signed(width)?);
            }
        }
        time = time.wrapping_add(change);
        out.push((time, value.next(&mut reader)?));
    }
    Some(out)
}

/// Buckets that some spans have. Each takes a bit of the chunk at least, so that few bytes cannot
/// ask for much memory.
fn buckets(layout: &Histogram, bytes: &[u8]) -> Option<(usize, usize)> {
    let length = |spans: &[Span]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
    let (above, below) = (
        length(&layout.positive_spans),
        length(&layout.negative_spans),
    );
    if above + below > 8 * bytes.len() as u64 {
        return None;
    }
    Some((usize::try_from(above).ok()?, usize::try_from(below).ok()?))
}

/// What a chunk says of a counter reset before its histogram of a number.
fn reset_hint(bytes: &[u8], number: u16) -> ResetHint {
    match (
        bytes.get(2).copied().unwrap_or_default() & 0b1100_0000,
        number,
    ) {
        (0b1100_0000, _) => ResetHint::Gauge,
        (0b1000_0000, 0) => ResetHint::Yes,
        (_, 0) => ResetHint::Unknown,
        _ => ResetHint::No,
    }
}

fn marker(sum: f64) -> Histogram {
    Histogram {
        sum,
        ..Histogram::default()
    }
}

/// The samples of a chunk of histograms whose counts are floats.
///
/// # Errors
/// If it is none.
pub fn histograms(bytes: &[u8]) -> Result<Vec<(i64, Histogram)>, Damaged> {
    read_histograms(bytes).ok_or(Damaged)
}

fn read_histograms(bytes: &[u8]) -> Option<Vec<(i64, Histogram)>> {
    let (count, mut reader) = open(bytes, 3)?;
    let layout = reader.layout()?;
    let (above, below) = buckets(&layout, bytes)?;
    let mut numbers = vec![Xor::default(); 3 + above + below];
    let mut time = Delta::default();
    let mut out = Vec::new();
    for number in 0..count {
        if number == 0 {
            time.value = reader.varbit_int()?;
            for number in &mut numbers {
                number.bits = reader.bits(64)?;
            }
        } else {
            time.next(&mut reader)?;
            for at in 0..numbers.len() {
                if at == 3 && is_stale(numbers[2].value()) {
                    break;
                }
                numbers[at].next(&mut reader)?;
            }
        }
        let sum = numbers[2].value();
        let counts = |from: usize, count: usize| {
            let counts = numbers.iter().skip(from).take(count);
            counts.map(|count| count.value()).collect()
        };
        let histogram = match is_stale(sum) {
            true => marker(sum),
            false => Histogram {
                count: numbers[0].value(),
                zero_count: numbers[1].value(),
                sum,
                positive_counts: counts(3, above),
                negative_counts: counts(3 + above, below),
                reset_hint: reset_hint(bytes, number),
                ..layout.clone()
            },
        };
        out.push((time.value, histogram));
    }
    Some(out)
}

/// The samples of a chunk of histograms whose counts are integers, and those of buckets what they
/// are more than the bucket before.
///
/// # Errors
/// If it is none.
pub fn integer_histograms(bytes: &[u8]) -> Result<Vec<(i64, Histogram)>, Damaged> {
    read_integer_histograms(bytes).ok_or(Damaged)
}

fn read_integer_histograms(bytes: &[u8]) -> Option<Vec<(i64, Histogram)>> {
    let (samples, mut reader) = open(bytes, 3)?;
    let layout = reader.layout()?;
    let (above, below) = buckets(&layout, bytes)?;
    let [mut time, mut count, mut zeros] = [Delta::default(); 3];
    let mut sum = Xor::default();
    let mut deltas = vec![Delta::default(); above + below];
    let mut out = Vec::new();
    for number in 0..samples {
        if number == 0 {
            time.value = reader.varbit_int()?;
            count.value = reader.varbit_uint()? as i64;
            zeros.value = reader.varbit_uint()? as i64;
            sum.bits = reader.bits(64)?;
            for delta in &mut deltas {
                delta.value = reader.varbit_int()?;
            }
        } else {
            time.next(&mut reader)?;
            count.next(&mut reader)?;
            zeros.next(&mut reader)?;
            sum.next(&mut reader)?;
            if !is_stale(sum.value()) {
                for delta in &mut deltas {
                    delta.next(&mut reader)?;
                }
            }
        }
        let counts = |deltas: &[Delta]| {
            let sums = deltas.iter().scan(0i64, |sum, delta| {
                *sum = sum.wrapping_add(delta.value);
                Some(*sum as f64)
            });
            sums.collect()
        };
        let histogram = match is_stale(sum.value()) {
            true => marker(sum.value()),
            false => Histogram {
                count: count.value as u64 as f64,
                zero_count: zeros.value as u64 as f64,
                sum: sum.value(),
                positive_counts: counts(&deltas[..above]),
                negative_counts: counts(&deltas[above..]),
                reset_hint: reset_hint(bytes, number),
                ..layout.clone()
            },
        };
        out.push((time.value, histogram));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_samples_or_an_error(bytes: Vec<u8>, count in 0u8..200) {
            let bytes = [&[0, count, 0], &bytes[..]].concat();
            let _ = (floats(&bytes), histograms(&bytes), integer_histograms(&bytes));
        }
    }

    #[test]
    fn few_bytes_do_not_ask_for_much_memory() {
        // A span of 2^32 - 1 buckets.
        let mut bits = super::super::bits::Bits::after(&[0, 1, 0]);
        bits.write(0, 8);
        bits.write_varbit_int(0);
        bits.write_varbit_uint(1);
        bits.write_varbit_uint(u64::from(u32::MAX));
        bits.write_varbit_int(0);
        bits.write_varbit_uint(0);
        let bytes = bits.into_bytes();
        assert_eq!(histograms(&bytes), Err(Damaged));
        assert_eq!(integer_histograms(&bytes), Err(Damaged));
    }
}
