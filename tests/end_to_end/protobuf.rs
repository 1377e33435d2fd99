//! Remote write messages, encoded here and by nothing of what is tested.

/// A `prometheus.WriteRequest`.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a series; times in milliseconds.
    pub fn series(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.push(&labels, samples);
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

/// Bytes as a snappy block.
pub fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("small enough for snappy")
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
