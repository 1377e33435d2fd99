//! A reader of chunks, written after the description of the formats and used by tests alone.
use tidelake_catalog::model::histogram::{CUSTOM_BUCKETS_SCHEMA, ResetHint};
use tidelake_catalog::model::{Histogram, Span, is_stale};

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bit(&mut self) -> bool {
        let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
        self.at += 1;
        bit == 1
    }

    fn bits(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |value, _| value << 1 | u64::from(self.bit()))
    }

    fn float(&mut self) -> f64 {
        f64::from_bits(self.bits(64))
    }

    fn uvarint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.bits(8);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn varint(&mut self) -> i64 {
        let value = self.uvarint();
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }

    /// How many ones come before a zero, at most `most`.
    fn ones(&mut self, most: usize) -> usize {
        (0..most).take_while(|_| self.bit()).count()
    }

    fn signed(&mut self, width: u32) -> i64 {
        let value = self.bits(width);
        if (1..64).contains(&width) && value > 1 << (width - 1) {
            value as i64 - (1 << width)
        } else {
            value as i64
        }
    }

    fn varbit_uint(&mut self) -> u64 {
        let width = [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8)];
        self.bits(width)
    }

    fn varbit_int(&mut self) -> i64 {
        let width = [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8)];
        self.signed(width)
    }

    fn xor(&mut self, state: &mut (u64, u32, u32)) -> f64 {
        if self.bit() {
            if self.bit() {
                state.1 = self.bits(5) as u32;
                let count = match self.bits(6) as u32 {
                    0 => 64,
                    count => count,
                };
                state.2 = 64 - state.1 - count;
            }
            state.0 ^= self.bits(64 - state.1 - state.2) << state.2;
        }
        f64::from_bits(state.0)
    }

    fn spans(&mut self) -> Vec<Span> {
        let count = self.varbit_uint();
        let span = |reader: &mut Self| {
            let length = reader.varbit_uint() as u32;
            Span {
                length,
                offset: reader.varbit_int() as i32,
            }
        };
        (0..count).map(|_| span(self)).collect()
    }
}

/// The samples of a chunk of floats.
pub fn floats(bytes: &[u8]) -> Vec<(i64, f64)> {
    let count = u16::from_be_bytes([bytes[0], bytes[1]]);
    let mut reader = Reader {
        bytes: &bytes[2..],
        at: 0,
    };
    let (mut time, mut distance, mut value) = (0i64, 0i64, (0, 0, 0));
    let mut out = Vec::new();
    for number in 0..count {
        match number {
            0 => {
                time = reader.varint();
                value.0 = reader.bits(64);
                out.push((time, f64::from_bits(value.0)));
                continue;
            }
            1 => distance = reader.uvarint() as i64,
            _ => {
                let width = [0, 14, 17, 20, 64][reader.ones(4)];
                distance = distance.wrapping_add(reader.signed(width));
            }
        }
        time = time.wrapping_add(distance);
        out.push((time, reader.xor(&mut value)));
    }
    out
}

/// The samples of a chunk of histograms, with what the chunk says of resets.
pub fn histograms(bytes: &[u8]) -> Vec<(i64, Histogram)> {
    let count = u16::from_be_bytes([bytes[0], bytes[1]]);
    let mut reader = Reader {
        bytes: &bytes[3..],
        at: 0,
    };
    let mut layout = Histogram {
        zero_threshold: match reader.bits(8) {
            0 => 0.0,
            255 => reader.float(),
            power => 2f64.powi(power as i32 - 244),
        },
        schema: reader.varbit_int() as i32,
        positive_spans: reader.spans(),
        negative_spans: reader.spans(),
        ..Histogram::default()
    };
    if layout.schema == CUSTOM_BUCKETS_SCHEMA {
        let bounds = reader.varbit_uint();
        layout.custom_values = (0..bounds)
            .map(|_| match reader.varbit_uint() {
                0 => reader.float(),
                thousandths => (thousandths - 1) as f64 / 1000.0,
            })
            .collect();
    }
    let length = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
    let (positive, negative) = (
        length(&layout.positive_spans),
        length(&layout.negative_spans),
    );
    let mut states = vec![(0u64, 0u32, 0u32); 3 + positive + negative];
    let (mut time, mut distance) = (0i64, 0i64);
    let mut out = Vec::new();
    for number in 0..count {
        if number == 0 {
            time = reader.varbit_int();
            states
                .iter_mut()
                .for_each(|state| state.0 = reader.bits(64));
        } else {
            distance += reader.varbit_int();
            time += distance;
            for at in 0..states.len() {
                if at == 3 && is_stale(f64::from_bits(states[2].0)) {
                    break;
                }
                reader.xor(&mut states[at]);
            }
        }
        let values: Vec<f64> = states.iter().map(|state| f64::from_bits(state.0)).collect();
        let reset_hint = match (bytes[2], number) {
            (0b1100_0000, _) => ResetHint::Gauge,
            (0b1000_0000, 0) => ResetHint::Yes,
            (_, 0) => ResetHint::Unknown,
            _ => ResetHint::No,
        };
        let histogram = match is_stale(values[2]) {
            true => Histogram {
                sum: values[2],
                ..Histogram::default()
            },
            false => Histogram {
                count: values[0],
                zero_count: values[1],
                sum: values[2],
                positive_counts: values[3..3 + positive].to_vec(),
                negative_counts: values[3 + positive..].to_vec(),
                reset_hint,
                ..layout.clone()
            },
        };
        out.push((time, histogram));
    }
    out
}
