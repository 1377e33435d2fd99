//! The dictionary of a series index: for each label its values, ascending, and which series have
//! them.
//!
//! A label's values are cut into blocks of about [`BLOCK_BYTES`], compressed one by one. The root
//! of the index keeps of each block where it lies and a text that separates it from the one before,
//! so that one value is found by reading one block. Postings lie apart from the values, in the
//! order of the values: who lists values reads no postings.

use std::ops::Range;

use super::cursor::{Cursor, put_bytes, put_varint};

/// Bytes of the values of a block before it is compressed, with which the next value begins another
/// block.
const BLOCK_BYTES: usize = 8 << 10;
/// Level of zstd.
const LEVEL: i32 = 3;
/// A longer block is damaged: it has one value more than [`BLOCK_BYTES`], and values are at most as
/// long as a request.
const MAX_BLOCK_BYTES: u64 = 1 << 30;

/// What the root of an index says of a label.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LabelEntry {
    /// Its name.
    pub name: String,
    /// How many values it has.
    pub values: u64,
    /// Where in the file the postings of all series lie that have the label.
    pub presence: Range<u64>,
    /// The blocks of its values.
    pub blocks: Vec<BlockEntry>,
}

/// What the root of an index says of a block of values.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::segment) struct BlockEntry {
    /// Greater than all values of the block before, at most the block's first value.
    pub separator: Vec<u8>,
    /// Where it lies in the file.
    pub bytes: Range<u64>,
    /// Bytes when it is inflated.
    pub inflated: u64,
    /// Where in the file the postings of its first value begin.
    pub postings: u64,
}

/// The values of a block.
#[derive(Debug, Default)]
pub(in crate::segment) struct Block {
    text: String,
    /// Where each value ends in the text, and where its postings end in the file.
    ends: Vec<(u32, u64)>,
    postings: u64,
}

impl Block {
    /// Parses a block as it lies in the file.
    pub fn parse(bytes: &[u8], entry: &BlockEntry) -> Result<Self, String> {
        if entry.inflated > MAX_BLOCK_BYTES {
            return Err(format!("a block of {} bytes", entry.inflated));
        }
        let raw = zstd::bulk::decompress(bytes, entry.inflated as usize)
            .map_err(|error| format!("a block does not inflate: {error}"))?;
        let mut cursor = Cursor::new(&raw);
        let mut block = Self {
            postings: entry.postings,
            ..Self::default()
        };
        let mut last = 0;
        let mut postings = entry.postings;
        let mut text: Vec<u8> = Vec::with_capacity(raw.len() * 2);
        while !cursor.is_empty() {
            let shared = cursor.varint()?;
            let shared = usize::try_from(shared)
                .ok()
                .filter(|shared| *shared <= text.len() - last)
                .ok_or_else(|| format!("{shared} bytes shared with a shorter value"))?;
            let rest = cursor.bytes()?;
            postings = postings.saturating_add(cursor.varint()?);
            // Damaged bytes could share a long value again and again.
            if text.len() + shared > MAX_BLOCK_BYTES as usize {
                return Err("its values are too long".to_owned());
            }
            let from = last;
            last = text.len();
            text.extend_from_within(from..from + shared);
            text.extend_from_slice(rest);
            block.ends.push((text.len() as u32, postings));
        }
        block.text = String::from_utf8(text).map_err(|error| error.to_string())?;
        let is_cut = |end: &(u32, u64)| block.text.is_char_boundary(end.0 as usize);
        if !block.ends.iter().all(is_cut) {
            return Err("a value ends within a character".to_owned());
        }
        Ok(block)
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A value, and where in the file its postings lie.
    pub fn get(&self, at: usize) -> (&str, Range<u64>) {
        let (start, postings) = match at.checked_sub(1) {
            Some(before) => (self.ends[before].0, self.ends[before].1),
            None => (0, self.postings),
        };
        let (end, postings_end) = self.ends[at];
        (
            &self.text[start as usize..end as usize],
            postings..postings_end,
        )
    }

    /// All values with where their postings lie.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<u64>)> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Where the postings of a value lie.
    pub fn find(&self, value: &str) -> Option<Range<u64>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, postings) = self.get(middle);
            match found.cmp(value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(postings),
            }
        }
        None
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        size_of::<Self>() + self.text.capacity() + self.ends.capacity() * size_of::<(u32, u64)>()
    }
}

/// To look at fewer values than these takes no time worth a pause.
const FEW_VALUES: u64 = 1024;

