use bytes::BytesMut;
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::Startup;
use pgwire::messages::{Message as _, PgWireFrontendMessage};
use proptest::prelude::*;

use super::*;

/// The message that another implementation's bytes are.
fn decoded(message: PgWireFrontendMessage) -> Message {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    let tag = bytes.get_u8();
    let len = bytes.get_i32();
    assert_eq!(len as usize, bytes.len() + 4);
    Message::decode(tag, bytes.freeze()).unwrap()
}

fn name() -> impl Strategy<Value = String> {
    "[a-z_ \"é]{0,12}"
}

/// An empty name is none.
fn given(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

proptest! {
    #[test]
    fn what_another_implementation_sends_is_understood(
        name in name(),
        query in "[^\0]{0,60}",
        types in prop::collection::vec(any::<u32>(), 0..5),
        formats in prop::collection::vec(any::<i16>(), 0..5),
        values in prop::collection::vec(
            prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            0..5,
        ),
        max_rows in 0..i32::MAX,
    ) {
        let values: Vec<Option<Bytes>> = values.into_iter().map(|v| v.map(Bytes::from)).collect();
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Query(Query::new(query.clone()))),
            Message::Query(query.clone())
        );
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Parse(Parse::new(
                given(&name),
                query.clone(),
                types.clone(),
            ))),
            Message::Parse { name: name.clone(), query, types }
        );
        let bind = Bind::new(None, given(&name), formats.clone(), values.clone(), formats.clone());
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Bind(bind)),
            Message::Bind {
                portal: String::new(),
                statement: name.clone(),
                formats: formats.clone(),
                values,
                results: formats,
            }
        );
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Execute(Execute::new(given(&name), max_rows))),
            Message::Execute { portal: name.clone(), max_rows: max_rows as u32 }
        );
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Describe(Describe::new(b'P', given(&name)))),
            Message::Describe(Target::Portal, name.clone())
        );
        prop_assert_eq!(
            decoded(PgWireFrontendMessage::Close(Close::new(b'S', given(&name)))),
            Message::Close(Target::Statement, name)
        );
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(
        tag: u8,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Message::decode(tag, Bytes::from(body.clone()));
        let _ = First::decode(Bytes::from(body));
    }
}

#[test]
fn first_messages() {
    let mut startup = Startup::default();
    startup.parameters.insert("user".into(), "ann".into());
    let mut bytes = BytesMut::new();
    startup.encode(&mut bytes).unwrap();
    bytes.advance(4);
    let expected = First::Startup {
        is_newer: false,
        parameters: vec![("user".into(), "ann".into())],
    };
    assert_eq!(First::decode(bytes.freeze()).unwrap(), expected);
    let decode = |words: &[i32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        First::decode(bytes.into())
    };
    assert_eq!(decode(&[TLS_REQUEST]).unwrap(), First::Tls);
    assert_eq!(decode(&[GSS_REQUEST]).unwrap(), First::Gss);
    let cancel = First::Cancel { pid: 7, key: -1 };
    assert_eq!(decode(&[CANCEL_REQUEST, 7, -1]).unwrap(), cancel);
    assert!(decode(&[CANCEL_REQUEST, 7]).is_err());
    assert!(decode(&[2 << 16]).is_err());
    assert!(decode(&[]).is_err());
    // Not closed.
    assert!(First::decode(Bytes::from_static(b"\0\x03\0\0user\0ann\0")).is_err());
}

#[test]
fn counts_without_elements_are_errors() {
    let check = |tag, body: &'static [u8]| {
        assert!(
            Message::decode(tag, Bytes::from_static(body)).is_err(),
            "{body:?}"
        );
    };
    check(b'P', b"");
    check(b'P', b"\0");
    check(b'P', b"\0\0\xff\xff");
    check(b'B', b"\0\0\0\0\xff\xff");
    check(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff");
    check(b'Q', b"no end");
    check(b'Q', b"\xff\0");
    check(b'S', b"more");
    check(b'D', b"Xname\0");
    check(b'?', b"");
}
