//! Parquet's hybrid of runs and packed bits, which levels and positions in a dictionary have.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use parquet::errors::ParquetError;

use super::damaged;
use super::page_header::varint;

/// Numbers of up to 32 bits, one after the other.
pub struct Hybrid<'a> {
    bytes: &'a [u8],
    /// Bits of a number.
    width: usize,
    run: Run<'a>,
}

#[derive(Clone, Copy)]
enum Run<'a> {
    /// A number so many times.
    Repeat { number: u32, left: usize },
    /// Numbers side by side, from the one at a position on.
    Packed {
        bytes: &'a [u8],
        at: usize,
        left: usize,
    },
}

impl<'a> Hybrid<'a> {
    /// Numbers of `width` bits.
    pub fn new(bytes: &'a [u8], width: u8) -> Result<Self, ParquetError> {
        if width > 32 {
            return Err(damaged(format!("numbers of a page have {width} bits")));
        }
        Ok(Self {
            bytes,
            width: usize::from(width),
            run: Run::Repeat { number: 0, left: 0 },
        })
    }

    /// Goes past numbers.
    pub fn skip(&mut self, mut count: usize) -> Result<(), ParquetError> {
        while count > 0 {
            let part = self.left()?.min(count);
            self.advance(part);
            count -= part;
        }
        Ok(())
    }

    /// Fills `out` with what `of` makes of the numbers; `None` of any is an error.
    pub fn read<T: Copy>(
        &mut self,
        mut out: &mut [T],
        of: impl Fn(u32) -> Option<T>,
    ) -> Result<(), ParquetError> {
        let unknown = |number: u32| {
            damaged(format!(
                "a page refers to number {number} of its dictionary"
            ))
        };
        while !out.is_empty() {
            let part = self.left()?.min(out.len());
            let (filled, rest) = out.split_at_mut(part);
            match self.run {
                Run::Repeat { number, .. } => {
                    filled.fill(of(number).ok_or_else(|| unknown(number))?);
                }
                Run::Packed { bytes, at, .. } => {
                    let mask = (1u64 << self.width) - 1;
                    for (place, at) in filled.iter_mut().zip(at..) {
                        let bit = at * self.width;
                        let number = (word(bytes, bit / 8) >> (bit % 8) & mask) as u32;
                        *place = of(number).ok_or_else(|| unknown(number))?;
                    }
                }
            }
            self.advance(part);
            out = rest;
        }
        Ok(())
    }

    /// The next `count` numbers of one bit.
    pub fn bits(&mut self, count: usize) -> Result<Bits, ParquetError> {
        debug_assert_eq!(self.width, 1);
        if let Run::Repeat { number, left } = self.run_with_numbers()?
            && left >= count
        {
            self.advance(count);
            return Ok(if number > 0 { Bits::Set } else { Bits::Unset });
        }
        let mut bits = BooleanBufferBuilder::new(count);
        while bits.len() < count {
            let part = self.left()?.min(count - bits.len());
            match self.run {
                Run::Repeat { number, .. } => bits.append_n(part, number > 0),
                Run::Packed { bytes, at, .. } => bits.append_packed_range(at..at + part, bytes),
            }
            self.advance(part);
        }
        Ok(Bits::Some(bits.finish()))
    }

    fn run_with_numbers(&mut self) -> Result<Run<'a>, ParquetError> {
        self.left()?;
        Ok(self.run)
    }

    /// How many numbers are left of the run, at least one.
    fn left(&mut self) -> Result<usize, ParquetError> {
        loop {
            let (Run::Repeat { left, .. } | Run::Packed { left, .. }) = self.run;
            if left > 0 {
                return Ok(left);
            }
            self.next_run()?;
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.run {
            Run::Repeat { left, .. } => *left -= count,
            Run::Packed { at, left, .. } => {
                *at += count;
                *left -= count;
            }
        }
    }

    /// Takes bytes for it, so that there is an end.
    fn next_run(&mut self) -> Result<(), ParquetError> {
        let (header, len) = varint(self.bytes)?;
        let bytes = &self.bytes[len..];
        let count = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if header & 1 == 0 {
            let len = self.width.div_ceil(8);
            let number = bytes
                .get(..len)
                .ok_or_else(|| damaged("a run of a page has no number"))?;
            let number = number
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u32::from(*byte));
            self.run = Run::Repeat {
                number,
                left: count,
            };
            self.bytes = &bytes[len..];
        } else {
            // Eight numbers of so many bits are as many bytes.
            let len = count.saturating_mul(self.width);
            let packed = bytes
                .get(..len)
                .ok_or_else(|| damaged("a run of a page is longer than the page"))?;
            self.run = Run::Packed {
                bytes: packed,
                at: 0,
                left: count.saturating_mul(8),
            };
            self.bytes = &bytes[len..];
        }
        Ok(())
    }
}

/// A number of bits, most often all alike.
pub enum Bits {
    Set,
    Unset,
    Some(BooleanBuffer),
}

/// The eight bytes from a position on, zero beyond the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    if let Some(Some(word)) = bytes.get(at..).map(|bytes| bytes.first_chunk::<8>()) {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}
