use super::super::testing::{Message, text_value};
use super::*;
use crate::protobuf::{Fields, Value};

/// With lengths as short as they can be, so that messages compare.
fn normalized(body: &[u8], schema: &Schema) -> Vec<u8> {
    let mut message = Message::default();
    let mut fields = Fields::new(body);
    while let Some((number, value)) = fields.next().unwrap() {
        let field = schema.iter().find(|field| field.number == number).unwrap();
        let at = number as usize;
        message = match (value, &field.kind) {
            (Value::Bytes(inner), Kind::Message(schema)) => {
                message.bytes(at, &normalized(inner, schema))
            }
            (Value::Bytes(bytes), _) => message.bytes(at, bytes),
            (Value::Varint(value), _) => message.varint(at, value),
            (Value::Fixed64(value), _) => message.fixed64(at, value),
            (Value::Fixed32(_), _) => unreachable!("no field is of 32 bits"),
        };
    }
    message.into_bytes()
}

/// A metric in JSON, and what it is in protobuf.
#[track_caller]
fn check(json: &str, expected: Message) {
    let body = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{json}]}}]}}]}}"#);
    let found = to_protobuf(body.as_bytes(), 1 << 20).unwrap_or_else(|error| panic!("{error}"));
    let scope = Message::default().message(2, expected);
    let resource = Message::default().message(2, scope);
    let expected = Message::default().message(1, resource).into_bytes();
    assert_eq!(normalized(&found, &REQUEST), expected, "{json}");
}

#[track_caller]
fn refuse(json: &str, part: &str) {
    let error = to_protobuf(json.as_bytes(), 1 << 20)
        .unwrap_err()
        .to_string();
    assert!(error.contains(part), "{json}: {error}");
}

fn m() -> Message {
    Message::default()
}

