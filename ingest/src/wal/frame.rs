//! A group of requests as the bytes of one object; the byte tables are in `FORMAT.md`, "WAL
//! objects".
//!
//! Checksums are made where the request is received, one frame each, and combined into that of the
//! object, so that the one task which writes groups only copies. Every body is copied once, into
//! its object.
//!
//! Reading tells an object that *ends early* from one that *is damaged*: the first can be what is
//! left of a put that nobody was told about, the second never is. The header has a checksum of its
//! own for this, because the lengths in it decide which of the two it is. No length is trusted
//! beyond the bytes that are there.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use tidelake_catalog::Environment;

use super::MAX_IN_FLIGHT;
use crate::exposition::TextFormat;
use crate::label_limits::LabelLimits;
use crate::write_clock::order_in_group;

/// First bytes of every WAL object.
pub const MAGIC: [u8; 8] = *b"TLKWAL\r\n";
/// The version that is written.
pub const VERSION: u16 = 4;
/// Bytes of the header.
pub const HEADER_LEN: usize = 72;
/// Bytes of the header up to version 3, without the write order.
const SHORT_HEADER_LEN: usize = 64;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 4;
/// Bytes of an object without frames: a fence or a mark.
pub const EMPTY_LEN: usize = HEADER_LEN + TRAILER_LEN;
/// Longest name of a database in bytes.
pub const MAX_DATABASE_LEN: usize = 1024;
/// Longest body in bytes. The limits of the protocols are far below.
pub const MAX_BODY_LEN: usize = 1 << 30;

const KIND_AT: usize = 10;
const FRAMES_LEN_AT: usize = 48;
const OPEN_AT: usize = 56;
/// Length, protocol, parameter, encoding, reserved byte, time, length of the database's name.
const FRAME_FIXED_LEN: usize = 4 + 4 + 8 + 2;
/// Limits of labels, which frames have from version 3 on.
const LIMITS_LEN: usize = 3 * 4;
const CRC_LEN: usize = 4;
const MIN_FRAME_LEN: usize = FRAME_FIXED_LEN + CRC_LEN;

/// Which process wrote an object: random, drawn anew in every life of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterId(pub [u8; 16]);

impl WriterId {
    /// A new one.
    pub fn draw(environment: &Environment) -> Self {
        Self(environment.random().to_be_bytes())
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterId({self})")
    }
}

/// The unit of the timestamps in line protocol, as the request said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// By the magnitude of each timestamp.
    Auto,
    /// Nanoseconds.
    #[default]
    Nanosecond,
    /// Microseconds.
    Microsecond,
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
}

impl Precision {
    const fn code(self) -> u8 {
        match self {
            Self::Auto => 0,
            Self::Nanosecond => 1,
            Self::Microsecond => 2,
            Self::Millisecond => 3,
            Self::Second => 4,
            Self::Minute => 5,
            Self::Hour => 6,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Auto,
            1 => Self::Nanosecond,
            2 => Self::Microsecond,
            3 => Self::Millisecond,
            4 => Self::Second,
            5 => Self::Minute,
            6 => Self::Hour,
            _ => return None,
        })
    }
}

/// In the parameter of line protocol: a tag and a field of one line may share a name.
const SHARES_NAMES: u8 = 0x10;

/// What the body is, once it is decompressed. Numbers in objects are for ever: add, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// InfluxDB line protocol as 1.x has it: a tag and a field of one line may share a name.
    LineProtocol1 {
        /// The unit of its timestamps.
        precision: Precision,
    },
    /// InfluxDB line protocol.
    LineProtocol {
        /// The unit of its timestamps.
        precision: Precision,
    },
    /// Prometheus remote write 1.0: a protobuf `WriteRequest`.
    RemoteWrite1,
    /// Prometheus remote write 2.0: a protobuf `io.prometheus.write.v2.Request`.
    RemoteWrite2,
    /// OpenTelemetry metrics: an `ExportMetricsServiceRequest`. In the log how it is translated
    /// comes before it, see [`Settings::head`](crate::otlp::Settings::head).
    Otlp {
        /// How the message is written.
        format: OtlpFormat,
    },
    /// Prometheus' text format or OpenMetrics. What is said of all lines comes before it, see
    /// [`Settings::framed`](crate::exposition::Settings::framed).
    Exposition {
        /// Which of the two.
        format: TextFormat,
    },
}

