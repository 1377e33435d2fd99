//! A chunk of floats: two bytes that count the samples, then bits. The first time and value stand
//! as they are; then the first distance, and for later times by how much the distance changed; of
//! values what changed.
use super::bits::{Bits, Xor, fits};

/// Widths of a changed distance, each with the bits that announce it.
const DISTANCES: [(u32, u64, u32); 3] = [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)];

/// A chunk that grows.
#[derive(Debug)]
pub struct XorChunk {
    bits: Bits,
    samples: u16,
    time: i64,
    distance: i64,
    value: Xor,
}

impl XorChunk {
    /// An empty chunk.
    pub fn new() -> Self {
        Self {
            bits: Bits::after(&[0, 0]),
            samples: 0,
            time: 0,
            distance: 0,
            value: Xor::new(0.0),
        }
    }

    /// Adds a sample, later than those before it. There must be less than 65,535.
    pub fn push(&mut self, time: i64, value: f64) {
        let distance = time.wrapping_sub(self.time);
        match self.samples {
            0 => {
                self.bits.write_varint(time);
                self.bits.write(value.to_bits(), 64);
                self.value = Xor::new(value);
            }
            1 => {
                self.bits.write_uvarint(distance as u64);
                self.value.write(&mut self.bits, value);
                self.distance = distance;
            }
            _ => {
                self.write_change(distance.wrapping_sub(self.distance));
                self.value.write(&mut self.bits, value);
                self.distance = distance;
            }
        }
        self.time = time;
        self.samples += 1;
    }

    fn write_change(&mut self, change: i64) {
        if change == 0 {
            return self.bits.write(0, 1);
        }
        match DISTANCES.iter().find(|(width, ..)| fits(change, *width)) {
            Some((width, prefix, prefix_width)) => {
                self.bits.write(*prefix, *prefix_width);
                self.bits.write(change as u64, *width);
            }
            None => {
                self.bits.write(0b1111, 4);
                self.bits.write(change as u64, 64);
            }
        }
    }

    /// The finished chunk.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.bits.into_bytes();
        if let Some(header) = bytes.first_chunk_mut::<2>() {
            *header = self.samples.to_be_bytes();
        }
        bytes
    }
}
