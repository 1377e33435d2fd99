use proptest::prelude::*;

use super::*;

const HEADER: ObjectHeader = ObjectHeader {
    kind: ObjectKind::Group,
    writer: WriterId([7; 16]),
    epoch: 3,
    seq: 99,
    durable_end: 97,
    order: 0x0100_0000_0000_002a,
};

const LIMITS: LabelLimits = LabelLimits {
    per_series: 128,
    name_bytes: 1024,
    value_bytes: 4096,
};

fn empty(kind: ObjectKind) -> ObjectHeader {
    ObjectHeader { kind, ..HEADER }
}

/// An object as an earlier format version had it: no order, and before version 3 no limits in its
/// frames.
fn earlier(version: u8, seq: u64, frames: &[Frame]) -> Vec<u8> {
    let header = ObjectHeader {
        seq,
        durable_end: seq.saturating_sub(2),
        ..HEADER
    };
    let whole = encode(&header, frames).unwrap();
    // The order came between what earlier versions had and the checksum.
    let mut bytes = whole[..SHORT_HEADER_LEN].to_vec();
    let mut at = HEADER_LEN;
    for _ in frames {
        let length = u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        let start = bytes.len();
        let limits = if version < 3 { LIMITS_LEN } else { 0 };
        bytes.extend_from_slice(&((length - limits) as u32).to_le_bytes());
        bytes.extend_from_slice(&whole[at + 4..at + 16]);
        bytes.extend_from_slice(&whole[at + 16 + limits..at + 4 + length]);
        let crc = crc32fast::hash(&bytes[start..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        at += 4 + length + CRC_LEN;
    }
    let frames_len = (bytes.len() - SHORT_HEADER_LEN) as u64;
    bytes[FRAMES_LEN_AT..FRAMES_LEN_AT + 8].copy_from_slice(&frames_len.to_le_bytes());
    bytes[8] = version;
    bytes.extend_from_slice(&[0; TRAILER_LEN]);
    seal(&mut bytes);
    bytes
}

/// The same frames as an earlier version has them.
fn without_limits(frames: &[Frame]) -> Vec<Frame> {
    let without = |frame: &Frame| Frame {
        limits: LabelLimits::NONE,
        ..frame.clone()
    };
    frames.iter().map(without).collect()
}

/// An object of format version 1.
fn version_1(seq: u64, frames: &[Frame]) -> Bytes {
    let mut bytes = earlier(1, seq, frames);
    bytes[10..12].fill(0);
    bytes[OPEN_AT..SHORT_HEADER_LEN - CRC_LEN].fill(0);
    seal(&mut bytes);
    bytes.into()
}

/// Makes both checksums fit.
fn seal(bytes: &mut [u8]) {
    let len = match bytes[8] {
        0..=3 => SHORT_HEADER_LEN,
        _ => HEADER_LEN,
    };
    let header = crc32fast::hash(&bytes[..len - CRC_LEN]);
    bytes[len - CRC_LEN..len].copy_from_slice(&header.to_le_bytes());
    let end = bytes.len() - TRAILER_LEN;
    let all = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&all.to_le_bytes());
}

fn frame(
    database: &str,
    protocol: Protocol,
    encoding: ContentEncoding,
    received_ns: i64,
    body: &[u8],
) -> Frame {
    Frame {
        database: database.into(),
        protocol,
        encoding,
        received_ns,
        limits: LIMITS,
        body: Bytes::copy_from_slice(body),
    }
}

fn two_frames() -> Vec<Frame> {
    let line = Protocol::LineProtocol {
        precision: Precision::Millisecond,
    };
    vec![
        frame("default", line, ContentEncoding::Gzip, -5, b"cpu usage=1 2"),
        frame(
            "p\u{f6}rts",
            Protocol::RemoteWrite1,
            ContentEncoding::Snappy,
            i64::MAX,
            &[0; 3],
        ),
    ]
}

/// The format is for ever: these bytes were written once and must always be read.
#[test]
fn bytes_are_as_specified() {
    let object = encode(&HEADER, &two_frames()[..1]).unwrap();
    let hex: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "544c4b57414c0d0a\
         0400\
         0000\
         01000000\
         07070707070707070707070707070707\
         0300000000000000\
         6300000000000000\
         3600000000000000\
         02000000\
         2a00000000000001";
    assert_eq!(&hex[..expected.len()], expected);
    let frame = "2e00000001030100fbffffffffffffff800000000004000000100000\
                 070064656661756c746370752075736167653d312032";
    assert_eq!(&hex[HEADER_LEN * 2..HEADER_LEN * 2 + frame.len()], frame);
    let all = crc32fast::hash(&object[..object.len() - 4]);
    assert_eq!(object[object.len() - 4..], all.to_le_bytes());
}

#[test]
fn reads_what_it_wrote() {
    let check = |frames: &[Frame]| {
        let object = encode(&HEADER, frames).unwrap();
        assert_eq!(decode(&object), Ok((HEADER, frames.to_vec())));
    };
    check(&two_frames());
    check(&[frame(
        "",
        Protocol::RemoteWrite1,
        ContentEncoding::Identity,
        0,
        b"",
    )]);
    for kind in [ObjectKind::Fence, ObjectKind::Mark] {
        let object = encode_empty(&empty(kind));
        assert_eq!(object.len(), EMPTY_LEN);
        assert_eq!(decode(&object), Ok((empty(kind), Vec::new())));
        assert_eq!(decode_header(&object), Ok(empty(kind)));
    }
}

#[test]
fn frames_of_version_2_have_no_limits() {
    let object = earlier(2, 99, &two_frames());
    assert_eq!(
        decode(&object.into()),
        Ok((
            ObjectHeader { order: 0, ..HEADER },
            without_limits(&two_frames())
        ))
    );
}

#[test]
fn groups_of_version_3_have_no_order() {
    let object = earlier(3, 99, &two_frames());
    let header = ObjectHeader { order: 0, ..HEADER };
    assert_eq!(decode(&object.into()), Ok((header, two_frames())));
}

#[test]
fn version_1_says_what_follows_from_its_numbers() {
    let check = |seq: u64, frames: &[Frame], kind: ObjectKind, durable_end: u64| {
        let header = ObjectHeader {
            kind,
            seq,
            durable_end,
            order: 0,
            ..HEADER
        };
        assert_eq!(
            decode(&version_1(seq, frames)),
            Ok((header, without_limits(frames)))
        );
    };
    check(99, &two_frames(), ObjectKind::Group, 84);
    check(9, &two_frames(), ObjectKind::Group, 0);
    check(99, &[], ObjectKind::Fence, 98);
    check(0, &[], ObjectKind::Fence, 0);
}

#[test]
fn a_header_is_read_without_the_rest() {
    let object = encode(&HEADER, &two_frames()).unwrap();
    assert_eq!(decode_header(&object[..HEADER_LEN]), Ok(HEADER));
    assert!(decode_header(&object[..HEADER_LEN - 1]).is_err());
}

#[test]
fn kinds_that_do_not_fit_are_refused() {
    let check = |object: Bytes, at: usize, value: u8, expected: &str| {
        let mut bytes = object.to_vec();
        bytes[at] = value;
        seal(&mut bytes);
        let error = decode(&bytes.into()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let group = encode(&HEADER, &two_frames()).unwrap();
    let mark = encode_empty(&empty(ObjectKind::Mark));
    check(group.clone(), KIND_AT, 3, "its kind is unknown");
    check(group.clone(), KIND_AT, 1, "does not fit the number");
    check(mark.clone(), KIND_AT, 0, "does not fit the number");
    check(group, OPEN_AT, 100, "more objects before it");
    check(mark, OPEN_AT, 100, "more objects before it");
}

#[test]
fn every_prefix_is_truncated_and_nothing_else_is() {
    let object = encode(&HEADER, &two_frames()).unwrap();
    for len in 0..object.len() {
        let found = decode(&object.slice(..len));
        assert!(
            matches!(found, Err(DecodeError::Truncated { have, .. }) if have == len),
            "{len} bytes: {found:?}"
        );
    }
    let longer = [&object[..], &[0]].concat().into();
    assert_eq!(
        decode(&longer),
        Err(DecodeError::Corrupt {
            offset: object.len(),
            what: "there are bytes after its end"
        })
    );
}

#[test]
fn every_flipped_bit_is_found() {
    let object = encode(&HEADER, &two_frames()).unwrap();
    for bit in 0..object.len() * 8 {
        let mut bytes = object.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match decode(&bytes.into()) {
            Err(DecodeError::Corrupt { .. }) => {}
            Err(DecodeError::Version(_)) if (8..10).contains(&(bit / 8)) => {}
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn too_large_is_refused_before_it_is_written() {
    let long = "x".repeat(MAX_DATABASE_LEN + 1);
    let found = encode(
        &HEADER,
        &[frame(
            &long,
            Protocol::RemoteWrite1,
            ContentEncoding::Identity,
            0,
            b"",
        )],
    );
    assert_eq!(found, Err(FrameTooLarge::Database(MAX_DATABASE_LEN + 1)));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let protocol = prop_oneof![
        (0u8..7).prop_map(|code| Protocol::LineProtocol {
            precision: Precision::from_code(code).unwrap()
        }),
        (0u8..7).prop_map(|code| Protocol::LineProtocol1 {
            precision: Precision::from_code(code).unwrap()
        }),
        Just(Protocol::RemoteWrite1),
        Just(Protocol::RemoteWrite2),
        prop_oneof![Just(OtlpFormat::Protobuf), Just(OtlpFormat::Json)]
            .prop_map(|format| Protocol::Otlp { format }),
        prop::sample::select(&TextFormat::ALL[..])
            .prop_map(|format| Protocol::Exposition { format }),
    ];
    let encoding = (0u8..4).prop_map(|code| ContentEncoding::from_code(code).unwrap());
    let body = prop::collection::vec(any::<u8>(), 0..200);
    ("\\PC{0,20}", protocol, encoding, any::<i64>(), body).prop_map(
        |(database, protocol, encoding, received_ns, body)| Frame {
            database: database.into(),
            protocol,
            encoding,
            received_ns,
            limits: LIMITS,
            body: body.into(),
        },
    )
}

proptest! {
    #[test]
    fn any_group_comes_back(writer: [u8; 16], epoch: u64, seq: u64, open: u32, frames in prop::collection::vec(any_frame(), 1..8)) {
        let durable_end = seq.saturating_sub(open.into());
        let header = ObjectHeader { kind: ObjectKind::Group, writer: WriterId(writer), epoch, seq, durable_end, order: 0 };
        let object = encode(&header, &frames).unwrap();
        prop_assert_eq!(decode(&object), Ok((header, frames)));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, good_start: bool) {
        let bytes = if good_start { [&MAGIC[..], &[1, 0], &bytes].concat() } else { bytes };
        prop_assert!(decode(&bytes.into()).is_err());
    }

    /// Checksums that fit, as an attacker or a bug would make them: still an error, never a panic.
    #[test]
    fn any_content_with_right_checksums_is_safe(kind in 0u16..4, count: u32, len_given in prop::option::of(any::<u64>()), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut object = [&MAGIC[..], &VERSION.to_le_bytes(), &kind.to_le_bytes(), &count.to_le_bytes(), &[0; 32]].concat();
        object.extend_from_slice(&len_given.unwrap_or(bytes.len() as u64).to_le_bytes());
        object.extend_from_slice(&[0; 12]);
        object.extend_from_slice(&crc32fast::hash(&object).to_le_bytes());
        object.extend_from_slice(&bytes);
        object.extend_from_slice(&crc32fast::hash(&object).to_le_bytes());
        let _ = decode(&object.into());
    }
}