/// How a message of OTLP is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OtlpFormat {
    /// As protobuf.
    #[default]
    Protobuf,
    /// As JSON.
    Json,
}

impl Protocol {
    /// Number and parameter.
    const fn code(self) -> (u8, u8) {
        match self {
            Self::LineProtocol { precision } => (1, precision.code()),
            Self::LineProtocol1 { precision } => (1, SHARES_NAMES | precision.code()),
            Self::RemoteWrite1 => (2, 0),
            Self::RemoteWrite2 => (3, 0),
            Self::Otlp { format } => (4, format as u8),
            Self::Exposition { format } => (5, format as u8),
        }
    }

    const fn from_code(number: u8, parameter: u8) -> Option<Self> {
        match (number, parameter) {
            (1, code) => match (
                code & SHARES_NAMES,
                Precision::from_code(code & !SHARES_NAMES),
            ) {
                (_, None) => None,
                (0, Some(precision)) => Some(Self::LineProtocol { precision }),
                (_, Some(precision)) => Some(Self::LineProtocol1 { precision }),
            },
            (2, 0) => Some(Self::RemoteWrite1),
            (3, 0) => Some(Self::RemoteWrite2),
            (4, 0) => Some(Self::Otlp {
                format: OtlpFormat::Protobuf,
            }),
            (4, 1) => Some(Self::Otlp {
                format: OtlpFormat::Json,
            }),
            (5, code) if (code as usize) < TextFormat::ALL.len() => Some(Self::Exposition {
                format: TextFormat::ALL[code as usize],
            }),
            _ => None,
        }
    }
}

/// How the body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ContentEncoding {
    /// Not at all.
    #[default]
    Identity,
    /// gzip, possibly of several members.
    Gzip,
    /// The snappy block format.
    Snappy,
    /// zstd.
    Zstd,
}

impl ContentEncoding {
    const fn code(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Zstd => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Identity,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Zstd,
            _ => return None,
        })
    }
}

/// One request as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where its points go, at most [`MAX_DATABASE_LEN`] bytes.
    pub database: Arc<str>,
    /// How to read the body.
    pub protocol: Protocol,
    /// How to decompress the body.
    pub encoding: ContentEncoding,
    /// When it was received, in nanoseconds since 1970: the time of points that have none.
    pub received_ns: i64,
    /// What its labels were held to, and are again when it is replayed.
    pub limits: LabelLimits,
    /// The body as it came, at most [`MAX_BODY_LEN`] bytes.
    pub body: Bytes,
}

/// What an object is for. Numbers in objects are for ever: add, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// It holds requests.
    Group,
    /// It ends an epoch.
    Fence,
    /// It only carries a durable end, when no group came for a while.
    Mark,
}

impl ObjectKind {
    const fn code(self) -> u16 {
        match self {
            Self::Group => 0,
            Self::Fence => 1,
            Self::Mark => 2,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Group,
            1 => Self::Fence,
            2 => Self::Mark,
            _ => return None,
        })
    }
}

/// Which object this is, what it is for, and what it says about those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// What it is for.
    pub kind: ObjectKind,
    /// The process that wrote it.
    pub writer: WriterId,
    /// The epoch, as in the key.
    pub epoch: u64,
    /// The sequence, as in the key.
    pub seq: u64,
    /// Every object of the epoch with a lower sequence was durable when this one was composed. At
    /// most `seq`, and at least so much that the distance fits 32 bits.
    pub durable_end: u64,
    /// When its first request was written, in the order of all writes; of a mark the last one
    /// before it; 0 in a fence and up to version 3.
    pub order: u64,
}

/// What follows from the sequence alone: a writer has at most [`MAX_IN_FLIGHT`] objects in flight.
pub(super) const fn least_durable_end(seq: u64) -> u64 {
    seq.saturating_sub(MAX_IN_FLIGHT as u64 - 1)
}

