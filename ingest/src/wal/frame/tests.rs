use proptest::prelude::*;

use super::*;

const HEADER: ObjectHeader = ObjectHeader {
    writer: WriterId([7; 16]),
    epoch: 3,
    seq: 99,
};

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
         0100\
         0000\
         01000000\
         07070707070707070707070707070707\
         0300000000000000\
         6300000000000000\
         2a00000000000000\
         00000000";
    assert_eq!(&hex[..expected.len()], expected);
    let frame = "2200000001030100fbffffffffffffff070064656661756c746370752075736167653d312032";
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
    check(&[]);
    check(&two_frames());
    check(&[frame(
        "",
        Protocol::RemoteWrite1,
        ContentEncoding::Identity,
        0,
        b"",
    )]);
    assert_eq!(encode_fence(&HEADER).len(), FENCE_LEN);
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
        Just(Protocol::RemoteWrite1),
        Just(Protocol::RemoteWrite2),
    ];
    let encoding = (0u8..4).prop_map(|code| ContentEncoding::from_code(code).unwrap());
    let body = prop::collection::vec(any::<u8>(), 0..200);
    ("\\PC{0,20}", protocol, encoding, any::<i64>(), body).prop_map(
        |(database, protocol, encoding, received_ns, body)| Frame {
            database: database.into(),
            protocol,
            encoding,
            received_ns,
            body: body.into(),
        },
    )
}

proptest! {
    #[test]
    fn any_group_comes_back(writer: [u8; 16], epoch: u64, seq: u64, frames in prop::collection::vec(any_frame(), 0..8)) {
        let header = ObjectHeader { writer: WriterId(writer), epoch, seq };
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
    fn any_content_with_right_checksums_is_safe(count: u32, len_given in prop::option::of(any::<u64>()), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut object = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 2], &count.to_le_bytes(), &[0; 32]].concat();
        object.extend_from_slice(&len_given.unwrap_or(bytes.len() as u64).to_le_bytes());
        object.extend_from_slice(&[0; 4]);
        object.extend_from_slice(&crc32fast::hash(&object).to_le_bytes());
        object.extend_from_slice(&bytes);
        object.extend_from_slice(&crc32fast::hash(&object).to_le_bytes());
        let _ = decode(&object.into());
    }
}
