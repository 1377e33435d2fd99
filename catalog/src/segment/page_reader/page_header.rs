//! The header of a page: a struct in Thrift's compact protocol.

use parquet::errors::ParquetError;

use super::damaged;

/// What a page is and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// Bytes of the page inflated, without the header.
    pub inflated_bytes: usize,
    /// Bytes of the page in the file, without the header.
    pub bytes: usize,
    /// What kind of page.
    pub kind: PageKind,
}

/// The kinds of pages that columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Values that others refer to, as they are.
    Dictionary {
        /// How many.
        values: usize,
    },
    /// Levels and values, compressed together.
    Data {
        /// How many, with nulls.
        values: usize,
        /// How the values are encoded.
        encoding: PageEncoding,
    },
    /// Levels, which are not compressed, and values.
    DataV2 {
        /// How many, with nulls.
        values: usize,
        /// How the values are encoded.
        encoding: PageEncoding,
        /// Bytes of the definition levels.
        level_bytes: usize,
        /// Whether the values are compressed, if the column is.
        is_compressed: bool,
    },
}

/// How the values of a page are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEncoding {
    /// As they are.
    Plain,
    /// Positions in the dictionary.
    Dictionary,
    /// Runs, of booleans.
    Runs,
    /// Differences.
    Delta,
    /// First the first byte of each value, then the second of each.
    Split,
}

impl PageEncoding {
    fn of(number: i64) -> Result<Self, ParquetError> {
        match number {
            0 => Ok(Self::Plain),
            2 | 8 => Ok(Self::Dictionary),
            3 => Ok(Self::Runs),
            5 => Ok(Self::Delta),
            9 => Ok(Self::Split),
            _ => Err(damaged(format!("a page has the encoding {number}"))),
        }
    }
}

impl PageHeader {
    /// The header that bytes begin with, and how many bytes it has.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), ParquetError> {
        let mut reader = Compact { bytes, at: 0 };
        let header = reader.page_header()?;
        Ok((header, reader.at))
    }
}

/// Structs in structs of a header; those of the format are two deep.
const MAX_DEPTH: usize = 16;

const RLE: i64 = 3;

/// Reads Thrift's compact protocol.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The header of a field: its number, and the type of its value.
struct Field {
    number: i64,
    kind: u8,
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const STRUCT: u8 = 12;

impl Compact<'_> {
    fn page_header(&mut self) -> Result<PageHeader, ParquetError> {
        let (mut kind, mut inflated, mut bytes, mut page) = (None, None, None, None);
        let mut last = 0;
        while let Some(field) = self.field(last)? {
            last = field.number;
            match (field.number, field.kind) {
                (1, 3..=6) => kind = Some(self.integer()?),
                (2, 3..=6) => inflated = Some(self.size()?),
                (3, 3..=6) => bytes = Some(self.size()?),
                (5, STRUCT) => page = Some((0, self.data_page()?)),
                (7, STRUCT) => page = Some((2, self.dictionary_page()?)),
                (8, STRUCT) => page = Some((3, self.data_page_v2()?)),
                (_, kind) => self.skip(kind, MAX_DEPTH)?,
            }
        }
        match (kind, inflated, bytes, page) {
            (Some(kind), Some(inflated_bytes), Some(bytes), Some((of, page))) if kind == of => {
                Ok(PageHeader {
                    inflated_bytes,
                    bytes,
                    kind: page,
                })
            }
            _ => Err(damaged("the header of a page is incomplete")),
        }
    }

    fn data_page(&mut self) -> Result<PageKind, ParquetError> {
        let (mut values, mut encoding, mut levels) = (None, None, RLE);
        let mut last = 0;
        while let Some(field) = self.field(last)? {
            last = field.number;
            match (field.number, field.kind) {
                (1, 3..=6) => values = Some(self.size()?),
                (2, 3..=6) => encoding = Some(PageEncoding::of(self.integer()?)?),
                (3, 3..=6) => levels = self.integer()?,
                (_, kind) => self.skip(kind, MAX_DEPTH)?,
            }
        }
        match (values, encoding, levels) {
            (Some(values), Some(encoding), RLE) => Ok(PageKind::Data { values, encoding }),
            _ => Err(damaged("the header of a data page is incomplete")),
        }
    }