/// A frame that does not fit the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameTooLarge {
    /// See [`MAX_DATABASE_LEN`].
    #[error("the name of the database has {0} bytes; at most {MAX_DATABASE_LEN} are possible")]
    Database(usize),
    /// See [`MAX_BODY_LEN`].
    #[error("the body has {0} bytes; at most {MAX_BODY_LEN} are possible")]
    Body(usize),
}

/// Why the bytes are no WAL object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// What is there is right as far as it goes, but it ends early.
    #[error("it ends after {have} of {need} bytes")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that are needed at least.
        need: usize,
    },
    /// The bytes are not what was written.
    #[error("it is damaged at byte {offset}: {what}")]
    Corrupt {
        /// Where, from the beginning of the object.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Written by a newer program: use that to read it.
    #[error("its format version is {0}, this program reads up to {VERSION}")]
    Version(u16),
}

/// A frame with its head encoded and its checksum made, ready to be copied into an object.
#[derive(Debug, Clone)]
pub(super) struct PreparedFrame {
    head: Vec<u8>,
    body: Bytes,
    /// Over head and body.
    hasher: Hasher,
}

impl PreparedFrame {
    pub(super) fn new(frame: Frame) -> Result<Self, FrameTooLarge> {
        let Frame {
            database,
            protocol,
            encoding,
            received_ns,
            limits,
            body,
        } = frame;
        if database.len() > MAX_DATABASE_LEN {
            return Err(FrameTooLarge::Database(database.len()));
        }
        if body.len() > MAX_BODY_LEN {
            return Err(FrameTooLarge::Body(body.len()));
        }
        let length = FRAME_FIXED_LEN - 4 + LIMITS_LEN + database.len() + body.len();
        let (number, parameter) = protocol.code();
        let mut head = Vec::with_capacity(FRAME_FIXED_LEN + LIMITS_LEN + database.len());
        head.extend_from_slice(&(length as u32).to_le_bytes());
        head.extend_from_slice(&[number, parameter, encoding.code(), 0]);
        head.extend_from_slice(&received_ns.to_le_bytes());
        for limit in [limits.per_series, limits.name_bytes, limits.value_bytes] {
            head.extend_from_slice(&limit.to_le_bytes());
        }
        head.extend_from_slice(&(database.len() as u16).to_le_bytes());
        head.extend_from_slice(database.as_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&head);
        hasher.update(&body);
        Ok(Self { head, body, hasher })
    }

    /// Bytes in the object.
    pub(super) fn encoded_len(&self) -> usize {
        self.head.len() + self.body.len() + CRC_LEN
    }
}

/// The bytes of an object, which has frames if it is a group.
pub(super) fn encode_prepared<'a>(
    header: &ObjectHeader,
    frames: impl ExactSizeIterator<Item = &'a PreparedFrame> + Clone,
) -> Bytes {
    let frames_len: usize = frames.clone().map(PreparedFrame::encoded_len).sum();
    // A writer composes at most some dozens of objects before the first of them is durable.
    let open = u32::try_from(header.seq.saturating_sub(header.durable_end)).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER_LEN + frames_len + TRAILER_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&header.kind.code().to_le_bytes());
    // A group is cut long before it has that many frames.
    out.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    out.extend_from_slice(&header.writer.0);
    out.extend_from_slice(&header.epoch.to_le_bytes());
    out.extend_from_slice(&header.seq.to_le_bytes());
    out.extend_from_slice(&(frames_len as u64).to_le_bytes());
    out.extend_from_slice(&open.to_le_bytes());
    out.extend_from_slice(&header.order.to_le_bytes());
    let header_crc = crc32fast::hash(&out);
    out.extend_from_slice(&header_crc.to_le_bytes());

    let mut all = Hasher::new();
    all.update(&out);
    for frame in frames {
        let crc = frame.hasher.clone().finalize().to_le_bytes();
        out.extend_from_slice(&frame.head);
        out.extend_from_slice(&frame.body);
        out.extend_from_slice(&crc);
        all.combine(&frame.hasher);
        all.update(&crc);
    }
    out.extend_from_slice(&all.finalize().to_le_bytes());
    Bytes::from(out)
}

/// The object of a group of frames, or, without frames, a fence or a mark.
pub fn encode(header: &ObjectHeader, frames: &[Frame]) -> Result<Bytes, FrameTooLarge> {
    let prepared = frames
        .iter()
        .cloned()
        .map(PreparedFrame::new)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(encode_prepared(header, prepared.iter()))
}

