//! The frames of streamed remote read: a length, a checksum and a message each.

use anyhow::bail;

/// Longest message; servers cut far below.
const MAX_FRAME_BYTES: u64 = 64 << 20;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of an answer that are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are taken.
    at: usize,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let (mut length, mut head) = (0u64, 0);
        loop {
            let Some(byte) = rest.get(head) else {
                return Ok(None);
            };
            length |= u64::from(byte & 0x7f) << (7 * head);
            head += 1;
            if byte & 0x80 == 0 {
                break;
            }
            if head > 4 {
                bail!("the answer is no stream of chunks");
            }
        }
        if length > MAX_FRAME_BYTES {
            bail!("a frame of the answer has {length} bytes, more than {MAX_FRAME_BYTES}");
        }
        let start = head + CHECKSUM_BYTES;
        let end = start + usize::try_from(length)?;
        let (Some(checksum), Some(message)) = (rest.get(head..start), rest.get(start..end)) else {
            return Ok(None);
        };
        if crc32c::crc32c(message).to_be_bytes() != checksum {
            bail!("a frame of the answer is damaged: its checksum is wrong");
        }
        let message = message.to_vec();
        self.at += end;
        Ok(Some(message))
    }

    /// After the last bytes.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        if self.at < self.buffer.len() {
            bail!("the answer ends in the middle of a frame");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut out);
        out.extend_from_slice(&crc32c::crc32c(message).to_be_bytes());
        out.extend_from_slice(message);
        out
    }

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let bytes = [frame(b"one"), frame(&[7; 300]), frame(b"")].concat();
        for size in [1, 2, 7, 1000] {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in bytes.chunks(size) {
                frames.push(part);
                while let Some(message) = frames.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [b"one".to_vec(), vec![7; 300], Vec::new()]);
            frames.finish().unwrap();
        }
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let mut bytes = frame(b"one");
        bytes[2] ^= 1;
        let mut frames = Frames::default();
        frames.push(&bytes);
        assert!(frames.next().is_err());
        let mut frames = Frames::default();
        frames.push(&[0xff; 9]);
        assert!(frames.next().is_err());
        let mut frames = Frames::default();
        frames.push(&frame(b"one")[..5]);
        assert!(frames.next().unwrap().is_none());
        assert!(frames.finish().is_err());
    }
}
