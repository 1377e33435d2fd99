//! Value lists of collectd to line protocol.
//!
//! The value `rx` of plugin `interface` becomes the field `value` of the measurement
//! `interface_rx`, with the tags `host`, `instance`, `type` and `type_instance`: the documented
//! mapping of InfluxDB's listener for collectd. All values are floats, since one plugin has
//! counters and gauges under one name. A gauge without a value (`null`) is left out.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::service::error::{Code, ServiceError};

/// A refusal names this many value lists.
const NAMED: usize = 20;
/// Times of collectd count 2^-30 seconds, and its JSON has them in milliseconds.
const MICROS_PER_SECOND: f64 = 1e6;

/// What a body says.
#[derive(Debug, Default)]
pub struct Lines {
    /// As line protocol, times in microseconds.
    pub lines: String,
    /// Which value lists were refused and why.
    pub refused: Option<String>,
}

/// A value list.
#[derive(Debug, Deserialize)]
struct ValueList {
    values: Vec<Option<f64>>,
    dsnames: Vec<String>,
    time: f64,
    host: String,
    plugin: String,
    #[serde(default)]
    plugin_instance: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    type_instance: String,
}

/// Reads a body: a JSON array of value lists.
///
/// # Errors
/// [`Code::BadRequest`] if it is none, [`Code::TooLarge`] if its lines have more than `most` bytes.
pub fn read(body: &[u8], most: usize) -> Result<Lines, ServiceError> {
    let mut lines = Reader {
        most,
        ..Reader::default()
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = (&mut lines)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    if lines.lines.len() > most {
        return Err(ServiceError::new(
            Code::TooLarge,
            "the value lists have long names for what they hold; send fewer of them at once",
        ));
    }
    read.map_err(|error| {
        ServiceError::bad_request(format!("the body is no array of value lists: {error}"))
    })?;
    let refused = (lines.refused > 0).then(|| {
        format!(
            "{} value lists were refused, the others were kept: {}{}",
            lines.refused,
            lines.named.join("; "),
            if lines.refused > NAMED { "; ..." } else { "" }
        )
    });
    Ok(Lines {
        lines: lines.lines,
        refused,
    })
}

#[derive(Debug, Default)]
struct Reader {
    lines: String,
    most: usize,
    named: Vec<String>,
    refused: usize,
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an array of value lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lists: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(list) = lists.next_element::<ValueList>()? {
            number += 1;
            if let Err(reason) = self.add(&list) {
                self.refused += 1;
                if self.named.len() < NAMED {
                    self.named.push(format!("value list {number}: {reason}"));
                }
            }
            if self.lines.len() > self.most {
                return Err(serde::de::Error::custom("too many bytes of lines"));
            }
        }
        Ok(())
    }
}