impl LabelEntry {
    /// Pauses before it looks at all of many values, so that the query can go on in another thread.
    pub async fn pause(&self) {
        if self.values > FEW_VALUES {
            tokio::task::yield_now().await;
        }
    }

    /// The blocks that may have values from the first text on that begin with it; all for the empty
    /// text.
    pub fn blocks_of_prefix(&self, prefix: &str) -> Range<usize> {
        let prefix = prefix.as_bytes();
        let first = self
            .blocks
            .partition_point(|block| block.separator.as_slice() <= prefix)
            .saturating_sub(1);
        let end = self.blocks.partition_point(|block| {
            let len = block.separator.len().min(prefix.len());
            block.separator[..len] <= prefix[..len]
        });
        first..end
    }

    /// The block that has a value, if any has.
    pub fn block_of(&self, value: &str) -> Option<usize> {
        self.blocks
            .partition_point(|block| block.separator.as_slice() <= value.as_bytes())
            .checked_sub(1)
    }

    /// Appends it to a root.
    pub fn encode(&self, to: &mut Vec<u8>) {
        put_bytes(to, self.name.as_bytes());
        put_varint(to, self.values);
        put_varint(to, self.presence.start);
        put_varint(to, self.presence.end - self.presence.start);
        put_varint(to, self.blocks.len() as u64);
        for block in &self.blocks {
            put_bytes(to, &block.separator);
            put_varint(to, block.bytes.start);
            put_varint(to, block.bytes.end - block.bytes.start);
            put_varint(to, block.inflated);
            put_varint(to, block.postings);
        }
    }

    /// The next one of a root; what it names lies before `end` in the file.
    pub fn decode(cursor: &mut Cursor<'_>, end: u64) -> Result<Self, String> {
        fn range(cursor: &mut Cursor<'_>, file_end: u64) -> Result<Range<u64>, String> {
            let start = cursor.varint()?;
            let end = start.saturating_add(cursor.varint()?);
            if end > file_end {
                return Err(format!(
                    "bytes {start}..{end} are not before byte {file_end}"
                ));
            }
            Ok(start..end)
        }
        let name = cursor.text()?.to_owned();
        let values = cursor.varint()?;
        let presence = range(cursor, end)?;
        let count = cursor.count()?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            blocks.push(BlockEntry {
                separator: cursor.bytes()?.to_vec(),
                bytes: range(cursor, end)?,
                inflated: cursor.varint()?,
                postings: cursor.varint()?,
            });
        }
        Ok(Self {
            name,
            values,
            presence,
            blocks,
        })
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let separators: usize = self
            .blocks
            .iter()
            .map(|block| block.separator.capacity())
            .sum();
        size_of::<Self>()
            + self.name.capacity()
            + separators
            + self.blocks.capacity() * size_of::<BlockEntry>()
    }
}

/// Cuts the values of a label into blocks and appends these to a part of a file.
pub(super) struct BlockWriter<'a, 'f> {
    /// A part of the file, and where in it that begins.
    part: &'f mut Vec<u8>,
    base: u64,
    raw: Vec<u8>,
    separator: Vec<u8>,
    last: &'a str,
    /// Where the postings of the block and of the next value begin.
    postings: (u64, u64),
    blocks: Vec<BlockEntry>,
}

impl<'a, 'f> BlockWriter<'a, 'f> {
    /// A writer whose values' postings lie one after the other from `postings` on. Blocks are
    /// appended to `part`, which begins at byte `base` of the file.
    pub fn new(part: &'f mut Vec<u8>, base: u64, postings: u64) -> Self {
        Self {
            part,
            base,
            raw: Vec::new(),
            separator: Vec::new(),
            last: "",
            postings: (postings, postings),
            blocks: Vec::new(),
        }
    }

    /// Adds a value greater than the last, with the length of its postings.
    pub fn push(&mut self, value: &'a str, postings: u64) -> Result<(), String> {
        if self.raw.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        let shared = if self.raw.is_empty() {
            self.separator = match self.blocks.is_empty() {
                true => Vec::new(),
                false => separator(self.last, value),
            };
            0
        } else {
            shared_bytes(self.last, value)
        };
        put_varint(&mut self.raw, shared as u64);
        put_bytes(&mut self.raw, &value.as_bytes()[shared..]);
        put_varint(&mut self.raw, postings);
        self.postings.1 += postings;
        self.last = value;
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), String> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let compressed =
            zstd::bulk::compress(&self.raw, LEVEL).map_err(|error| error.to_string())?;
        let start = self.base + self.part.len() as u64;
        self.part.extend_from_slice(&compressed);
        self.blocks.push(BlockEntry {
            separator: std::mem::take(&mut self.separator),
            bytes: start..start + compressed.len() as u64,
            inflated: self.raw.len() as u64,
            postings: self.postings.0,
        });
        self.raw.clear();
        self.postings.0 = self.postings.1;
        Ok(())
    }

    /// All blocks.
    pub fn finish(mut self) -> Result<Vec<BlockEntry>, String> {
        self.end_block()?;
        Ok(self.blocks)
    }
}

