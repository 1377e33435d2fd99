//! Messages of remote write and remote read, encoded here and by nothing of what is tested.

/// A `prometheus.WriteRequest`.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a series; times in milliseconds.
    pub fn series(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        self.push(&labels, samples);
        self
    }

    /// Adds one exemplar of a series: time, value and labels.
    pub fn exemplar(
        mut self,
        labels: &[(&str, &str)],
        time: i64,
        value: f64,
        own_labels: &[(&str, &str)],
    ) -> Self {
        let mut series = Vec::new();
        labels
            .iter()
            .for_each(|label| label_field(&mut series, *label));
        let mut exemplar = Vec::new();
        own_labels
            .iter()
            .for_each(|label| label_field(&mut exemplar, *label));
        exemplar.push(2 << 3 | 1);
        exemplar.extend_from_slice(&value.to_le_bytes());
        exemplar.push(3 << 3);
        varint(&mut exemplar, time as u64);
        bytes_field(&mut series, 3, &exemplar);
        bytes_field(&mut self.0, 1, &series);
        self
    }

    /// The same with labels that need not be text.
    pub fn raw_series(mut self, labels: &[(&[u8], &[u8])], samples: &[(i64, f64)]) -> Self {
        self.push(labels, samples);
        self
    }

    fn push(&mut self, labels: &[(&[u8], &[u8])], samples: &[(i64, f64)]) {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            bytes_field(&mut label, 1, name);
            bytes_field(&mut label, 2, value);
            bytes_field(&mut series, 1, &label);
        }
        for (time, value) in samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, *time as u64);
            bytes_field(&mut series, 2, &sample);
        }
        bytes_field(&mut self.0, 1, &series);
    }

    /// The message as it is.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The message as a body.
    pub fn snappy(&self) -> Vec<u8> {
        snappy(&self.0)
    }
}

/// An `io.prometheus.write.v2.Request`.
#[derive(Debug, Clone, Default)]
pub struct Message2 {
    symbols: Vec<String>,
    series: Vec<u8>,
}

impl Message2 {
    /// Adds a series; samples are time, value and start time, in milliseconds.
    pub fn series(mut self, labels: &[(&str, &str)], samples: &[(i64, f64, i64)]) -> Self {
        let mut series = Vec::new();
        let references = self.references(labels);
        bytes_field(&mut series, 1, &references);
        for (time, value, start_time) in samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.to_le_bytes());
            for (number, time) in [(2, time), (3, start_time)] {
                sample.push(number << 3);
                varint(&mut sample, *time as u64);
            }
            bytes_field(&mut series, 2, &sample);
        }
        bytes_field(&mut self.series, 5, &series);
        self
    }

    /// Adds exemplars of a series: time, value and labels.
    pub fn exemplars(
        mut self,
        labels: &[(&str, &str)],
        exemplars: &[(i64, f64, &[(&str, &str)])],
    ) -> Self {
        let mut series = Vec::new();
        let references = self.references(labels);
        bytes_field(&mut series, 1, &references);
        for (time, value, labels) in exemplars {
            let mut exemplar = Vec::new();
            let references = self.references(labels);
            bytes_field(&mut exemplar, 1, &references);
            exemplar.push(2 << 3 | 1);
            exemplar.extend_from_slice(&value.to_le_bytes());
            exemplar.push(3 << 3);
            varint(&mut exemplar, *time as u64);
            bytes_field(&mut series, 4, &exemplar);
        }
        bytes_field(&mut self.series, 5, &series);
        self
    }

    fn references(&mut self, labels: &[(&str, &str)]) -> Vec<u8> {
        let mut references = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let at = self
                .symbols
                .iter()
                .position(|symbol| symbol == text)
                .unwrap_or_else(|| {
                    self.symbols.push((*text).to_owned());
                    self.symbols.len() - 1
                });
            // Symbol 0 is the empty one.
            varint(&mut references, at as u64 + 1);
        }
        references
    }

    /// The message as a body.
    pub fn snappy(&self) -> Vec<u8> {
        let mut body = Vec::new();
        bytes_field(&mut body, 4, b"");
        self.symbols
            .iter()
            .for_each(|symbol| bytes_field(&mut body, 4, symbol.as_bytes()));
        body.extend_from_slice(&self.series);
        snappy(&body)
    }
}

/// Bytes as a snappy block.
pub fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(bytes)
        .expect("small enough for snappy")
}

fn label_field(out: &mut Vec<u8>, (name, value): (&str, &str)) {
    let mut label = Vec::new();
    bytes_field(&mut label, 1, name.as_bytes());
    bytes_field(&mut label, 2, value.as_bytes());
    bytes_field(out, 1, &label);
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A `prometheus.ReadRequest`: the kinds of answers that are accepted, and for each query its
/// matchers (kind, label, value).
pub fn read_request(
    accepted: &[u64],
    queries: &[&[(u8, &str, &str)]],
    start_ms: i64,
    end_ms: i64,
) -> Vec<u8> {
    let mut request = Vec::new();
    for matchers in queries {
        let mut query = Vec::new();
        for (number, time) in [(1, start_ms), (2, end_ms)] {
            query.push(number << 3);
            varint(&mut query, time as u64);
        }
        for (kind, name, value) in *matchers {
            let mut matcher = vec![1 << 3, *kind];
            bytes_field(&mut matcher, 2, name.as_bytes());
            bytes_field(&mut matcher, 3, value.as_bytes());
            bytes_field(&mut query, 3, &matcher);
        }
        bytes_field(&mut request, 1, &query);
    }
    for kind in accepted {
        request.push(2 << 3);
        varint(&mut request, *kind);
    }
    request
}

/// A field of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    Varint(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Varint(read_varint(&mut bytes)),
            1 => {
                bytes = &bytes[8..];
                Field::Fixed
            }
            2 => {
                let length = read_varint(&mut bytes) as usize;
                let (field, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(field)
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, field));
    }
    found
}

/// Reads a number of variable length.
pub fn read_varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}