#[test]
fn numbers_keep_every_bit() {
    let point = |json: &str, expected: Message| {
        check(
            &format!(r#"{{"name":"n","gauge":{{"dataPoints":[{json}]}}}}"#),
            m().text(1, "n").message(5, m().message(1, expected)),
        );
    };
    point(
        r#"{"timeUnixNano":"1544712660300000000","asDouble":0.1}"#,
        m().fixed64(3, 1_544_712_660_300_000_000).double(4, 0.1),
    );
    point(
        r#"{"time_unix_nano":18446744073709551615,"as_int":"-9223372036854775808"}"#,
        m().fixed64(3, u64::MAX).fixed64(6, i64::MIN as u64),
    );
    for (text, value) in [
        ("123456789012345680", 123_456_789_012_345_680.0),
        ("7.2057594037927933e16", 72_057_594_037_927_936.0),
        ("5e-324", 5e-324),
        ("-0.0", -0.0),
        ("\"1.7976931348623157e308\"", f64::MAX),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
        ("\"NaN\"", f64::NAN),
        ("3", 3.0),
    ] {
        point(&format!(r#"{{"asDouble":{text}}}"#), m().double(4, value));
    }
    point(
        r#" { "asInt" : 1e3 , "flags" : 1 , "exemplars" : null ,
            "unknown" : [ { "a" : [ null , true , "x" , -1.5e3 ] } ] } "#,
        m().fixed64(6, 1000).varint(8, 1),
    );
}

#[test]
fn halves_of_characters_are_replaced() {
    for (escaped, text) in [
        (r"\ud83d\ude00", "😀"),
        (r"\ud800\u0000", "\u{fffd}\0"),
        (r"\ud800\ud800", "\u{fffd}\u{fffd}"),
        (r"\ud800\udfff", "\u{103ff}"),
        (r"\udc00x", "\u{fffd}x"),
        (r"\ud800", "\u{fffd}"),
        (r"\ud800\n", "\u{fffd}\n"),
    ] {
        check(&format!(r#"{{"name":"{escaped}"}}"#), m().text(1, text));
    }
}

#[test]
fn every_kind_of_field() {
    check(
        r#"{"name":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx","unit":"s","sum":{
            "aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,
            "dataPoints":[{
            "attributes":[
                {"key":"s","value":{"stringValue":"x"}},
                {"key":"b","value":{"boolValue":false}},
                {"key":"i","value":{"intValue":"-7"}},
                {"key":"y","value":{"bytesValue":"//79_A=="}},
                {"key":"l","value":{"arrayValue":{"values":[{"doubleValue":"NaN"},{}]}}},
                {"key":"m","value":{"kvlistValue":{"values":[{"key":"k"}]}}}],
            "exemplars":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"","asInt":"2",
                "filteredAttributes":[]}]}]}}"#,
        m().text(1, "a\"\\/\u{8}\u{c}\n\r\té😀\u{fffd}x")
            .text(3, "s")
            .message(
                7,
                m().varint(2, 1).varint(3, 1).message(
                    1,
                    m().message(7, m().text(1, "s").message(2, text_value("x")))
                        .message(7, m().text(1, "b").message(2, m().varint(2, 0)))
                        .message(7, m().text(1, "i").message(2, m().varint(3, -7i64 as u64)))
                        .message(
                            7,
                            m().text(1, "y")
                                .message(2, m().bytes(7, b"\xff\xfe\xfd\xfc")),
                        )
                        .message(
                            7,
                            m().text(1, "l").message(
                                2,
                                m().message(
                                    5,
                                    m().message(1, m().double(4, f64::NAN)).message(1, m()),
                                ),
                            ),
                        )
                        .message(
                            7,
                            m().text(1, "m")
                                .message(2, m().message(6, m().message(1, m().text(1, "k")))),
                        )
                        .message(
                            5,
                            m().bytes(
                                5,
                                b"\x5b\x8e\xff\xf7\x98\x03\x81\x03\xd2\x69\xb6\x33\x81\x3f\xc6\x0c",
                            )
                            .bytes(4, b"")
                            .fixed64(6, 2),
                        ),
                ),
            ),
    );
    check(
        r#"{"exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":3,"sum":1.5,
            "scale":-3,"zeroCount":"1","positive":{"offset":"-2","bucketCounts":["1",2]},
            "zeroThreshold":0.5}]}}"#,
        m().message(
            10,
            m().varint(2, 2).message(
                1,
                m().fixed64(4, 3)
                    .double(5, 1.5)
                    .varint(6, 5)
                    .fixed64(7, 1)
                    .message(8, m().varint(1, 3).varint(2, 1).varint(2, 2))
                    .double(14, 0.5),
            ),
        ),
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    refuse("", "there should be a '{' (byte 0)");
    refuse("{}x", "there is something after its end (byte 2)");
    refuse("[]", "there should be a '{'");
    refuse(r#"{"a":1 "b":2}"#, "there should be a ','");
    refuse(r#"{"a":01}"#, "there should be a ','");
    refuse(r#"{"a":-}"#, "digit");
    refuse(r#"{"a":nul}"#, "digit");
    refuse(r#"{"a":"\x"}"#, "an escape is unknown");
    refuse(r#"{"a":"\u12"}"#, "four hexadecimal digits");
    refuse("{\"a\":\"\n\"}", "a control character");
    refuse(r#"{"a":"x"#, "does not end");
    refuse(r#"{"resourceMetrics":{}}"#, "there should be a '['");
    let point = |json: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[
                {{"gauge":{{"dataPoints":[{json}]}}}}]}}]}}]}}"#
        )
    };
    refuse(&point(r#"{"timeUnixNano":"-1"}"#), "out of range");
    refuse(&point(r#"{"asInt":1.5}"#), "no integer");
    refuse(&point(r#"{"asDouble":"nan"}"#), "no number");
    refuse(&point(r#"{"asDouble":"inf"}"#), "no number");
    refuse(&point(r#"{"exemplars":[{"traceId":"0g"}]}"#), "hexadecimal");
    let error = to_protobuf(b"{\"a\":\"\xff\"}", 1 << 20).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn depth_and_size_are_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested =
            |depth: usize| format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        assert!(to_protobuf(nested(128).as_bytes(), 1 << 20).is_ok());
        refuse(&nested(129), "nested too deep");
        refuse(&nested(1_000_000), "nested too deep");
    }
    let value = |depth: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#, "]}}");
        let value = format!("{}{{}}{}", open.repeat(depth), close.repeat(depth));
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
                {{"key":"k","value":{value}}}]}}}}]}}"#
        )
    };
    assert!(to_protobuf(value(60).as_bytes(), 1 << 20).is_ok());
    refuse(&value(100_000), "nested too deep");

    let zeros = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[
            {{"histogram":{{"dataPoints":[{{"bucketCounts":[{}0]}}]}}}}]}}]}}]}}"#,
        "0,".repeat(100_000)
    );
    let body = to_protobuf(zeros.as_bytes(), 1 << 20).unwrap();
    assert!(body.len() <= MAX_GROWTH * zeros.len());
    let error = to_protobuf(zeros.as_bytes(), 800_000).unwrap_err();
    assert!(
        error.to_string().contains("larger than the limit"),
        "{error}"
    );
}