impl Reader {
    fn add(&mut self, list: &ValueList) -> Result<(), String> {
        if list.values.len() != list.dsnames.len() {
            let (values, names) = (list.values.len(), list.dsnames.len());
            return Err(format!("it has {values} values and {names} dsnames"));
        }
        if list.plugin.is_empty() || list.host.is_empty() {
            return Err("it has no plugin or no host".to_owned());
        }
        let micros = (list.time * MICROS_PER_SECOND).round();
        if micros.abs() > i64::MAX as f64 / 1e3 {
            return Err(format!("its time {} is out of range", list.time));
        }
        let before = self.lines.len();
        for (value, name) in list.values.iter().zip(&list.dsnames) {
            if let Some(value) = value
                && let Err(reason) = self.line(list, name, *value, micros as i64)
            {
                // A list is kept or refused as a whole.
                self.lines.truncate(before);
                return Err(reason);
            }
            if self.lines.len() > self.most {
                break;
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        list: &ValueList,
        name: &str,
        value: f64,
        micros: i64,
    ) -> Result<(), String> {
        self.escaped(&list.plugin, &[',', ' '])?;
        self.lines.push('_');
        self.escaped(name, &[',', ' '])?;
        let tags = [
            ("host", &list.host),
            ("instance", &list.plugin_instance),
            ("type", &list.kind),
            ("type_instance", &list.type_instance),
        ];
        for (tag, text) in tags {
            if !text.is_empty() {
                self.lines.push(',');
                self.lines.push_str(tag);
                self.lines.push('=');
                self.escaped(text, &[',', ' ', '='])?;
            }
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.lines, " value={value:?} {micros}");
        Ok(())
    }

    fn escaped(&mut self, text: &str, special: &[char]) -> Result<(), String> {
        if text.contains(['\n', '\r']) {
            return Err(format!(
                "{:?} has a line break",
                text.chars().take(64).collect::<String>()
            ));
        }
        for c in text.chars() {
            if special.contains(&c) || c == '\\' {
                self.lines.push('\\');
            }
            self.lines.push(c);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &str) -> (String, Option<String>) {
        let read = read(body.as_bytes(), 1 << 20).unwrap();
        (read.lines, read.refused)
    }

    #[test]
    fn a_value_list_is_a_line_for_each_value() {
        let body = r#"[{"values":[197141504,1.5],"dstypes":["derive","gauge"],
            "dsnames":["read","write"],"time":1251533299.123,"interval":10.000,
            "host":"leeloo lan","plugin":"disk","plugin_instance":"sda","type":"disk_octets",
            "type_instance":"","meta":{"a":{"b":[1]}}}]"#;
        let expected = "disk_read,host=leeloo\\ lan,instance=sda,type=disk_octets \
                        value=197141504.0 1251533299123000\n\
                        disk_write,host=leeloo\\ lan,instance=sda,type=disk_octets \
                        value=1.5 1251533299123000\n";
        assert_eq!(lines(body), (expected.to_owned(), None));
    }

    #[test]
    fn what_is_no_value_is_left_out() {
        let body = r#"[{"values":[null],"dsnames":["value"],"time":1,"host":"h","plugin":"p"}]"#;
        assert_eq!(lines(body), (String::new(), None));
        assert_eq!(lines("[]"), (String::new(), None));
    }

    #[test]
    fn bad_lists_are_named_and_good_ones_kept() {
        let good = r#"{"values":[1],"dsnames":["v"],"time":1,"host":"h","plugin":"p"}"#;
        let check = |bad: &str, reason: &str| {
            let (text, refused) = lines(&format!("[{good},{bad}]"));
            assert_eq!(text, "p_v,host=h value=1.0 1000000\n", "{bad}");
            let refused = refused.unwrap();
            assert!(refused.contains("value list 2"), "{refused}");
            assert!(refused.contains(reason), "{refused}");
        };
        let list = |values: &str, time: &str, host: &str| {
            format!(
                r#"{{"values":{values},"dsnames":["v"],"time":{time},"host":{host},"plugin":"p"}}"#
            )
        };
        check(&list("[1,2]", "1", r#""h""#), "2 values and 1 dsnames");
        check(&list("[1]", "1e300", r#""h""#), "out of range");
        check(&list("[1]", "1", r#""""#), "no host");
        check(&list("[1]", "1", r#""a\nb""#), "line break");
    }

    #[test]
    fn what_is_no_array_of_lists_is_refused() {
        for body in ["", "{}", "[1]", "[{}]", "[", "[] x", "null"] {
            let error = read(body.as_bytes(), 1 << 20).unwrap_err();
            assert_eq!(error.code, Code::BadRequest, "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(read(deep.as_bytes(), 1).unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn lines_have_a_limit() {
        let names = vec!["\"v\""; 1000].join(",");
        let values = vec!["1"; 1000].join(",");
        let host = "h".repeat(1000);
        let body = format!(
            r#"[{{"values":[{values}],"dsnames":[{names}],"time":1,"host":"{host}","plugin":"p"}}]"#
        );
        let most = 4 * body.len();
        let error = read(body.as_bytes(), most).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        // It ends with the line that is too much, not after all of them.
        let mut reader = Reader {
            most,
            ..Reader::default()
        };
        let mut json = serde_json::Deserializer::from_slice(body.as_bytes());
        assert!((&mut reader).deserialize(&mut json).is_err());
        assert!(reader.lines.len() < most + 2_000, "{}", reader.lines.len());
    }
}
