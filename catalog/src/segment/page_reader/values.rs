//! The values of a page in any encoding, of which some are wanted.

use parquet::errors::ParquetError;

use super::damaged;
use super::delta::Delta;
use super::hybrid::Hybrid;
use super::page_header::PageEncoding;

/// A value of a column.
pub trait Value: Copy + Default {
    /// Bytes that it has in a page where it is plain; none if it is a bit there.
    const BYTES: usize;

    /// Out of the number that a page has for it.
    fn of(number: u64) -> Self;
}

/// The bits of a 64-bit number.
impl Value for u64 {
    const BYTES: usize = 8;

    fn of(number: u64) -> Self {
        number
    }
}

/// A small number that is kept in 32 bits.
impl Value for i8 {
    const BYTES: usize = 4;

    fn of(number: u64) -> Self {
        // Larger ones are damaged; this is no scale.
        Self::try_from(number as i32).unwrap_or(Self::MIN)
    }
}

impl Value for bool {
    const BYTES: usize = 0;

    fn of(number: u64) -> Self {
        number != 0
    }
}

/// The values of a page that are not null, one after the other.
pub enum Values<'a> {
    Plain {
        bytes: &'a [u8],
        at: usize,
    },
    /// The first byte of each value, then the second of each, and so on.
    Split {
        bytes: &'a [u8],
        at: usize,
    },
    Dictionary {
        positions: Hybrid<'a>,
        dictionary: &'a [u8],
    },
    Delta(Box<Delta<'a>>),
    /// Booleans.
    Bits {
        bytes: &'a [u8],
        at: usize,
    },
    /// Booleans.
    Runs(Hybrid<'a>),
}

impl<'a> Values<'a> {
    /// Values of the type `V`; `dictionary` has plain ones.
    pub fn new<V: Value>(
        encoding: PageEncoding,
        bytes: &'a [u8],
        dictionary: Option<&'a [u8]>,
    ) -> Result<Self, ParquetError> {
        match (encoding, V::BYTES) {
            (PageEncoding::Plain, 0) => Ok(Self::Bits { bytes, at: 0 }),
            (PageEncoding::Runs, 0) => {
                let bytes = with_length(bytes)?.0;
                Ok(Self::Runs(Hybrid::new(bytes, 1)?))
            }
            (PageEncoding::Plain, 1..) => Ok(Self::Plain { bytes, at: 0 }),
            (PageEncoding::Split, size @ 1..) if bytes.len().is_multiple_of(size) => {
                Ok(Self::Split { bytes, at: 0 })
            }
            (PageEncoding::Dictionary, 1..) => {
                let dictionary =
                    dictionary.ok_or_else(|| damaged("a page refers to no dictionary"))?;
                let (width, bytes) = bytes
                    .split_first()
                    .ok_or_else(|| damaged("a page has no positions in the dictionary"))?;
                Ok(Self::Dictionary {
                    positions: Hybrid::new(bytes, *width)?,
                    dictionary,
                })
            }
            (PageEncoding::Delta, 1..) => Ok(Self::Delta(Box::new(Delta::new(bytes)?))),
            _ => Err(damaged(format!(
                "a page has an encoding that does not fit its column: {encoding:?}"
            ))),
        }
    }

    /// Goes past values.
    pub fn skip(&mut self, count: usize) -> Result<(), ParquetError> {
        match self {
            // What is beyond the end is noticed when it is read.
            Self::Plain { at, .. } | Self::Split { at, .. } | Self::Bits { at, .. } => {
                *at = at.saturating_add(count);
                Ok(())
            }
            Self::Dictionary { positions, .. } => positions.skip(count),
            Self::Delta(delta) => delta.skip(count),
            Self::Runs(runs) => runs.skip(count),
        }
    }

    /// Fills `out` with the next values.
    pub fn read<V: Value>(&mut self, out: &mut [V]) -> Result<(), ParquetError> {
        let few = || damaged("a page has fewer values than its header says");
        let from_end = |at: usize| at.checked_add(out.len());
        match self {
            Self::Plain { bytes, at } => {
                let end = from_end(*at).ok_or_else(few)?;
                let wanted = bytes
                    .get(at.saturating_mul(V::BYTES)..end.saturating_mul(V::BYTES))
                    .ok_or_else(few)?;
                read_plain(wanted, out);
                *at = end;
            }
            Self::Split { bytes, at } => {
                let end = from_end(*at).ok_or_else(few)?;
                let count = bytes.len() / V::BYTES;
                if end > count {
                    return Err(few());
                }
                read_split(bytes, count, *at, out);
                *at = end;
            }
            Self::Dictionary {
                positions,
                dictionary,
            } => positions.read(out, |position| {
                let at = (position as usize).checked_mul(V::BYTES)?;
                let bytes = dictionary.get(at..)?.get(..V::BYTES)?;
                Some(V::of(number(bytes)))
            })?,
            Self::Delta(delta) => delta.read(out, V::of)?,
            Self::Bits { bytes, at } => {
                let end = from_end(*at).ok_or_else(few)?;
                if end > bytes.len().saturating_mul(8) {
                    return Err(few());
                }
                for (place, at) in out.iter_mut().zip(*at..) {
                    *place = V::of(u64::from(bytes[at / 8] >> (at % 8) & 1));
                }
                *at = end;
            }
            Self::Runs(runs) => runs.read(out, |bit| Some(V::of(u64::from(bit))))?,
        }
        Ok(())
    }
}

/// Bytes whose number is in the four bytes before them, and what follows.
pub fn with_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParquetError> {
    let cut = || damaged("the levels of a page are longer than the page");
    let (len, bytes) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    bytes.split_at_checked(len).ok_or_else(cut)
}

/// A number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    if let Some(number) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*number);
    }
    if let Some(number) = bytes.first_chunk::<4>() {
        return u64::from(u32::from_le_bytes(*number));
    }
    0
}

