//! Magic, version and checksum around a message.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{Checkpoint, Record};
use crate::store::StoreError;

/// The version that is written, and the highest that can be read.
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8;
const TAIL_BYTES: usize = 4;

/// A message with an object kind of its own.
pub(crate) trait Object: Message + Default {
    /// The first four bytes of the object.
    const MAGIC: [u8; 4];
}

impl Object for Record {
    const MAGIC: [u8; 4] = *b"TLKR";
}

impl Object for Checkpoint {
    const MAGIC: [u8; 4] = *b"TLKC";
}

/// The bytes of an object.
pub(crate) fn seal<O: Object>(message: &O) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + message.encoded_len() + TAIL_BYTES);
    out.put_slice(&O::MAGIC);
    out.put_u32_le(VERSION);
    out.put_slice(&message.encode_to_vec());
    out.put_u32_le(crc32fast::hash(&out));
    out.freeze()
}

/// The message of an object, or what is wrong with it.
pub(crate) fn open<O: Object>(key: &str, bytes: &[u8]) -> Result<O, StoreError> {
    open_message(bytes).map_err(|reason| StoreError::Corrupt {
        key: key.to_owned(),
        reason,
    })
}

fn open_message<O: Object>(bytes: &[u8]) -> Result<O, String> {
    let too_short = || {
        format!(
            "{} bytes are too few for an object of the catalog",
            bytes.len()
        )
    };
    let (sealed, sum) = bytes
        .split_last_chunk::<TAIL_BYTES>()
        .ok_or_else(too_short)?;
    let (magic, rest) = sealed.split_first_chunk::<4>().ok_or_else(too_short)?;
    let (version, body) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
    if *magic != O::MAGIC {
        return Err(format!(
            "it begins with {:?} in place of {:?}",
            magic.escape_ascii().to_string(),
            O::MAGIC.escape_ascii().to_string()
        ));
    }
    if crc32fast::hash(sealed) != u32::from_le_bytes(*sum) {
        return Err("its checksum does not fit its bytes".to_owned());
    }
    let version = u32::from_le_bytes(*version);
    if version > VERSION {
        return Err(format!(
            "it has format version {version}, this program reads up to {VERSION}: upgrade it"
        ));
    }
    O::decode(body).map_err(|error| format!("it is not the message that it should be: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut bytes = seal(&Record {
            sequence: 7,
            node: "n".to_owned(),
            ..Record::default()
        })
        .to_vec();
        change(&mut bytes);
        let error = open::<Record>("some/key", &bytes).unwrap_err().to_string();
        assert!(
            error.contains("some/key") && error.contains(expected),
            "{error}"
        );
    }

    /// Makes the checksum right again.
    fn resum(bytes: &mut Vec<u8>) {
        bytes.truncate(bytes.len() - 4);
        bytes.extend(crc32fast::hash(bytes).to_le_bytes());
    }

    #[test]
    fn damage_is_found_and_named() {
        check(|b| b.truncate(0), "0 bytes are too few");
        check(|b| b.truncate(11), "11 bytes are too few");
        check(|b| b[0] = b'X', "begins with \"XLKR\"");
        check(|b| b[9] ^= 1, "checksum");
        check(|b| b.truncate(b.len() - 1), "checksum");
        check(|b| b.push(0), "checksum");
        let newer = |b: &mut Vec<u8>| {
            b[4] = 2;
            resum(b);
        };
        check(newer, "version 2, this program reads up to 1");
        let garbage = |b: &mut Vec<u8>| {
            b[8] = 0xff;
            resum(b);
        };
        check(garbage, "not the message");
    }

    #[test]
    fn a_checkpoint_is_not_a_record() {
        assert!(open::<Record>("k", &seal(&Checkpoint::default())).is_err());
    }

    /// The bytes of version 1 are for ever.
    #[test]
    fn the_envelope_is_as_specified() {
        let bytes = seal(&Record {
            sequence: 7,
            ..Record::default()
        });
        assert_eq!(bytes[..10], *b"TLKR\x01\0\0\0\x08\x07");
        assert_eq!(bytes[10..], crc32fast::hash(&bytes[..10]).to_le_bytes());
    }
}
