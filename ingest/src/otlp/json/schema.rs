//! The messages of OTLP metrics: names, numbers and types of their fields.

/// The fields of a message.
pub(super) type Schema = [Field];

/// A field of a message.
pub(super) struct Field {
    name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) is_repeated: bool,
}

/// How a value is written in JSON and on the wire.
pub(super) enum Kind {
    Text,
    Base64,
    Hex,
    Fixed64,
    SignedFixed64,
    Unsigned,
    Signed,
    ZigZag,
    Double,
    Bool,
    Temporality,
    Message(&'static Schema),
}

impl Field {
    /// Whether a key is its name, in lowerCamelCase or as protobuf has it.
    pub(super) fn is_named(&self, key: &str) -> bool {
        if key == self.name {
            return true;
        }
        let mut key = key.bytes();
        let is_snake = self.name.bytes().all(|byte| match byte {
            b'A'..=b'Z' => {
                key.next() == Some(b'_') && key.next() == Some(byte.to_ascii_lowercase())
            }
            byte => key.next() == Some(byte),
        });
        is_snake && key.next().is_none()
    }
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        is_repeated: false,
    }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        is_repeated: true,
    }
}

use Kind::{
    Base64, Bool, Double, Fixed64, Hex, Message, Signed, SignedFixed64, Temporality, Text,
    Unsigned, ZigZag,
};

/// `ExportMetricsServiceRequest`
pub(super) static REQUEST: [Field; 1] = [many("resourceMetrics", 1, Message(&RESOURCE_METRICS))];

static RESOURCE_METRICS: [Field; 3] = [
    one("resource", 1, Message(&RESOURCE)),
    many("scopeMetrics", 2, Message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Text),
];

static RESOURCE: [Field; 1] = [many("attributes", 1, Message(&KEY_VALUE))];

static SCOPE_METRICS: [Field; 3] = [
    one("scope", 1, Message(&SCOPE)),
    many("metrics", 2, Message(&METRIC)),
    one("schemaUrl", 3, Text),
];

static SCOPE: [Field; 3] = [
    one("name", 1, Text),
    one("version", 2, Text),
    many("attributes", 3, Message(&KEY_VALUE)),
];

static KEY_VALUE: [Field; 2] = [one("key", 1, Text), one("value", 2, Message(&ANY_VALUE))];

static ANY_VALUE: [Field; 7] = [
    one("stringValue", 1, Text),
    one("boolValue", 2, Bool),
    one("intValue", 3, Signed),
    one("doubleValue", 4, Double),
    one("arrayValue", 5, Message(&ARRAY)),
    one("kvlistValue", 6, Message(&KEY_VALUES)),
    one("bytesValue", 7, Base64),
];

static ARRAY: [Field; 1] = [many("values", 1, Message(&ANY_VALUE))];

static KEY_VALUES: [Field; 1] = [many("values", 1, Message(&KEY_VALUE))];

static METRIC: [Field; 8] = [
    one("name", 1, Text),
    one("description", 2, Text),
    one("unit", 3, Text),
    one("gauge", 5, Message(&GAUGE)),
    one("sum", 7, Message(&SUM)),
    one("histogram", 9, Message(&HISTOGRAM)),
    one("exponentialHistogram", 10, Message(&EXPONENTIAL)),
    one("summary", 11, Message(&SUMMARY)),
];

static GAUGE: [Field; 1] = [many("dataPoints", 1, Message(&NUMBER_POINT))];

static SUM: [Field; 3] = [
    many("dataPoints", 1, Message(&NUMBER_POINT)),
    one("aggregationTemporality", 2, Temporality),
    one("isMonotonic", 3, Bool),
];

static HISTOGRAM: [Field; 2] = [
    many("dataPoints", 1, Message(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Temporality),
];

static EXPONENTIAL: [Field; 2] = [
    many("dataPoints", 1, Message(&EXPONENTIAL_POINT)),
    one("aggregationTemporality", 2, Temporality),
];

static SUMMARY: [Field; 1] = [many("dataPoints", 1, Message(&SUMMARY_POINT))];

static NUMBER_POINT: [Field; 7] = [
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("asDouble", 4, Double),
    many("exemplars", 5, Message(&EXEMPLAR)),
    one("asInt", 6, SignedFixed64),
    many("attributes", 7, Message(&KEY_VALUE)),
    one("flags", 8, Unsigned),
];

static HISTOGRAM_POINT: [Field; 11] = [
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    many("bucketCounts", 6, Fixed64),
    many("explicitBounds", 7, Double),
    many("exemplars", 8, Message(&EXEMPLAR)),
    many("attributes", 9, Message(&KEY_VALUE)),
    one("flags", 10, Unsigned),
    one("min", 11, Double),
    one("max", 12, Double),
];

static EXPONENTIAL_POINT: [Field; 14] = [
    many("attributes", 1, Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    one("scale", 6, ZigZag),
    one("zeroCount", 7, Fixed64),
    one("positive", 8, Message(&BUCKETS)),
    one("negative", 9, Message(&BUCKETS)),
    one("flags", 10, Unsigned),
    many("exemplars", 11, Message(&EXEMPLAR)),
    one("min", 12, Double),
    one("max", 13, Double),
    one("zeroThreshold", 14, Double),
];

static BUCKETS: [Field; 2] = [one("offset", 1, ZigZag), many("bucketCounts", 2, Unsigned)];

static SUMMARY_POINT: [Field; 7] = [
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    many("quantileValues", 6, Message(&QUANTILE)),
    many("attributes", 7, Message(&KEY_VALUE)),
    one("flags", 8, Unsigned),
];

static QUANTILE: [Field; 2] = [one("quantile", 1, Double), one("value", 2, Double)];

static EXEMPLAR: [Field; 6] = [
    one("timeUnixNano", 2, Fixed64),
    one("asDouble", 3, Double),
    one("spanId", 4, Hex),
    one("traceId", 5, Hex),
    one("asInt", 6, SignedFixed64),
    many("filteredAttributes", 7, Message(&KEY_VALUE)),
];