fn read_plain<V: Value>(bytes: &[u8], out: &mut [V]) {
    for (place, bytes) in out.iter_mut().zip(bytes.chunks_exact(V::BYTES)) {
        *place = V::of(number(bytes));
    }
}

/// Rows whose bytes are put together at a time, in steps that become vector instructions.
const LANES: usize = 16;

/// Reads of `count` split values those from `at` on, which there are as many of as `out` is long.
fn read_split<V: Value>(bytes: &[u8], count: usize, at: usize, out: &mut [V]) {
    let mut done = 0;
    if V::BYTES == 8 {
        let streams: [&[u8]; 8] =
            std::array::from_fn(|byte| &bytes[byte * count + at..][..out.len()]);
        for (number, places) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut lanes = [[0; LANES]; 8];
            for (lane, stream) in lanes.iter_mut().zip(&streams) {
                lane.copy_from_slice(&stream[number * LANES..][..LANES]);
            }
            for (place, number) in places.iter_mut().zip(joined(&lanes)) {
                *place = V::of(number);
            }
            done += LANES;
        }
    }
    for (place, at) in out[done..].iter_mut().zip(at + done..) {
        let number = (0..V::BYTES).rev().fold(0, |number, byte| {
            number << 8 | u64::from(bytes[byte * count + at])
        });
        *place = V::of(number);
    }
}

/// Numbers out of their bytes: pairs first, so that each step interleaves two vectors.
#[inline(always)]
fn joined(lanes: &[[u8; LANES]; 8]) -> [u64; LANES] {
    let mut pairs = [[0u16; LANES]; 4];
    for (pair, [low, high]) in pairs.iter_mut().zip(lanes.as_chunks::<2>().0) {
        for lane in 0..LANES {
            pair[lane] = u16::from(low[lane]) | u16::from(high[lane]) << 8;
        }
    }
    let mut quads = [[0u32; LANES]; 2];
    for (quad, [low, high]) in quads.iter_mut().zip(pairs.as_chunks::<2>().0) {
        for lane in 0..LANES {
            quad[lane] = u32::from(low[lane]) | u32::from(high[lane]) << 16;
        }
    }
    let mut numbers = [0u64; LANES];
    for lane in 0..LANES {
        numbers[lane] = u64::from(quads[0][lane]) | u64::from(quads[1][lane]) << 32;
    }
    numbers
}
