//! Bodies as sent: what they are compressed with, and how large they may become.
//!
//! A body of a few kilobytes can inflate to gigabytes. Every decoder here stops at a limit, and
//! none allocates on the word of a header that the compressed bytes cannot keep.

use std::borrow::Cow;
use std::io::Read;

use tidelake_catalog::memory::{OutOfMemory, Reservation};

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The body is larger than allowed, as sent or inflated (413).
    #[error(
        "the body is larger than the limit of {limit} bytes after decompression; send it in \
         smaller parts"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not what its encoding says (400).
    #[error("the body is not valid {0}")]
    Corrupt(String),
    /// There is no memory for it now (503).
    #[error("{0}; send again later")]
    OutOfMemory(#[from] OutOfMemory),
    /// The encoding is not known (415).
    #[error("content encoding {0:?} is not supported; send identity, gzip, zstd or snappy")]
    Unsupported(String),
}

pub use crate::wal::ContentEncoding as Encoding;

/// The coding that a `Content-Encoding` header names. One coding only: a stack of them is not
/// supported.
pub fn encoding_of(value: &str) -> Result<Encoding, ContentError> {
    let name = value.trim();
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match () {
        () if name.is_empty() || is("identity") => Ok(Encoding::Identity),
        () if is("gzip") || is("x-gzip") => Ok(Encoding::Gzip),
        () if is("snappy") => Ok(Encoding::Snappy),
        () if is("zstd") => Ok(Encoding::Zstd),
        () => Err(ContentError::Unsupported(name.chars().take(64).collect())),
    }
}

/// The encoding of a protobuf message that came without a word about it: snappy, as remote write
/// has it, or none.
///
/// A plain message begins with the tag of a field. As the header of a snappy block that tag would
/// promise at most 127 bytes, so that telling the two apart costs nothing.
pub fn snappy_or_plain(body: &[u8]) -> Encoding {
    let is_snappy = match snap::raw::decompress_len(body) {
        Ok(len) if len <= LARGEST_TAG => snap::raw::Decoder::new().decompress_vec(body).is_ok(),
        Ok(_) => true,
        Err(_) => false,
    };
    match is_snappy {
        true => Encoding::Snappy,
        false => Encoding::Identity,
    }
}

/// No field of a message of remote write has a tag of a greater number.
const LARGEST_TAG: usize = 0x7f;

/// Largest window that a zstd frame may ask for, as a power of two: the one that RFC 8878 advises
/// to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A snappy block cannot shrink by more than this: three bytes copy at most 64.
const SNAPPY_MAX_RATIO: usize = 22;

/// Memory that is reserved at a time for a body whose header does not tell its size.
const FIRST_BYTES: usize = 64 << 10;

/// The body without its compression, at most `limit` bytes. Its memory is reserved before it is
/// allocated, in `memory`.
pub fn decompress<'b>(
    body: &'b [u8],
    encoding: Encoding,
    limit: usize,
    memory: &mut Reservation,
) -> Result<Cow<'b, [u8]>, ContentError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(ContentError::TooLarge { limit }),
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(body);
            read_all(decoder, limit, memory, "gzip").map(Cow::Owned)
        }
        Encoding::Snappy => snappy(body, limit, memory).map(Cow::Owned),
        Encoding::Zstd => zstd(body, limit, memory).map(Cow::Owned),
    }
}

fn snappy(body: &[u8], limit: usize, memory: &mut Reservation) -> Result<Vec<u8>, ContentError> {
    let corrupt = |error: &dyn std::fmt::Display| {
        ContentError::Corrupt(format!("snappy (block format): {error}"))
    };
    let len = snap::raw::decompress_len(body).map_err(|e| corrupt(&e))?;
    if len > limit {
        return Err(ContentError::TooLarge { limit });
    }
    if len > body.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(corrupt(&format_args!(
            "the header promises {len} bytes, too many for a body of {}",
            body.len()
        )));
    }
    memory.try_grow(len)?;
    let mut out = vec![0; len];
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut out)
        .map_err(|e| corrupt(&e))?;
    out.truncate(written);
    Ok(out)
}