/// A fence or a mark.
pub(super) fn encode_empty(header: &ObjectHeader) -> Bytes {
    encode_prepared(header, [].iter())
}

/// What the header says, by its own checksum. The rest of the object may be damaged or missing.
pub(super) fn decode_header(object: &[u8]) -> Result<ObjectHeader, DecodeError> {
    decode_head(object).map(|head| head.header)
}

/// The highest write order of an object, by its header; 0 if it has none.
pub(super) fn decode_last_order(object: &[u8]) -> Result<u64, DecodeError> {
    let head = decode_head(object)?;
    Ok(match head.header.order {
        0 => 0,
        first => order_in_group(first, head.frames.saturating_sub(1)),
    })
}

/// The header, and what it says about the frames.
struct Head {
    version: u16,
    /// Bytes of the header.
    len: usize,
    header: ObjectHeader,
    frames: usize,
    frames_len: u64,
}

fn decode_head(object: &[u8]) -> Result<Head, DecodeError> {
    let corrupt = |offset, what| DecodeError::Corrupt { offset, what };
    let magic_there = object.len().min(MAGIC.len());
    if object.get(..magic_there) != MAGIC.get(..magic_there) {
        return Err(corrupt(0, "it does not begin like a WAL object"));
    }
    let mut reader = Reader {
        bytes: object,
        at: MAGIC.len(),
    };
    let too_short = |len| DecodeError::Truncated {
        have: object.len(),
        need: len + TRAILER_LEN,
    };
    if object.len() < SHORT_HEADER_LEN {
        return Err(too_short(SHORT_HEADER_LEN));
    }
    let version = u16::from_le_bytes(reader.array()?);
    // Before the checksum: a later version may have another header.
    if version > VERSION {
        return Err(DecodeError::Version(version));
    }
    let len = match version {
        0..=3 => SHORT_HEADER_LEN,
        _ => HEADER_LEN,
    };
    if object.len() < len {
        return Err(too_short(len));
    }
    let crc_at = len - CRC_LEN;
    let header_bytes = object.get(..crc_at).unwrap_or_default();
    let header_crc = Reader {
        bytes: object,
        at: crc_at,
    }
    .array()?;
    if crc32fast::hash(header_bytes) != u32::from_le_bytes(header_crc) {
        return Err(corrupt(crc_at, "the checksum of its header is wrong"));
    }
    let kind = u16::from_le_bytes(reader.array()?);
    let frames = u32::from_le_bytes(reader.array()?) as usize;
    let writer = WriterId(reader.array()?);
    let epoch = u64::from_le_bytes(reader.array()?);
    let seq = u64::from_le_bytes(reader.array()?);
    let frames_len = u64::from_le_bytes(reader.array()?);
    let open = u64::from(u32::from_le_bytes(reader.array()?));
    let order = match len {
        HEADER_LEN => u64::from_le_bytes(reader.array()?),
        _ => 0,
    };
    let (kind, durable_end) = match version {
        // A torn object may be before the fence.
        0 | 1 if frames == 0 => (ObjectKind::Fence, seq.saturating_sub(1)),
        0 | 1 => (ObjectKind::Group, least_durable_end(seq)),
        _ => (
            ObjectKind::from_code(kind).ok_or(corrupt(KIND_AT, "its kind is unknown"))?,
            seq.checked_sub(open).ok_or(corrupt(
                OPEN_AT,
                "it counts more objects before it than there are",
            ))?,
        ),
    };
    if (kind == ObjectKind::Group) != (frames > 0) {
        return Err(corrupt(
            KIND_AT,
            "its kind does not fit the number of its frames",
        ));
    }
    Ok(Head {
        version,
        len,
        header: ObjectHeader {
            kind,
            writer,
            epoch,
            seq,
            durable_end,
            order,
        },
        frames,
        frames_len,
    })
}