fn shared_bytes(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The shortest bytes that are greater than one text and at most another, greater one.
fn separator(before: &str, first: &str) -> Vec<u8> {
    first.as_bytes()[..(shared_bytes(before, first) + 1).min(first.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of these values, each with postings as long as itself.
    fn entry(values: &[String]) -> (Vec<u8>, LabelEntry) {
        let mut file = b"PAR1".to_vec();
        let mut writer = BlockWriter::new(&mut file, 0, 100);
        for value in values {
            writer.push(value, value.len() as u64).unwrap();
        }
        let blocks = writer.finish().unwrap();
        let entry = LabelEntry {
            name: "label".to_owned(),
            values: values.len() as u64,
            presence: 0..4,
            blocks,
        };
        let mut root = Vec::new();
        entry.encode(&mut root);
        let end = file.len() as u64;
        let decoded = LabelEntry::decode(&mut Cursor::new(&root), end);
        assert_eq!(decoded.as_ref(), Ok(&entry));
        assert!(LabelEntry::decode(&mut Cursor::new(&root), end - 1).is_err());
        (file, entry)
    }

    fn block(file: &[u8], entry: &LabelEntry, at: usize) -> Block {
        let block = &entry.blocks[at];
        let bytes = &file[block.bytes.start as usize..block.bytes.end as usize];
        Block::parse(bytes, block).unwrap()
    }

    #[test]
    fn values_are_found_in_the_block_that_has_them() {
        let values: Vec<String> = (0..5000)
            .map(|i| format!("node-{i:06}{}é", "x".repeat(i % 40)))
            .collect();
        let (file, entry) = entry(&values);
        assert!(entry.blocks.len() > 5, "{}", entry.blocks.len());
        let mut all = Vec::new();
        let mut postings = 100;
        for at in 0..entry.blocks.len() {
            for (value, range) in block(&file, &entry, at).iter() {
                assert_eq!(range, postings..postings + value.len() as u64);
                postings = range.end;
                all.push(value.to_owned());
            }
        }
        assert_eq!(all, values);
        for value in values.iter().step_by(97) {
            let found = block(&file, &entry, entry.block_of(value).unwrap()).find(value);
            assert_eq!(
                found.map(|range| range.end - range.start),
                Some(value.len() as u64)
            );
            let missing = format!("{value}!");
            let found = block(&file, &entry, entry.block_of(&missing).unwrap()).find(&missing);
            assert_eq!(found, None);
        }
        for prefix in ["", "n", "node-0001", "node-004999", "node-01", "o", "a"] {
            let of_prefix = |at: &usize| {
                let block = block(&file, &entry, *at);
                block.iter().any(|(value, _)| value.starts_with(prefix))
            };
            let expected: Vec<usize> = (0..entry.blocks.len()).filter(of_prefix).collect();
            let found = entry.blocks_of_prefix(prefix);
            for at in &expected {
                assert!(found.contains(at), "{prefix}: {at} is not in {found:?}");
            }
            assert!(found.len() <= expected.len() + 1, "{prefix}: {found:?}");
        }
    }

    #[test]
    fn damaged_blocks_are_errors() {
        let values: Vec<String> = (0..100).map(|i| format!("v{i:03}")).collect();
        let (file, entry) = entry(&values);
        let good = &entry.blocks[0];
        let bytes = &file[good.bytes.start as usize..good.bytes.end as usize];
        for (at, _) in bytes.iter().enumerate() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x41;
            // Any answer but a panic: the checksums of the file tell that it is another.
            let _ = Block::parse(&damaged, good);
        }
        let raw = zstd::bulk::compress(&[200, 1, 0, 0], 1).unwrap();
        let entry = BlockEntry {
            separator: Vec::new(),
            bytes: 0..raw.len() as u64,
            inflated: 4,
            postings: 0,
        };
        assert!(Block::parse(&raw, &entry).is_err());
    }
}
