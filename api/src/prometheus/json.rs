//! The pieces of the Prometheus API's JSON, written straight into a buffer: no tree, no call of a
//! serializer per sample.
use tidelake_catalog::model::{Histogram, Labels};

use crate::prometheus::go_float::{write_time, write_value};
use crate::prometheus::histogram::write_histogram;

/// Appends `[time,"value"]`.
pub fn write_sample(out: &mut Vec<u8>, ms: i64, value: f64) {
    out.push(b'[');
    write_time(out, ms);
    out.extend_from_slice(b",\"");
    write_value(out, value);
    out.extend_from_slice(b"\"]");
}

/// Appends `[time,{histogram}]`.
pub fn write_histogram_sample(out: &mut Vec<u8>, ms: i64, histogram: &Histogram) {
    out.push(b'[');
    write_time(out, ms);
    out.push(b',');
    write_histogram(out, histogram);
    out.push(b']');
}

/// Appends `{"name":"value",...}`.
pub fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
    out.push(b'}');
}

/// Appends a member of an object that follows others: the name and a list of texts, if there are
/// any.
pub fn write_texts(out: &mut Vec<u8>, name: &str, texts: &[String]) {
    for (at, text) in texts.iter().enumerate() {
        if at == 0 {
            out.push(b',');
            write_string(out, name);
            out.push(b':');
        }
        out.push(if at == 0 { b'[' } else { b',' });
        write_string(out, text);
    }
    if !texts.is_empty() {
        out.push(b']');
    }
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_escape_as_json_wants() {
        for text in [
            "",
            "plain",
            "ü🌊",
            "a\"b\\c\n\r\t",
            "\u{0}\u{1f}\u{7f}",
            "end\\",
        ] {
            assert_eq!(
                serde_json::from_str::<String>(&written(|out| write_string(out, text))).unwrap(),
                text
            );
        }
    }

    #[test]
    fn samples_labels_and_lists() {
        assert_eq!(
            written(|out| write_sample(out, 1500, 2.0)),
            r#"[1.500,"2"]"#
        );
        let histogram = Histogram {
            count: 1.0,
            sum: 2.0,
            ..Histogram::default()
        };
        assert_eq!(
            written(|out| write_histogram_sample(out, 0, &histogram)),
            r#"[0,{"count":"1","sum":"2"}]"#
        );
        assert_eq!(
            written(|out| write_labels(out, &Labels::from_pairs([("b", "\""), ("a", "1")]))),
            r#"{"a":"1","b":"\""}"#
        );
        assert_eq!(written(|out| write_texts(out, "infos", &[])), "");
        assert_eq!(
            written(|out| write_texts(out, "infos", &["a".into(), "b".into()])),
            r#","infos":["a","b"]"#
        );
    }
}