fn zstd(body: &[u8], limit: usize, memory: &mut Reservation) -> Result<Vec<u8>, ContentError> {
    let corrupt = |error: std::io::Error| ContentError::Corrupt(format!("zstd: {error}"));
    if body.is_empty() {
        return Err(ContentError::Corrupt("zstd: no frame".to_owned()));
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(corrupt)?;
    decoder
        .window_log_max(ZSTD_WINDOW_LOG_MAX)
        .map_err(corrupt)?;
    read_all(decoder, limit, memory, "zstd")
}

fn read_all(
    mut decoder: impl Read,
    limit: usize,
    memory: &mut Reservation,
    name: &str,
) -> Result<Vec<u8>, ContentError> {
    // One byte more than allowed tells "exactly the limit" from "too large".
    let most = limit.saturating_add(1);
    let mut out = Vec::new();
    loop {
        let more = out.len().max(FIRST_BYTES).min(most - out.len());
        memory.try_grow(more)?;
        out.reserve_exact(more);
        let read = decoder
            .by_ref()
            .take(more as u64)
            .read_to_end(&mut out)
            .map_err(|e| ContentError::Corrupt(format!("{name}: {e}")))?;
        if out.len() > limit {
            return Err(ContentError::TooLarge { limit });
        }
        if read < more {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tidelake_catalog::memory::{MemoryBudget, Share};

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn inflate(
        body: &[u8],
        encoding: Encoding,
        limit: usize,
    ) -> Result<Cow<'_, [u8]>, ContentError> {
        let mut memory = MemoryBudget::unlimited().empty(Share::Parsing);
        let result = decompress(body, encoding, limit, &mut memory);
        if let Ok(Cow::Owned(inflated)) = &result {
            assert!(memory.bytes() >= inflated.capacity(), "{encoding:?}");
        }
        result
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn compress(encoding: Encoding, data: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => data.to_vec(),
            Encoding::Gzip => gzip(data),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(data).unwrap(),
            Encoding::Zstd => zstd::bulk::compress(data, 1).unwrap(),
        }
    }

    const ALL: [Encoding; 4] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Snappy,
        Encoding::Zstd,
    ];

    #[track_caller]
    fn check_corrupt(encoding: Encoding, body: &[u8]) {
        let result = inflate(body, encoding, LIMIT);
        assert!(
            matches!(result, Err(ContentError::Corrupt(_))),
            "{encoding:?}: {result:?}"
        );
    }

    #[test]
    fn every_encoding_comes_back_up_to_its_limit() {
        let text: Vec<u8> = (0..50_000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        for encoding in ALL {
            for data in [&b""[..], b"x", &text] {
                let body = compress(encoding, data);
                assert_eq!(
                    inflate(&body, encoding, LIMIT).unwrap(),
                    data,
                    "{encoding:?}"
                );
                assert_eq!(
                    inflate(&body, encoding, data.len()).unwrap(),
                    data,
                    "{encoding:?}"
                );
                if let Some(limit) = data.len().checked_sub(1) {
                    assert_eq!(
                        inflate(&body, encoding, limit),
                        Err(ContentError::TooLarge { limit }),
                        "{encoding:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn memory_is_asked_for_before_it_is_taken() {
        let zeros = vec![0; 8 << 20];
        for encoding in ALL.into_iter().skip(1) {
            let body = compress(encoding, &zeros);
            let memory = Arc::new(MemoryBudget::new(8 << 20));
            let mut held = memory.empty(Share::Parsing);
            let refused = decompress(&body, encoding, zeros.len(), &mut held).unwrap_err();
            assert!(
                matches!(refused, ContentError::OutOfMemory(_)),
                "{encoding:?}: {refused}"
            );
        }
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 8 << 20];
        for encoding in ALL {
            let body = compress(encoding, &zeros);
            assert_eq!(
                inflate(&body, encoding, LIMIT),
                Err(ContentError::TooLarge { limit: LIMIT }),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn a_snappy_header_may_not_promise_what_the_body_cannot_keep() {
        // The varint says 1,000,000.
        check_corrupt(Encoding::Snappy, &[0xc0, 0x84, 0x3d, 0, b'a']);
        check_corrupt(Encoding::Snappy, &[0xff; 12]);
        check_corrupt(Encoding::Snappy, &[]);
        let mut body = compress(Encoding::Snappy, b"abcdefgh");
        body[0] += 1;
        check_corrupt(Encoding::Snappy, &body);
        body[0] -= 2;
        check_corrupt(Encoding::Snappy, &body);
    }

    #[test]
    fn snappy_compresses_at_most_by_the_ratio_that_is_assumed() {
        let body = compress(Encoding::Snappy, &vec![7; LIMIT]);
        assert!(LIMIT <= body.len() * SNAPPY_MAX_RATIO, "{}", body.len());
    }

    #[test]
    fn gzip_members_follow_one_another_and_nothing_else_does() {
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(
            inflate(&two, Encoding::Gzip, LIMIT).unwrap(),
            &b"one two"[..]
        );
        check_corrupt(
            Encoding::Gzip,
            &[gzip(b"one"), b"\x00\x01garbage".to_vec()].concat(),
        );
        check_corrupt(Encoding::Gzip, b"");
        check_corrupt(Encoding::Gzip, b"m f=1");
        let mut body = gzip(b"some text");
        let crc = body.len() - 8;
        body[crc] ^= 0xff;
        check_corrupt(Encoding::Gzip, &body);
    }

    #[test]
    fn truncated_bodies_are_refused_wherever_they_are_cut() {
        let text: Vec<u8> = (0..500u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        for encoding in [Encoding::Gzip, Encoding::Snappy, Encoding::Zstd] {
            let body = compress(encoding, &text);
            for len in 0..body.len() {
                check_corrupt(encoding, &body[..len]);
            }
        }
    }

    #[test]
    fn bodies_without_an_encoding_are_snappy_or_plain() {
        for plain in [
            &b"\x0a\x05\x0a\x03abc"[..],
            b"\x1a\x02\x08\x01",
            b"\x22\x00\x2a\x00",
            b"",
        ] {
            assert_eq!(snappy_or_plain(plain), Encoding::Identity, "{plain:?}");
            let body = compress(Encoding::Snappy, plain);
            assert_eq!(snappy_or_plain(&body), Encoding::Snappy, "{plain:?}");
        }
        let long = [b"\x0a\xff\x7f", &[7; 16_383][..]].concat();
        assert_eq!(snappy_or_plain(&long), Encoding::Identity);
        assert_eq!(
            snappy_or_plain(&compress(Encoding::Snappy, &long)),
            Encoding::Snappy
        );
    }

    #[test]
    fn headers_are_known_by_name() {
        let check =
            |header: &str, expected| assert_eq!(encoding_of(header).ok(), expected, "{header:?}");
        check("", Some(Encoding::Identity));
        check(" GZIP ", Some(Encoding::Gzip));
        check("x-gzip", Some(Encoding::Gzip));
        check("snappy", Some(Encoding::Snappy));
        check("zstd", Some(Encoding::Zstd));
        check("deflate", None);
        check("br", None);
        check("gzip, gzip", None);
    }
}