/// Reads an object. The bodies share its memory.
pub fn decode(object: &Bytes) -> Result<(ObjectHeader, Vec<Frame>), DecodeError> {
    let Head {
        version,
        len: header_len,
        header,
        frames: count,
        frames_len,
    } = decode_head(object)?;
    let need = usize::try_from(frames_len)
        .ok()
        .and_then(|len| len.checked_add(header_len + TRAILER_LEN));
    let Some(need) = need else {
        return Err(DecodeError::Corrupt {
            offset: FRAMES_LEN_AT,
            what: "its length is impossible",
        });
    };
    if object.len() < need {
        return Err(DecodeError::Truncated {
            have: object.len(),
            need,
        });
    }
    if object.len() > need {
        return Err(DecodeError::Corrupt {
            offset: need,
            what: "there are bytes after its end",
        });
    }
    let end = need - TRAILER_LEN;
    if count > (end - header_len) / MIN_FRAME_LEN {
        return Err(DecodeError::Corrupt {
            offset: header_len,
            what: "it cannot hold as many frames as it says",
        });
    }

    let mut all = Hasher::new();
    all.update(object.get(..header_len).unwrap_or_default());
    let mut reader = Reader {
        bytes: object,
        at: header_len,
    };
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        frames.push(decode_frame(object, version, &mut reader, end, &mut all)?);
    }
    if reader.at != end {
        return Err(DecodeError::Corrupt {
            offset: reader.at,
            what: "there are bytes after its last frame",
        });
    }
    if all.finalize() != u32::from_le_bytes(reader.array()?) {
        return Err(DecodeError::Corrupt {
            offset: end,
            what: "its checksum is wrong",
        });
    }
    Ok((header, frames))
}

/// Reads the frame at the reader, which must end before `end`, and adds its bytes to the checksum
/// of all.
fn decode_frame(
    object: &Bytes,
    version: u16,
    reader: &mut Reader<'_>,
    end: usize,
    all: &mut Hasher,
) -> Result<Frame, DecodeError> {
    let start = reader.at;
    let corrupt = |what| DecodeError::Corrupt {
        offset: start,
        what,
    };
    let length = u32::from_le_bytes(reader.array()?) as usize;
    let body_end = reader.at.saturating_add(length);
    let limits_len = if version < 3 { 0 } else { LIMITS_LEN };
    if length < FRAME_FIXED_LEN - 4 + limits_len || body_end.saturating_add(CRC_LEN) > end {
        return Err(corrupt("the length of a frame is impossible"));
    }
    let mut hasher = Hasher::new();
    hasher.update(object.get(start..body_end).unwrap_or_default());
    let crc: [u8; CRC_LEN] = Reader {
        bytes: object,
        at: body_end,
    }
    .array()?;
    if hasher.clone().finalize() != u32::from_le_bytes(crc) {
        return Err(corrupt("the checksum of a frame is wrong"));
    }
    all.combine(&hasher);
    all.update(&crc);

    let [number, parameter, encoding, _reserved] = reader.array()?;
    let protocol = Protocol::from_code(number, parameter)
        .ok_or(corrupt("the protocol of a frame is unknown"))?;
    let encoding = ContentEncoding::from_code(encoding)
        .ok_or(corrupt("the encoding of a frame is unknown"))?;
    let received_ns = i64::from_le_bytes(reader.array()?);
    let mut limits = LabelLimits::NONE;
    if limits_len > 0 {
        limits = LabelLimits {
            per_series: u32::from_le_bytes(reader.array()?),
            name_bytes: u32::from_le_bytes(reader.array()?),
            value_bytes: u32::from_le_bytes(reader.array()?),
        };
    }
    let database_len = usize::from(u16::from_le_bytes(reader.array()?));
    let body_start = reader.at + database_len;
    if database_len > MAX_DATABASE_LEN || body_start > body_end {
        return Err(corrupt("the name of a frame's database is too long"));
    }
    let database = std::str::from_utf8(object.get(reader.at..body_start).unwrap_or_default())
        .map_err(|_| corrupt("the name of a frame's database is not UTF-8"))?
        .into();
    let body = object.slice(body_start..body_end);
    reader.at = body_end + CRC_LEN;
    Ok(Frame {
        database,
        protocol,
        encoding,
        received_ns,
        limits,
        body,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(array) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated {
                have: self.bytes.len(),
                need: self.at.saturating_add(N),
            });
        };
        self.at += N;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests;