    fn dictionary_page(&mut self) -> Result<PageKind, ParquetError> {
        let (mut values, mut encoding) = (None, None);
        let mut last = 0;
        while let Some(field) = self.field(last)? {
            last = field.number;
            match (field.number, field.kind) {
                (1, 3..=6) => values = Some(self.size()?),
                (2, 3..=6) => encoding = Some(PageEncoding::of(self.integer()?)?),
                (_, kind) => self.skip(kind, MAX_DEPTH)?,
            }
        }
        // Old writers say that a dictionary is encoded as one, and mean plain.
        match (values, encoding) {
            (Some(values), Some(PageEncoding::Plain | PageEncoding::Dictionary)) => {
                Ok(PageKind::Dictionary { values })
            }
            _ => Err(damaged("the header of a dictionary is incomplete")),
        }
    }

    fn data_page_v2(&mut self) -> Result<PageKind, ParquetError> {
        let (mut values, mut encoding) = (None, None);
        let (mut level_bytes, mut repetition_bytes, mut is_compressed) = (None, 0, true);
        let mut last = 0;
        while let Some(field) = self.field(last)? {
            last = field.number;
            match (field.number, field.kind) {
                (1, 3..=6) => values = Some(self.size()?),
                (4, 3..=6) => encoding = Some(PageEncoding::of(self.integer()?)?),
                (5, 3..=6) => level_bytes = Some(self.size()?),
                (6, 3..=6) => repetition_bytes = self.size()?,
                (7, TRUE | FALSE) => is_compressed = field.kind == TRUE,
                (_, kind) => self.skip(kind, MAX_DEPTH)?,
            }
        }
        match (values, encoding, level_bytes, repetition_bytes) {
            (Some(values), Some(encoding), Some(level_bytes), 0) => Ok(PageKind::DataV2 {
                values,
                encoding,
                level_bytes,
                is_compressed,
            }),
            _ => Err(damaged("the header of a data page is incomplete")),
        }
    }

    /// The next field of a struct whose last one had the number `last`.
    fn field(&mut self, last: i64) -> Result<Option<Field>, ParquetError> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        if kind == 0 {
            return Ok(None);
        }
        let number = match i64::from(byte >> 4) {
            0 => self.integer()?,
            more => last.saturating_add(more),
        };
        Ok(Some(Field { number, kind }))
    }

    /// Skips a value; each step takes a byte at least, except for elements of no bytes, which there
    /// are none of.
    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), ParquetError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(damaged("the header of a page is too deep"));
        };
        match kind {
            TRUE | FALSE => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.advance(8)?,
            8 => {
                let len = self.varint()?;
                self.advance(len)?;
            }
            9 | 10 => {
                let byte = self.byte()?;
                let len = match byte >> 4 {
                    15 => self.varint()?,
                    len => u64::from(len),
                };
                for _ in 0..len {
                    self.skip_element(byte & 0x0f, depth)?;
                }
            }
            11 => {
                let len = self.varint()?;
                if len > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..len {
                        self.skip_element(kinds >> 4, depth)?;
                        self.skip_element(kinds & 0x0f, depth)?;
                    }
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some(field) = self.field(last)? {
                    last = field.number;
                    self.skip(field.kind, depth)?;
                }
            }
            _ => return Err(damaged("the header of a page has a field of no type")),
        }
        Ok(())
    }

    /// Skips an element of a list or map: a boolean is a byte there.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), ParquetError> {
        match kind {
            TRUE | FALSE => self.advance(1),
            kind => self.skip(kind, depth),
        }
    }

    fn advance(&mut self, len: u64) -> Result<(), ParquetError> {
        if len > (self.bytes.len() - self.at) as u64 {
            return Err(ends());
        }
        self.at += len as usize;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ParquetError> {
        let byte = *self.bytes.get(self.at).ok_or_else(ends)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, ParquetError> {
        let (number, len) = varint(&self.bytes[self.at..])?;
        self.at += len;
        Ok(number)
    }

    fn integer(&mut self) -> Result<i64, ParquetError> {
        Ok(zigzag(self.varint()?))
    }

    fn size(&mut self) -> Result<usize, ParquetError> {
        let size = self.integer()?;
        usize::try_from(size).map_err(|_| damaged(format!("a page has the size {size}")))
    }
}

fn ends() -> ParquetError {
    damaged("a page ends before it should")
}

/// The number that bytes begin with, seven bits in a byte, and how many bytes it has.
pub fn varint(bytes: &[u8]) -> Result<(u64, usize), ParquetError> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, at + 1));
        }
    }
    Err(ends())
}

/// A number whose sign is in its lowest bit.
pub fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
