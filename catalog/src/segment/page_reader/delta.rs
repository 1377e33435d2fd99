//! Differences between neighbours, packed: Parquet's DELTA_BINARY_PACKED.

use parquet::errors::ParquetError;

use super::damaged;
use super::page_header::{varint, zigzag};

/// Numbers that are unpacked at a time; each miniblock has a multiple of it.
const STEP: usize = 32;

/// Numbers, one after the other.
pub struct Delta<'a> {
    bytes: &'a [u8],
    miniblocks: usize,
    miniblock_values: usize,
    /// Numbers that are not unpacked yet; the first is not packed.
    left: usize,
    /// The number before the next one; at the start the first one itself.
    last: u64,
    is_at_start: bool,
    /// Of the block: what is added to each difference, and the bits of each miniblock to come.
    min: u64,
    widths: &'a [u8],
    /// Of the miniblock: bits of a difference, and how many are not unpacked yet.
    width: u8,
    packed: usize,
    /// Differences that were unpacked, and how many of them are used up.
    step: [u64; STEP],
    used: usize,
}

impl<'a> Delta<'a> {
    pub fn new(mut bytes: &'a [u8]) -> Result<Self, ParquetError> {
        let block_values = next_varint(&mut bytes)?;
        let miniblocks = next_varint(&mut bytes)?;
        let values = next_varint(&mut bytes)?;
        let first = zigzag(next_varint(&mut bytes)?);
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let miniblock_values = size(block_values.checked_div(miniblocks).unwrap_or(0));
        if miniblock_values == 0
            || !miniblock_values.is_multiple_of(STEP)
            || block_values % miniblocks != 0
        {
            return Err(damaged(format!(
                "a page has {miniblocks} miniblocks in a block of {block_values} differences"
            )));
        }
        Ok(Self {
            bytes,
            miniblocks: size(miniblocks),
            miniblock_values,
            left: size(values),
            last: first as u64,
            is_at_start: true,
            min: 0,
            widths: &[],
            width: 0,
            packed: 0,
            step: [0; STEP],
            used: STEP,
        })
    }

    /// Goes past numbers.
    pub fn skip(&mut self, mut count: usize) -> Result<(), ParquetError> {
        if count > 0 && self.is_at_start {
            self.start()?;
            count -= 1;
        }
        while count > 0 {
            if self.used == STEP {
                // What is repeated need not be unpacked.
                let whole = count.min(self.packed).min(self.left) / STEP * STEP;
                if self.width == 0 && whole > 0 {
                    self.last = self.last.wrapping_add(self.min.wrapping_mul(whole as u64));
                    self.packed -= whole;
                    self.left -= whole;
                    count -= whole;
                    continue;
                }
                self.unpack()?;
            }
            let part = count.min(STEP - self.used);
            let sum = self.step[self.used..self.used + part]
                .iter()
                .fold(0, |sum: u64, difference| sum.wrapping_add(*difference));
            self.last = self
                .last
                .wrapping_add(sum)
                .wrapping_add(self.min.wrapping_mul(part as u64));
            self.used += part;
            count -= part;
        }
        Ok(())
    }

    /// Fills `out` with what `of` makes of the numbers.
    pub fn read<T>(
        &mut self,
        mut out: &mut [T],
        of: impl Fn(u64) -> T,
    ) -> Result<(), ParquetError> {
        if self.is_at_start && !out.is_empty() {
            self.start()?;
            out[0] = of(self.last);
            out = &mut out[1..];
        }
        while !out.is_empty() {
            if self.used == STEP {
                self.unpack()?;
            }
            let part = out.len().min(STEP - self.used);
            let (filled, rest) = out.split_at_mut(part);
            let (mut last, min) = (self.last, self.min);
            for (place, difference) in filled.iter_mut().zip(&self.step[self.used..]) {
                last = last.wrapping_add(min).wrapping_add(*difference);
                *place = of(last);
            }
            self.last = last;
            self.used += part;
            out = rest;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), ParquetError> {
        self.left = self.left.checked_sub(1).ok_or_else(too_few)?;
        self.is_at_start = false;
        Ok(())
    }

    /// Unpacks the next differences.
    fn unpack(&mut self) -> Result<(), ParquetError> {
        if self.left == 0 {
            return Err(too_few());
        }
        if self.packed == 0 {
            self.next_miniblock()?;
        }
        let wanted = self.left.min(STEP);
        let width = usize::from(self.width);
        // The last differences of a page may lack the bits that make them a whole step.
        let len = (STEP * width / 8).min(self.bytes.len());
        if len * 8 < wanted * width {
            return Err(too_few());
        }
        let (bytes, rest) = self.bytes.split_at(len);
        unpack(self.width, bytes, &mut self.step);
        self.bytes = rest;
        self.packed -= STEP;
        // What comes after the last number is no number.
        if wanted < STEP {
            self.step.copy_within(..wanted, STEP - wanted);
        }
        self.used = STEP - wanted;
        self.left -= wanted;
        Ok(())
    }

    fn next_miniblock(&mut self) -> Result<(), ParquetError> {
        if self.widths.is_empty() {
            self.min = zigzag(next_varint(&mut self.bytes)?) as u64;
            let (widths, rest) = self
                .bytes
                .split_at_checked(self.miniblocks)
                .ok_or_else(too_few)?;
            (self.widths, self.bytes) = (widths, rest);
        }
        let (width, rest) = self.widths.split_first().ok_or_else(too_few)?;
        if *width > 64 {
            return Err(damaged(format!("differences of a page have {width} bits")));
        }
        (self.width, self.widths) = (*width, rest);
        self.packed = self.miniblock_values;
        Ok(())
    }
}

fn too_few() -> ParquetError {
    damaged("a page has fewer numbers than its header says")
}

fn next_varint(bytes: &mut &[u8]) -> Result<u64, ParquetError> {
    let (number, len) = varint(bytes)?;
    *bytes = &bytes[len..];
    Ok(number)
}

/// Unpacks numbers of `width` bits; beyond the end of `bytes` all bits are zero.
fn unpack(width: u8, bytes: &[u8], out: &mut [u64; STEP]) {
    let mut padded = [0; STEP * 8];
    let bytes = if bytes.len() < STEP * usize::from(width) / 8 {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    } else {
        bytes
    };
    // For each width a function of its own, in which all shifts are constants.
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_width::<$width>(bytes, out),)*
                _ => out.fill(0),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        64);
}

fn unpack_width<const WIDTH: usize>(bytes: &[u8], out: &mut [u64; STEP]) {
    // Once checked, no other index is.
    let bytes = &bytes[..STEP * WIDTH / 8];
    let mask = u64::MAX >> (64 - WIDTH);
    macro_rules! unpack {
        ($($number:literal)*) => {
            $(
                let (word, shift) = const { ($number * WIDTH / 64, $number * WIDTH % 64) };
                let mut bits = word_at(bytes, word) >> shift;
                if const { $number * WIDTH % 64 + WIDTH > 64 } {
                    bits |= word_at(bytes, word + 1) << (64 - shift);
                }
                out[$number] = bits & mask;
            )*
        };
    }
    unpack!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
}

/// The eight bytes of a word, or the four that there are of the last one.
#[inline(always)]
fn word_at(bytes: &[u8], word: usize) -> u64 {
    let bytes = &bytes[8 * word..];
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(bytes), _) => u64::from_le_bytes(*bytes),
        (None, Some(bytes)) => u64::from(u32::from_le_bytes(*bytes)),
        (None, None) => 0,
    }
}
